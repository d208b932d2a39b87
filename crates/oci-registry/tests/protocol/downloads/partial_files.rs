//! Partial files of interrupted pulls.

use std::path::{Path, PathBuf};

use oci_registry::{
    Algorithm, Descriptor, Digest, ErrorKind, FileEntry, MediaType, UnpackOptions, unpack,
};
use testkit::server::{Request, Response, Server};

use super::{MIB, content};
use crate::support::{descriptor, reader};

/// Returns the entry for the content, as a file that is not executable.
fn file() -> FileEntry {
    FileEntry {
        descriptor: descriptor(&content()),
        name: "file".parse().unwrap(),
        executable: false,
    }
}

/// Starts a registry that has the content and supports ranges.
fn registry() -> Server {
    Server::start(|request, _| Response::range_of(content(), request))
}

async fn pull(server: &Server, directory: &Path) -> oci_registry::Result<()> {
    let options = UnpackOptions::default();
    unpack(&reader(server), &[file()], directory, options).await
}

/// Returns the path of the partial file of the content.
fn partial_file(directory: &Path) -> PathBuf {
    let name = Digest::sha256(&content()).to_string().replace(':', "-");
    directory.join(".oci-partial").join(name)
}

/// Creates the directory of the partial file and returns its path.
fn prepare_partial_file(directory: &Path) -> PathBuf {
    let path = partial_file(directory);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    path
}

fn names(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).unwrap();
    entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}

/// Checks that a directory contains the pulled file and nothing else.
fn assert_pulled(directory: &Path) {
    assert_eq!(names(directory), ["file"]);
    assert!(std::fs::read(directory.join("file")).unwrap() == content());
}

/// Returns the first byte position of the requested range.
fn first_byte(request: &Request) -> Option<usize> {
    request.range().map(|(first, _)| first)
}

#[tokio::test]
async fn interrupted_pull_is_resumed_by_the_next_pull() {
    let home = tempfile::tempdir().unwrap();
    let server = Server::start(|_, earlier| match earlier {
        0 => Response::new(200).body(content()).cut_after(2 * MIB),
        _ => Response::new(404),
    });
    let error = pull(&server, home.path()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert_eq!(names(home.path()), [".oci-partial"]);
    let kept = std::fs::metadata(partial_file(home.path())).unwrap().len();
    assert!(kept > 1 << 20, "{kept}");
    let server = registry();
    pull(&server, home.path()).await.unwrap();
    assert_pulled(home.path());
    let requests = server.requests();
    assert_eq!(requests.len(), 1);
    assert_eq!(first_byte(&requests[0]), usize::try_from(kept).ok());
}

#[tokio::test]
async fn wrong_range_for_partial_file_restarts_the_download() {
    let home = tempfile::tempdir().unwrap();
    let partial = prepare_partial_file(home.path());
    std::fs::write(partial, &content()[..2 * MIB]).unwrap();
    let server = Server::start(|request, _| match request.range() {
        Some(_) => Response::new(206).body("no"),
        None => Response::new(200).body(content()),
    });
    pull(&server, home.path()).await.unwrap();
    assert_pulled(home.path());
    assert_eq!(server.requests().len(), 2);
}

#[tokio::test]
async fn partial_file_is_resumed_unless_its_content_is_wrong() {
    let right = content();
    let mut wrong = right[..2 * MIB].to_vec();
    wrong[7] ^= 1;
    let mut long = right.clone();
    long.push(0);
    let half = Some(2 * MIB);
    for (kept, has_ranges, starts) in [
        (&right[..2 * MIB], true, vec![half]),
        (&right[..2 * MIB], false, vec![half]),
        (&right[..], true, vec![]),
        (&right[..0], true, vec![None]),
        (&wrong[..], true, vec![half, None]),
        (&wrong[..], false, vec![half, None]),
        (&long[..], true, vec![None]),
    ] {
        let home = tempfile::tempdir().unwrap();
        std::fs::write(prepare_partial_file(home.path()), kept).unwrap();
        let server = Server::start(move |request, _| {
            if has_ranges {
                Response::range_of(content(), request)
            } else {
                Response::new(200).body(content())
            }
        });
        pull(&server, home.path()).await.unwrap();
        assert_pulled(home.path());
        let requests = server.requests();
        let requested: Vec<_> = requests.iter().map(first_byte).collect();
        assert_eq!(requested, starts);
    }
}

#[cfg(unix)]
#[tokio::test]
async fn mode_of_partial_file_does_not_affect_pulled_file() {
    use std::os::unix::fs::PermissionsExt;
    let home = tempfile::tempdir().unwrap();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode();
    let new = home.path().join("new");
    std::fs::write(&new, "").unwrap();
    for executable in [false, true] {
        let directory = home.path().join(executable.to_string());
        let partial = prepare_partial_file(&directory);
        std::fs::write(&partial, content()).unwrap();
        std::fs::set_permissions(&partial, std::fs::Permissions::from_mode(0o7777)).unwrap();
        let server = registry();
        let file = FileEntry {
            executable,
            ..file()
        };
        let options = UnpackOptions::default();
        let pulled = unpack(&reader(&server), &[file], &directory, options).await;
        pulled.unwrap();
        assert_eq!(server.request_lines(), [""; 0], "the partial file is used");
        let execute = if executable {
            (mode(&new) & 0o444) >> 2
        } else {
            0
        };
        assert_eq!(mode(&directory.join("file")), mode(&new) | execute);
    }
}

#[tokio::test]
async fn wrong_content_in_two_responses_leaves_no_partial_file() {
    let home = tempfile::tempdir().unwrap();
    let mut wrong = content();
    wrong[MIB] ^= 1;
    let server = Server::start(move |_, _| Response::new(200).body(&wrong));
    let error = pull(&server, home.path()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Mismatch);
    assert_eq!(server.requests().len(), 2);
    assert_eq!(names(home.path()), [""; 0]);
}

/// Replaces a partial file or its directory with a link, or makes the directory writable for other users.
#[cfg(unix)]
type Prepare = fn(&Path, &Path);

#[cfg(unix)]
#[tokio::test]
async fn link_or_world_writable_partial_file_is_not_used() {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let victim = tempfile::tempdir().unwrap();
    let target = victim.path().join("target");
    let cases: [(&str, Prepare); 4] = [
        ("a symlink instead of the file", |partial, target| {
            symlink(target, partial).unwrap();
        }),
        ("a hard link instead of the file", |partial, target| {
            std::fs::hard_link(target, partial).unwrap();
        }),
        ("a symlink instead of the directory", |partial, target| {
            let directory = partial.parent().unwrap();
            std::fs::remove_dir(directory).unwrap();
            symlink(target.parent().unwrap(), directory).unwrap();
        }),
        ("a directory that other users can write to", |partial, _| {
            std::fs::write(partial, "old").unwrap();
            let open = std::fs::Permissions::from_mode(0o777);
            std::fs::set_permissions(partial.parent().unwrap(), open).unwrap();
        }),
    ];
    for (case, prepare) in cases {
        std::fs::write(&target, "precious").unwrap();
        let home = tempfile::tempdir().unwrap();
        prepare(&prepare_partial_file(home.path()), &target);
        let server = registry();
        pull(&server, home.path()).await.unwrap();
        let pulled = std::fs::read(home.path().join("file")).unwrap();
        assert!(pulled == content(), "{case}");
        assert_eq!(first_byte(&server.requests()[0]), None, "{case}");
        let kept = std::fs::read_to_string(&target).unwrap();
        assert_eq!(kept, "precious", "{case}");
        assert_eq!(names(victim.path()), ["target"], "{case}");
    }
}

#[tokio::test]
async fn simultaneous_pulls_of_one_file_write_right_content() {
    let home = tempfile::tempdir().unwrap();
    let server = registry();
    let (one, two) = (home.path().join("one"), home.path().join("two"));
    let (first, second, third) = tokio::join!(
        pull(&server, &one),
        pull(&server, &one),
        pull(&server, &two)
    );
    third.unwrap();
    assert!(first.is_ok() || second.is_ok());
    for pulled in [first, second] {
        if let Err(error) = pulled {
            assert_eq!(error.kind(), ErrorKind::Conflict);
        }
    }
    assert_pulled(&one);
    assert_pulled(&two);
}

#[tokio::test]
async fn pulled_file_with_sha512_digest_is_fetched_once() {
    let home = tempfile::tempdir().unwrap();
    let server = Server::start(|_, _| Response::new(200).body("content"));
    let digest = Algorithm::Sha512.digest(b"content");
    let files = [FileEntry {
        descriptor: Descriptor::new(MediaType::OCTET_STREAM, digest, 7),
        ..file()
    }];
    let repository = reader(&server);
    for _ in 0..2 {
        let options = UnpackOptions::default();
        let pulled = unpack(&repository, &files, home.path(), options).await;
        pulled.unwrap();
    }
    assert_eq!(server.requests().len(), 1);
}
