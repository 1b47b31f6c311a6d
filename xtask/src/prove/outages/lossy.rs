//! A TCP proxy that loses answers: what was asked is done, and who asked is cut off before hearing of it.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::{Error, Result};

/// Read at once.
const CHUNK: usize = 64 * 1024;

/// Which answers can be lost.
#[derive(Debug, Clone, Copy)]
pub struct Marks {
    /// Bytes that the connection must have sent before; none: any.
    pub request: &'static [u8],
    /// Bytes in the answer; none: any answer.
    pub answer: &'static [u8],
}

/// A running proxy; its threads end with the process.
pub struct Lossy {
    address: SocketAddr,
    state: Arc<State>,
}

/// Where a connection goes, if that is known yet.
type Target = Box<dyn Fn() -> Option<SocketAddr> + Send + Sync>;

struct State {
    marks: Marks,
    target: Target,
    armed: AtomicBool,
    lost: AtomicU64,
}

impl Lossy {
    /// Listens on a free port of 127.0.0.1; connections are closed while `target` does not know where to.
    ///
    /// # Errors
    /// When there is no port.
    pub fn start(marks: Marks, target: Target) -> Result<Self> {
        let failed = || Error::io("no port for a proxy");
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(failed())?;
        let address = listener.local_addr().map_err(failed())?;
        let state = Arc::new(State { marks, target, armed: false.into(), lost: 0.into() });
        let accepting = state.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let state = accepting.clone();
                std::thread::spawn(move || drop(state.serve(&client)));
            }
        });
        Ok(Self { address, state })
    }

    /// `127.0.0.1:port` of the proxy.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Loses the next answer that can be lost.
    pub fn arm(&self) {
        self.state.armed.store(true, Ordering::Relaxed);
    }

    /// Answers that were lost.
    pub fn lost(&self) -> u64 {
        self.state.lost.load(Ordering::Relaxed)
    }
}

impl State {
    fn serve(&self, client: &TcpStream) -> std::io::Result<()> {
        let server = TcpStream::connect((self.target)().ok_or(std::io::ErrorKind::NotConnected)?)?;
        client.set_nodelay(true)?;
        server.set_nodelay(true)?;
        let asked = AtomicBool::new(self.marks.request.is_empty());
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut seen = Seen::new(self.marks.request);
                copy(client, &server, |chunk| {
                    if seen.sees(chunk) {
                        asked.store(true, Ordering::Relaxed);
                    }
                    true
                });
            });
            let mut seen = Seen::new(self.marks.answer);
            copy(&server, client, |chunk| {
                let is_one = seen.sees(chunk) && asked.load(Ordering::Relaxed);
                let lose = is_one && self.armed.swap(false, Ordering::Relaxed);
                if lose {
                    self.lost.fetch_add(1, Ordering::Relaxed);
                }
                !lose
            });
        });
        Ok(())
    }
}

/// Copies until either side ends or `goes_on` refuses a chunk; then both connections are closed.
fn copy(mut from: &TcpStream, mut to: &TcpStream, mut goes_on: impl FnMut(&[u8]) -> bool) {
    let mut buffer = vec![0; CHUNK];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        if !goes_on(&buffer[..length]) || to.write_all(&buffer[..length]).is_err() {
            break;
        }
    }
    for side in [from, to] {
        drop(side.shutdown(Shutdown::Both));
    }
}

/// Looks for bytes in a stream of chunks.
struct Seen {
    mark: &'static [u8],
    tail: Vec<u8>,
}

impl Seen {
    fn new(mark: &'static [u8]) -> Self {
        Self { mark, tail: Vec::new() }
    }

    /// Whether the mark ends in this chunk.
    fn sees(&mut self, chunk: &[u8]) -> bool {
        if self.mark.is_empty() {
            return true;
        }
        self.tail.extend_from_slice(chunk);
        let found = self.tail.windows(self.mark.len()).any(|window| window == self.mark);
        let keep = if found { 0 } else { self.tail.len().min(self.mark.len() - 1) };
        self.tail.drain(..self.tail.len() - keep);
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_found_across_chunks_and_once() {
        let mut seen = Seen::new(b"abc");
        let chunks: [(&[u8], bool); 6] =
            [(b"xa", false), (b"b", false), (b"cab", true), (b"c", false), (b"zabcz", true), (b"bc", false)];
        for (chunk, found) in chunks {
            assert_eq!(seen.sees(chunk), found, "{chunk:?}");
        }
        assert!(Seen::new(b"").sees(b"x"));
    }

    #[test]
    fn an_armed_proxy_loses_one_answer_and_passes_the_rest() {
        let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = server.local_addr().unwrap();
        std::thread::spawn(move || {
            for mut peer in server.incoming().flatten() {
                std::thread::spawn(move || {
                    let mut byte = [0];
                    while peer.read_exact(&mut byte).is_ok() {
                        peer.write_all(b"+ok").unwrap();
                    }
                });
            }
        });
        let marks = Marks { request: b"!", answer: b"ok" };
        let proxy = Lossy::start(marks, Box::new(move || Some(address))).unwrap();
        let ask = |request: &[u8]| {
            let mut stream = TcpStream::connect(proxy.address()).unwrap();
            stream.write_all(request).unwrap();
            let mut answer = [0; 3];
            stream.read_exact(&mut answer).map(|()| answer)
        };
        assert_eq!(ask(b"!").unwrap(), *b"+ok");
        proxy.arm();
        assert_eq!(ask(b"?").unwrap(), *b"+ok", "not one that can be lost");
        assert!(ask(b"!").is_err());
        assert_eq!(proxy.lost(), 1);
        assert_eq!(ask(b"!").unwrap(), *b"+ok");
    }
}
