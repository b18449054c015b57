//! Any bytes on one connection. For [`crate::fuzzing`].

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_lite::{AsyncRead, AsyncWrite, FutureExt};

use super::idempotency::Recent;
use super::{Config, Shared, connection};
use crate::clock::Stamp;
use crate::config::field::{self, Field};
use crate::config::node::{Kind, Node, Place};
use crate::event::Batch;
use crate::source::{Outlet, Submission};

/// What the client sends, and what it is answered.
struct Wire {
    sent: Vec<u8>,
    at: usize,
    answer: Rc<RefCell<Vec<u8>>>,
}

impl AsyncRead for Wire {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let rest = self.sent.get(self.at..).unwrap_or_default();
        let n = rest.len().min(buf.len());
        for (to, from) in buf.iter_mut().zip(rest) {
            *to = *from;
        }
        self.at += n;
        Poll::Ready(Ok(n))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.answer.borrow_mut().extend_from_slice(buf);
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

fn config(token: bool) -> Option<Config> {
    let place = Place::default();
    let scalar = |t: &str| Node { place, kind: Kind::Scalar { text: t.into(), plain: true } };
    let mut fields = vec![("max_body_bytes", "4KiB"), ("key_field", "id")];
    if token {
        fields.push(("token", "secret"));
    }
    let map = fields.iter().map(|(k, v)| ((*k).to_owned(), place, scalar(v))).collect();
    Config::read(&Node { place, kind: Kind::Map(map) }, &mut field::Context::default())
}

/// What a client that sends `wire` and then closes is answered, and what is stored.
pub(crate) fn talk(wire: &[u8], token: bool) -> (Vec<u8>, Vec<Batch>) {
    let Some(config) = config(token) else { return (Vec::new(), Vec::new()) };
    let (tx, rx) = async_channel::bounded::<Submission>(8);
    let outlet = Outlet::new("in".into(), "data".into(), Stamp::new(|| 1), 100_000, Arc::new([]), tx);
    let recent = RefCell::new(Recent::restore(&outlet.positions));
    let shared = Rc::new(Shared { config, outlet, recent });
    let answer = Rc::new(RefCell::new(Vec::new()));
    let stored = RefCell::new(Vec::new());
    let sink = async {
        while let Ok(submission) = rx.recv().await {
            stored.borrow_mut().push(submission.batch);
            submission.done.try_send(Ok(())).ok();
        }
    };
    let wire = Wire { sent: wire.to_vec(), at: 0, answer: answer.clone() };
    futures_lite::future::block_on(connection(wire, &shared).or(sink));
    (answer.take(), stored.into_inner())
}
