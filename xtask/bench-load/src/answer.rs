//! Reads HTTP/1.1 answers with a `Content-Length`, and no more of them than the load needs.

use std::io;

use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

/// Longest answer that is read.
const MAX_BYTES: usize = 256 * 1024;

/// What the load needs of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// Its `accepted`; 0 when it names none.
    pub accepted: u64,
}

/// Reads one answer through `buffer`, which is empty again afterwards.
///
/// # Errors
/// When the connection ends, or what comes is no such answer.
pub async fn read(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> io::Result<Answer> {
    buffer.clear();
    loop {
        if let Some((answer, _)) = parse(buffer)? {
            return Ok(answer);
        }
        if buffer.len() > MAX_BYTES {
            return Err(io::Error::other("the answer does not end"));
        }
        buffer.reserve(4 * 1024);
        if stream.read_buf(buffer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// The answer at the beginning of `bytes` and its length; `None` while there is more to come.
fn parse(bytes: &[u8]) -> io::Result<Option<(Answer, usize)>> {
    let Some(head) = bytes.windows(4).position(|at| at == b"\r\n\r\n") else { return Ok(None) };
    let text = std::str::from_utf8(&bytes[..head]).map_err(io::Error::other)?;
    let status = text.get(9..12).and_then(|text| text.parse().ok());
    let length = text.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    });
    let (Some(status), Some(length)) = (status, length) else {
        return Err(io::Error::other(format!("no status and length in {text:?}")));
    };
    let Some(body) = bytes.get(head + 4..head + 4 + length) else { return Ok(None) };
    Ok(Some((Answer { status, accepted: accepted(body) }, head + 4 + length)))
}

/// The number behind `"accepted":`, which ingest writes first.
fn accepted(body: &[u8]) -> u64 {
    const NAME: &[u8] = b"\"accepted\":";
    let Some(at) = body.windows(NAME.len()).position(|at| at == NAME) else { return 0 };
    let digits = body[at + NAME.len()..].iter().take_while(|byte| byte.is_ascii_digit());
    digits.fold(0, |number, digit| number * 10 + u64::from(digit - b'0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_whole_when_its_body_is() {
        let text = b"HTTP/1.1 202 Accepted\r\nContent-Length: 17\r\n\r\n{\"accepted\":1234}next";
        let (answer, length) = parse(text).unwrap().unwrap();
        assert_eq!((answer.status, answer.accepted, &text[length..]), (202, 1_234, &b"next"[..]));
        assert_eq!(parse(&text[..length - 1]).unwrap(), None, "the body is cut");
        assert_eq!(parse(&text[..30]).unwrap(), None, "the head is cut");
        assert!(parse(b"HTTP/1.1 202 Accepted\r\n\r\n").is_err(), "no length");
    }
}
