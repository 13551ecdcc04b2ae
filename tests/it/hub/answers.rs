//! A row an answer: what is said of it, that nothing of it is kept, and that the next fetch asks again.

use std::sync::Mutex;
use std::time::Duration;

use super::server::{COMMIT, Reply, Server, Then, git_hash, model, sha1, sha256, weights};
use super::{files, hub, text};

/// What an answer comes to.
enum Want {
    Weights,
    /// With a part of the message.
    Said(&'static str),
    /// The same from a server that is waited for.
    SaidLate(&'static str),
}
use Want::{Said, SaidLate, Weights};

#[test]
fn every_answer_is_what_the_hub_promises_or_an_error() {
    let good = weights("a", &[1.5; 4000]);
    let (server, other) = (Server::start(), Server::start());
    let cases = cases(&good, &server, &other);
    let check = |name: &str, reply: &Reply, want: &Want| -> Result<(), String> {
        let folder = tempfile::tempdir().expect("a folder");
        let mut hub = hub(&server.endpoint, folder.path());
        if let SaidLate(_) = want {
            hub.patience = Duration::from_millis(300);
        }
        let repo = format!("x/{name}");
        server.put(model(&repo), reply.clone());
        match (hub.fetch(&repo, &()), want) {
            (Ok(path), Weights) if std::fs::read(&path).is_ok_and(|bytes| bytes == good) => {}
            (Ok(_), _) => return Err("was taken for good".into()),
            (Err(problem), Weights) => return Err(text(&problem)),
            (Err(problem), Said(part) | SaidLate(part)) => {
                let (text, left) = (text(&problem), files(folder.path()));
                if !text.contains(part) || !left.is_empty() {
                    return Err(format!("expected {part:?}, got {text}, and {left:?} is left"));
                }
            }
        }
        server.put(model(&repo), Reply::large(&good));
        hub.patience = Duration::from_secs(20);
        let path = hub.fetch(&repo, &()).map_err(|problem| format!("again: {}", text(&problem)))?;
        if std::fs::read(path).is_ok_and(|bytes| bytes == good) { Ok(()) } else { Err("wrong again".into()) }
    };
    let (check, wrong) = (&check, &Mutex::new(vec![]));
    // most of them wait
    std::thread::scope(|scope| {
        for part in cases.chunks(cases.len().div_ceil(8)) {
            scope.spawn(move || {
                for (name, reply, want) in part {
                    if let Err(why) = check(name, reply, want) {
                        wrong.lock().expect("no panic").push(format!("{name}: {why}"));
                    }
                }
            });
        }
    });
    let wrong = wrong.lock().expect("no panic");
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
    assert!(other.asked().iter().all(|asked| !asked.contains("token")), "a token is for the hub alone");
}

fn cases(good: &[u8], server: &Server, other: &Server) -> Vec<(&'static str, Reply, Want)> {
    let (length, hash) = (good.len().to_string(), sha256(good));
    let (length, hash) = (length.as_str(), hash.as_str());
    let (commit, etag, size) = (("x-repo-commit", COMMIT), ("x-linked-etag", hash), ("x-linked-size", length));
    let sent = ("Content-Length", length);
    let ok = |headers: &[(&str, &str)], body: &[u8]| Reply::new("200 OK", headers, body);
    let with = |extra: &[(&str, &str)]| ok(&[&[commit, etag, size, sent], extra].concat(), good);
    let status = |status: &str| Reply::new(status, &[commit, etag, size, sent], good);
    let half = &good[..good.len() / 2];
    let long = [good, b"more"].concat();
    let mut flipped = good.to_vec();
    *flipped.last_mut().expect("it has bytes") ^= 1;
    // a body whose etag proves nothing
    let unproved = |body: &[u8]| ok(&[commit, ("etag", "mirror-1"), ("Content-Length", &body.len().to_string())], body);
    let chunked = |body: &[u8]| {
        let body = [format!("{:x}\r\n", body.len()).as_bytes(), body, b"\r\n0\r\n\r\n"].concat();
        ok(&[commit, etag, ("Transfer-Encoding", "chunked")], &body)
    };
    let moved =
        |to: &str| Reply::new("302 Found", &[commit, etag, size, ("Location", to), ("Content-Length", "0")], b"");
    other.put("/signed?x=1", Reply::new("200 OK", &[sent, ("etag", "\"of-the-store\"")], good));
    other.put("/wrong", Reply::new("200 OK", &[sent], &flipped));
    other.put("/private", Reply::new("403 Forbidden", &[("Content-Length", "0")], b""));
    let signed = format!("{}/signed?x=1", other.endpoint);
    let circle = format!("{}/x/circle/resolve/main/model.safetensors", server.endpoint);
    vec![
        ("good", Reply::large(good), Weights),
        ("redirected", moved(&signed), Weights),
        ("chunked", chunked(good), Weights),
        ("size-unsent", ok(&[commit, etag, size], good), Weights),
        ("length-unsaid", ok(&[commit, etag], good), Weights),
        ("of-git", Reply::small(good), Weights),
        ("sha1", ok(&[commit, ("etag", &sha1(good)), sent], good), Weights),
        ("weak", ok(&[commit, ("etag", &format!("W/\"{}\"", git_hash(good))), sent], good), Weights),
        ("upper-case", ok(&[commit, ("x-linked-etag", &hash.to_uppercase()), sent], good), Weights),
        ("mirror", unproved(good), Weights),
        ("identity", with(&[("Content-Encoding", "identity")]), Weights),
        ("same-twice", with(&[sent, commit]), Weights),
        ("bit", ok(&[commit, etag, size, sent], &flipped), Said("expected sha256")),
        ("bit-of-git", ok(&[commit, ("etag", &git_hash(good)), sent], &flipped), Said("expected Git hash")),
        ("bit-chunked", chunked(&flipped), Said("expected sha256")),
        ("bit-redirected", moved(&format!("{}/wrong", other.endpoint)), Said("expected sha256")),
        ("short", ok(&[commit, etag, size, sent], half), Said("broke off")),
        ("short-unsent", ok(&[commit, etag, size], half), Said("broke off: expected")),
        ("short-unsaid", ok(&[commit, etag], half), Said("expected sha256")),
        ("short-mirror", ok(&[commit, ("etag", "mirror-1"), sent], half), Said("broke off")),
        ("cut-mirror", unproved(half), Said("is no safetensors file")),
        (
            "cut-chunk",
            ok(&[commit, etag, ("Transfer-Encoding", "chunked")], &[b"ffff\r\n", half].concat()),
            Said("expected sha256"),
        ),
        ("bad-chunk", ok(&[commit, etag, ("Transfer-Encoding", "chunked")], b"many\r\nabc"), Said("broke off")),
        ("long-unsent", ok(&[commit, etag, size], &long), Said("goes on after")),
        ("long-unsaid", ok(&[commit, etag], &long), Said("expected sha256")),
        (
            "long",
            ok(&[commit, etag, size, ("Content-Length", &long.len().to_string())], &long),
            Said("bytes of a file of"),
        ),
        ("long-mirror", unproved(&long), Said("is no safetensors file")),
        ("size-other", ok(&[commit, etag, ("x-linked-size", "7"), sent], good), Said("bytes of a file of 7")),
        ("size-no-number", ok(&[commit, etag, ("x-linked-size", "many"), sent], good), Said("no number")),
        ("size-negative", ok(&[commit, etag, ("x-linked-size", "-1"), sent], good), Said("no number")),
        (
            "size-huge",
            ok(&[commit, etag, ("x-linked-size", "9223372036854775807")], good),
            Said("offers a file of more"),
        ),
        ("length-no-number", ok(&[commit, etag, ("Content-Length", "many")], good), Said("no number")),
        ("two-lengths", with(&[("Content-Length", "7")]), Said("contradicts itself in `content-length`")),
        ("two-etags", with(&[("x-linked-etag", &sha1(good))]), Said("contradicts itself in `x-linked-etag`")),
        ("two-commits", with(&[("x-repo-commit", "main")]), Said("contradicts itself in `x-repo-commit`")),
        (
            "nothing-proves",
            ok(&[commit, ("etag", "mirror-1")], good),
            Said("neither how long the file is nor its hash"),
        ),
        ("empty", ok(&[commit, etag, size, ("Content-Length", "0")], b""), Said("sends 0 bytes of a file of")),
        ("empty-mirror", unproved(b""), Said("is empty")),
        ("created", status("201 Created"), Said("status 201")),
        ("no-content", Reply::new("204 No Content", &[commit, etag], b""), Said("status 204")),
        ("partial", status("206 Partial Content"), Said("status 206")),
        ("choices", status("300 Multiple Choices"), Said("status 300")),
        ("unmodified", Reply::new("304 Not Modified", &[commit, etag], b""), Said("status 304")),
        ("busy", status("503 Service Unavailable"), Said("status 503")),
        ("too-many", status("429 Too Many Requests"), Said("status 429")),
        ("login", with(&[("Content-Type", "text/html; charset=utf-8")]), Said("web page")),
        ("page", unproved(b"<!DOCTYPE html><html>log in</html>"), Said("is a web page")),
        ("pointer", unproved(b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n"), Said("Git LFS pointer")),
        ("pickle", unproved(b"PK\x03\x04 and so on"), Said("neither safetensors nor")),
        ("gzip", with(&[("Content-Encoding", "gzip")]), Said("compresses its answer")),
        ("brotli", with(&[("Content-Encoding", "BR")]), Said("compresses its answer")),
        ("no-commit", ok(&[etag, size, sent], good), Said("does not answer as the hub does")),
        ("no-etag", ok(&[commit, sent], good), Said("does not answer as the hub does")),
        (
            "evil-etag",
            ok(&[commit, ("x-linked-etag", "../../evil"), sent], good),
            Said("does not answer as the hub does"),
        ),
        ("evil-commit", ok(&[("x-repo-commit", "../.."), etag, sent], good), Said("does not answer as the hub does")),
        ("private", Reply::new("401 Unauthorized", &[], b""), Said("or it is private")),
        (
            "unknown",
            Reply::new("404 Not Found", &[("x-error-code", "RepoNotFound")], b""),
            Said("there is no repository"),
        ),
        ("gated", Reply::new("403 Forbidden", &[("x-error-code", "GatedRepo")], b""), Said("agree to its conditions")),
        (
            "no-revision",
            Reply::new("404 Not", &[("x-error-code", "RevisionNotFound")], b""),
            Said("has no revision `main`"),
        ),
        ("none", Reply::new("404 Not Found", &[("x-error-code", "EntryNotFound")], b""), Said("has none of `model.")),
        ("store-private", moved(&format!("{}/private", other.endpoint)), Said("answers with status 403")),
        ("to-nowhere", Reply::new("302 Found", &[commit, etag], b""), Said("redirects to nowhere")),
        ("to-garbage", moved("http://["), Said("redirects to what is no address")),
        ("to-file", moved("file:///etc/hostname"), Said("begins with `file:`")),
        ("to-ftp", moved("ftp://127.0.0.1/x"), Said("begins with `ftp:`")),
        ("to-http", moved("http://192.0.2.1/x"), Said("begins with `http:`")),
        ("to-closed", moved("http://127.0.0.1:1/x"), Said("cannot be connected to")),
        ("to-a-secret", moved(&format!("https://{}.invalid/x", super::TOKEN)), SaidLate("cannot be fetched")),
        ("circle", moved(&circle), Said("redirects in a circle")),
        ("noise", Reply::raw(b"noise", Then::Close), Said("cannot be fetched")),
        ("nothing", Reply::raw(b"", Then::Close), Said("cannot be fetched")),
        ("status-odd", Reply::raw(b"HTTP/1.1 2000 OK\r\n\r\n", Then::Close), Said("cannot be fetched")),
        (
            "endless-head",
            Reply::raw(b"HTTP/1.1 200 OK\r\n", Then::Forever(b"x-more: 1\r\n")),
            Said("cannot be fetched"),
        ),
        (
            "endless-header",
            Reply::raw(b"HTTP/1.1 200 OK\r\nx: ", Then::Forever(&[b'x'; 999])),
            Said("cannot be fetched"),
        ),
        ("endless", ok(&[commit, etag, size], good).then(Then::Forever(&[0; 999])), Said("goes on after")),
        ("endless-chunk", chunked(good).then(Then::Forever(b"x")), Weights),
        ("silent", Reply::raw(b"", Then::Hold), SaidLate("fell silent")),
        ("silent-head", Reply::raw(b"HTTP/1.1 200 OK\r\nx: ", Then::Hold), SaidLate("fell silent")),
        ("silent-body", ok(&[commit, etag, size, sent], half).then(Then::Hold), SaidLate("broke off: ")),
        ("slow-head", Reply::raw(b"HTTP/1.1 200 OK\r\nx: ", Then::Drip(b'x')), SaidLate("fell silent")),
        (
            "slow-chunk",
            ok(&[commit, etag, ("Transfer-Encoding", "chunked")], b"").then(Then::Drip(b'0')),
            SaidLate("broke off: fell silent"),
        ),
        ("slow", ok(&[commit, etag, size, sent], b"").then(Then::Drip(b'0')), SaidLate("bytes came a second")),
    ]
}
