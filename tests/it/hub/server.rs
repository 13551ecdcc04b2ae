//! A server on the loopback device that gives whatever answers a test wants, good ones and others.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use sha1::Sha1;
use sha2::{Digest, Sha256};

pub const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// Nothing that a test's server does goes on for longer.
const LONGEST: Duration = Duration::from_secs(20);

/// What happens when the bytes of an answer are sent.
#[derive(Clone, Copy, Debug)]
pub enum Then {
    Close,
    /// Silence.
    Hold,
    /// The same byte now and then.
    Drip(u8),
    /// The same over and over.
    Forever(&'static [u8]),
}

#[derive(Clone, Debug)]
pub struct Reply {
    pub bytes: Vec<u8>,
    pub then: Then,
}

impl Reply {
    /// An answer of just these headers.
    pub fn new(status: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
        let mut head = format!("HTTP/1.1 {status}\r\nConnection: close\r\n");
        headers.iter().for_each(|(name, value)| head += &format!("{name}: {value}\r\n"));
        Reply { bytes: [head.as_bytes(), b"\r\n", body].concat(), then: Then::Close }
    }

    pub fn raw(bytes: &[u8], then: Then) -> Reply {
        Reply { bytes: bytes.into(), then }
    }

    /// What the hub answers for a file of Git LFS.
    pub fn large(body: &[u8]) -> Reply {
        let (length, hash) = (body.len().to_string(), sha256(body));
        let headers = [
            ("x-repo-commit", COMMIT),
            ("x-linked-etag", &hash),
            ("x-linked-size", &length),
            ("Content-Length", &length),
        ];
        Reply::new("200 OK", &headers, body)
    }

    /// What the hub answers for a file that Git keeps.
    pub fn small(body: &[u8]) -> Reply {
        let (length, hash) = (body.len().to_string(), git_hash(body));
        Reply::new("200 OK", &[("x-repo-commit", COMMIT), ("ETag", &hash), ("Content-Length", &length)], body)
    }

    pub fn then(self, then: Then) -> Reply {
        Reply { then, ..self }
    }
}

pub fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

pub fn sha1(bytes: &[u8]) -> String {
    hex(&Sha1::digest(bytes))
}

pub fn git_hash(bytes: &[u8]) -> String {
    sha1(&[format!("blob {}\0", bytes.len()).as_bytes(), bytes].concat())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A safetensors file with one vector of these values.
pub fn weights(key: &str, values: &[f32]) -> Vec<u8> {
    tensor(key, &[values.len()], values)
}

/// A safetensors file with one tensor.
pub fn tensor(key: &str, shape: &[usize], values: &[f32]) -> Vec<u8> {
    let data: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    let header = serde_json::json!({ key: { "dtype": "F32", "shape": shape, "data_offsets": [0, data.len()] } });
    let header = header.to_string();
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &data].concat()
}

/// The path that is asked for a repository's `model.safetensors`.
pub fn model(repo: &str) -> String {
    format!("/{repo}/resolve/main/model.safetensors")
}

/// Serves until the test process ends.
pub struct Server {
    pub endpoint: String,
    replies: Arc<Mutex<HashMap<String, Reply>>>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Server {
    pub fn start() -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let endpoint = format!("http://{}", listener.local_addr().expect("an address"));
        let server = Server { endpoint, replies: Arc::default(), asked: Arc::default() };
        let (replies, asked) = (server.replies.clone(), server.asked.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (replies, asked) = (replies.clone(), asked.clone());
                // a client that goes away is what some tests are about
                std::thread::spawn(move || serve(stream, &replies, &asked));
            }
        });
        server
    }

    pub fn put(&self, path: impl Into<String>, reply: Reply) {
        self.replies.lock().expect("no panic").insert(path.into(), reply);
    }

    /// No such file any more, and nothing was asked.
    pub fn forget(&self, path: &str) {
        self.replies.lock().expect("no panic").remove(path);
        self.asked();
    }

    /// The paths that were asked for since the last time, ` with token` behind those that came with one.
    pub fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.asked.lock().expect("no panic"))
    }
}

fn serve(
    mut stream: TcpStream,
    replies: &Mutex<HashMap<String, Reply>>,
    asked: &Mutex<Vec<String>>,
) -> std::io::Result<()> {
    stream.set_read_timeout(Some(LONGEST))?;
    let mut lines = BufReader::new(stream.try_clone()?.take(1 << 16)).lines();
    let request = lines.next().transpose()?.unwrap_or_default();
    let path = request.split(' ').nth(1).unwrap_or_default().to_string();
    let mut entry = path.clone();
    while let Some(line) = lines.next().transpose()?.filter(|line| !line.is_empty()) {
        if line.to_lowercase().starts_with("authorization") {
            entry.push_str(" with token");
        }
    }
    asked.lock().expect("no panic").push(entry);
    let missing = || Reply::new("404 Not Found", &[("x-error-code", "EntryNotFound"), ("Content-Length", "0")], b"");
    let reply = replies.lock().expect("no panic").get(&path).cloned().unwrap_or_else(missing);
    let end = Instant::now() + LONGEST;
    stream.write_all(&reply.bytes)?;
    match reply.then {
        Then::Close => {}
        Then::Drip(byte) => {
            while Instant::now() < end {
                stream.write_all(&[byte])?;
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        // until the client closes
        Then::Hold => drop(stream.read(&mut [0])?),
        Then::Forever(bytes) => {
            while Instant::now() < end {
                stream.write_all(bytes)?;
            }
        }
    }
    Ok(())
}
