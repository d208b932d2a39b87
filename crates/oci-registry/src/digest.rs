//! Digests, which identify content by its hash (image-spec, `descriptor.md`, "Digests").
//!
//! Provides the parsed [`Digest`], the [`Algorithm`]s and the [`Hasher`] that computes digests. Only a parsed digest
//! can become a part of a URL or of a path.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::Digest as _;
use snafu::{Snafu, ensure};

use crate::error::{ErrorKind, Failure};

/// Maximum length of a digest, in bytes. A sha512 digest has 135 bytes.
const MAX_LENGTH: usize = 256;

#[derive(Debug, Snafu)]
enum Error {
    #[snafu(display(
        "failed to parse the digest `{text}`: expected `<algorithm>:<encoded>`, such as `sha256:` and 64 lower-case hexadecimal digits"
    ))]
    ParseDigest { text: String },
    #[snafu(display(
        "failed to parse the digest `{text}`: a {algorithm} digest has {expected} lower-case hexadecimal digits"
    ))]
    ParseEncoded {
        text: String,
        algorithm: &'static str,
        expected: usize,
    },
    #[snafu(display("failed to verify `{digest}`: the algorithm is not supported"))]
    UnknownAlgorithm { digest: Digest },
}

impl Failure for Error {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::ParseDigest { .. } | Self::ParseEncoded { .. } => ErrorKind::InvalidInput,
            Self::UnknownAlgorithm { .. } => ErrorKind::Unsupported,
        }
    }
}

/// Digest algorithm that this crate can compute and therefore verify.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Algorithm {
    /// SHA-256, which every registry supports.
    #[default]
    Sha256,
    /// SHA-512, whose support is optional for registries.
    Sha512,
}

impl Algorithm {
    pub(crate) const ALL: [Self; 2] = [Self::Sha256, Self::Sha512];

    /// Returns the registered name of the algorithm.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        }
    }

    /// Returns the number of hexadecimal digits of a digest.
    fn encoded_length(self) -> usize {
        match self {
            Self::Sha256 => 64,
            Self::Sha512 => 128,
        }
    }

    /// Creates a hasher.
    pub fn hasher(self) -> Hasher {
        Hasher(match self {
            Self::Sha256 => HasherState::Sha256(sha2::Sha256::new()),
            Self::Sha512 => HasherState::Sha512(sha2::Sha512::new()),
        })
    }

    /// Returns the digest of these bytes.
    pub fn digest(self, bytes: &[u8]) -> Digest {
        let mut hasher = self.hasher();
        hasher.update(bytes);
        hasher.finish()
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Incremental computation of a digest.
#[derive(Clone)]
pub struct Hasher(HasherState);

#[derive(Clone)]
enum HasherState {
    Sha256(sha2::Sha256),
    Sha512(sha2::Sha512),
}

impl Hasher {
    /// Adds the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        match &mut self.0 {
            HasherState::Sha256(state) => state.update(bytes),
            HasherState::Sha512(state) => state.update(bytes),
        }
    }

    /// Returns the digest of all bytes.
    pub fn finish(self) -> Digest {
        match self.0 {
            HasherState::Sha256(state) => Digest::from_hash(Algorithm::Sha256, &state.finalize()),
            HasherState::Sha512(state) => Digest::from_hash(Algorithm::Sha512, &state.finalize()),
        }
    }
}

impl fmt::Debug for Hasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let algorithm = match self.0 {
            HasherState::Sha256(_) => Algorithm::Sha256,
            HasherState::Sha512(_) => Algorithm::Sha512,
        };
        f.debug_tuple("Hasher").field(&algorithm).finish()
    }
}

/// Identifier of content: an algorithm and the encoded hash, `sha256:9f86…`.
///
/// A digest of an unknown algorithm parses if it matches the grammar, because indexes may list such content. Its
/// [`Digest::algorithm`] is `None`, and its content is refused because it cannot be verified.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest {
    text: Box<str>,
    colon: usize,
}

impl Digest {
    fn from_hash(algorithm: Algorithm, output: &[u8]) -> Self {
        const HEX: &[u8; 16] = b"0123456789abcdef";
        let name = algorithm.as_str();
        let mut text = String::with_capacity(name.len() + 1 + output.len() * 2);
        text.push_str(name);
        text.push(':');
        for byte in output {
            text.push(char::from(HEX[usize::from(byte >> 4)]));
            text.push(char::from(HEX[usize::from(byte & 15)]));
        }
        Self {
            text: text.into(),
            colon: name.len(),
        }
    }

    /// Returns the SHA-256 digest of these bytes.
    pub fn sha256(bytes: &[u8]) -> Self {
        Algorithm::Sha256.digest(bytes)
    }

    /// Returns the whole digest as text.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Returns the name of the algorithm, which may be unknown to this crate.
    pub fn algorithm_name(&self) -> &str {
        &self.text[..self.colon]
    }

    /// Returns the part after the colon.
    pub fn encoded(&self) -> &str {
        &self.text[self.colon + 1..]
    }

    /// Returns the algorithm; `None` if it is unknown.
    pub fn algorithm(&self) -> Option<Algorithm> {
        Algorithm::ALL
            .into_iter()
            .find(|algorithm| algorithm.as_str() == self.algorithm_name())
    }

    /// Creates a hasher to verify content against this digest.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unsupported`] if the algorithm is unknown.
    pub fn verifier(&self) -> crate::Result<Hasher> {
        match self.algorithm() {
            Some(algorithm) => Ok(algorithm.hasher()),
            None => Err(UnknownAlgorithmSnafu {
                digest: self.clone(),
            }
            .build()
            .into()),
        }
    }
}

impl FromStr for Digest {
    type Err = crate::Error;

    fn from_str(text: &str) -> crate::Result<Self> {
        Ok(parse(text)?)
    }
}

fn parse(text: &str) -> Result<Digest, Error> {
    let shown = || {
        text.chars()
            .take(MAX_LENGTH)
            .collect::<String>()
            .escape_debug()
            .to_string()
    };
    let Some((name, encoded)) = text.split_once(':') else {
        return ParseDigestSnafu { text: shown() }.fail();
    };
    let is_name = name.split(['+', '.', '_', '-']).all(|part| {
        !part.is_empty()
            && part
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
    });
    let is_encoded = !encoded.is_empty()
        && encoded
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"=_-".contains(&byte));
    ensure!(
        text.len() <= MAX_LENGTH && is_name && is_encoded,
        ParseDigestSnafu { text: shown() }
    );
    let digest = Digest {
        text: text.into(),
        colon: name.len(),
    };
    if let Some(algorithm) = digest.algorithm() {
        let is_hex = encoded
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        ensure!(
            is_hex && encoded.len() == algorithm.encoded_length(),
            ParseEncodedSnafu {
                text: shown(),
                algorithm: algorithm.as_str(),
                expected: algorithm.encoded_length()
            }
        );
    }
    Ok(digest)
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        parse(&text).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn digests_match_test_vectors() {
        assert_eq!(Digest::sha256(b"").as_str(), EMPTY);
        assert_eq!(
            Algorithm::Sha512.digest(b"abc").encoded(),
            "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f"
        );
    }

    #[test]
    fn digest_of_chunks_equals_digest_of_the_whole() {
        let mut hasher = Algorithm::Sha256.hasher();
        hasher.update(b"a");
        hasher.update(b"bc");
        assert_eq!(hasher.finish(), Digest::sha256(b"abc"));
    }

    #[test]
    fn digest_of_unknown_algorithm_parses_but_has_no_verifier() {
        let digest: Digest = "blake3:abcDEF_-=".parse().unwrap();
        assert_eq!(digest.algorithm(), None);
        assert_eq!(
            digest.verifier().unwrap_err().kind(),
            ErrorKind::Unsupported
        );
    }

    #[test]
    fn invalid_digests_fail_to_parse() {
        let upper = EMPTY.to_uppercase();
        let long = format!("x:{}", "a".repeat(300));
        for text in [
            "",
            ":",
            "sha256",
            "sha256:",
            "sha256:abc",
            "../x",
            "sha256:../../x",
            "/sha256:a",
            upper.as_str(),
            "sha512:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
            "sha256+:aa",
            "SHA256:aa",
            "a:b/c",
            "a:b\0",
            "a:b c",
            long.as_str(),
        ] {
            assert!(text.parse::<Digest>().is_err(), "{text:?} was accepted");
        }
    }
}
