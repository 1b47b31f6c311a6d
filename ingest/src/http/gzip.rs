//! Bounded decompression of request bodies.

use std::io::Read;

use event::wire::MAX_BODY_BYTES;
use flate2::read::GzDecoder;

/// Why a body was not unpacked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unpacked {
    /// It unfolds to more than a request may hold.
    TooLarge,
    /// It is not gzip.
    Damaged(String),
}

/// Unpacks at most [`MAX_BODY_BYTES`]; never allocates more than that, whatever the body promises.
pub fn gunzip(packed: &[u8]) -> Result<Vec<u8>, Unpacked> {
    let mut body = Vec::new();
    let limit = MAX_BODY_BYTES as u64 + 1;
    GzDecoder::new(packed)
        .take(limit)
        .read_to_end(&mut body)
        .map_err(|error| Unpacked::Damaged(error.to_string()))?;
    if body.len() > MAX_BODY_BYTES { Err(Unpacked::TooLarge) } else { Ok(body) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn gzip(body: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(body).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn bombs_are_refused_and_honest_bodies_unpacked() {
        assert_eq!(gunzip(&gzip(b"{}")), Ok(b"{}".to_vec()));
        let bomb = gzip(&vec![b' '; 64 * 1024 * 1024]);
        assert!(bomb.len() < 100_000);
        assert_eq!(gunzip(&bomb), Err(Unpacked::TooLarge));
        assert!(matches!(gunzip(b"not gzip"), Err(Unpacked::Damaged(_))));
    }
}
