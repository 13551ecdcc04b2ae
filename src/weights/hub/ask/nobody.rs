//! Nobody to ask: archc without its feature `hub`, which finds only what is in the cache.

use std::sync::mpsc::{SendError, SyncSender};
use std::time::Duration;

use url::Url;

use super::super::token::Token;
use super::Event;

pub struct Client;

pub struct Request;

impl Client {
    pub fn new(_patience: Duration) -> Client {
        Client
    }

    pub fn request(&self, _url: &Url, _token: Option<&Token>) -> Request {
        Request
    }
}

impl Request {
    pub fn answer(self, send: &SyncSender<Event>) -> Result<(), SendError<Event>> {
        send.send(Event::Broke("cannot be asked: this archc was built without its feature `hub`".into()))
    }
}
