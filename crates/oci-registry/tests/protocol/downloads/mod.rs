//! Download of blobs: resumption, partial files, and segments over several connections.

mod partial_files;
mod segments;
mod streams;

use testkit::server::Response;

use crate::support::bytes;

/// Number of bytes in a mebibyte.
const MIB: usize = 1 << 20;

/// Returns content that is large enough for the client to keep the received part after a failure.
fn content() -> Vec<u8> {
    bytes(3 * MIB)
}

/// Returns responses with status 206 whose range is not the requested range.
fn wrong_ranges() -> Vec<Response> {
    let parts = Response::new(206).header("Content-Type", "multipart/byteranges; boundary=x");
    let mut wrong = vec![
        Response::new(206).body(content()),
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
        let response = Response::new(206).header("Content-Range", range);
        wrong.push(response.body(&content()[1_000_000..]));
    }
    wrong
}
