//! What the cache holds: the layout of the hub's own tools, files that are damaged in it, and processes that share it.

use std::fs;
use std::path::Path;

use archc::stages::weights::Store;
use archc::stages::weights::hub::Hub;

use super::server::{COMMIT, Reply, Server, model, sha256, weights};
use super::{files, hub, text};

fn read(path: &Path, key: &str) -> Vec<f32> {
    Store::open_file(path).expect("weights").read(key).expect("a tensor")
}

#[test]
fn a_file_is_fetched_once_and_lies_where_python_looks() {
    let good = weights("a", &[1.0, 2.0]);
    let (server, other) = (Server::start(), Server::start());
    other.put("/signed?x=1", Reply::new("200 OK", &[("Content-Length", &good.len().to_string())], &good));
    let (hash, to) = (sha256(&good), format!("{}/signed?x=1", other.endpoint));
    let headers = [("x-repo-commit", COMMIT), ("x-linked-etag", &hash), ("etag", "\"x\""), ("location", &to)];
    server.put(model("timm/tiny"), Reply::new("302 Found", &headers, b""));
    let renamed = [("location", "/timm/tiny/resolve/main/model.safetensors"), ("etag", "\"of-the-page\"")];
    server.put(model("old/tiny"), Reply::new("307 Moved", &renamed, b""));
    let folder = tempfile::tempdir().expect("a folder");
    let hub = hub(&server.endpoint, folder.path());
    let path = hub.fetch("timm/tiny", &()).expect("it is there");
    assert_eq!(read(&path, "a"), [1.0, 2.0]);
    let repo = folder.path().join("models--timm--tiny");
    assert_eq!(path, repo.join("snapshots").join(COMMIT).join("model.safetensors"));
    assert_eq!(fs::read_to_string(repo.join("refs/main")).expect("a ref"), COMMIT);
    assert!(repo.join("blobs").join(&hash).is_file());
    #[cfg(unix)]
    assert_eq!(path.read_link().expect("a link"), Path::new("../../blobs").join(&hash));
    // the token is for the hub, not for where it sends us
    assert_eq!(server.asked(), [format!("{} with token", model("timm/tiny"))]);
    assert_eq!(other.asked(), ["/signed?x=1"]);

    let offline = Hub { offline: true, ..hub.clone() };
    assert_eq!(hub.fetch("timm/tiny", &()).expect("cached"), path);
    assert_eq!(offline.fetch("timm/tiny", &()).expect("cached"), path);
    assert_eq!(offline.fetch(&format!("timm/tiny@{COMMIT}"), &()).expect("cached"), path);
    assert!(server.asked().is_empty());
    assert!(hub.fetch("old/tiny", &()).expect("it has moved").is_file());
    assert_eq!(server.asked().len(), 2);
}

#[test]
fn a_branch_may_have_slashes_in_its_name() {
    let good = weights("a", &[1.0]);
    let server = Server::start();
    server.put("/a/b/resolve/refs%2Fpr%2F1/model.safetensors", Reply::large(&good));
    let folder = tempfile::tempdir().expect("a folder");
    let mut hub = hub(&server.endpoint, folder.path());
    let path = hub.fetch("a/b@refs/pr/1", &()).expect("it is there");
    // where Python's library keeps it
    let reference = folder.path().join("models--a--b/refs/refs/pr/1");
    assert_eq!(fs::read_to_string(reference).expect("a ref"), COMMIT);
    hub.offline = true;
    assert_eq!(hub.fetch("a/b@refs/pr/1", &()).expect("cached"), path);
    for wrong in
        ["../x", "a/b/c", "", "a/b@../c", "a b/c?d", "a/b@", "a/b@x//y", "a/b@x/../y", "a/b@/x", "a/b@x/", "a@b@c"]
    {
        let said = text(&hub.fetch(wrong, &()).unwrap_err());
        assert!(said.contains("is no name of a repository"), "{wrong}: {said}");
    }
}

#[test]
fn shards_are_of_the_commit_of_their_index() {
    let index = br#"{"weight_map":{"a":"one.safetensors","b":"two.safetensors"}}"#;
    let server = Server::start();
    let shard = |key: &str| Reply::large(&weights(key, &[3.0]));
    for repo in ["x/sharded", "x/half"] {
        server.put(format!("/{repo}/resolve/main/model.safetensors.index.json"), Reply::small(index));
        server.put(format!("/{repo}/resolve/{COMMIT}/one.safetensors"), shard("a"));
    }
    server.put(format!("/x/sharded/resolve/{COMMIT}/two.safetensors"), shard("b"));
    server.put("/x/old/resolve/v1/pytorch_model.bin", Reply::small(b"PK\x03\x04"));
    let folder = tempfile::tempdir().expect("a folder");
    let hub = hub(&server.endpoint, folder.path());
    let path = hub.fetch("x/sharded", &()).expect("it is there");
    assert_eq!(read(&path, "b"), [3.0]);
    assert!(hub.fetch("x/old@v1", &()).expect("it is there").ends_with("pytorch_model.bin"));
    assert!(text(&hub.fetch("x/half", &()).unwrap_err()).contains("has no `two.safetensors`"));
    let offline = Hub { offline: true, ..hub.clone() };
    assert!(offline.fetch("x/sharded", &()).is_ok());
    assert!(text(&offline.fetch("x/half", &()).unwrap_err()).contains("HF_HUB_OFFLINE is set"));
    // a damaged shard is fetched anew
    let shard = path.with_file_name("two.safetensors");
    fs::write(&shard, b"damaged").expect("it can be written");
    let said = text(&offline.fetch("x/sharded", &()).unwrap_err());
    assert!(said.contains("is damaged in the cache") && said.contains("two.safetensors"), "{said}");
    assert_eq!(read(&hub.fetch("x/sharded", &()).expect("fetched anew"), "b"), [3.0]);
    // an index that reaches elsewhere, or for everything
    let evil = br#"{"weight_map":{"a":"../../../evil.safetensors"}}"#;
    server.put("/x/evil/resolve/main/model.safetensors.index.json", Reply::small(evil));
    assert!(text(&hub.fetch("x/evil", &()).unwrap_err()).contains("is no index of weights"));
    let keys: Vec<String> = (0..1001).map(|at| format!("\"{at}\":\"{at}.safetensors\"")).collect();
    let wide = format!("{{\"weight_map\":{{{}}}}}", keys.join(","));
    server.put("/x/wide/resolve/main/model.safetensors.index.json", Reply::small(wide.as_bytes()));
    assert!(text(&hub.fetch("x/wide", &()).unwrap_err()).contains("names 1001 files, at most 1000"));
}

/// Something that happens to a cache: the blob's path, the snapshot's, and the repository's folder.
type Damage = fn(&Path, &Path, &Path);

#[cfg(unix)]
#[test]
fn what_is_damaged_in_the_cache_is_fetched_anew_or_named() {
    let good = weights("a", &[1.5; 300]);
    let server = Server::start();
    let cases: &[(&str, Damage)] = &[
        ("cut", |blob, _, _| {
            fs::File::options().write(true).open(blob).expect("a blob").set_len(700).expect("it is cut")
        }),
        ("longer", |blob, _, _| {
            fs::write(blob, [&fs::read(blob).expect("a blob")[..], b"x"].concat()).expect("written")
        }),
        ("a bit", |blob, _, _| {
            let mut bytes = fs::read(blob).expect("a blob");
            *bytes.last_mut().expect("it has bytes") ^= 1;
            fs::write(blob, bytes).expect("written");
        }),
        ("a page", |blob, _, _| fs::write(blob, "<html>").expect("written")),
        ("empty", |blob, _, _| fs::write(blob, "").expect("written")),
        ("gone", |blob, _, _| fs::remove_file(blob).expect("removed")),
        ("a pipe", |blob, _, _| {
            fs::remove_file(blob).expect("removed");
            assert!(std::process::Command::new("mkfifo").arg(blob).status().expect("mkfifo").success());
        }),
        ("a device", |blob, _, _| {
            fs::remove_file(blob).expect("removed");
            std::os::unix::fs::symlink("/dev/zero", blob).expect("linked");
        }),
        ("another blob", |blob, path, _| {
            fs::write(blob.with_file_name("0".repeat(64)), weights("a", &[2.5; 300])).expect("written");
            fs::remove_file(path).expect("removed");
            std::os::unix::fs::symlink(format!("../../blobs/{}", "0".repeat(64)), path).expect("linked");
        }),
        ("a file instead of the link", |_, path, _| {
            fs::remove_file(path).expect("removed");
            fs::write(path, "<html>").expect("written");
        }),
        ("a ref to nowhere", |_, _, repo| fs::write(repo.join("refs/main"), "../../..").expect("written")),
        ("a ref that is a pipe", |_, _, repo| {
            fs::remove_file(repo.join("refs/main")).expect("removed");
            assert!(
                std::process::Command::new("mkfifo").arg(repo.join("refs/main")).status().expect("mkfifo").success()
            );
        }),
    ];
    for (number, (name, damage)) in cases.iter().enumerate() {
        let repo = format!("x/r{number}");
        server.put(model(&repo), Reply::large(&good));
        let folder = tempfile::tempdir().expect("a folder");
        let hub = hub(&server.endpoint, folder.path());
        let path = hub.fetch(&repo, &()).expect("it is there");
        let home = folder.path().join(format!("models--x--r{number}"));
        let blob = home.join("blobs").join(sha256(&good));
        damage(&blob, &path, &home);
        let said = text(&Hub { offline: true, ..hub.clone() }.fetch(&repo, &()).unwrap_err());
        assert!(said.contains("in the cache and cannot be fetched"), "{name}: {said}");
        let is_whole = ["gone", "a pipe", "a device"].contains(name) || name.starts_with("a ref");
        assert_eq!(said.contains("is damaged in the cache"), !is_whole, "{name}: {said}");
        let path = hub.fetch(&repo, &()).unwrap_or_else(|problem| panic!("{name}: {}", text(&problem)));
        assert_eq!(fs::read(&path).expect("a file"), good, "{name}");
        assert_eq!(fs::read(&blob).expect("a blob"), good, "{name}");
        server.asked();
        assert_eq!(hub.fetch(&repo, &()).expect("cached"), path);
        assert!(server.asked().is_empty(), "{name}: it is whole again");
    }
}

#[cfg(unix)]
#[test]
fn what_was_proved_is_not_read_again_until_it_is_touched() {
    use std::os::unix::fs::MetadataExt;
    let good = weights("a", &[1.5; 300]);
    let server = Server::start();
    server.put(model("x/noted"), Reply::large(&good));
    let folder = tempfile::tempdir().expect("a folder");
    let online = hub(&server.endpoint, folder.path());
    online.fetch("x/noted", &()).expect("it is there");
    let offline = Hub { offline: true, ..online };
    let home = folder.path().join("models--x--noted");
    let (blob, note) = (home.join("blobs").join(sha256(&good)), home.join(".archc").join(sha256(&good)));
    // a file that has just come could still change within one tick of the clock
    offline.fetch("x/noted", &()).expect("cached");
    assert!(!note.exists());
    std::thread::sleep(std::time::Duration::from_millis(2_100));
    offline.fetch("x/noted", &()).expect("cached");
    let noted = fs::read_to_string(&note).expect("it was noted");
    let stamp = || {
        let found = fs::metadata(&blob).expect("a blob");
        let changed = found.ctime() * 1_000_000_000 + found.ctime_nsec();
        format!("{{\"bytes\":{},\"number\":{},\"changed\":{changed}}}", found.len(), found.ino())
    };
    assert_eq!(noted, stamp());
    let mut bytes = good.clone();
    *bytes.last_mut().expect("it has bytes") ^= 1;
    fs::write(&blob, bytes).expect("written");
    assert!(text(&offline.fetch("x/noted", &()).unwrap_err()).contains("is damaged in the cache"));
    // a note of the file as it is now is believed
    fs::write(&note, stamp()).expect("written");
    offline.fetch("x/noted", &()).expect("it is not read");
}

#[test]
fn processes_share_a_cache() {
    let good = weights("a", &[1.5; 100_000]);
    let server = Server::start();
    server.put(model("x/shared"), Reply::large(&good));
    let folder = tempfile::tempdir().expect("a folder");
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let path = hub(&server.endpoint, folder.path()).fetch("x/shared", &()).expect("it is there");
                assert_eq!(fs::read(path).expect("a file"), good);
            });
        }
    });
    let names: Vec<String> = files(folder.path())
        .iter()
        .map(|path| path.file_name().expect("a name").to_string_lossy().into_owned())
        .collect();
    assert_eq!(names, [sha256(&good).as_str(), "main", "model.safetensors"]);
}

#[test]
fn a_silent_or_missing_server_is_not_waited_for() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let silent = format!("http://{}", listener.local_addr().expect("an address"));
    let folder = tempfile::tempdir().expect("a folder");
    let mut hub = hub(&silent, folder.path());
    hub.patience = std::time::Duration::from_millis(300);
    let said = text(&hub.fetch("x/y", &()).unwrap_err());
    assert!(said.contains("fell silent for 0.3 s"), "{said}");
    drop(listener);
    hub.patience = std::time::Duration::from_secs(20);
    let said = text(&hub.fetch("x/y", &()).unwrap_err());
    let want = format!("`hf(\"x/y\")` is not in the cache and cannot be fetched: {silent} cannot be connected to");
    assert!(said.contains(&want), "{said}");
    assert!(said.contains("name the file: `weights \"model.safetensors\"`") && said.contains("HF_ENDPOINT"), "{said}");
    for endpoint in ["", "hub.example", "file:///tmp", "https://", "https://x?y", "mailto:x"] {
        hub.endpoint = endpoint.into();
        let said = text(&hub.fetch("x/y", &()).unwrap_err());
        assert!(said.contains("HF_ENDPOINT is no address of a server"), "{endpoint}: {said}");
    }
}
