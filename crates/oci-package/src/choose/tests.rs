use oci_registry::{Blob, Delete as _, Digest, ImageManifest, MediaType, Memory, Target as _};

use super::*;
use crate::index::{IndexEntry, PackageIndex};
use crate::media;

const GNU: &str = "x86_64-unknown-linux-gnu";
const MUSL: &str = "x86_64-unknown-linux-musl";
const MAC: &str = "aarch64-apple-darwin";

fn manifest(target: &str, libc: &str, glibc: Option<&str>) -> Manifest {
    let platform = platform::from_triple(target, None).unwrap();
    let mut image = ImageManifest::new(media::PACKAGE_TARGET, Blob::empty().descriptor().clone());
    let mut add =
        |key: &str, value: &str| image.annotations.insert(key.to_owned(), value.to_owned());
    add(annotation::TARGET, target);
    add(annotation::PLATFORM, &platform.to_string());
    add(annotation::LIBC, libc);
    glibc.map(|glibc| add(annotation::GLIBC, glibc));
    Manifest::from_image(image).unwrap()
}

fn index(manifests: &[Manifest]) -> Manifest {
    let mut index = PackageIndex::new();
    for manifest in manifests {
        index.insert(IndexEntry::from_manifest(manifest).unwrap());
    }
    index.to_manifest().unwrap()
}

fn chosen(index: &Manifest, wanted: &ManifestSelector) -> Option<String> {
    let entry = choose(index.as_index().unwrap(), wanted)?;
    Some(entry.annotation(annotation::TARGET).unwrap().to_owned())
}

fn machine(target: &str, glibc: Option<&str>) -> ManifestSelector {
    ManifestSelector::Machine(Machine {
        target: target.to_owned(),
        glibc: glibc.map(|text| text.parse().unwrap()),
    })
}

#[test]
fn machine_selects_own_target_or_most_portable_entry() {
    let all = index(&[
        manifest(GNU, "glibc", Some("2.34")),
        manifest(MUSL, "static", None),
        manifest(MAC, "", None),
        manifest("arm-unknown-linux-gnueabihf", "glibc", None),
        manifest("armv7-unknown-linux-musleabihf", "static", None),
        manifest("armv5te-unknown-linux-musleabi", "static", None),
    ]);
    for (wanted, expected) in [
        (machine(GNU, Some("2.34")), Some(GNU)),
        (machine(GNU, Some("2.31")), Some(MUSL)),
        (machine(MUSL, None), Some(MUSL)),
        (machine(MAC, None), Some(MAC)),
        (machine("x86_64-unknown-linux-gnuasan", None), Some(MUSL)),
        (
            machine("armv7-unknown-linux-gnueabihf", None),
            Some("armv7-unknown-linux-musleabihf"),
        ),
        (
            machine("arm-unknown-linux-gnueabi", None),
            Some("armv5te-unknown-linux-musleabi"),
        ),
        (machine("x86_64-pc-windows-msvc", None), None),
        (machine("x86_64-acme-os", None), None),
    ] {
        assert_eq!(chosen(&all, &wanted).as_deref(), expected, "{wanted:?}");
    }
}

#[test]
fn choice_with_unknown_glibc_prefers_static_builds() {
    let (gnu, musl) = (
        manifest(GNU, "glibc", Some("2.34")),
        manifest(MUSL, "static", None),
    );
    let both = index(&[gnu.clone(), musl]);
    let unknown = machine(GNU, None);
    assert_eq!(chosen(&both, &unknown).as_deref(), Some(MUSL));
    let only_gnu = index(&[gnu]);
    assert_eq!(chosen(&only_gnu, &unknown).as_deref(), Some(GNU));
    let static_gnu = index(&[manifest(GNU, "static", None)]);
    assert_eq!(chosen(&static_gnu, &unknown).as_deref(), Some(GNU));
    // A static build is preferred even if the other build is for a better variant of the architecture.
    let (hard, older) = (
        "armv7-unknown-linux-gnueabihf",
        "armv5te-unknown-linux-musleabi",
    );
    let arm = index(&[
        manifest(hard, "glibc", None),
        manifest(older, "static", None),
    ]);
    assert_eq!(chosen(&arm, &machine(hard, None)).as_deref(), Some(older));
    let known = machine(hard, Some("2.36"));
    assert_eq!(chosen(&arm, &known).as_deref(), Some(hard));
}

#[test]
fn build_for_other_libc_is_not_selected() {
    let musl = index(&[manifest(MUSL, "musl", None)]);
    assert_eq!(chosen(&musl, &machine(GNU, None)), None);
    assert_eq!(chosen(&musl, &machine(MUSL, None)).as_deref(), Some(MUSL));
    let gnu = index(&[manifest(GNU, "glibc", Some("2.34"))]);
    assert_eq!(chosen(&gnu, &machine(MUSL, None)), None);
    assert_eq!(chosen(&gnu, &machine(GNU, Some("2.17"))), None);
    let soft = index(&[manifest("arm-unknown-linux-gnueabi", "glibc", None)]);
    assert_eq!(
        chosen(&soft, &machine("armv7-unknown-linux-gnueabihf", None)),
        None
    );
}

#[test]
fn platform_selects_first_entry_and_target_only_exact_entry() {
    let all = index(&[
        manifest(GNU, "glibc", None),
        manifest(MUSL, "static", None),
        manifest(MAC, "", None),
    ]);
    let platform = |text: &str| ManifestSelector::Platform(platform::parse(text).unwrap());
    assert_eq!(
        chosen(&all, &platform("linux/amd64")).as_deref(),
        Some(MUSL)
    );
    assert_eq!(
        chosen(&all, &platform("darwin/arm64/v8")).as_deref(),
        Some(MAC)
    );
    assert_eq!(chosen(&all, &platform("darwin/amd64")), None);
    assert_eq!(
        chosen(&all, &ManifestSelector::Target(GNU.into())).as_deref(),
        Some(GNU)
    );
    assert_eq!(
        chosen(
            &all,
            &ManifestSelector::Target("x86_64-unknown-linux-ohos".into())
        ),
        None
    );
}

/// Creates the index of a container image: entries with platforms and without targets.
fn image_index(platforms: &[&str]) -> Index {
    let entries = platforms.iter().map(|text| {
        let mut entry = Descriptor::new(MediaType::MANIFEST, Digest::sha256(text.as_bytes()), 1);
        entry.platform = Some(platform::parse(text).unwrap());
        entry
    });
    Index::new(None, entries.collect())
}

#[test]
fn image_index_is_matched_by_platform() {
    let index = image_index(&[
        "linux/arm/v5",
        "linux/arm/v7",
        "linux/amd64",
        "linux/amd64/v3",
        "linux/arm64/v8",
        "unknown/unknown",
    ]);
    let chosen = |wanted: &ManifestSelector| {
        choose(&index, wanted).and_then(|entry| entry.platform.as_ref().map(Platform::to_string))
    };
    let platform = |text: &str| chosen(&ManifestSelector::Platform(platform::parse(text).unwrap()));
    assert_eq!(platform("linux/arm/v7").as_deref(), Some("linux/arm/v7"));
    assert_eq!(platform("linux/arm/v6").as_deref(), Some("linux/arm/v5"));
    assert_eq!(platform("linux/arm").as_deref(), Some("linux/arm/v5"));
    assert_eq!(platform("linux/amd64").as_deref(), Some("linux/amd64"));
    assert_eq!(platform("linux/amd64/v2").as_deref(), Some("linux/amd64"));
    assert_eq!(platform("linux/arm64").as_deref(), Some("linux/arm64/v8"));
    assert_eq!(platform("windows/amd64"), None);
    assert_eq!(
        chosen(&ManifestSelector::Target(GNU.into())).as_deref(),
        Some("linux/amd64")
    );
    assert_eq!(
        chosen(&machine(GNU, Some("2.17"))).as_deref(),
        Some("linux/amd64")
    );
    assert_eq!(
        chosen(&ManifestSelector::Target("x86_64-acme-os".into())),
        None
    );
}

#[test]
fn fallback_tags_are_at_most_four_in_order_of_rank() {
    let tags = |tag: &str, wanted: &ManifestSelector| -> Vec<String> {
        fallback_tags(&tag.parse().unwrap(), wanted)
            .iter()
            .map(Tag::to_string)
            .collect()
    };
    assert_eq!(
        tags("1.2.3", &ManifestSelector::Target(GNU.into())),
        [format!("1.2.3__{GNU}")]
    );
    let for_machine = tags("1.2.3", &machine(GNU, Some("2.36")));
    assert_eq!(
        for_machine[..2],
        [format!("1.2.3__{GNU}"), format!("1.2.3__{MUSL}")]
    );
    assert_eq!(for_machine.len(), MAX_FALLBACK_TAGS);
    let without_glibc = tags("1.2.3", &machine(GNU, None));
    assert_eq!(
        without_glibc[..2],
        [format!("1.2.3__{MUSL}"), format!("1.2.3__{GNU}")]
    );
    let for_platform = tags(
        "nightly",
        &ManifestSelector::Platform(platform::parse("linux/amd64").unwrap()),
    );
    assert_eq!(
        for_platform[..2],
        [format!("nightly__{MUSL}"), format!("nightly__{GNU}")]
    );
    assert!(tags("1.2.3__x", &machine(GNU, None)).is_empty());
}

async fn memory(manifests: &[(&str, &Manifest)]) -> Memory {
    let memory = Memory::new();
    memory.push_blob(&Blob::empty()).await.unwrap();
    for (tag, manifest) in manifests {
        memory.push_manifest(manifest).await.unwrap();
        memory.tag(manifest, &tag.parse().unwrap()).await.unwrap();
    }
    memory
}

#[tokio::test]
async fn target_missing_from_index_is_found_by_its_tag() {
    let (gnu, mac) = (manifest(GNU, "glibc", None), manifest(MAC, "", None));
    let index = index(std::slice::from_ref(&gnu));
    let (gnu_tag, mac_tag) = (format!("1.0.0__{GNU}"), format!("1.0.0__{MAC}"));
    let memory = memory(&[
        (&gnu_tag, &gnu),
        (&mac_tag, &mac),
        ("1.0.0", &index),
        (&format!("2.0.0__{MAC}"), &mac),
    ])
    .await;
    let found = async |tag: &str, wanted: ManifestSelector| {
        find(&memory, &tag.parse::<Tag>().unwrap().into(), &wanted).await
    };
    assert_eq!(found("1.0.0", machine(GNU, None)).await.unwrap(), gnu);
    assert_eq!(found("1.0.0", machine(MAC, None)).await.unwrap(), mac);
    assert_eq!(
        found("2.0.0", ManifestSelector::Target(MAC.into()))
            .await
            .unwrap(),
        mac
    );
    assert_eq!(
        found(&mac_tag, machine(GNU, None)).await.unwrap(),
        mac,
        "a manifest is returned for any machine"
    );

    let error = found("1.0.0", ManifestSelector::Target(MUSL.into()))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert_eq!(
        error.to_string(),
        format!("failed to find `{MUSL}` in `memory:1.0.0`")
    );
    assert_eq!(
        error.hints(),
        [format!("choose an available target: `{GNU}`").into()]
    );
    let error = found(&mac_tag, ManifestSelector::Target(GNU.into()))
        .await
        .unwrap_err();
    assert_eq!(
        (error.kind(), error.hints()),
        (
            ErrorKind::NotFound,
            vec![format!("choose an available target: `{MAC}`").into()]
        )
    );
    let error = found("3.0.0", machine(GNU, None)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert_eq!(
        error.to_string(),
        "failed to find the manifest `3.0.0` in memory"
    );
}

#[tokio::test]
async fn entry_of_nested_index_is_found() {
    let (gnu, mac) = (manifest(GNU, "glibc", None), manifest(MAC, "", None));
    let windows = manifest("x86_64-pc-windows-msvc", "", None);
    let inner = index(std::slice::from_ref(&mac));
    // Nested indexes: one with the correct platform, one with a wrong platform, and two without a platform.
    let named = |inner: &Manifest, text: &str| {
        let platform = Some(platform::parse(text).unwrap());
        Descriptor {
            platform,
            ..inner.descriptor()
        }
    };
    let linux = index(std::slice::from_ref(&gnu));
    let silent = Index::new(
        None,
        vec![index(std::slice::from_ref(&windows)).descriptor()],
    );
    let silent = Manifest::from_index(silent).unwrap();
    let entries = vec![
        named(&linux, "linux/amd64"),
        named(&linux, "linux/riscv64"),
        inner.descriptor(),
        silent.descriptor(),
    ];
    let root = Manifest::from_index(Index::new(None, entries)).unwrap();
    let memory = memory(&[("gnu", &gnu), ("mac", &mac), ("windows", &windows)]).await;
    for index in [
        &inner,
        &linux,
        &index(std::slice::from_ref(&windows)),
        &silent,
        &root,
    ] {
        memory.push_manifest(index).await.unwrap();
    }
    let root = root.digest().clone().into();
    let found = async |text: &str| {
        find(
            &memory,
            &root,
            &ManifestSelector::Platform(platform::parse(text).unwrap()),
        )
        .await
    };
    assert_eq!(found("linux/amd64").await.unwrap(), gnu);
    assert_eq!(found("darwin/arm64").await.unwrap(), mac);
    assert_eq!(found("windows/amd64").await.unwrap(), windows);
    let target = ManifestSelector::Target(MAC.into());
    assert_eq!(find(&memory, &root, &target).await.unwrap(), mac);
    let error = found("linux/riscv64").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    let hints = format!("{:?}", error.hints());
    assert!(hints.contains(GNU) && hints.contains(MAC), "{hints}");
}

#[tokio::test]
async fn deeply_nested_indexes_are_rejected() {
    let memory = memory(&[]).await;
    let find_in = async |root: &Manifest| {
        let root = root.digest().clone().into();
        let wanted = ManifestSelector::Platform(platform::parse("linux/amd64").unwrap());
        find(&memory, &root, &wanted).await.unwrap_err()
    };
    let mut root = Manifest::from_index(Index::new(None, Vec::new())).unwrap();
    for depth in 0..6 {
        memory.push_manifest(&root).await.unwrap();
        let expected = if depth <= MAX_DEPTH {
            ErrorKind::NotFound
        } else {
            ErrorKind::Protocol
        };
        assert_eq!(find_in(&root).await.kind(), expected, "{depth}");
        root = Manifest::from_index(Index::new(None, vec![root.descriptor()])).unwrap();
    }
    let mut entries = Vec::new();
    for number in 0..=MAX_INDEXES {
        let mut index = Index::new(None, Vec::new());
        index
            .annotations
            .insert("number".into(), number.to_string());
        let index = Manifest::from_index(index).unwrap();
        memory.push_manifest(&index).await.unwrap();
        entries.push(index.descriptor());
    }
    let root = Manifest::from_index(Index::new(None, entries)).unwrap();
    memory.push_manifest(&root).await.unwrap();
    assert_eq!(find_in(&root).await.kind(), ErrorKind::Protocol);
}

#[tokio::test]
async fn manifest_that_differs_from_its_entry_is_rejected() {
    let gnu = manifest(GNU, "glibc", None);
    let memory = memory(&[("gnu", &gnu)]).await;
    let as_index = Descriptor {
        media_type: oci_registry::MediaType::INDEX,
        platform: None,
        annotations: oci_registry::Annotations::new(),
        ..gnu.descriptor()
    };
    let mut as_mac = gnu.descriptor();
    as_mac
        .annotations
        .insert(annotation::TARGET.into(), MAC.into());
    for entry in [as_index, as_mac] {
        let root = Manifest::from_index(Index::new(None, vec![entry])).unwrap();
        memory.push_manifest(&root).await.unwrap();
        let root = root.digest().clone().into();
        let error = find(&memory, &root, &ManifestSelector::Target(MAC.into())).await;
        assert_eq!(error.unwrap_err().kind(), ErrorKind::Mismatch);
    }
}

#[tokio::test]
async fn glibc_newer_than_in_index_entry_is_named_in_error() {
    let listed = manifest(GNU, "glibc", Some("2.17"));
    let stored = manifest(GNU, "glibc", Some("2.39"));
    let memory = memory(&[("gnu", &stored)]).await;
    let mut entry = IndexEntry::from_manifest(&listed)
        .unwrap()
        .descriptor()
        .clone();
    (entry.digest, entry.size) = (stored.digest().clone(), stored.descriptor().size);
    let root = Manifest::from_index(Index::new(None, vec![entry])).unwrap();
    memory.push_manifest(&root).await.unwrap();
    let root = root.digest().clone().into();
    let error = find(&memory, &root, &machine(GNU, Some("2.28"))).await;
    let error = error.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Mismatch);
    let message = error.to_string();
    assert!(
        message.ends_with(&format!("`{GNU} with glibc 2.39`")),
        "{message}"
    );
}

#[tokio::test]
async fn too_many_missing_nested_indexes_are_rejected() {
    let memory = memory(&[]).await;
    for (count, expected) in [
        (MAX_INDEXES, ErrorKind::NotFound),
        (MAX_INDEXES + 1, ErrorKind::Protocol),
    ] {
        let mut entries = Vec::new();
        for number in 0..count {
            let mut index = Index::new(None, Vec::new());
            let number = number.to_string();
            index.annotations.insert("number".into(), number);
            let index = Manifest::from_index(index).unwrap();
            memory.push_manifest(&index).await.unwrap();
            entries.push(index.descriptor());
        }
        let root = Manifest::from_index(Index::new(None, entries.clone())).unwrap();
        memory.push_manifest(&root).await.unwrap();
        for entry in entries {
            memory.delete_manifest(&entry.digest).await.unwrap();
        }
        let root = root.digest().clone().into();
        let error = find(&memory, &root, &ManifestSelector::Target(MAC.into())).await;
        assert_eq!(error.unwrap_err().kind(), expected, "{count}");
    }
}
