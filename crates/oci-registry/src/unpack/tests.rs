use super::*;
use crate::blob::Blob;
use crate::manifest::MediaType;
use crate::memory::Memory;
use crate::storage::Target;

async fn create_artifact(files: &[(&str, &'static str)]) -> (Memory, Vec<FileEntry>) {
    let memory = Memory::new();
    let mut entries = Vec::new();
    for (name, content) in files {
        let blob = Blob::from_bytes(MediaType::OCTET_STREAM, *content);
        memory.push_blob(&blob).await.unwrap();
        let name = name.parse().unwrap();
        entries.push(FileEntry {
            descriptor: blob.descriptor().clone(),
            name,
            executable: *content == "run",
        });
    }
    (memory, entries)
}

fn names(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn unpack_into_a_directory_without_write_access_fails() {
    let (memory, files) = create_artifact(&[("demo", "data")]).await;
    // Not even the superuser can create a directory in `/proc/self/fd`.
    let directory = Path::new("/proc/self/fd");
    let unpacked = unpack(&memory, &files, directory, UnpackOptions::default()).await;
    let error = unpacked.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io);
    let expected = "failed to create a temporary directory in `/proc/self/fd`";
    assert_eq!(error.to_string(), expected);
}

#[tokio::test]
async fn unpack_writes_missing_files_and_skips_existing_files() {
    let home = tempfile::tempdir().unwrap();
    let directory = home.path().join("new/out");
    let (memory, files) = create_artifact(&[("demo", "run"), ("examples/x", "data")]).await;
    let started = std::sync::Mutex::new(Vec::new());
    let note = |file: &FileEntry, meter: &Meter| {
        let mut started = started.lock().unwrap();
        started.push((file.name.to_string(), meter.clone()));
    };
    for _ in 0..2 {
        let options = UnpackOptions {
            started: &note,
            ..UnpackOptions::default()
        };
        unpack(&memory, &files, &directory, options).await.unwrap();
    }
    let started = started.into_inner().unwrap();
    let started: Vec<_> = started
        .iter()
        .map(|(name, meter)| (name.as_str(), meter.transferred_bytes()))
        .collect();
    assert_eq!(
        started,
        [("demo", 3), ("examples/x", 4)],
        "existing files are not fetched"
    );
    assert_eq!(
        std::fs::read_to_string(directory.join("examples/x")).unwrap(),
        "data"
    );
    assert_eq!(names(&directory), ["demo", "examples"]);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = |name: &str| {
            std::fs::metadata(directory.join(name))
                .unwrap()
                .permissions()
                .mode()
        };
        assert_eq!(mode("demo") & 0o700, 0o700);
        assert_eq!(mode("examples/x") & 0o111, 0);
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn unpack_closes_fetched_files() {
    let home = tempfile::tempdir().unwrap();
    let names: Vec<_> = (0..40).map(|number| format!("{number}")).collect();
    let all: Vec<_> = names.iter().map(|name| (name.as_str(), "data")).collect();
    let (memory, files) = create_artifact(&all).await;
    let most = std::sync::atomic::AtomicUsize::new(0);
    let count = || {
        let open = std::fs::read_dir("/proc/self/fd").unwrap();
        let open = open.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok());
        let open = open.filter(|path| path.starts_with(home.path())).count();
        most.fetch_max(open, std::sync::atomic::Ordering::Relaxed);
    };
    let options = UnpackOptions {
        concurrency: 2,
        started: &|_, _| count(),
        observer: &|_, _| count(),
        ..UnpackOptions::default()
    };
    unpack(&memory, &files, home.path(), options).await.unwrap();
    assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), files.len());
    // Two files are fetched at the same time, each with at most three handles.
    let most = most.into_inner();
    assert!(most <= 6, "{most} were open at once");
}

#[tokio::test]
async fn unpack_replaces_files_only_if_requested() {
    let home = tempfile::tempdir().unwrap();
    std::fs::write(home.path().join("b"), "mine").unwrap();
    let (memory, files) = create_artifact(&[("a", "1"), ("b", "2")]).await;
    let error = unpack(&memory, &files, home.path(), UnpackOptions::default())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert_eq!(names(home.path()), ["b"]);
    let options = UnpackOptions {
        replace: true,
        ..UnpackOptions::default()
    };
    unpack(&memory, &files, home.path(), options).await.unwrap();
    assert_eq!(std::fs::read_to_string(home.path().join("b")).unwrap(), "2");
}

#[tokio::test]
async fn unpack_with_a_missing_blob_leaves_no_file() {
    let home = tempfile::tempdir().unwrap();
    let (memory, mut files) = create_artifact(&[("a", "1")]).await;
    let absent = Blob::from_bytes(MediaType::OCTET_STREAM, "absent")
        .descriptor()
        .clone();
    files.push(FileEntry {
        descriptor: absent,
        name: "b".parse().unwrap(),
        executable: false,
    });
    let error = unpack(&memory, &files, home.path(), UnpackOptions::default())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(names(home.path()).is_empty());
}

#[tokio::test]
async fn names_of_the_same_file_are_rejected() {
    let home = tempfile::tempdir().unwrap();
    for clash in [
        ["a", "a"],
        ["a", "A"],
        ["a/b", "a"],
        ["A", "a/b"],
        // The accented letter, and the letter with a combining accent.
        ["caf\u{e9}", "cafe\u{301}"],
        ["CAF\u{c9}/x", "cafe\u{301}"],
        ["\u{1e69}", "s\u{307}\u{323}"],
        ["\u{3c3}", "\u{3c2}"],
        ["stra\u{df}e", "STRASSE"],
        ["\u{212a}", "k"],
        ["a\u{fe0f}", "a"],
    ] {
        let (memory, files) = create_artifact(&[(clash[0], "1"), (clash[1], "2")]).await;
        let error = unpack(&memory, &files, home.path(), UnpackOptions::default())
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Mismatch, "{clash:?}");
    }
    assert!(names(home.path()).is_empty());
}

#[cfg(unix)]
#[tokio::test]
async fn unpack_does_not_follow_links() {
    let (home, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    std::os::unix::fs::symlink(elsewhere.path(), home.path().join("link")).unwrap();
    std::os::unix::fs::symlink(elsewhere.path().join("x"), home.path().join("file")).unwrap();
    let options = || UnpackOptions {
        replace: true,
        ..UnpackOptions::default()
    };
    let (memory, files) = create_artifact(&[("link/x", "1")]).await;
    assert_eq!(
        unpack(&memory, &files, home.path(), options())
            .await
            .unwrap_err()
            .kind(),
        ErrorKind::Io
    );
    let (memory, files) = create_artifact(&[("file", "1")]).await;
    unpack(&memory, &files, home.path(), options())
        .await
        .unwrap();
    assert!(names(elsewhere.path()).is_empty());
    assert!(!home.path().join("file").is_symlink());
}

#[tokio::test]
async fn files_above_the_flush_limit_are_all_written() {
    let home = tempfile::tempdir().unwrap();
    let names: Vec<_> = (0..=MAX_SINGLE_FLUSHES)
        .map(|number| format!("{}/{number}", number % 3))
        .collect();
    let all: Vec<_> = names.iter().map(|name| (name.as_str(), "data")).collect();
    let (memory, files) = create_artifact(&all).await;
    unpack(&memory, &files, home.path(), UnpackOptions::default())
        .await
        .unwrap();
    for name in names {
        assert_eq!(std::fs::read(home.path().join(name)).unwrap(), b"data");
    }
    assert_eq!(super::tests::names(home.path()), ["0", "1", "2"]);
}

#[cfg(unix)]
#[tokio::test]
async fn unpack_over_a_fifo_fails_and_keeps_the_fifo() {
    use std::os::unix::fs::FileTypeExt as _;
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("a");
    let created = std::process::Command::new("mkfifo").arg(&path).status();
    assert!(created.unwrap().success());
    let (memory, files) = create_artifact(&[("a", "1")]).await;
    let options = UnpackOptions {
        replace: true,
        ..UnpackOptions::default()
    };
    let error = unpack(&memory, &files, home.path(), options).await;
    assert_eq!(error.unwrap_err().kind(), ErrorKind::Io);
    let kind = std::fs::symlink_metadata(path).unwrap().file_type();
    assert!(kind.is_fifo());
}

#[cfg(unix)]
#[test]
fn move_into_directory_swapped_for_link_stays_inside() {
    for may_replace in [true, false] {
        let (home, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let at = |name: &str| home.path().join(name);
        std::fs::write(at("fetched"), "content").unwrap();
        let root = Directory::open(home.path()).unwrap();
        let name: FileName = "a/b/x".parse().unwrap();
        let parent = Parents::new(&root, MissingDirectories::Create)
            .open(&name)
            .unwrap();
        std::fs::rename(at("a/b"), at("moved")).unwrap();
        std::os::unix::fs::symlink(elsewhere.path(), at("a/b")).unwrap();
        root.move_file("fetched", &parent.unwrap(), "x", may_replace)
            .unwrap();
        assert!(names(elsewhere.path()).is_empty());
        assert_eq!(std::fs::read(at("moved/x")).unwrap(), b"content");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn unpack_against_swapped_parent_stays_inside() {
    use std::sync::atomic::{AtomicBool, Ordering};

    use rustix::fs::{CWD, RenameFlags, renameat_with};
    let (home, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (directory, link) = (home.path().join("d"), home.path().join("link"));
    std::fs::create_dir(&directory).unwrap();
    std::os::unix::fs::symlink(elsewhere.path(), &link).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let (memory, files) = runtime.block_on(create_artifact(&[("d/x", "run")]));
    let is_over = AtomicBool::new(false);
    let swap = || {
        while !is_over.load(Ordering::Relaxed) {
            renameat_with(CWD, &directory, CWD, &link, RenameFlags::EXCHANGE).unwrap();
        }
    };
    let mut escaped = false;
    std::thread::scope(|scope| {
        scope.spawn(swap);
        for _ in 0..300 {
            let options = UnpackOptions {
                replace: true,
                ..UnpackOptions::default()
            };
            // The call fails if the path of the directory is a link at that moment.
            let _ = runtime.block_on(unpack(&memory, &files, home.path(), options));
            escaped |= elsewhere.path().join("x").exists();
            for path in [&directory, &link] {
                let _ = std::fs::remove_file(path.join("x"));
            }
        }
        is_over.store(true, Ordering::Relaxed);
    });
    assert!(!escaped);
}
