//! One request of HTTP and its answer, event by event.

use std::io::Read;
use std::sync::mpsc::{SendError, SyncSender};
use std::time::Duration;

use url::Url;

use super::super::token::Token;
use super::{Event, HEADERS, Head};
use crate::io::atomic::reason;

/// Bytes that are handed on at once.
const PIECE: usize = 1 << 17;

/// Whoever asks; follows no redirection.
pub struct Client(ureq::Agent);

/// A question that is not asked yet.
pub struct Request(ureq::Request);

impl Client {
    pub fn new(patience: Duration) -> Client {
        let agent = ureq::AgentBuilder::new()
            .redirects(0)
            .timeout_connect(patience)
            .timeout_read(patience)
            .timeout_write(patience)
            .user_agent(concat!("archc/", env!("CARGO_PKG_VERSION")))
            .try_proxy_from_env(true)
            .build();
        Client(agent)
    }

    pub fn request(&self, url: &Url, token: Option<&Token>) -> Request {
        let request = self.0.request_url("GET", url).set("Accept-Encoding", "identity");
        Request(match token {
            Some(token) => request.set("Authorization", &token.header()),
            None => request,
        })
    }
}

impl Request {
    /// Asks, and hands on what comes.
    ///
    /// # Errors
    /// If nobody listens any more.
    pub fn answer(self, send: &SyncSender<Event>) -> Result<(), SendError<Event>> {
        let response = match self.0.call() {
            Ok(response) | Err(ureq::Error::Status(_, response)) => response,
            Err(ureq::Error::Transport(transport)) => return send.send(Event::Broke(why(&transport))),
        };
        let values = |name| response.all(name).into_iter().map(move |value| (name, value.to_string()));
        let headers = HEADERS.into_iter().flat_map(values).collect();
        send.send(Event::Head(Head { status: response.status(), headers }))?;
        let mut body = response.into_reader();
        loop {
            let mut piece = vec![0; PIECE];
            match body.read(&mut piece) {
                Ok(0) => return send.send(Event::End),
                Ok(count) => {
                    piece.truncate(count);
                    send.send(Event::Piece(piece))?;
                }
                Err(error) => return send.send(Event::Broke(reason(&error))),
            }
        }
    }
}

/// The system's reason alone: the transport's own text may hold headers of the request, and addresses with signatures.
fn why(transport: &ureq::Transport) -> String {
    use ureq::ErrorKind;
    let mut detail = None;
    let mut source = std::error::Error::source(transport);
    while let Some(error) = source {
        detail = error.downcast_ref::<std::io::Error>().map(reason).or(detail);
        source = error.source();
    }
    let with = |what: &str| detail.as_ref().map_or(what.to_string(), |detail| format!("{what}: {detail}"));
    match transport.kind() {
        ErrorKind::Dns => "has no address (is there a network?)".into(),
        ErrorKind::ConnectionFailed => with("cannot be connected to"),
        ErrorKind::InvalidUrl | ErrorKind::UnknownScheme => "is no address".into(),
        ErrorKind::BadStatus | ErrorKind::BadHeader => "does not speak HTTP".into(),
        ErrorKind::InvalidProxyUrl | ErrorKind::ProxyConnect | ErrorKind::ProxyUnauthorized => {
            "cannot be reached through the proxy that the environment names".into()
        }
        _ => with("does not answer"),
    }
}
