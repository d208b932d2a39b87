//! Tests for the selection of a tag, a version or a target.

use oci_registry::{Annotations, Blob, Digest, Memory, Packed, Target as _};

use super::*;

const MUSL: &str = "x86_64-unknown-linux-musl";

/// Creates a repository that contains an artifact with the given tags.
async fn repository(tags: &[&str]) -> Memory {
    let (memory, config) = (Memory::new(), Blob::empty());
    let packed = Packed::new(
        "application/vnd.example".into(),
        config.clone(),
        vec![config.clone()],
        Annotations::new(),
    );
    let packed = packed.unwrap();
    memory.push_blob(&config).await.unwrap();
    memory.push_manifest(packed.manifest()).await.unwrap();
    for tag in tags {
        let tag = tag.parse().unwrap();
        memory.tag(packed.manifest(), &tag).await.unwrap();
    }
    memory
}

fn tag(text: &str) -> Tag {
    text.parse().unwrap()
}

fn location(text: &str) -> Location {
    Location::Registry(text.parse().unwrap())
}

async fn resolve(tags: &[&str], requirement: Option<&str>) -> Result<String, Vec<Hint>> {
    let requirement = requirement.map(|text| text.parse::<VersionReq>().unwrap());
    let (source, location) = (repository(tags).await, location("a.b/c"));
    let resolved = resolve_identifier(&source, &location, requirement.as_ref()).await;
    resolved
        .map(|identifier| identifier.to_string())
        .map_err(|error| {
            assert_eq!(error.kind(), ErrorKind::NotFound);
            error.hints()
        })
}

fn advice(text: &str) -> Result<String, Vec<Hint>> {
    Err(vec![Hint::from(text.to_owned())])
}

#[tokio::test]
async fn identifier_without_tag_is_highest_release() {
    let tags = ["1.2.0", "1.10.0", "2.0.0-rc.1", "latest", "1.11.0__x"];
    assert_eq!(resolve(&tags, None).await, Ok("1.10.0".into()));
    assert_eq!(resolve(&tags, Some("<1.10")).await, Ok("1.2.0".into()));
    let list = Hint::ListTags {
        location: "a.b/c".into(),
    };
    assert_eq!(resolve(&tags, Some("3")).await, Err(vec![list.clone()]));
    assert_eq!(resolve(&["a", "b"], None).await, Err(vec![list]));
}

#[tokio::test]
async fn tag_with_prefix_counts_as_version() {
    let tags = ["1.2.0", "v1.3.0", "v1.4.0-rc.1", "v1.5.0__x"];
    assert_eq!(resolve(&tags, None).await, Ok("v1.3.0".into()));
    assert_eq!(resolve(&tags, Some("=1.2.0")).await, Ok("1.2.0".into()));
    let both = ["v1.2.3", "1.2.3"];
    assert_eq!(resolve(&both, None).await, Ok("1.2.3".into()));
}

#[tokio::test]
async fn tag_of_other_digest_is_rejected() {
    let source = repository(&["1.2.3"]).await;
    let digest = source.resolve(&tag("1.2.3").into()).await.unwrap().digest;
    let check = async |text: String| check_tag_of_digest(&source, &location(&text)).await;
    for valid in [format!("a.b/c:1.2.3@{digest}"), format!("a.b/c@{digest}")] {
        check(valid).await.unwrap();
    }
    let other = Digest::sha256(b"other");
    for text in [
        format!("a.b/c:1.2.3@{other}"),
        format!("a.b/c:1.2.4@{digest}"),
    ] {
        let error = check(text).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Mismatch);
    }
}

#[tokio::test]
async fn version_resolves_to_tag_without_prefix_first() {
    let find = async |tags: &[&str]| {
        let version = "1.2.3".parse().unwrap();
        let tag = resolve_version(&repository(tags).await, &version).await;
        tag.unwrap().to_string()
    };
    assert_eq!(find(&["1.2.3", "v1.2.3"]).await, "1.2.3");
    assert_eq!(find(&["1.2.4", "v1.2.3", "1.2.3__x"]).await, "v1.2.3");
    assert_eq!(find(&["v1.2.3__x", "1.2.3__x"]).await, "1.2.3");
    assert_eq!(find(&["v1.2.3__x"]).await, "v1.2.3");
    assert_eq!(find(&["V1.2.3"]).await, "1.2.3");
}

#[tokio::test]
async fn location_without_release_fails_with_hint() {
    let only = "pass the tag `latest`: it is the only tag, and it is not a version";
    assert_eq!(resolve(&["latest"], None).await, advice(only));
    let empty = "check the location: `a.b/c` is empty";
    assert_eq!(resolve(&[], None).await, advice(empty));
    let incomplete = |release: &str, targets: &str| {
        advice(&format!(
            "the {release}, 1.2.0, is incomplete; `a.b/c:1.2.0` selects what is published: {targets}"
        ))
    };
    let tags = ["1.2.0__x", "1.2.0__y", "latest"];
    let found = resolve(&tags, None).await;
    assert_eq!(found, incomplete("only release", "x, y"));
    let found = resolve(&tags, Some("1")).await;
    assert_eq!(found, incomplete("only matching release", "x, y"));
    let found = resolve(&["1.1.0__x", "1.2.0__x"], None).await;
    assert_eq!(found, incomplete("highest release", "x"));
}

#[tokio::test]
async fn release_is_incomplete_only_without_its_tag() {
    let manifest = |annotations: Annotations| {
        let (kind, config) = (crate::media::PACKAGE_TARGET, Blob::empty());
        let packed = Packed::new(kind, config.clone(), vec![config], annotations);
        packed.unwrap().manifest().clone()
    };
    let target = (crate::annotation::TARGET.to_owned(), "a".to_owned());
    let package = manifest(Annotations::from_iter([target]));
    let other = manifest(Annotations::new());
    let find = async |tag: &str, tags: &[&str], manifest: &Manifest| {
        let identifier: Tag = tag.parse().unwrap();
        let source = repository(tags).await;
        let found = find_incomplete_release(&source, &identifier.into(), manifest, None).await;
        found.map(|release| release.to_string())
    };
    let published = ["1.2.0__a", "1.2.0__b", "1.2.1__c", "nightly__a"];
    let expected = "1.2.0 has no version tag yet (targets published so far: 2)";
    assert_eq!(
        find("1.2.0", &published, &package).await,
        Some(expected.into())
    );
    let expected = "nightly has no index yet (targets published so far: 1)";
    assert_eq!(
        find("nightly", &published, &package).await,
        Some(expected.into())
    );
    assert_eq!(find("1.2.0", &published, &other).await, None);
    assert_eq!(find("1.2.0", &["1.2.0", "1.2.0__a"], &package).await, None);
    assert_eq!(find("1.2.0", &["1.2.1"], &package).await, None);
}

#[tokio::test]
async fn missing_tag_error_suggests_similar_tag() {
    let (source, name) = (repository(&["1.2.3", "latest"]).await, "a.b/c");
    let list = Hint::ListTags {
        location: name.into(),
    };
    let hints = async |tag: &str| {
        let location = location(&format!("{name}:{tag}"));
        let identifier = location.identifier().unwrap();
        let found = resolve_manifest(&source, &location, &identifier, &[]).await;
        found.unwrap_err().hints()
    };
    let similar = Hint::from("a tag with a similar name exists: `a.b/c:1.2.3`");
    assert_eq!(hints("1.2.4").await, [similar, list.clone()]);
    assert_eq!(hints("nightly").await, [list]);
}

#[tokio::test]
async fn missing_version_error_suggests_highest_similar_tag() {
    let source = repository(&["0.1.0", "0.2.0", "0.3.0", "latest"]).await;
    let location = location("a.b/c");
    let missing = Identifier::Tag("0.4.0".parse().unwrap());
    let found = resolve_manifest(&source, &location, &missing, &[]).await;
    let similar = Hint::from("a tag with a similar name exists: `a.b/c:0.3.0`");
    assert_eq!(found.unwrap_err().hints()[0], similar);
}

#[tokio::test]
async fn missing_target_error_lists_published_targets() {
    let source = repository(&[&format!("1.2.0__{MUSL}"), "1.1.0"]).await;
    let location = location("a.b/c:1.2.0");
    let identifier = location.identifier().unwrap();
    let selector = ManifestSelector::Target("x86_64-pc-windows-msvc".into());
    let found = resolve_manifest(&source, &location, &identifier, &[selector]).await;
    let expected = Hint::from(format!(
        "`1.2.0` is not published for `x86_64-pc-windows-msvc` yet; targets published so far: {MUSL}"
    ));
    assert_eq!(found.unwrap_err().hints(), [expected]);
}

#[tokio::test]
async fn version_exists_if_it_has_tag_of_version_or_target() {
    let source = repository(&["1.0.0", "v1.1.0", "1.2.0__x", "1.3"]).await;
    for (version, expected) in [
        ("1.0.0", true),
        ("1.1.0", true),
        ("1.2.0", true),
        ("1.3.0", false),
    ] {
        let found = has_version(&source, &version.parse().unwrap()).await;
        assert_eq!(found.unwrap(), expected, "{version}");
    }
}

#[tokio::test]
async fn version_without_index_error_lists_target_tags() {
    let gnu = "s390x-unknown-linux-gnu";
    let tags = [format!("1.2.0__{MUSL}"), format!("1.2.0__{gnu}")];
    let source = repository(&[&tags[0], &tags[1], "1.2.1"]).await;
    let location = location("a.b/c:1.2.0");
    let identifier = location.identifier().unwrap();
    let expected = Hint::from(format!(
        "use a target tag: `a.b/c:{}`, `a.b/c:{}`; `1.2.0` is incomplete",
        tags[1], tags[0]
    ));
    let error = resolve_manifest_or_target(&source, &location, &identifier, &[]).await;
    assert_eq!(error.unwrap_err().hints(), std::slice::from_ref(&expected));
    let error = resolve_manifest(&source, &location, &identifier, &[]).await;
    assert_eq!(error.unwrap_err().hints(), [expected]);
}

#[test]
fn missing_repository_error_has_hint_to_check_its_name() {
    let error = |kind| Error::new(kind, std::fmt::Error);
    let hint = Hint::CheckRepository {
        registry: "a.b".into(),
        repository: "c".into(),
    };
    let explained = |kind| explain_repository(&location("a.b/c"), error(kind)).hints();
    assert_eq!(explained(ErrorKind::NotFound), [hint]);
    assert!(explained(ErrorKind::Network).is_empty());
    let layout = explain_repository(&Location::layout("a"), error(ErrorKind::NotFound));
    assert!(layout.hints().is_empty());
}
