//! How content comes out of a registry, and what is done when it does not come at once.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod scripted;

use std::path::Path;

use futures_util::TryStreamExt;
use oci_registry::{
    Access, Algorithm, Beginning, Client, ClientOptions, Descriptor, Digest, Environment,
    ErrorKind, Extract, MediaType, Source, UnpackOptions, unpack,
};
use scripted::client::{Nobody, repository};
use scripted::{Asked, Reply, Server};

/// Content that is worth keeping half of.
fn content() -> Vec<u8> {
    (0..3_u32 << 20)
        .map(|at| u8::try_from(at % 251).unwrap())
        .collect()
}

fn descriptor(content: &[u8]) -> Descriptor {
    Descriptor::new(
        MediaType::OCTET_STREAM,
        Digest::sha256(content),
        content.len() as u64,
    )
}

/// Where a request wants to start.
fn start(asked: &Asked) -> Option<usize> {
    let range = asked.header("range")?.strip_prefix("bytes=")?;
    range.strip_suffix('-')?.parse().ok()
}

/// What a registry that knows ranges answers.
fn ranged(asked: &Asked, content: &[u8]) -> Reply {
    match start(asked) {
        None => Reply::new(200).body(content),
        Some(from) => {
            let range = format!("bytes {from}-{}/{}", content.len() - 1, content.len());
            Reply::new(206)
                .header("Content-Range", range)
                .body(&content[from..])
        }
    }
}

/// The content as a file that is no program.
fn file() -> Extract {
    Extract {
        descriptor: descriptor(&content()),
        name: "file".parse().unwrap(),
        executable: false,
    }
}

async fn pull(server: &Server, directory: &Path) -> oci_registry::Result<()> {
    let repository = repository(server, Nobody, Access::Pull);
    unpack(&repository, &[file()], directory, UnpackOptions::default()).await
}

/// Where the beginning of the content is kept.
fn kept(directory: &Path) -> std::path::PathBuf {
    let name = Digest::sha256(&content()).to_string().replace(':', "-");
    directory.join(".oci-partial").join(name)
}

fn names(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).unwrap();
    entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}

#[tokio::test]
async fn a_download_that_breaks_off_goes_on_where_it_was() {
    let content: Vec<u8> = (0..100_000_u32)
        .map(|at| u8::try_from(at % 251).unwrap())
        .collect();
    for ranges in [true, false] {
        let whole = content.clone();
        let server = Server::start(move |asked, _| {
            let from: Option<usize> = asked.header("range").and_then(|range| {
                range
                    .strip_prefix("bytes=")?
                    .strip_suffix('-')?
                    .parse()
                    .ok()
            });
            match from {
                Some(from) if ranges => {
                    assert_eq!(asked.header("if-range"), Some("\"v1\""));
                    let rest = &whole[from..];
                    let reply = Reply::new(206)
                        .header(
                            "Content-Range",
                            format!("bytes {from}-{}/{}", whole.len() - 1, whole.len()),
                        )
                        .body(rest);
                    if rest.len() > 40_000 {
                        reply.cut(40_000)
                    } else {
                        reply
                    }
                }
                Some(_) => Reply::new(200).body(&whole),
                None => Reply::new(200)
                    .header("ETag", "\"v1\"")
                    .body(&whole)
                    .cut(30_000),
            }
        })
        .await;
        let descriptor = Descriptor::new(
            MediaType::OCTET_STREAM,
            Digest::sha256(&content),
            content.len() as u64,
        );
        let stream = repository(&server, Nobody, Access::Pull)
            .blob(&descriptor)
            .await
            .unwrap();
        assert_eq!(stream.read_to_end(1 << 20).await.unwrap(), content);
        assert_eq!(server.asked().len(), if ranges { 3 } else { 2 });
    }
}

/// Answers 206 that hold something else than any requested range of the content.
fn wrong_ranges() -> Vec<Reply> {
    let parts = Reply::new(206).header("Content-Type", "multipart/byteranges; boundary=x");
    let mut wrong = vec![
        Reply::new(206).body(content()),
        parts.body("--x\r\nContent-Range: bytes 1-2/3\r\n\r\nno\r\n--x--\r\n"),
    ];
    for range in [
        "bytes 0-1/2",
        "bytes 1000000-1000001/3145728",
        "bytes 1000000-3145727/3145729",
        "bytes */3145728",
        "items 1000000-3145727/3145728",
        "no range",
    ] {
        let reply = Reply::new(206).header("Content-Range", range);
        wrong.push(reply.body(&content()[1_000_000..]));
    }
    wrong
}

#[tokio::test]
async fn wrong_range_after_a_break_restarts_the_download() {
    for wrong in wrong_ranges() {
        let server = Server::start(move |asked, before| match asked.header("range") {
            Some(_) => wrong.clone(),
            None if before == 0 => Reply::new(200).body(content()).cut(1_000_000),
            None => Reply::new(200).body(content()),
        })
        .await;
        let repository = repository(&server, Nobody, Access::Pull);
        let stream = repository.blob(&descriptor(&content())).await.unwrap();
        assert!(stream.read_to_end(4 << 20).await.unwrap() == content());
        let asked = server.asked();
        let ranges: Vec<_> = asked.iter().map(|asked| asked.header("range")).collect();
        assert_eq!(ranges, [None, Some("bytes=1000000-"), None]);
    }
}

#[tokio::test]
async fn wrong_range_after_the_restart_ends_the_download() {
    let server = Server::start(|asked, _| match asked.header("range") {
        Some(_) => Reply::new(206)
            .header("Content-Range", "bytes 0-1/2")
            .body("no"),
        None => Reply::new(200).body(content()).cut(1_000_000),
    })
    .await;
    let repository = repository(&server, Nobody, Access::Pull);
    let stream = repository.blob(&descriptor(&content())).await.unwrap();
    let error = stream.read_to_end(4 << 20).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Protocol, "{error:?}");
    assert_eq!(server.asked().len(), 4);
}

#[tokio::test]
async fn wrong_range_of_a_kept_beginning_restarts_the_download() {
    let home = tempfile::tempdir().unwrap();
    let kept = kept(home.path());
    std::fs::create_dir(kept.parent().unwrap()).unwrap();
    std::fs::write(&kept, &content()[..2 << 20]).unwrap();
    let server = Server::start(|asked, _| match asked.header("range") {
        Some(_) => Reply::new(206).body("no"),
        None => Reply::new(200).body(content()),
    })
    .await;
    pull(&server, home.path()).await.unwrap();
    assert_eq!(std::fs::read(home.path().join("file")).unwrap(), content());
    assert_eq!(server.asked().len(), 2);
}

#[tokio::test]
async fn content_that_is_not_what_was_promised_is_refused() {
    let promised = Descriptor::new(MediaType::OCTET_STREAM, Digest::sha256(b"abc"), 3);
    for body in ["abd", "abcd", "endless endless endless"] {
        let server = Server::start(move |_, _| Reply::new(200).body(body)).await;
        let stream = repository(&server, Nobody, Access::Pull)
            .blob(&promised)
            .await
            .unwrap();
        assert_eq!(
            stream.read_to_end(100).await.unwrap_err().kind(),
            ErrorKind::Mismatch,
            "{body}"
        );
    }
}

#[tokio::test]
async fn a_fetch_that_ended_early_goes_on_the_next_time() {
    let home = tempfile::tempdir().unwrap();
    // The first time the registry dies, and then has forgotten everything.
    let server = Server::start(|_, before| match before {
        0 => Reply::new(200).body(content()).cut(2 << 20),
        _ => Reply::new(404),
    })
    .await;
    let error = pull(&server, home.path()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert_eq!(names(home.path()), [".oci-partial"]);
    let begun = std::fs::metadata(kept(home.path())).unwrap().len();
    assert!(begun > 1 << 20, "{begun}");
    let server = Server::start(|asked, _| ranged(asked, &content())).await;
    pull(&server, home.path()).await.unwrap();
    assert_eq!(names(home.path()), ["file"]);
    assert_eq!(std::fs::read(home.path().join("file")).unwrap(), content());
    let asked = server.asked();
    assert_eq!(asked.len(), 1);
    assert_eq!(start(&asked[0]), usize::try_from(begun).ok());
}

#[tokio::test]
async fn what_is_kept_is_believed_to_be_nothing_but_a_beginning() {
    let right = content();
    let mut wrong = right[..2 << 20].to_vec();
    wrong[7] ^= 1;
    let mut long = right.clone();
    long.push(0);
    let begun = Some(2 << 20);
    for (held, ranges, starts) in [
        (&right[..2 << 20], true, vec![begun]),
        (&right[..2 << 20], false, vec![begun]),
        (&right[..], true, vec![]),
        (&right[..0], true, vec![None]),
        (&wrong[..], true, vec![begun, None]),
        (&wrong[..], false, vec![begun, None]),
        (&long[..], true, vec![None]),
    ] {
        let home = tempfile::tempdir().unwrap();
        let kept = kept(home.path());
        std::fs::create_dir(kept.parent().unwrap()).unwrap();
        std::fs::write(&kept, held).unwrap();
        let server = Server::start(move |asked, _| {
            if ranges {
                ranged(asked, &content())
            } else {
                Reply::new(200).body(content())
            }
        })
        .await;
        pull(&server, home.path()).await.unwrap();
        assert_eq!(std::fs::read(home.path().join("file")).unwrap(), right);
        assert_eq!(names(home.path()), ["file"]);
        let asked = server.asked();
        assert_eq!(asked.iter().map(start).collect::<Vec<_>>(), starts);
    }
}

#[cfg(unix)]
#[tokio::test]
async fn mode_of_kept_file_does_not_reach_its_final_name() {
    use std::os::unix::fs::PermissionsExt;
    let home = tempfile::tempdir().unwrap();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode();
    let new = home.path().join("new");
    std::fs::write(&new, "").unwrap();
    for executable in [false, true] {
        let directory = home.path().join(executable.to_string());
        let kept = kept(&directory);
        std::fs::create_dir_all(kept.parent().unwrap()).unwrap();
        std::fs::write(&kept, content()).unwrap();
        std::fs::set_permissions(&kept, std::fs::Permissions::from_mode(0o7777)).unwrap();
        let server = Server::start(|asked, _| ranged(asked, &content())).await;
        let file = Extract {
            executable,
            ..file()
        };
        let repository = repository(&server, Nobody, Access::Pull);
        unpack(&repository, &[file], &directory, UnpackOptions::default())
            .await
            .unwrap();
        assert!(server.asked().is_empty(), "the kept file is used");
        let found = mode(&directory.join("file"));
        if executable {
            let runnable = (mode(&new) & 0o444) >> 2;
            assert_eq!(found, mode(&new) | runnable);
        } else {
            assert_eq!(found, mode(&new));
        }
    }
}

#[tokio::test]
async fn content_that_is_wrong_twice_is_not_kept() {
    let home = tempfile::tempdir().unwrap();
    let server = Server::start(|_, _| {
        let mut wrong = content();
        wrong[1 << 20] ^= 1;
        Reply::new(200).body(wrong)
    })
    .await;
    let error = pull(&server, home.path()).await.unwrap_err();
    assert_eq!(
        (error.kind(), server.asked().len()),
        (ErrorKind::Mismatch, 2)
    );
    assert!(names(home.path()).is_empty(), "{:?}", names(home.path()));
}

/// Puts something where the beginning of a file would be kept, that leads to another file.
#[cfg(unix)]
type Prepare = fn(&Path, &Path);

#[cfg(unix)]
#[tokio::test]
async fn what_others_could_have_put_there_is_left_alone() {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let victim = tempfile::tempdir().unwrap();
    let target = victim.path().join("target");
    let cases: [(&str, Prepare); 4] = [
        ("a link in place of the file", |kept, target| {
            symlink(target, kept).unwrap();
        }),
        ("another name of a file", |kept, target| {
            std::fs::hard_link(target, kept).unwrap();
        }),
        ("a link in place of the directory", |kept, target| {
            let directory = kept.parent().unwrap();
            std::fs::remove_dir(directory).unwrap();
            symlink(target.parent().unwrap(), directory).unwrap();
        }),
        ("a directory that others may write to", |kept, _| {
            std::fs::write(kept, "old").unwrap();
            let open = std::fs::Permissions::from_mode(0o777);
            std::fs::set_permissions(kept.parent().unwrap(), open).unwrap();
        }),
    ];
    for (what, prepare) in cases {
        std::fs::write(&target, "precious").unwrap();
        let home = tempfile::tempdir().unwrap();
        let kept = kept(home.path());
        std::fs::create_dir(kept.parent().unwrap()).unwrap();
        prepare(&kept, &target);
        let server = Server::start(|asked, _| ranged(asked, &content())).await;
        pull(&server, home.path()).await.unwrap();
        assert_eq!(
            std::fs::read(home.path().join("file")).unwrap(),
            content(),
            "{what}"
        );
        assert_eq!(start(&server.asked()[0]), None, "{what}");
        assert_eq!(
            std::fs::read_to_string(&target).unwrap(),
            "precious",
            "{what}"
        );
        assert_eq!(names(victim.path()), ["target"], "{what}");
    }
}

#[tokio::test]
async fn two_who_fetch_the_same_do_not_meet() {
    let home = tempfile::tempdir().unwrap();
    let server = Server::start(|asked, _| ranged(asked, &content())).await;
    let (one, two) = (home.path().join("one"), home.path().join("two"));
    // The same file at the same time to the same directory, and to others.
    let (first, second, third) = tokio::join!(
        pull(&server, &one),
        pull(&server, &one),
        pull(&server, &two)
    );
    third.unwrap();
    assert!(first.is_ok() || second.is_ok());
    for done in [first, second] {
        if let Err(error) = done {
            assert_eq!(error.kind(), ErrorKind::Conflict);
        }
    }
    for directory in [one, two] {
        assert_eq!(names(&directory), ["file"]);
        assert_eq!(std::fs::read(directory.join("file")).unwrap(), content());
    }
}

#[tokio::test]
async fn a_byte_at_a_time_is_no_progress() {
    for ranges in [true, false] {
        let server = Server::start(move |asked, before| {
            let whole = content();
            if ranges {
                ranged(asked, &whole).cut(1)
            } else {
                // Everything anew each time, and a byte more of it.
                Reply::new(200).body(&whole).cut((2 << 20) + before)
            }
        })
        .await;
        let stream = repository(&server, Nobody, Access::Pull)
            .blob(&descriptor(&content()))
            .await
            .unwrap();
        let error = stream.read_to_end(10 << 20).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Network);
        assert!(
            server.asked().len() <= 7,
            "{} requests",
            server.asked().len()
        );
    }
}

#[tokio::test]
async fn a_file_that_is_there_is_known_by_any_algorithm() {
    let home = tempfile::tempdir().unwrap();
    let server = Server::start(|_, _| Reply::new(200).body("content")).await;
    let digest = Algorithm::Sha512.digest(b"content");
    let file = Extract {
        descriptor: Descriptor::new(MediaType::OCTET_STREAM, digest, 7),
        name: "file".parse().unwrap(),
        executable: false,
    };
    let repository = repository(&server, Nobody, Access::Pull);
    for _ in 0..2 {
        let files = [file.clone()];
        unpack(&repository, &files, home.path(), UnpackOptions::default())
            .await
            .unwrap();
    }
    assert_eq!(server.asked().len(), 1);
}

// ---- over several connections

/// A repository whose blobs are fetched over three connections.
fn wide(server: &Server) -> oci_registry::Repository {
    let mut options = ClientOptions::new(Environment::default());
    options.credentials = std::sync::Arc::new(Nobody);
    options.connections_per_blob = 3;
    let reference = format!("{}/acme/widgets", server.host()).parse().unwrap();
    let client = Client::new(options);
    client.repository(&reference, Access::Pull).unwrap()
}

/// Eleven mebibytes: five whole segments and one half.
fn long() -> Vec<u8> {
    (0..11_u32 << 20)
        .map(|at| u8::try_from(at % 241).unwrap())
        .collect()
}

/// What a registry answers that knows the ends of ranges, too.
fn segment(asked: &Asked, content: &[u8]) -> Reply {
    let range = asked
        .header("range")
        .unwrap()
        .strip_prefix("bytes=")
        .unwrap();
    let (from, to) = range.split_once('-').unwrap();
    let (from, to): (usize, usize) = (from.parse().unwrap(), to.parse().unwrap());
    Reply::new(206)
        .header(
            "Content-Range",
            format!("bytes {from}-{to}/{}", content.len()),
        )
        .body(&content[from..=to])
}

#[tokio::test]
async fn segments_come_out_in_order_and_broken_ones_are_fetched_again() {
    let server = Server::start(|asked, before| {
        let reply = segment(asked, &long());
        match before {
            1 => reply.cut(1000),
            2 => Reply::new(503),
            _ => reply,
        }
    })
    .await;
    let stream = wide(&server).blob(&descriptor(&long())).await.unwrap();
    assert!(stream.read_to_end(20 << 20).await.unwrap() == long());
    let mut starts: Vec<_> = server
        .asked()
        .iter()
        .map(|asked| asked.header("range").unwrap().to_owned())
        .collect();
    starts.sort();
    starts.dedup();
    assert_eq!(starts.len(), 6, "{starts:?}");
    assert!(server.asked().len() >= 8);
}

#[tokio::test]
async fn wrong_segment_continues_over_one_connection() {
    for wrong in wrong_ranges() {
        for at in [0, 3] {
            let wrong = wrong.clone();
            let server = Server::start(move |asked, before| match asked.header("range") {
                None => Reply::new(200).body(long()),
                _ if before == at => wrong.clone(),
                Some(range) if range.ends_with('-') => ranged(asked, &long()),
                Some(_) => segment(asked, &long()),
            })
            .await;
            let stream = wide(&server).blob(&descriptor(&long())).await.unwrap();
            assert!(stream.read_to_end(20 << 20).await.unwrap() == long());
        }
    }
}

#[tokio::test]
async fn a_registry_without_ranges_sends_all_of_it_once() {
    let server = Server::start(|_, _| Reply::new(200).body(long())).await;
    let stream = wide(&server).blob(&descriptor(&long())).await.unwrap();
    assert!(stream.read_to_end(20 << 20).await.unwrap() == long());
    assert_eq!(server.asked().len(), 1);
}

#[tokio::test]
async fn what_is_small_or_absent_or_wrong_is_so_over_many_connections_too() {
    let server = Server::start(|asked, _| ranged(asked, b"small")).await;
    let stream = wide(&server).blob(&descriptor(b"small")).await.unwrap();
    assert_eq!(stream.read_to_end(10).await.unwrap(), b"small"[..]);
    let server = Server::start(|_, _| Reply::new(404)).await;
    let absent = wide(&server).blob(&descriptor(&long())).await;
    assert_eq!(absent.unwrap_err().kind(), ErrorKind::NotFound);
    let server = Server::start(|asked, _| {
        let mut wrong = long();
        wrong[10 << 20] ^= 1;
        segment(asked, &wrong)
    })
    .await;
    let stream = wide(&server).blob(&descriptor(&long())).await.unwrap();
    let error = stream.read_to_end(20 << 20).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Mismatch);
}

#[tokio::test]
async fn what_was_begun_is_gone_on_with_over_many_connections() {
    let home = tempfile::tempdir().unwrap();
    let begun = home.path().join("begun");
    std::fs::write(&begun, &long()[..3 << 20]).unwrap();
    let descriptor = descriptor(&long());
    for ranges in [true, false] {
        let server = Server::start(move |asked, _| {
            if ranges {
                segment(asked, &long())
            } else {
                Reply::new(200).body(long())
            }
        })
        .await;
        let beginning = Beginning::of_file(
            &descriptor.digest,
            std::fs::File::open(&begun).unwrap(),
            &begun,
            3 << 20,
        )
        .await
        .unwrap();
        let stream = wide(&server)
            .blob_after(&descriptor, beginning)
            .await
            .unwrap();
        let rest: Vec<bytes::Bytes> = stream.try_collect().await.unwrap();
        assert!(rest.concat() == long()[3 << 20..]);
        assert_eq!(server.asked().len(), if ranges { 4 } else { 1 });
    }
}
