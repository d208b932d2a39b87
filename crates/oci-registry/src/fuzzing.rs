//! Functions that check the parsers with arbitrary input (feature `fuzzing`). Not part of the public API.
//!
//! Each function parses its bytes as untrusted input and asserts properties of the result: accepted values match their
//! grammar and stay within bounds, printed values parse to the same value, and no error message contains terminal
//! control characters. The targets in `fuzz/` call the functions with the inputs of a fuzzer. The tests in this file
//! call them with random text that resembles valid input.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt::{Debug, Display, Write as _};
use std::io::Read;
use std::path::{Component, Path};
use std::str::FromStr;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures_util::StreamExt;
use http::{HeaderMap, HeaderValue, StatusCode, header};

use crate::archive::Archive;
use crate::auth::auth_file::AuthFile;
use crate::auth::challenge::Challenge;
use crate::auth::{Credential, CredentialRequest, credential_helper};
use crate::digest::Digest;
use crate::error::Error;
use crate::escape::{escape, needs_escape};
use crate::exchange::address_class::AddressClass;
use crate::exchange::origin::{Origin, Peer};
use crate::exchange::retry;
use crate::export::tree::{Limits, Tree};
use crate::layout::{self, Listing, ListingEntry};
use crate::manifest::{Descriptor, Manifest, MediaType};
use crate::rate_limit::RateLimit;
use crate::redact::{self, Secret, Secrets};
use crate::reference::{
    ArchiveFormat, ImageName, LocationText, Reference, RegistryName, RepositoryName, Tag,
};
use crate::registry::{page, response};
use crate::storage::Source;
use crate::tarball::{self, Entry, Kind, Reader, SkipByReading, Writer};
use crate::unpack::FileName;

/// Maximum size of a blob that is read, in bytes. It is larger than any blob in the input.
const MAX_BLOB: usize = 1 << 20;

fn as_text(data: &[u8]) -> Option<&str> {
    std::str::from_utf8(data).ok()
}

/// Asserts that the messages and hints of an error contain no terminal control characters.
fn check_error(error: &Error) {
    let mut shown = vec![error.to_string()];
    shown.extend(error.hints().iter().map(|hint| format!("{hint:?}")));
    let mut cause = std::error::Error::source(error);
    while let Some(below) = cause {
        shown.push(below.to_string());
        cause = below.source();
    }
    for text in shown {
        assert!(!text.contains(needs_escape), "{text:?}");
    }
}

/// Parses a name. Asserts that a valid name prints as the given text, apart from case, and that an error has a span
/// within the text.
fn check_name<T>(text: &str) -> Option<T>
where
    T: FromStr<Err = Error> + Display + Debug + PartialEq,
{
    match text.parse::<T>() {
        Ok(name) => {
            let shown = name.to_string();
            assert!(shown.eq_ignore_ascii_case(text), "{text:?} became {shown}");
            let again = shown.parse::<T>().expect("a printed name parses");
            assert_eq!(again, name);
            Some(name)
        }
        Err(error) => {
            check_error(&error);
            let span = error.span().expect("a rejected name has a span");
            assert!(text.get(span.clone()).is_some(), "{text:?} has no {span:?}");
            None
        }
    }
}

/// Checks references, their parts, and locations.
pub fn check_reference(data: &[u8]) {
    let Some(text) = as_text(data) else { return };
    let _ = check_name::<RegistryName>(text);
    let _ = check_name::<ImageName>(text);
    if let Some(name) = check_name::<RepositoryName>(text) {
        let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        for part in name.as_str().split('/').map(str::as_bytes) {
            let (Some(first), Some(last)) = (part.first(), part.last()) else {
                panic!("`{name}` has an empty part");
            };
            assert!(is_plain(*first) && is_plain(*last), "{name}");
            let is_allowed = |byte: &u8| is_plain(*byte) || b"._-".contains(byte);
            assert!(part.iter().all(is_allowed), "{name}");
        }
        assert!(!name.as_str().contains("..") && name.as_str().len() <= 255);
    }
    if let Some(tag) = check_name::<Tag>(text) {
        let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
        assert!(tag.as_str().bytes().all(is_allowed) && tag.as_str().len() <= 128);
        assert!(!tag.as_str().starts_with(['.', '-']));
    }
    if let Some(reference) = check_name::<Reference>(text) {
        let whole = reference.whole_repository().to_string();
        assert!(whole.len() <= 255);
        // The repository name affects only the path of the URL.
        let url = format!(
            "https://{}/v2/{}/",
            reference.registry(),
            reference.repository()
        );
        let url: url::Url = url.parse().expect("a reference makes a URL");
        assert_eq!(url.path(), format!("/v2/{}/", reference.repository()));
        assert!(url.query().is_none() && url.fragment().is_none() && url.username().is_empty());
    }
    match Reference::from_docker(text) {
        Ok(reference) => {
            assert!(reference.identifier().is_some());
            let shown = reference.to_string();
            assert_eq!(shown.parse::<Reference>().ok().as_ref(), Some(&reference));
            let again = Reference::from_docker(&shown).expect("a full name parses");
            assert_eq!(again, reference);
        }
        Err(error) => {
            check_error(&error);
            let span = error.span().expect("a rejected name has a span");
            assert!(text.get(span.clone()).is_some(), "{text:?} has no {span:?}");
        }
    }
    match text.parse::<LocationText>() {
        Ok(location) => {
            let again = location.to_string().parse::<LocationText>();
            assert_eq!(again.expect("a printed location parses"), location);
        }
        Err(error) => check_error(&error),
    }
}

/// Checks digests.
pub fn check_digest(data: &[u8]) {
    let Some(text) = as_text(data) else { return };
    match text.parse::<Digest>() {
        Ok(digest) => {
            assert_eq!(digest.as_str(), text);
            let parts = (digest.algorithm_name(), digest.encoded());
            assert_eq!(format!("{}:{}", parts.0, parts.1), text);
            // Each part is a single path component.
            for part in [parts.0, parts.1] {
                assert!(!part.is_empty() && !part.contains(['/', '\\', ':', '\0']) && part != "..");
            }
            assert_eq!(digest.verifier().is_ok(), digest.algorithm().is_some());
            if let Some(algorithm) = digest.algorithm() {
                assert_eq!(algorithm.digest(b"").as_str().len(), text.len());
            }
            let json = serde_json::to_string(&digest).expect("a string serializes");
            let read: Digest = serde_json::from_str(&json).expect("a serialized digest parses");
            assert_eq!(read, digest);
        }
        Err(error) => check_error(&error),
    }
}

/// Checks manifests and indexes. The first byte selects the `Content-Type`.
pub fn check_manifest(data: &[u8]) {
    /// Length of the shortest descriptor.
    const MIN_DESCRIPTOR_LENGTH: usize = r#"{"mediaType":"","digest":"a:b","size":0}"#.len();
    let Some((first, document)) = data.split_first() else {
        return;
    };
    let served = MediaType::MANIFESTS.into_iter().nth(usize::from(first % 8));
    let bytes = Bytes::copy_from_slice(document);
    let manifest = match Manifest::parse(bytes.clone(), served.as_ref().map(MediaType::as_str)) {
        Ok(manifest) => manifest,
        Err(error) => return check_error(&error),
    };
    assert_eq!(manifest.bytes(), &bytes);
    assert_eq!(*manifest.digest(), Digest::sha256(&bytes));
    assert_eq!(manifest.descriptor().size, bytes.len() as u64);
    assert_eq!(&manifest.descriptor().media_type, manifest.media_type());
    assert!(manifest.successors().len() * MIN_DESCRIPTOR_LENGTH <= bytes.len());
    for successor in manifest.successors() {
        assert!(i64::try_from(successor.size).is_ok());
    }
    if !manifest.media_type().is_manifest() {
        return;
    }
    assert_eq!(
        manifest.media_type().is_index(),
        manifest.as_index().is_some()
    );
    let again = Manifest::parse(bytes, Some(manifest.media_type().as_str()));
    let again = again.expect("a manifest parses with its own media type");
    assert_eq!(again.document(), manifest.document());
    // Parsing a manifest that was written from the parsed content returns the same content.
    let written = match (manifest.as_image(), manifest.as_index()) {
        (Some(image), _) => Manifest::from_image(image.clone()),
        (_, Some(index)) => Manifest::from_index(index.clone()),
        _ => return,
    };
    let Ok(written) = written else { return };
    let media_type = written.media_type().as_str();
    let read = Manifest::parse(written.bytes().clone(), Some(media_type));
    let read = read.expect("a written manifest parses");
    assert_eq!(read.document(), manifest.document());
    assert_eq!(read.digest(), written.digest());
}

/// Checks `WWW-Authenticate` headers, one per line.
pub fn check_challenge(data: &[u8]) {
    let mut headers = HeaderMap::new();
    let values = data.split(|byte| *byte == b'\n').take(8);
    for value in values.filter_map(|value| HeaderValue::from_bytes(value).ok()) {
        headers.append(header::WWW_AUTHENTICATE, value);
    }
    let Some(challenge) = Challenge::select(&headers) else {
        return;
    };
    let Challenge::Bearer {
        realm,
        service,
        scope,
    } = &challenge
    else {
        return;
    };
    let mut again = String::from("Bearer ");
    for (name, value) in [
        ("realm", Some(realm)),
        ("service", service.as_ref()),
        ("scope", scope.as_ref()),
    ] {
        let Some(value) = value else { continue };
        assert!(!value.is_empty() && value.len() <= data.len());
        let escaped = value.replace('\\', r"\\").replace('"', "\\\"");
        write!(again, "{name}=\"{escaped}\", ").expect("a string can be written to");
    }
    let mut headers = HeaderMap::new();
    let value = HeaderValue::try_from(again).expect("the value came from a header");
    headers.insert(header::WWW_AUTHENTICATE, value);
    assert_eq!(Challenge::select(&headers), Some(challenge));
}

/// Checks a page of a list of names. The result must not depend on the size of the chunks in which the page arrives,
/// and only JSON must be accepted.
pub fn check_names(data: &[u8]) {
    let whole = page::parse_names(data, usize::MAX);
    for chunk_size in [1, 2, 7] {
        assert_eq!(
            page::parse_names(data, chunk_size),
            whole,
            "in chunks of {chunk_size}"
        );
    }
    let Some(names) = whole else { return };
    assert!(serde_json::from_slice::<serde::de::IgnoredAny>(data).is_ok());
    // serde_json rejects invalid surrogates everywhere, but the parser rejects them only in names.
    let Ok(document) = serde_json::from_slice::<serde_json::Value>(data) else {
        return;
    };
    let list = document
        .get("tags")
        .or_else(|| document.get("repositories"));
    let list: Option<Vec<String>> =
        serde_json::from_value(list.expect("a page has a list").clone()).expect("a list of names");
    assert_eq!(list.unwrap_or_default(), names);
}

/// Checks `Link` headers and the URL of the next page.
pub fn check_link(data: &[u8]) {
    let Some(text) = as_text(data) else { return };
    let Some(target) = page::parse_next_link(text) else {
        return;
    };
    assert!(text.contains(&format!("<{target}>")));
    let again = page::parse_next_link(&format!("<{target}>; rel=\"next\""));
    assert_eq!(again.as_ref(), Some(&target));
    let peer = Peer {
        url: "https://registry.example/v2/a/tags/list"
            .parse()
            .expect("a URL"),
        class: AddressClass::Public,
        secrets: Secrets::default(),
    };
    match peer.resolve_same_origin(&target) {
        Ok(url) => assert_eq!(Origin::from_url(&url), Origin::from_url(&peer.url)),
        Err(error) => check_error(&error.into()),
    }
    if let Ok(url) = peer.resolve(&target) {
        assert_eq!(url.scheme(), "https");
        assert!(AddressClass::from_url(&url).is_none_or(|class| class == AddressClass::Public));
    }
}

/// Checks credential files and responses of credential helpers. The first line is a registry or a repository. The other
/// lines are used twice: as the content of a file or response, and as the keys of a file. The user name of each entry
/// in this file is its key.
pub fn check_credentials(data: &[u8]) {
    let Some((first, rest)) = as_text(data).and_then(|text| text.split_once('\n')) else {
        return;
    };
    let (registry, repository) = match first.split_once('/') {
        Some((registry, repository)) => (registry, repository.parse::<RepositoryName>().ok()),
        None => (first, None),
    };
    let Ok(registry) = registry.parse::<RegistryName>() else {
        return;
    };
    let request = CredentialRequest {
        repository: repository.as_ref(),
        ..CredentialRequest::new(&registry)
    };
    let files = [
        AuthFile::parse(rest.as_bytes(), "a file"),
        AuthFile::parse_legacy(rest.as_bytes(), "a file"),
        AuthFile::parse_variable(rest, "a variable"),
    ];
    for file in files {
        let file = match file {
            Ok(file) => file,
            Err(error) => {
                check_error(&error.into());
                continue;
            }
        };
        let _ = (
            file.docker_helper(&registry),
            file.containers_helper(&registry),
        );
        for found in [
            file.docker_entry(&request, "a file"),
            file.containers_entry(&request, "a file", false),
            file.containers_entry(&request, "a file", true),
        ] {
            if let Err(error) = found {
                check_error(&error.into());
            }
        }
    }
    if let Some(Credential::Basic { username, password }) =
        credential_helper::parse_output(rest.as_bytes())
    {
        let response: serde_json::Value = serde_json::from_str(rest).expect("a response is JSON");
        let members = response.as_object().expect("a response is an object");
        let has = |name: &str, expected: &str| {
            let mut members = members.iter();
            members.any(|(member, value)| member.eq_ignore_ascii_case(name) && *value == expected)
        };
        assert!(has("Username", &username) && has("Secret", password.expose()));
    }
    let keys: BTreeSet<&str> = rest.split('\n').take(8).collect();
    let entries = keys.iter().map(|key| {
        let key = serde_json::to_string(key).expect("a string serializes");
        format!(r#"{key}:{{"username":{key},"password":"p"}}"#)
    });
    let entries: Vec<_> = entries.collect();
    let json = format!(r#"{{"auths":{{{}}}}}"#, entries.join(","));
    let file = AuthFile::parse(json.as_bytes(), "a file").expect("the file is valid");
    let owner = |found: Result<Option<Credential>, _>| match found.ok().flatten() {
        Some(Credential::Basic { username, password }) => {
            assert_eq!(password, Secret::new("p"));
            Some(username)
        }
        _ => None,
    };
    let hub = ["docker.io", "index.docker.io", "registry-1.docker.io"];
    let is_same = |key: &str| {
        // Keys are compared without regard to case, including the scheme of a URL.
        let key = key.to_ascii_lowercase();
        let host = key.strip_prefix("https://");
        let host = host.or(key.strip_prefix("http://")).unwrap_or(&key);
        let host = host.split('/').next().unwrap_or(host);
        let name = registry.as_str().to_ascii_lowercase();
        host == name || (hub.contains(&host) && hub.contains(&&*name))
    };
    for found in [
        file.docker_entry(&request, "a file"),
        file.containers_entry(&request, "a file", false),
        file.containers_entry(&request, "a file", true),
    ] {
        if let Some(key) = owner(found) {
            assert!(is_same(&key), "`{registry}` gets the secret of {key:?}");
        }
    }
    // A key is found even if it differs from the name of the registry in case.
    if keys
        .iter()
        .any(|key| key.eq_ignore_ascii_case(registry.as_str()))
    {
        assert!(owner(file.docker_entry(&request, "a file")).is_some());
        assert!(owner(file.containers_entry(&request, "a file", false)).is_some());
    }
}

/// Converts bytes into a tar stream. If the first byte is zero, the other bytes are the stream, and only the checksum
/// of the first header is corrected. Otherwise each short record becomes an entry with a valid checksum, because a
/// fuzzer rarely guesses a checksum.
fn to_tar_stream(data: &[u8]) -> Vec<u8> {
    const KINDS: &[u8; 16] = b"0125xgLKS3\x007460V";
    let Some((first, mut rest)) = data.split_first() else {
        return Vec::new();
    };
    if *first == 0 {
        let mut bytes = rest.to_vec();
        if let Some(block) = bytes.get_mut(..512) {
            set_checksum(block);
        }
        return bytes;
    }
    let mut take = |limit: usize| {
        let (length, after) = rest.split_first()?;
        let length = usize::from(*length).min(limit).min(after.len());
        let (taken, after) = after.split_at(length);
        rest = after;
        Some(taken)
    };
    let mut bytes = Vec::new();
    while let Some([kind, size, ..]) = take(2) {
        let (name, link) = (take(100).unwrap_or_default(), take(100).unwrap_or_default());
        let content = take(255).unwrap_or_default();
        let mut header = tar::Header::new_ustar();
        header.set_mode(0o644);
        // Large values select a size that may differ from the size of the content.
        header.set_size(match size {
            0..=200 => content.len() as u64,
            size => 1 << (size - 200),
        });
        let old = header.as_old_mut();
        old.linkflag = [KINDS[usize::from(kind % 16)]];
        old.name[..name.len()].copy_from_slice(name);
        old.linkname[..link.len()].copy_from_slice(link);
        header.set_cksum();
        bytes.extend_from_slice(header.as_bytes());
        bytes.extend_from_slice(content);
        bytes.resize(bytes.len().next_multiple_of(512), 0);
    }
    bytes
}

fn set_checksum(block: &mut [u8]) {
    let mut header = tar::Header::new_old();
    header.as_mut_bytes().copy_from_slice(block);
    header.set_cksum();
    block.copy_from_slice(header.as_bytes());
}

fn read_entries(bytes: &[u8]) -> Result<Vec<(Entry, Vec<u8>)>, tarball::Error> {
    let mut reader = Reader::new(SkipByReading(bytes));
    let mut entries = Vec::new();
    while let Some(entry) = reader.next()? {
        let mut content = Vec::new();
        let read = reader.read_to_end(&mut content);
        read.map_err(|source| tarball::Error::Read { source })?;
        entries.push((entry, content));
    }
    Ok(entries)
}

/// Checks tar streams.
pub fn check_tarball(data: &[u8]) {
    let bytes = to_tar_stream(data);
    let read = match read_entries(&bytes) {
        Ok(read) => read,
        Err(error) => return check_error(&error.into()),
    };
    assert!(read.len() <= bytes.len().div_ceil(512));
    check_with_tar_crate(&bytes, &read);
    let mut writer = Writer::new(Vec::new());
    for (entry, content) in &read {
        assert_eq!(entry.size, content.len() as u64);
        assert!(!entry.path.is_empty() && entry.path.len() <= 4096);
        assert!(entry.kind == Kind::File || content.is_empty());
        assert!(!entry.path.contains(&0) && !entry.link.contains(&0));
        let written = writer.write_entry(entry, &mut &content[..]);
        written.expect("a parsed entry can be written");
    }
    let again = writer.finish().expect("memory can be written to");
    assert_eq!(
        read_entries(&again).expect("a written stream parses"),
        reduce_device_numbers(read)
    );
}

/// Asserts that the tar crate reads the same names and content from an accepted stream, or rejects the stream.
fn check_with_tar_crate(bytes: &[u8], read: &[(Entry, Vec<u8>)]) {
    let mut archive = tar::Archive::new(bytes);
    let mut expected_entries = read.iter();
    for entry in archive.entries().expect("the archive is unread") {
        let Ok(mut entry) = entry else { return };
        if entry.header().entry_type().is_pax_global_extensions() {
            continue;
        }
        let mut content = Vec::new();
        if entry.read_to_end(&mut content).is_err() {
            return;
        }
        let (expected, expected_content) = expected_entries
            .next()
            .expect("the reader finds every entry of the tar crate");
        assert_eq!(entry.path_bytes(), expected.path);
        assert_eq!(&content, expected_content);
        let link = entry.link_name_bytes();
        let is_link = matches!(expected.kind, Kind::Symlink | Kind::HardLink);
        assert!(!is_link || link.as_deref() == Some(&expected.link));
    }
    assert_eq!(
        expected_entries.next(),
        None,
        "the tar crate skips an entry"
    );
}

/// Reduces device numbers to seven octal digits, as the writer does.
fn reduce_device_numbers(mut entries: Vec<(Entry, Vec<u8>)>) -> Vec<(Entry, Vec<u8>)> {
    for (entry, _) in &mut entries {
        entry.device = (entry.device.0 & 0o7_777_777, entry.device.1 & 0o7_777_777);
    }
    entries
}

/// Checks the tree of merged layers. A byte of 255 separates the layers.
pub fn check_export(data: &[u8]) {
    const MAX_ENTRIES: usize = 64;
    let mut tree = Tree::new(Limits::new(MAX_ENTRIES));
    for (layer, data) in data.split(|byte| *byte == 255).enumerate() {
        tree.next_layer();
        let Ok(entries) = read_entries(&to_tar_stream(data)) else {
            return;
        };
        for (at, (entry, _)) in entries.into_iter().enumerate() {
            if let Err(error) = tree.apply((layer, at), entry) {
                assert!(!error.to_string().contains(needs_escape));
                return;
            }
        }
    }
    let (directories, others) = tree.into_parts();
    let mut seen = BTreeSet::from([Vec::new()]);
    for directory in directories {
        assert_eq!(directory.kind, Kind::Directory);
        let path = directory.path.strip_suffix(b"/").expect("a slash");
        if path != b"." {
            check_path(path, &seen);
            assert!(seen.insert(path.to_vec()), "a directory occurs twice");
        }
    }
    let folders = seen.clone();
    for path in others.values().flatten() {
        check_path(path, &folders);
        assert!(seen.insert(path.clone()), "a name occurs twice");
    }
    assert!(seen.len() <= MAX_ENTRIES + 1);
}

/// Asserts that a path is below the root and that its parent directory is in the set.
fn check_path(path: &[u8], directories: &BTreeSet<Vec<u8>>) {
    for part in path.split(|byte| *byte == b'/') {
        assert!(!matches!(part, b"" | b"." | b".."), "{path:?}");
    }
    let slash = path.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
    assert!(
        directories.contains(&path[..slash]),
        "{path:?} has no parent directory"
    );
}

/// Checks the names of files to unpack.
pub fn check_file_name(data: &[u8]) {
    let Some(text) = as_text(data) else { return };
    match text.parse::<FileName>() {
        Ok(name) => {
            assert_eq!(name.as_str(), text);
            let path = Path::new(text);
            let is_plain = |part| matches!(part, Component::Normal(_));
            assert!(path.is_relative() && path.components().all(is_plain));
            assert_eq!(path.components().count(), text.split('/').count());
            assert!(text.len() <= 1024 && text.split('/').all(|part| part.len() <= 255));
            assert!(!text.contains(['\\', ':', '\0']) && !text.contains(needs_escape));
        }
        Err(error) => check_error(&error),
    }
}

thread_local! {
    static RUNTIME: tokio::runtime::Runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime starts");
    static FILE: RefCell<tempfile::NamedTempFile> =
        RefCell::new(tempfile::NamedTempFile::new().expect("a temporary file can be created"));
}

/// Checks archives. The first byte selects the format. Each following line is an entry, and its first character selects
/// the type: `i` is the index of a layout, `m` the manifest of docker, `b` a blob, and `f` a file whose name is its
/// number. `$0` is replaced by the digest of the first entry.
pub fn check_archive(data: &[u8]) {
    let Some((first, rest)) = data.split_first() else {
        return;
    };
    let format = match first % 3 {
        0 => ArchiveFormat::Oci,
        1 => ArchiveFormat::Docker(None),
        _ => ArchiveFormat::Docker("x".parse().ok()),
    };
    let mut writer = Writer::new(Vec::new());
    let mut put = |name: &str, content: &[u8]| {
        let entry = Entry::file(name, content.len() as u64);
        let written = writer.write_entry(&entry, &mut &content[..]);
        written.expect("memory can be written to");
    };
    put("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#);
    let mut digests: Vec<Digest> = Vec::new();
    for line in rest.split(|byte| *byte == b'\n').take(10) {
        let Some((kind, content)) = line.split_first() else {
            continue;
        };
        let mut content = String::from_utf8_lossy(content).into_owned();
        for (at, digest) in digests.iter().enumerate() {
            content = content.replace(&format!("${at}"), digest.as_str());
        }
        let digest = Digest::sha256(content.as_bytes());
        let name = match kind {
            b'i' => "index.json".to_owned(),
            b'm' => "manifest.json".to_owned(),
            b'b' => format!("blobs/sha256/{}", digest.encoded()),
            b'f' => digests.len().to_string(),
            _ => content.chars().take(80).collect(),
        };
        digests.push(digest);
        if !name.is_empty() {
            put(&name, content.as_bytes());
        }
    }
    let bytes = writer.finish().expect("memory can be written to");
    FILE.with_borrow(|file| {
        std::fs::write(file.path(), bytes).expect("the file can be written");
        RUNTIME.with(|runtime| runtime.block_on(read_archive(file.path(), format)));
    });
}

async fn read_archive(path: &Path, format: ArchiveFormat) {
    let archive = match Archive::open(path, format).await {
        Ok(archive) => archive,
        Err(error) => return check_error(&error),
    };
    let tags: Vec<_> = archive.tags().take(100).collect().await;
    for tag in tags {
        let tag = tag.expect("tags are read when an archive is opened");
        let manifest = match archive.manifest(&tag.into()).await {
            Ok(manifest) => manifest,
            Err(error) => {
                check_error(&error);
                continue;
            }
        };
        assert_eq!(*manifest.digest(), Digest::sha256(manifest.bytes()));
        for successor in manifest.successors() {
            let read = match archive.blob(successor).await {
                Ok(blob) => blob.read_to_end(MAX_BLOB).await,
                Err(error) => Err(error),
            };
            match read {
                Ok(bytes) => assert_eq!(bytes.len() as u64, successor.size),
                Err(error) => check_error(&error),
            }
        }
    }
}

/// Checks the `index.json` of a layout: adding and removing entries does not change entries of other tools.
pub fn check_listing(data: &[u8]) {
    let Ok(read) = serde_json::from_slice::<Listing>(data) else {
        return;
    };
    let written = layout::json(&read);
    let again: Listing = serde_json::from_slice(&written).expect("a written index parses");
    assert_eq!(layout::json(&again), written);
    let tag: Tag = "a-new-tag".parse().expect("a tag");
    let digest = Digest::sha256(data);
    let mut changed = again;
    if changed.find(&tag).is_some()
        || changed
            .entries()
            .iter()
            .any(|listed| listed.digest == digest)
    {
        return;
    }
    let descriptor = Descriptor::new(MediaType::MANIFEST, digest.clone(), data.len() as u64);
    assert!(changed.set_tag(descriptor.clone(), &tag));
    assert!(!changed.set_tag(descriptor, &tag));
    assert!(
        changed
            .find(&tag)
            .is_some_and(|listed| listed.digest == digest)
    );
    changed
        .entries_mut()
        .retain(|listed| listed.digest != digest);
    assert_eq!(layout::json(&changed), written);
    // Removing a tag does not remove its manifest.
    let digests = |listing: &Listing| -> BTreeSet<Digest> {
        listing
            .entries()
            .iter()
            .map(|listed| listed.digest.clone())
            .collect()
    };
    let before = digests(&changed);
    let tags = changed
        .entries()
        .iter()
        .filter_map(|listed| listed.annotation(layout::REF_NAME));
    let tags: Vec<Tag> = tags.filter_map(|tag| tag.parse().ok()).collect();
    for tag in tags {
        assert!(changed.untag(&tag));
    }
    assert_eq!(digests(&changed), before);
    let is_plain = |listed: &&ListingEntry| listed.annotation(layout::REF_NAME).is_none();
    for listed in changed.entries().iter().filter(is_plain) {
        let text = serde_json::to_string(listed).expect("an entry serializes");
        let descriptor: Descriptor =
            serde_json::from_str(&text).expect("a serialized entry parses");
        assert_eq!(descriptor, **listed);
    }
}

/// Checks error responses of registries. The first byte is the maximum length of the displayed response.
pub fn check_error_body(data: &[u8]) {
    let Some((first, body)) = data.split_first() else {
        return;
    };
    let errors = response::parse_errors(body, &Secrets::default());
    assert!(errors.len() <= 20);
    for error in &errors {
        for text in [&error.code, &error.message, &error.detail] {
            assert!(!text.contains(needs_escape), "{text:?}");
            assert!(text.chars().count() <= 10 * response::MAX_SHOWN + 1);
        }
    }
    let limit = usize::from(*first);
    let body_text = String::from_utf8_lossy(body);
    let shown = escape(&body_text, limit);
    assert!(!shown.contains(needs_escape), "{shown:?}");
    assert!(shown.chars().count() <= 10 * limit + 1);
    // A recorded secret is redacted, regardless of the text before it.
    let secrets = Secrets::default();
    secrets.record("canary-secret");
    secrets.record(&shown);
    let redacted = secrets.redact(&format!("{shown}canary-secret"));
    assert!(!redacted.contains("canary-secret"), "{redacted:?}");
    // The credential after the name of an authentication scheme is redacted.
    let hidden = redact::redact_tokens(&shown);
    let mut parts = hidden.split(' ');
    while let Some(part) = parts.next() {
        if matches!(part.trim_end_matches(':'), "Basic" | "Bearer") {
            assert!(parts.next().is_none_or(|next| next == "…"), "{hidden}");
        }
    }
}

/// Checks `RateLimit-Limit` and `RateLimit-Remaining` headers.
fn check_rate_limit(value: &HeaderValue) {
    let mut headers = HeaderMap::new();
    headers.insert("ratelimit-limit", value.clone());
    let limit = RateLimit::from_headers(&headers);
    headers.insert("ratelimit-remaining", value.clone());
    let both = RateLimit::from_headers(&headers);
    assert_eq!(
        limit.map(|rate| (rate.limit, rate.window)),
        both.map(|rate| (rate.remaining, rate.window))
    );
    if let Some(both) = both {
        let text = both.to_string();
        assert!(!text.contains(needs_escape), "{text:?}");
        assert!(both.limit.is_some() && both.limit == both.remaining);
    }
}

/// Checks `Retry-After` and rate limit headers.
pub fn check_retry_after(data: &[u8]) {
    let Ok(value) = HeaderValue::from_bytes(data) else {
        return;
    };
    check_rate_limit(&value);
    let mut headers = HeaderMap::new();
    headers.insert(header::RETRY_AFTER, value);
    let now = SystemTime::UNIX_EPOCH + Duration::from_hours(490_000);
    let delay_for = |status| retry::retry_after(status, &headers, now);
    assert_eq!(delay_for(StatusCode::INTERNAL_SERVER_ERROR), None);
    let wait = delay_for(StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(wait, delay_for(StatusCode::SERVICE_UNAVAILABLE));
    let text = headers[header::RETRY_AFTER].to_str().unwrap_or_default();
    let text = text.trim();
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if is_number {
        let seconds = text.parse().unwrap_or(u64::MAX);
        assert_eq!(wait, Some(Duration::from_secs(seconds)));
    } else if let Some(wait) = wait {
        let moment = httpdate::parse_http_date(text).expect("any other value is a date");
        assert_eq!(wait, moment.duration_since(now).unwrap_or_default());
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    /// Generates arbitrary bytes, arbitrary text, and text that matches a regular expression.
    fn text_like(form: &str) -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            1 => proptest::collection::vec(any::<u8>(), 0..600),
            1 => any::<String>().prop_map(String::into_bytes),
            4 => proptest::string::string_regex(form)
                .expect("the forms are regular expressions")
                .prop_map(String::into_bytes),
        ]
    }

    /// Encodes a string as its length in one byte, followed by the string.
    fn field(text: &str) -> Vec<u8> {
        let length = u8::try_from(text.len()).unwrap_or(u8::MAX);
        [&[length][..], text.as_bytes()].concat()
    }

    proptest! {
        #[test]
        fn random_reference_roundtrips_or_error_has_a_span_in_text(data in text_like("(oci:|oci-archive:|docker-archive:|[a-cA-C.\\-]{1,5}(:[0-9]{1,5})?/|\\[[0-9a-f:]{0,8}\\]/)?[a-cA-C0-9./_:@\\-é]{0,30}(@sha256:[0-9a-f]{64})?")) {
            check_reference(&data);
        }

        #[test]
        fn random_digest_roundtrips_or_is_rejected(data in text_like("(sha256|sha512|[a-z0-9.+_-]{1,9}):([0-9a-f]{64}|[0-9a-f]{128}|[A-Za-z0-9=_-]{0,9}|[0-9a-f/.]{1,9})")) {
            check_digest(&data);
        }

        #[test]
        fn random_challenge_roundtrips_or_is_ignored(data in text_like("((Bearer|Basic|Negotiate|bearer)[ ,\\t]+((realm|service|scope|x) ?= ?(\"[a-c,\\\\\"=é ]{0,6}\"?|[a-c=:/]{0,6})[ ,\\n]*){0,4}){1,3}")) {
            check_challenge(&data);
        }

        #[test]
        fn random_page_parses_equally_in_chunks_of_any_size(data in text_like("\\{(\"(tags|name|repositories)\":(null|\\[(\"[a-c]\",?){0,3}\\]|\\{\"tags\":1\\}|1e3),? ?){0,3}\\}")) {
            check_names(&data);
        }

        #[test]
        fn random_next_link_stays_on_the_origin(data in text_like("(<[a-c/?=&:.@#\\\\]{0,12}>?(; ?(rel|REL|title)=\"?(next|prev|next last|<x>; rel=next|,)\"?){0,2},? ?){0,3}")) {
            check_link(&data);
        }

        #[test]
        fn random_credential_key_matches_only_its_registry(data in text_like("(a\\.b|docker\\.io|a\\.b:1|a\\.b/c|index\\.docker\\.io)\n((https?://)?(a\\.b|A\\.B|docker\\.io|index\\.docker\\.io|c)(:1)?(/[a-c/]{0,4})?\n){0,4}")) {
            check_credentials(&data);
        }

        #[test]
        fn random_helper_response_is_parsed_as_json_or_rejected(data in text_like("a\\.b\n\\{(\"(Username|username|Secret|x)\":(\"(<token>|[a-z]{1,3}|\\\\u(d800|eeee|0041))\"|1e999|null|\\[{0,3}1\\]{0,3}),?){0,4}\\}")) {
            check_credentials(&data);
        }

        #[test]
        fn random_credential_file_parses_or_error_is_escaped(data in text_like("a\\.b\n\\{\"(auths|credHelpers|credsStore|Username)\":(\\{\"(a\\.b|https://a\\.b/)\":(null|\"x\"|\\{(\"(auth|identitytoken|username|x)\":\"[a-zA-Z0-9=:\\\\]{0,8}\"\\}?)?)\\}|\"x\",\"Secret\":\"y\")\\}")) {
            check_credentials(&data);
        }

        #[test]
        fn random_tar_stream_is_read_as_by_the_tar_crate(data in proptest::collection::vec(any::<u8>(), 0..600), records: Vec<(u8, u8, String, String)>) {
            check_tarball(&data);
            let record = |(kind, size, name, link): &(u8, u8, String, String)| {
                [vec![2, *kind, *size], field(name), field(link), field(name)].concat()
            };
            let stream: Vec<u8> = records.iter().flat_map(record).collect();
            check_tarball(&[&[1], &stream[..]].concat());
        }

        #[test]
        fn random_layers_merge_to_paths_below_the_root(records in proptest::collection::vec((0u8..4, "(\\.\\./|/|\\./|\\.wh\\.|\\.wh\\.\\.wh\\.\\.opq)?[ab](/(\\.wh\\.)?[abc.]{1,2}){0,3}", "[ab./]{0,6}", any::<bool>()), 0..12)) {
            let record = |(kind, name, link, ends): &(u8, String, String, bool)| {
                let end: &[u8] = if *ends { &[255, 1] } else { &[] };
                [&[2, *kind, 0], &field(name)[..], &field(link), &[0], end].concat()
            };
            let stream: Vec<u8> = records.iter().flat_map(record).collect();
            check_export(&[&[1], &stream[..]].concat());
        }

        #[test]
        fn random_file_name_is_relative_and_portable_or_rejected(data in text_like("([a-cCONnul.:\\\\ ]{0,5}/?){0,4}")) {
            check_file_name(&data);
        }

        #[test]
        fn random_error_body_is_escaped_and_redacted(data in text_like(".\\{\"errors\":(null|\\[(\\{\"code\":(7|\"X\\\\u001b\"|null),\"message\":(null|\"(Bearer|Basic):? [a-z]{0,20}\")\\},?){0,3}\\]?)\\}")) {
            check_error_body(&data);
        }

        #[test]
        fn random_retry_after_is_seconds_a_date_or_ignored(data in text_like("-?[0-9]{0,25}(;w=[0-9]{0,25})?|(Sun|Mon), 06 Nov (1994|2030) 08:49:37 GMT")) {
            check_retry_after(&data);
        }

        #[test]
        fn random_manifest_keeps_its_bytes_and_roundtrips(
            served: u8,
            head in "(\"schemaVersion\":(2|1|-1|\"2\"),)?(\"mediaType\":\"(application/vnd\\.oci\\.image\\.(index|manifest)\\.v1\\+json|x)\",)?",
            size in "(0|-1|1e9|9223372036854775807|9223372036854775808)",
            digest in "(sha256:[0-9a-f]{64}|x:y|\\.\\./x)",
            key in "(config|layers|manifests|Layers|subject|x)",
            more in "(\"annotations\":(null|\\{\"a\":\"b\"\\}|\\[\\])|\"artifactType\":(\"x\"|null)|\"platform\":null|\"urls\":null)",
        ) {
            let one = format!(r#"{{"mediaType":"a/b","digest":"{digest}","size":{size},{more}}}"#);
            let plain = format!(r#"{{"mediaType":"a/b","digest":"{DIGEST}","size":0}}"#);
            let value = if matches!(key.as_str(), "config" | "subject") { one.clone() } else { format!("[{one},{one}]") };
            for text in [
                format!(r#"{{{head}"{key}":{value},{more}}}"#),
                format!(r#"{{{head}"config":{plain},"{key}":{value},{more}}}"#),
                format!(r#"{{{head}"manifests":[{plain}],"{key}":{value},{more}}}"#),
            ] {
                check_manifest(&[&[served], text.as_bytes()].concat());
            }
        }
    }

    /// Calls the functions with complete documents, which a fuzzer would rarely generate.
    #[test]
    fn complete_documents_pass_all_checks() {
        let config = r#"{"os":"linux"}"#;
        let descriptor = |kind: &str, at: usize, size: usize| {
            format!(r#"{{"mediaType":"{kind}","digest":"${at}","size":{size}}}"#)
        };
        let (configured, layered) = (
            descriptor("application/vnd.oci.image.config.v1+json", 0, config.len()),
            descriptor("application/vnd.oci.image.layer.v1.tar", 1, 5),
        );
        let image = format!(r#"{{"schemaVersion":2,"config":{configured},"layers":[{layered}]}}"#);
        let digest = Digest::sha256(config.as_bytes());
        let layer = Digest::sha256(b"layer");
        let size = image
            .replace("$0", digest.as_str())
            .replace("$1", layer.as_str())
            .len();
        let listed = descriptor("application/vnd.oci.image.manifest.v1+json", 2, size);
        let named = listed.replace(
            '}',
            r#","annotations":{"org.opencontainers.image.ref.name":"1"}}"#,
        );
        let index = format!(r#"{{"schemaVersion":2,"manifests":[{named}]}}"#);
        let saved = r#"[{"Config":"0","RepoTags":["x:1"],"Layers":["1"]}]"#;
        check_archive(format!("\0b{config}\nblayer\nb{image}\ni{index}").as_bytes());
        check_archive(format!("\x01f{config}\nflayer\nm{saved}").as_bytes());
        check_archive(format!("\x02f{config}\nflayer\nm{saved}").as_bytes());
        let plain = format!(r#"{{"mediaType":"a/b","digest":"{DIGEST}","size":0"#);
        for entry in [
            format!("{plain}}}"),
            format!(
                r#"{plain},"x":{{"y":[1.0]}},"annotations":{{"org.opencontainers.image.ref.name":"1"}}}}"#
            ),
            format!(
                r#"{plain},"annotations":{{"k":"v","org.opencontainers.image.ref.name":"1","org.opencontainers.image.ref.name":"2"}}}}"#
            ),
            format!(r#"{plain},"annotations":null,"annotations":{{"k":null}}}}"#),
        ] {
            check_listing(
                format!(r#"{{"x":1e0,"schemaVersion":2,"manifests":[{entry},{entry}]}}"#)
                    .as_bytes(),
            );
        }
        for served in 0..8u8 {
            check_manifest(&[&[served], index.replace("$2", DIGEST).as_bytes()].concat());
        }
    }
}
