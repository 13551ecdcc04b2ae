//! The hub's protocol against a small server on the loopback device.

use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use super::*;
use crate::weights::samples::{self, Sample};
use crate::weights::store::Store;

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// Serves answers, whole HTTP responses by path, until the test process ends.
struct Server {
    endpoint: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Server {
    fn start(answers: impl Fn(&str) -> HashMap<String, Vec<u8>>) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(vec![]));
        let (answers, log) = (answers(&endpoint), asked.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(stream) = stream else { break };
                let _ = serve(stream, &answers, &log);
            }
        });
        Server { endpoint, asked }
    }

    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }
}

fn serve(mut stream: TcpStream, answers: &HashMap<String, Vec<u8>>, log: &Mutex<Vec<String>>) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let request = lines.next().transpose()?.unwrap_or_default();
    let path = request.split(' ').nth(1).unwrap_or_default().to_string();
    let mut entry = path.clone();
    while let Some(line) = lines.next().transpose()?.filter(|line| !line.is_empty()) {
        if line.to_lowercase().starts_with("authorization") {
            entry.push_str(" with token");
        }
    }
    log.lock().unwrap().push(entry);
    let missing = response("404 Not Found", &[("x-error-code", "EntryNotFound")], b"");
    stream.write_all(answers.get(&path).unwrap_or(&missing))
}

fn response(status: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut text = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n", body.len());
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    [text.as_bytes(), b"\r\n", body].concat()
}

fn file(etag: &str, body: &[u8]) -> Vec<u8> {
    response("200 OK", &[("x-repo-commit", COMMIT), ("etag", etag)], body)
}

fn hub(endpoint: &str, cache: &Path) -> Hub {
    Hub {
        endpoint: endpoint.into(),
        cache: cache.into(),
        token: Some("secret".into()),
        offline: false,
        patience: Duration::from_millis(500),
    }
}

fn text(problem: &Problem) -> String {
    assert_eq!(problem.code, Code::WeightsFile);
    assert!(!problem.hints.is_empty(), "{}: no way out", problem.message);
    format!("{}\n{}", problem.message, problem.hints.join("\n"))
}

#[test]
fn one_file_is_fetched_once_through_a_redirection() {
    let weights = samples::safetensors(&[Sample::f32("a", &[2], &[1.0, 2.0])]);
    let other = Server::start(|_| HashMap::from([("/signed?x=1".into(), response("200 OK", &[], &weights))]));
    let server = Server::start(|_| {
        let to = format!("{}/signed?x=1", other.endpoint);
        let headers = [("x-repo-commit", COMMIT), ("x-linked-etag", "\"blob1\""), ("etag", "x"), ("location", &to)];
        HashMap::from([
            ("/timm/tiny/resolve/main/model.safetensors".into(), response("302 Found", &headers, b"")),
            ("/old/tiny/resolve/main/model.safetensors".into(), {
                response("307 Moved", &[("location", "/timm/tiny/resolve/main/model.safetensors")], b"")
            }),
        ])
    });
    let folder = tempfile::tempdir().unwrap();
    let hub = hub(&server.endpoint, folder.path());
    let path = hub.fetch("timm/tiny").unwrap();
    assert_eq!(Store::open_file(&path).unwrap().read("a").unwrap(), [1.0, 2.0]);
    let snapshot = folder.path().join("models--timm--tiny/snapshots").join(COMMIT).join("model.safetensors");
    assert_eq!(path, snapshot);
    assert_eq!(std::fs::read_to_string(folder.path().join("models--timm--tiny/refs/main")).unwrap(), COMMIT);
    assert!(folder.path().join("models--timm--tiny/blobs/blob1").is_file());
    // The token is for the hub, not for where it sends us.
    assert_eq!(server.asked(), ["/timm/tiny/resolve/main/model.safetensors with token"]);
    assert_eq!(other.asked(), ["/signed?x=1"]);

    assert_eq!(hub.fetch("timm/tiny").unwrap(), path);
    let offline = Hub { offline: true, ..hub };
    assert_eq!(offline.fetch("timm/tiny").unwrap(), path);
    assert_eq!(offline.fetch(&format!("timm/tiny@{COMMIT}")).unwrap(), path);
    assert!(server.asked().is_empty());

    let hub = Hub { offline: false, ..offline };
    assert!(hub.fetch("old/tiny").unwrap().is_file());
    assert_eq!(server.asked().len(), 2);
}

#[test]
fn shards_and_checkpoints_are_found_too() {
    let shard = |key: &str| samples::safetensors(&[Sample::f32(key, &[1], &[3.0])]);
    let server = Server::start(|_| {
        let index = br#"{"weight_map":{"a":"one.safetensors","b":"two.safetensors"}}"#;
        HashMap::from([
            ("/x/sharded/resolve/main/model.safetensors.index.json".into(), file("index", index)),
            ("/x/sharded/resolve/main/one.safetensors".into(), file("one", &shard("a"))),
            ("/x/sharded/resolve/main/two.safetensors".into(), file("two", &shard("b"))),
            ("/x/half/resolve/main/model.safetensors.index.json".into(), file("index", index)),
            ("/x/half/resolve/main/one.safetensors".into(), file("one", &shard("a"))),
            ("/x/old/resolve/v1/pytorch_model.bin".into(), file("bin", b"PK\x03\x04")),
        ])
    });
    let folder = tempfile::tempdir().unwrap();
    let hub = hub(&server.endpoint, folder.path());
    let store = Store::open_file(&hub.fetch("x/sharded").unwrap()).unwrap();
    assert_eq!(store.read("b").unwrap(), [3.0]);
    assert!(hub.fetch("x/old@v1").unwrap().ends_with("pytorch_model.bin"));
    assert!(text(&hub.fetch("x/half").unwrap_err()).contains("has no `two.safetensors`"));
    let offline = Hub { offline: true, ..hub };
    assert!(offline.fetch("x/sharded").is_ok());
    assert!(text(&offline.fetch("x/half").unwrap_err()).contains("HF_HUB_OFFLINE is set"));
}

#[test]
fn what_goes_wrong_is_said_and_leaves_nothing() {
    let server = Server::start(|endpoint| {
        let of = |repo: &str| format!("/x/{repo}/resolve/main/model.safetensors");
        let mut cut = file("cut", &[7; 1000]);
        cut.truncate(cut.len() - 500);
        let looping = format!("{endpoint}{}", of("loop"));
        HashMap::from([
            (of("private"), response("401 Unauthorized", &[], b"")),
            (of("unknown"), response("404 Not Found", &[("x-error-code", "RepoNotFound")], b"")),
            (of("busy"), response("503 Service Unavailable", &[], b"")),
            (of("cut"), cut),
            (of("evil"), file("../../evil", b"x")),
            (of("odd"), response("200 OK", &[], b"x")),
            (of("loop"), response("302 Found", &[("location", &looping)], b"")),
            (of("nowhere"), response("302 Found", &[], b"")),
            (of("noise"), b"noise".to_vec()),
        ])
    });
    let folder = tempfile::tempdir().unwrap();
    let hub = hub(&server.endpoint, folder.path());
    for (repo, message) in [
        ("x/private", "or it is private"),
        ("x/unknown", "there is no repository `x/unknown`"),
        ("x/none", "has none of `model.safetensors`"),
        ("x/busy", "answers with status 503"),
        ("x/cut", "broke off"),
        ("x/evil", "does not answer as the hub does"),
        ("x/odd", "does not answer as the hub does"),
        ("x/loop", "redirects in a circle"),
        ("x/nowhere", "redirects to nowhere"),
        ("x/noise", "does not answer"),
        ("../x", "no name of a repository"),
        ("a/b/c", "no name of a repository"),
        ("", "no name of a repository"),
        ("a/b@../c", "no name of a repository"),
        ("a b/c?d", "no name of a repository"),
    ] {
        let text = text(&hub.fetch(repo).unwrap_err());
        assert!(text.contains(message), "{repo}: {text}");
    }
    let blobs = folder.path().join("models--x--cut/blobs");
    assert_eq!(std::fs::read_dir(blobs).unwrap().count(), 0);
}

#[test]
fn a_silent_or_missing_server_is_not_waited_for() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = format!("http://{}", listener.local_addr().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let problem = hub(&silent, folder.path()).fetch("x/y").unwrap_err();
    assert!(text(&problem).contains("does not answer"), "{problem:?}");
    drop(listener);
    let problem = hub(&silent, folder.path()).fetch("x/y").unwrap_err();
    let text = text(&problem);
    assert!(
        text.contains("`hf(\"x/y\")` is not in the cache and cannot be fetched: 127.0.0.1 cannot be connected"),
        "{text}"
    );
    assert!(text.contains("name the file: `weights \"model.safetensors\"`") && text.contains("HF_ENDPOINT"), "{text}");
}
