//! Answers of a hub that are changed here and there: what comes of them is the file that was promised or an error, in time,
//! and the cache holds nothing that is not what its name says.

use std::sync::LazyLock;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use proptest::sample::Index;

use crate::hub::server::{COMMIT, Reply, Server, git_hash, model, sha1, sha256, weights};
use crate::hub::{files, hub, text};

/// No answer of a server that closes is waited for.
const SLOWEST: Duration = Duration::from_secs(60);

static SERVER: LazyLock<Server> = LazyLock::new(Server::start);
static GOOD: LazyLock<Vec<u8>> = LazyLock::new(|| weights("a", &[0.5; 100]));

/// Lines of a head, good ones and others, to put in the place of any.
const LINES: &[&str] = &[
    "HTTP/1.1 200 OK",
    "HTTP/1.0 200 OK",
    "HTTP/1.1 206 Partial Content",
    "HTTP/1.1 204 No Content",
    "HTTP/1.1 100 Continue",
    "HTTP/1.1 302 Found",
    "HTTP/1.1 307 Moved",
    "HTTP/1.1 404 Not Found",
    "HTTP/1.1 503 Busy",
    "HTTP/2 200",
    "Content-Length: 0",
    "Content-Length: 1",
    "Content-Length: 100000",
    "Content-Length: -1",
    "Content-Length: 18446744073709551616",
    "Transfer-Encoding: chunked",
    "Transfer-Encoding: gzip, chunked",
    "Content-Encoding: gzip",
    "Content-Type: text/html",
    "Content-Range: bytes 0-9/100",
    "Location: /",
    "Location: file:///etc/hostname",
    "Location: https://[",
    "Location: //127.0.0.1:1/x",
    "x-linked-size: 8",
    "x-linked-size: ",
    "x-linked-etag: \"\"",
    "x-linked-etag: ..",
    "x-linked-etag: mirror-1",
    "x-repo-commit: main",
    "x-repo-commit: ../../..",
    "x-error-code: RepoNotFound",
    "etag: W/\"",
    ": ",
    "\u{9b}2J: \u{9b}2J",
    "",
];

#[derive(Clone, Debug)]
enum Change {
    /// A line of the head becomes another.
    Line(Index, &'static str),
    Without(Index),
    Twice(Index),
    More(Index, &'static str),
    /// A byte anywhere.
    Byte(Index, u8),
    Cut(Index),
    Longer(Vec<u8>),
}

fn changes() -> impl Strategy<Value = Vec<Change>> {
    let line = || proptest::sample::select(LINES);
    let at = any::<Index>;
    let change = prop_oneof![
        (at(), line()).prop_map(|(at, line)| Change::Line(at, line)),
        at().prop_map(Change::Without),
        at().prop_map(Change::Twice),
        (at(), line()).prop_map(|(at, line)| Change::More(at, line)),
        (at(), any::<u8>()).prop_map(|(at, byte)| Change::Byte(at, byte)),
        at().prop_map(Change::Cut),
        proptest::collection::vec(any::<u8>(), 0..50).prop_map(Change::Longer),
    ];
    proptest::collection::vec(change, 1..4)
}

fn apply(bytes: &[u8], changes: &[Change]) -> Vec<u8> {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").expect("a head ends");
    let head = String::from_utf8(bytes[..end].to_vec()).expect("a head is text");
    let mut lines: Vec<String> = head.split("\r\n").map(str::to_string).collect();
    for change in changes {
        match change {
            Change::Line(at, line) => *at.get_mut(&mut lines) = (*line).into(),
            Change::Without(at) if lines.len() > 1 => drop(lines.remove(at.index(lines.len()))),
            Change::Twice(at) => lines.push(at.get(&lines).clone()),
            Change::More(at, line) => lines.insert(at.index(lines.len()), (*line).into()),
            _ => {}
        }
    }
    let mut bytes = [lines.join("\r\n").as_bytes(), &bytes[end..]].concat();
    for change in changes {
        match change {
            Change::Byte(at, byte) if !bytes.is_empty() => *at.get_mut(&mut bytes) ^= byte,
            Change::Cut(at) => bytes.truncate(at.index(bytes.len() + 1)),
            Change::Longer(more) => bytes.extend(more),
            _ => {}
        }
    }
    bytes
}

/// Answers to be changed: of the three kinds of etags, and in chunks.
fn replies() -> Vec<Reply> {
    let good = &GOOD[..];
    let length = good.len().to_string();
    let mirror = [("x-repo-commit", COMMIT), ("etag", "mirror-1"), ("Content-Length", &length)];
    let chunked = [format!("{:x}\r\n", good.len()).as_bytes(), good, b"\r\n0\r\n\r\n"].concat();
    let hash = sha256(good);
    let in_chunks = [("x-repo-commit", COMMIT), ("x-linked-etag", &hash), ("Transfer-Encoding", "chunked")];
    vec![
        Reply::large(good),
        Reply::small(good),
        Reply::new("200 OK", &mirror, good),
        Reply::new("200 OK", &in_chunks, &chunked),
    ]
}

/// Fetches what the server has and looks at what that leaves.
fn survives(repo: &str) {
    let start = Instant::now();
    let folder = tempfile::tempdir().expect("a folder");
    let mut hub = hub(&SERVER.endpoint, folder.path());
    hub.patience = Duration::from_secs(2);
    let found = hub.fetch(repo, &()).map_err(|problem| text(&problem));
    assert!(start.elapsed() < SLOWEST, "took {:?}", start.elapsed());
    for path in files(folder.path()) {
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        assert!(!name.ends_with(".tmp"), "{name} is left");
        if path.parent().is_some_and(|folder| folder.ends_with("blobs")) {
            let bytes = std::fs::read(&path).expect("a blob");
            let is_hex = name.bytes().all(|byte| byte.is_ascii_hexdigit());
            let is_promised = match name.len() {
                64 if is_hex => sha256(&bytes) == name.to_lowercase(),
                40 if is_hex => [git_hash(&bytes), sha1(&bytes)].contains(&name.to_lowercase()),
                // a name that proves nothing: what cannot be read must not be there all the same
                _ => archc::stages::weights::Store::open_file(&path).is_ok(),
            };
            assert!(is_promised, "{name} is not what it is called");
            assert!(found.is_ok(), "{name} is kept of an answer that is wrong: {found:?}");
        }
    }
}

#[test]
fn unchanged_answers_are_good() {
    for (at, reply) in replies().iter().enumerate() {
        let (folder, repo) = (tempfile::tempdir().expect("a folder"), format!("x/unchanged{at}"));
        SERVER.put(model(&repo), Reply::raw(&apply(&reply.bytes, &[]), reply.then));
        let found = hub(&SERVER.endpoint, folder.path()).fetch(&repo, &());
        let path = found.unwrap_or_else(|problem| panic!("{at}: {}", text(&problem)));
        assert_eq!(std::fs::read(path).expect("a file"), *GOOD);
    }
}

proptest! {
    #![proptest_config(super::config())]

    #[test]
    fn changed_answers_are_survived(which in 0..4usize, number in any::<u64>(), changes in changes()) {
        let repo = format!("x/{number:x}");
        let reply = &replies()[which];
        SERVER.put(model(&repo), Reply::raw(&apply(&reply.bytes, &changes), reply.then));
        survives(&repo);
        SERVER.forget(&model(&repo));
    }
}
