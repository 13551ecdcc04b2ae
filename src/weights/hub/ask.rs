//! One question to the hub: redirections are followed by hand, because the commit and the etag are on the answers of the hub
//! itself and the token is for its host alone. Each request lives in a thread of its own, so that nothing that a server does,
//! or leaves undone, is waited for longer than the patience: not a name that is looked up, not a header that arrives letter
//! by letter.

use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use url::{Host, Url};

#[cfg_attr(not(feature = "hub"), path = "ask/nobody.rs")]
mod http;

use http::{Client, Request};

use super::Failure;
use super::proof::Etag;
use super::repo::is_plain;
use super::token::Token;
use crate::io::atomic::reason;

/// Redirections that are followed.
const REDIRECTIONS: usize = 10;
/// The largest file that is fetched, in bytes.
const LARGEST: u64 = 256 << 30;
/// The largest file whose length the server does not say.
const LARGEST_UNSAID: u64 = 1 << 30;
/// Bytes a second below which a server counts as silent.
const SLOWEST: f64 = 4096.0;

/// What the hub says of a file, and the file.
pub struct Answer {
    pub commit: String,
    pub etag: Etag,
    /// In bytes, where it is said.
    pub length: Option<u64>,
    /// The most bytes that may come.
    pub limit: u64,
    pub body: Body,
}

/// Asks for the file at `first`.
pub fn get(first: &Url, token: Option<&Token>, patience: Duration) -> Result<Answer, Failure> {
    let client = Client::new(patience);
    let home = first.origin();
    let (mut url, mut commit, mut etag, mut size) = (first.clone(), None, None, None);
    for _ in 0..=REDIRECTIONS {
        let at_home = url.origin() == home;
        let unreachable = |what: String| Failure::Unreachable(format!("{} {what}", origin(url.as_str())));
        let token = token.filter(|_| at_home && is_confidential(url.as_str()));
        let (head, body) = ask(client.request(&url, token), patience).map_err(unreachable)?;
        let header = |name: &str| head.one(name).map_err(unreachable);
        if at_home {
            commit = commit.or(header("x-repo-commit")?);
            etag = etag.or(header("x-linked-etag")?);
            size = size.or(header("x-linked-size")?);
        }
        match head.status {
            301 | 302 | 303 | 307 | 308 => {
                let Some(location) = header("location")? else {
                    return Err(unreachable("redirects to nowhere".into()));
                };
                let next = follow(&url, first, &location).map_err(unreachable)?;
                // a page that redirects within the hub has an etag of its own
                if at_home && next.origin() != home {
                    etag = etag.or(header("etag")?);
                }
                url = next;
            }
            200 => {
                if at_home {
                    etag = etag.or(header("etag")?);
                }
                let kind = header("content-type")?.unwrap_or_default().to_ascii_lowercase();
                if kind.starts_with("text/html") {
                    return Err(unreachable("answers with a web page (does the network ask for a login?)".into()));
                }
                let encoding = header("content-encoding")?.unwrap_or_default();
                if !matches!(encoding.to_ascii_lowercase().as_str(), "" | "identity") {
                    return Err(unreachable("compresses its answer, which was not asked for".into()));
                }
                let (commit, etag) = (commit.filter(|commit| is_plain(commit)), etag.as_deref().and_then(Etag::parse));
                // both become names of files
                let (Some(commit), Some(etag)) = (commit, etag) else {
                    return Err(Failure::Unreachable(format!(
                        "{} does not answer as the hub does",
                        origin(first.as_str())
                    )));
                };
                let number = |text: Option<String>| {
                    text.map(|text| {
                        text.parse::<u64>().map_err(|_| unreachable("says a length that is no number".into()))
                    })
                    .transpose()
                };
                let (promised, sent) = (number(size)?, number(header("content-length")?)?);
                if let (Some(promised), Some(sent)) = (promised, sent)
                    && promised != sent
                {
                    return Err(unreachable(format!("sends {sent} bytes of a file of {promised}")));
                }
                let length = promised.or(sent);
                if length.is_none() && !etag.is_hash() {
                    return Err(unreachable("says neither how long the file is nor its hash".into()));
                }
                if length.is_some_and(|length| length > LARGEST) {
                    return Err(unreachable(format!("offers a file of more than {} GiB", LARGEST >> 30)));
                }
                return Ok(Answer { commit, etag, length, limit: length.unwrap_or(LARGEST_UNSAID), body });
            }
            404 if at_home => {
                return Err(match head.one("x-error-code").ok().flatten().as_deref() {
                    Some("RepoNotFound") => Failure::Refused,
                    Some("RevisionNotFound") => Failure::NoRevision,
                    _ => Failure::Missing,
                });
            }
            401 | 403 if at_home => {
                let is_gated = head.one("x-error-code").is_ok_and(|code| code.as_deref() == Some("GatedRepo"));
                return Err(if is_gated { Failure::Gated } else { Failure::Refused });
            }
            status => return Err(unreachable(format!("answers with status {status}"))),
        }
    }
    Err(Failure::Unreachable(format!("{} redirects in a circle", origin(first.as_str()))))
}

/// `https://host:port` of an address, without the name and the password that it may hold.
pub fn origin(url: &str) -> String {
    Url::parse(url).map_or_else(|_| "the hub".into(), |url| url.origin().ascii_serialization())
}

/// Whether nobody on the way reads what is sent there.
pub fn is_confidential(url: &str) -> bool {
    Url::parse(url).is_ok_and(|url| url.scheme() == "https" || is_loopback(&url))
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    }
}

/// Where a redirection leads. A server on the network must not lead to one that only this machine sees, nor away from https.
fn follow(from: &Url, home: &Url, location: &str) -> Result<Url, String> {
    let to = from.join(location).map_err(|_| "redirects to what is no address".to_string())?;
    match to.scheme() {
        "https" if is_loopback(home) || !is_loopback(&to) => Ok(to),
        "http" if to.origin() == home.origin() || (is_loopback(home) && is_loopback(&to)) => Ok(to),
        "https" => Err("redirects to this machine itself".into()),
        scheme => Err(format!("redirects to an address that begins with `{scheme}:`; only `https:` is followed")),
    }
}

/// Status and headers.
struct Head {
    status: u16,
    headers: Vec<(&'static str, String)>,
}

/// The headers that are looked at.
const HEADERS: [&str; 9] = [
    "content-encoding",
    "content-length",
    "content-type",
    "etag",
    "location",
    "x-error-code",
    "x-linked-etag",
    "x-linked-size",
    "x-repo-commit",
];

impl Head {
    /// A header's value, which must be one.
    fn one(&self, name: &str) -> Result<Option<String>, String> {
        let mut values = self.headers.iter().filter(|(other, _)| *other == name).map(|(_, value)| value);
        let first = values.next();
        match values.all(|value| Some(value) == first) {
            true => Ok(first.map(|value| value.trim_matches('"').to_string())),
            false => Err(format!("contradicts itself in `{name}`")),
        }
    }
}

enum Event {
    Head(Head),
    Piece(Vec<u8>),
    End,
    Broke(String),
}

/// The rest of an answer.
pub struct Body {
    events: Receiver<Event>,
    patience: Duration,
    /// When the bytes of `recent` began to come.
    since: Instant,
    recent: u64,
}

impl Body {
    /// The next bytes, None at the end.
    pub fn next(&mut self) -> Result<Option<Vec<u8>>, String> {
        match wait(&self.events, self.patience)? {
            Event::Piece(piece) => {
                self.recent += piece.len() as u64;
                let elapsed = self.since.elapsed();
                if elapsed >= self.patience {
                    if (self.recent as f64) < SLOWEST * elapsed.as_secs_f64() {
                        return Err(format!("fewer than {SLOWEST} bytes came a second"));
                    }
                    (self.since, self.recent) = (Instant::now(), 0);
                }
                Ok(Some(piece))
            }
            Event::End => Ok(None),
            Event::Broke(why) => Err(why),
            Event::Head(_) => unreachable!("an answer has one head"),
        }
    }
}

fn wait(events: &Receiver<Event>, patience: Duration) -> Result<Event, String> {
    events.recv_timeout(patience).map_err(|error| match error {
        RecvTimeoutError::Timeout => format!("fell silent for {} s", patience.as_secs_f64()),
        RecvTimeoutError::Disconnected => "fell silent".into(),
    })
}

fn ask(request: Request, patience: Duration) -> Result<(Head, Body), String> {
    let (send, events) = sync_channel(4);
    let thread = std::thread::Builder::new().name("hub".into()).spawn(move || {
        // an error means that nobody listens any more
        let _ = request.answer(&send);
    });
    thread.map_err(|error| format!("cannot be asked: {}", reason(&error)))?;
    match wait(&events, patience)? {
        Event::Head(head) => Ok((head, Body { events, patience, since: Instant::now(), recent: 0 })),
        Event::Broke(why) => Err(why),
        Event::Piece(_) | Event::End => unreachable!("an answer begins with its head"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirections_stay_on_https() {
        let hub = Url::parse("https://hub.example/a/b").unwrap();
        let local = Url::parse("http://127.0.0.1:80/a/b").unwrap();
        let mirror = Url::parse("http://mirror.lan/a/b").unwrap();
        for (home, to, want) in [
            (&hub, "/c?d", Ok("https://hub.example/c?d")),
            (&hub, "c", Ok("https://hub.example/a/c")),
            (&hub, "//cdn.example/c", Ok("https://cdn.example/c")),
            (&hub, "https://cdn.example", Ok("https://cdn.example/")),
            (&hub, "http://hub.example/c", Err("`http:`")),
            (&hub, "http://127.0.0.1/c", Err("`http:`")),
            (&hub, "https://127.0.0.1/c", Err("this machine")),
            (&hub, "https://localhost/c", Err("this machine")),
            (&hub, "https://[::1]/c", Err("this machine")),
            (&hub, "file:///etc/passwd", Err("begins with `file:`")),
            (&hub, "ftp://x/y", Err("`ftp:`")),
            (&hub, "data:,x", Err("`data:`")),
            (&hub, "https://[", Err("no address")),
            (&local, "http://localhost:81/c", Ok("http://localhost:81/c")),
            (&local, "http://cdn.example/c", Err("`http:`")),
            (&mirror, "/c", Ok("http://mirror.lan/c")),
            (&mirror, "http://other.lan/c", Err("`http:`")),
            (&mirror, "http://127.0.0.1/c", Err("`http:`")),
        ] {
            match (follow(home, home, to), want) {
                (Ok(url), Ok(want)) => assert_eq!(url.as_str(), want),
                (Err(why), Err(part)) => assert!(why.contains(part), "{to}: {why}"),
                (got, want) => panic!("{to}: expected {want:?}, got {got:?}"),
            }
        }
    }

    #[test]
    fn an_origin_shows_no_password() {
        assert_eq!(origin("https://me:secret@hub.example:8443/a?b"), "https://hub.example:8443");
        assert!(is_confidential("https://hub.example") && is_confidential("http://localhost:1"));
        assert!(!is_confidential("http://hub.example") && !is_confidential("http://127.0.0.1.example"));
    }
}
