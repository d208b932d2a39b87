//! Compression of tar streams: gzip, zstd, xz and bzip2.
//!
//! The format is detected from the content, because the media types of layers are often wrong. Memory is limited for
//! each format, and callers limit the decompressed size with [`max_decompressed_size`].

use std::fs::File;
use std::io::{self, BufReader, Read, Seek};

use lzma_rust2::XzReader;

/// Number of bytes that are needed to detect the format.
const MAGIC_LENGTH: u64 = 10;

/// Size of one read from the disk, in bytes.
const READ_SIZE: usize = 256 << 10;

/// Decompressed size in bytes that is allowed regardless of the compressed size.
const MIN_DECOMPRESSED: u64 = 512 << 20;

/// Maximum ratio of the decompressed to the compressed size, above [`MIN_DECOMPRESSED`].
const MAX_RATIO: u64 = 20;

/// Binary logarithm of the largest zstd window in bytes: 128 MiB, the default limit of the `zstd` program.
const MAX_WINDOW_LOG: u32 = 27;

/// Memory limit for xz in KiB: 128 MiB. The largest preset of the `xz` program needs 65 MiB.
const MAX_XZ_MEMORY: u32 = 128 << 10;

/// Compression format. bzip2 needs no memory limit, because its blocks have at most 900 kB.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compression {
    Gzip,
    Zstd,
    Xz,
    Bzip2,
}

impl Compression {
    /// Detects the format of a stream from its first bytes; `None` if the stream is not compressed.
    pub(crate) fn detect(stream: impl Read) -> io::Result<Option<Self>> {
        let mut magic = Vec::new();
        stream.take(MAGIC_LENGTH).read_to_end(&mut magic)?;
        Ok(match magic[..] {
            [0x1f, 0x8b, ..] => Some(Self::Gzip),
            // A frame, or a skippable frame (RFC 8878, sections 3.1.1 and 3.1.2).
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Some(Self::Zstd),
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Some(Self::Xz),
            // The pattern includes the marker that begins a block or ends the stream, because a tar stream can start
            // with a file name `BZh…`.
            [
                b'B',
                b'Z',
                b'h',
                b'1'..=b'9',
                0x31,
                0x41,
                0x59,
                0x26,
                0x53,
                0x59,
            ]
            | [
                b'B',
                b'Z',
                b'h',
                b'1'..=b'9',
                0x17,
                0x72,
                0x45,
                0x38,
                0x50,
                0x90,
            ] => Some(Self::Bzip2),
            _ => None,
        })
    }

    /// Returns the name of the format in the media types of layers.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
            Self::Xz => "xz",
            Self::Bzip2 => "bzip2",
        }
    }
}

/// Returns the largest decompressed size that is accepted for a compressed size, in bytes.
pub(crate) fn max_decompressed_size(compressed: u64) -> u64 {
    compressed.saturating_mul(MAX_RATIO).max(MIN_DECOMPRESSED)
}

/// Opens the content of a file from its first byte. Compressed content is decompressed.
pub(crate) fn open_decompressed(mut file: &File) -> io::Result<Box<dyn Read + '_>> {
    file.rewind()?;
    let compression = Compression::detect(file)?;
    file.rewind()?;
    let file = BufReader::with_capacity(READ_SIZE, file);
    Ok(match compression {
        None => Box::new(file),
        Some(Compression::Gzip) => Box::new(flate2::bufread::MultiGzDecoder::new(file)),
        Some(Compression::Zstd) => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(file)?;
            decoder.window_log_max(MAX_WINDOW_LOG)?;
            Box::new(decoder)
        }
        Some(Compression::Xz) => {
            let is_concatenated = true;
            let decoder = XzReader::new_mem_limit(file, is_concatenated, MAX_XZ_MEMORY);
            // The decoder decodes only as much as each read requests, so the reads must be large.
            Box::new(BufReader::with_capacity(READ_SIZE, decoder))
        }
        Some(Compression::Bzip2) => Box::new(bzip2::bufread::MultiBzDecoder::new(file)),
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use std::io::Write;

    use proptest::prelude::*;

    use super::*;

    /// Compresses content in each format. Long content results in several members, frames or streams.
    pub(crate) fn compress_all(content: &[u8]) -> [(Compression, Vec<u8>); 4] {
        let [mut gzip, mut zstd, mut xz, mut bzip2] = [const { Vec::new() }; 4];
        for part in content.chunks(64 << 10) {
            let mut encoder = flate2::write::GzEncoder::new(gzip, flate2::Compression::fast());
            encoder.write_all(part).unwrap();
            gzip = encoder.finish().unwrap();
            zstd.extend(zstd::stream::encode_all(part, 1).unwrap());
            let options = lzma_rust2::XzOptions::with_preset(0);
            let mut encoder = lzma_rust2::XzWriter::new(xz, options).unwrap();
            encoder.write_all(part).unwrap();
            xz = encoder.finish().unwrap();
            let mut encoder = bzip2::write::BzEncoder::new(bzip2, bzip2::Compression::fast());
            encoder.write_all(part).unwrap();
            bzip2 = encoder.finish().unwrap();
        }
        [
            (Compression::Gzip, gzip),
            (Compression::Zstd, zstd),
            (Compression::Xz, xz),
            (Compression::Bzip2, bzip2),
        ]
    }

    fn read(bytes: &[u8]) -> io::Result<Vec<u8>> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        let mut content = Vec::new();
        open_decompressed(&file)?.read_to_end(&mut content)?;
        Ok(content)
    }

    #[test]
    fn every_format_is_detected_and_decompressed() {
        let content: Vec<u8> = (0..50_000u32)
            .flat_map(|at| (at / 7).to_le_bytes())
            .collect();
        for (compression, bytes) in compress_all(&content) {
            assert_eq!(Compression::detect(&bytes[..]).unwrap(), Some(compression));
            assert!(read(&bytes).unwrap() == content, "{compression:?}");
        }
        assert!(read(&content).unwrap() == content);
    }

    #[test]
    fn empty_stream_of_each_format_decompresses_to_nothing() {
        let gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        let options = lzma_rust2::XzOptions::with_preset(0);
        let xz = lzma_rust2::XzWriter::new(Vec::new(), options).unwrap();
        let bzip2 = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
        for bytes in [
            gzip.finish().unwrap(),
            zstd::stream::encode_all(&b""[..], 1).unwrap(),
            xz.finish().unwrap(),
            bzip2.finish().unwrap(),
        ] {
            assert!(Compression::detect(&bytes[..]).unwrap().is_some());
            assert_eq!(read(&bytes).unwrap(), b"");
        }
        assert_eq!(read(b"").unwrap(), b"");
    }

    #[test]
    fn zstd_after_a_skippable_frame_is_decompressed() {
        let mut bytes = b"\x53\x2a\x4d\x18\x03\0\0\0abc".to_vec();
        bytes.extend(zstd::stream::encode_all(&b"content"[..], 1).unwrap());
        assert_eq!(read(&bytes).unwrap(), b"content");
    }

    #[test]
    fn file_name_like_magic_bytes_is_not_compressed() {
        for name in [&b"BZh9.txt"[..], b"BZh", b"P*M", b"7zXZ", b""] {
            assert_eq!(Compression::detect(name).unwrap(), None, "{name:?}");
        }
    }

    #[test]
    fn truncated_compressed_stream_fails() {
        for (compression, bytes) in compress_all(&[7; 5000]) {
            let error = read(&bytes[..bytes.len() - 9]).unwrap_err();
            assert_ne!(error.kind(), io::ErrorKind::OutOfMemory, "{compression:?}");
        }
    }

    #[test]
    fn decompressed_size_is_limited_by_ratio_above_a_minimum() {
        assert_eq!(max_decompressed_size(1), 512 << 20);
        assert_eq!(max_decompressed_size(1 << 30), 20 << 30);
        assert_eq!(max_decompressed_size(u64::MAX), u64::MAX);
    }

    #[test]
    fn stream_above_the_memory_limit_is_rejected() {
        // A stream header of 12 bytes, then a block header that ends with its checksum (xz file format, section 3.1).
        let xz = |dictionary: u8| {
            let [.., (_, mut bytes), _] = compress_all(b"content");
            let header = &mut bytes[12..];
            let length = usize::from(header[0]) * 4;
            let filter = header.windows(2).position(|window| window == [0x21, 1]);
            header[filter.unwrap() + 2] = dictionary;
            let mut checksum = flate2::Crc::new();
            checksum.update(&header[..length]);
            header[length..length + 4].copy_from_slice(&checksum.sum().to_le_bytes());
            bytes
        };
        assert_eq!(read(&xz(29)).unwrap(), b"content", "96 MiB");
        let error = read(&xz(31)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::OutOfMemory, "192 MiB");

        let mut encoder = zstd::stream::Encoder::new(Vec::new(), 1).unwrap();
        encoder.window_log(28).unwrap();
        encoder.write_all(b"content").unwrap();
        assert!(read(&encoder.finish().unwrap()).is_err());
    }

    proptest! {
        #[test]
        fn damaged_content_is_detected_by_checksum(at in any::<prop::sample::Index>(), byte: u8) {
            let content = b"content, content, content";
            // The checksum of zstd is optional.
            let checked = compress_all(content).into_iter();
            for (_, mut bytes) in checked.filter(|(format, _)| *format != Compression::Zstd) {
                *at.get_mut(&mut bytes) = byte;
                if let Ok(found) = read(&bytes) {
                    prop_assert!(found == content || found == bytes);
                }
            }
        }
    }
}
