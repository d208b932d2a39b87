use std::fs::File;

use super::*;
use crate::error::ErrorKind;
use crate::manifest::Annotations;
use crate::pack::Packed;

async fn push(layout: &Layout, content: &'static str, tag: &str) -> Manifest {
    let layer = Blob::from_bytes(MediaType::OCTET_STREAM, content);
    let packed = Packed::new("a/b".into(), Blob::empty(), vec![layer], Annotations::new()).unwrap();
    for blob in packed.blobs() {
        layout.push_blob(blob).await.unwrap();
    }
    layout.push_manifest(packed.manifest()).await.unwrap();
    layout
        .tag(packed.manifest(), &tag.parse().unwrap())
        .await
        .unwrap();
    packed.manifest().clone()
}

async fn tags(layout: &Layout) -> Vec<String> {
    layout
        .tags()
        .map_ok(|tag| tag.to_string())
        .try_collect()
        .await
        .unwrap()
}

#[tokio::test]
async fn pushed_artifacts_are_found_by_tag_and_digest() {
    let directory = tempfile::tempdir().unwrap();
    let layout = Layout::create(directory.path().join("new/layout"))
        .await
        .unwrap();
    let one = push(&layout, "one", "1").await;
    let two = push(&layout, "two", "2").await;
    layout.tag(&one, &"latest".parse().unwrap()).await.unwrap();
    layout.tag(&two, &"latest".parse().unwrap()).await.unwrap();
    let again = Layout::open(layout.directory()).await.unwrap();
    assert_eq!(tags(&again).await, ["1", "2", "latest"]);
    let latest = again
        .manifest(&Identifier::Tag("latest".parse().unwrap()))
        .await
        .unwrap();
    assert_eq!(latest, two);
    let content = again
        .blob(&latest.as_image().unwrap().layers[0])
        .await
        .unwrap();
    assert_eq!(content.read_to_end(10).await.unwrap(), "two");
    let leftovers = list_files(layout.directory())
        .into_iter()
        .filter(|name| name.contains("partial"));
    assert_eq!(leftovers.count(), 0);
}

fn list_files(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let nested = entries.map(|path| {
        if path.is_dir() {
            list_files(&path)
        } else {
            vec![path.display().to_string()]
        }
    });
    nested.flatten().collect()
}

#[tokio::test]
async fn index_is_parsed_once_for_each_version() {
    let directory = tempfile::tempdir().unwrap();
    let layout = Layout::create(directory.path()).await.unwrap();
    push(&layout, "one", "1").await;
    assert_eq!(tags(&layout).await, ["1"]);
    let listing = directory.path().join("index.json");
    let written = std::fs::read(&listing).unwrap();
    // The file has the same version, but its content cannot be parsed, so a second read would fail.
    let modified = std::fs::metadata(&listing).unwrap().modified().unwrap();
    std::fs::write(&listing, vec![b'x'; written.len()]).unwrap();
    let file = File::options().write(true).open(&listing).unwrap();
    file.set_modified(modified).unwrap();
    assert_eq!(tags(&layout).await, ["1"]);
    let one: Identifier = "1".parse::<Tag>().unwrap().into();
    assert!(layout.manifest(&one).await.is_ok());
    // Another process replaces the file.
    std::fs::write(&listing, written).unwrap();
    let other = Layout::open(directory.path()).await.unwrap();
    push(&other, "two", "2").await;
    assert_eq!(tags(&layout).await, ["1", "2"]);
}

#[tokio::test]
async fn search_finds_layouts_below_a_directory() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    for name in ["widgets", "acme/tools", "acme/tools/within"] {
        Layout::create(at(name)).await.unwrap();
    }
    std::fs::create_dir(at("empty")).unwrap();
    std::fs::write(at("file"), "").unwrap();
    #[cfg(unix)]
    std::os::unix::fs::symlink(at("widgets"), at("link")).unwrap();
    let found = Layout::find_below(directory.path()).await.unwrap();
    let found: Vec<_> = found
        .iter()
        .map(|layout| layout.directory().to_owned())
        .collect();
    assert_eq!(found, [at("acme/tools"), at("widgets")]);
    assert!(Layout::find_below(at("empty")).await.unwrap().is_empty());
    let error = Layout::find_below(at("absent")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn manifest_copied_without_a_tag_is_listed() {
    let directory = tempfile::tempdir().unwrap();
    let layout = Layout::create(directory.path()).await.unwrap();
    let layers = vec![Blob::from_bytes(MediaType::OCTET_STREAM, "one")];
    let packed = Packed::new("a/b".into(), Blob::empty(), layers, Annotations::new()).unwrap();
    let digest = packed.manifest().digest().clone();
    let source: std::sync::Arc<dyn Source> = std::sync::Arc::new(packed);
    let root = Identifier::Digest(digest.clone());
    crate::copy(&source, &root, &layout, crate::CopyOptions::default())
        .await
        .unwrap();
    let listing = layout.read_listing().await.unwrap();
    let listed: Vec<_> = listing
        .entries()
        .iter()
        .map(|listed| &listed.digest)
        .collect();
    assert_eq!(listed, [&digest]);
    assert!(tags(&layout).await.is_empty());
}

#[tokio::test]
async fn open_of_missing_or_invalid_layout_fails() {
    let directory = tempfile::tempdir().unwrap();
    assert_eq!(
        Layout::open(directory.path()).await.unwrap_err().kind(),
        ErrorKind::NotFound
    );
    std::fs::write(
        directory.path().join("oci-layout"),
        r#"{"imageLayoutVersion":"9"}"#,
    )
    .unwrap();
    assert_eq!(
        Layout::open(directory.path()).await.unwrap_err().kind(),
        ErrorKind::Unsupported
    );
    std::fs::write(directory.path().join("oci-layout"), "<").unwrap();
    assert_eq!(
        Layout::open(directory.path()).await.unwrap_err().kind(),
        ErrorKind::Protocol
    );
}

#[tokio::test]
async fn push_keeps_index_entries_of_other_programs() {
    let directory = tempfile::tempdir().unwrap();
    let layout = Layout::create(directory.path()).await.unwrap();
    let theirs = format!(
        r#"{{"schemaVersion":2,"x":[1],"manifests":[{{"mediaType":"a/b","digest":"{}","size":3}}]}}"#,
        Digest::sha256(b"abc")
    );
    std::fs::write(directory.path().join("index.json"), theirs).unwrap();
    push(&layout, "one", "1").await;
    let text = std::fs::read_to_string(directory.path().join("index.json")).unwrap();
    assert!(
        text.contains("\"x\":[1]") && text.contains(Digest::sha256(b"abc").as_str()),
        "{text}"
    );
}

#[tokio::test]
async fn corrupt_content_fails_with_mismatch() {
    let directory = tempfile::tempdir().unwrap();
    let layout = Layout::create(directory.path()).await.unwrap();
    let manifest = push(&layout, "one", "1").await;
    let layer = &manifest.as_image().unwrap().layers[0];
    std::fs::write(layout.blob_path(&layer.digest), "eno").unwrap();
    let read = layout.blob(layer).await.unwrap().read_to_end(10).await;
    assert_eq!(read.unwrap_err().kind(), ErrorKind::Mismatch);
    std::fs::write(layout.blob_path(manifest.digest()), "{}").unwrap();
    let read = layout.manifest(&manifest.digest().clone().into()).await;
    assert_eq!(read.unwrap_err().kind(), ErrorKind::Mismatch);
    let absent = Identifier::Tag("absent".parse().unwrap());
    assert_eq!(
        layout.manifest(&absent).await.unwrap_err().kind(),
        ErrorKind::NotFound
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_writers_lose_no_tag() {
    let directory = tempfile::tempdir().unwrap();
    let writers = (0..16).map(|at| {
        let directory = directory.path().to_owned();
        tokio::spawn(async move {
            let layout = Layout::create(directory).await.unwrap();
            push(&layout, "same", &format!("t{at:02}")).await;
        })
    });
    futures_util::future::try_join_all(writers).await.unwrap();
    assert_eq!(
        tags(&Layout::open(directory.path()).await.unwrap())
            .await
            .len(),
        16
    );
}
