//! One connection: bytes between the link and its session.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, Bytes};
use futures_lite::future::yield_now;
use futures_lite::{AsyncRead, AsyncWrite, AsyncWriteExt};

use crate::link::{Connection, Control, Io, Transport};
use crate::runtime::{LocalFuture, Mono, mono_now, sleep_until, spawn, timeout, wall_now_us};
use crate::source::devices::admit::Place;
use crate::source::devices::auth::{Denied, device_of_certificate};
use crate::source::devices::session::{Now, Peer, Session};
use crate::telemetry::count;

use super::shared::{Letter, Mailbox, Shared};

/// A client that takes nothing of what is written to it for so long is cut off.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// For the last bytes of a connection to arrive.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(3);
/// What a client may still send while its connection is closed.
const LINGER_BYTES: usize = 256 << 10;
const READ_BYTES: usize = 16 << 10;

thread_local! {
    /// Read into by whichever connection is polled: an idle one holds no buffer.
    static SCRATCH: RefCell<Vec<u8>> = RefCell::new(vec![0; READ_BYTES]);
}

enum Wake {
    Letter,
    Read,
    Wrote,
    Time,
    /// The client closed its side.
    Eof,
    /// The connection broke.
    Broken,
    /// It does not read what is written.
    Slow,
}

struct Wire {
    io: Box<dyn Io>,
    out: Bytes,
    /// Something was written since the last flush.
    unflushed: bool,
    /// When the client took something last, or there was nothing to take.
    taken: Mono,
    timer: Option<(Mono, LocalFuture<'static, ()>)>,
}

fn now() -> Now {
    Now { mono: mono_now(), wall_us: wall_now_us() }
}

/// Serves one client, whose handshake began at `since`, to its end.
pub(super) async fn serve(shared: &Rc<Shared>, connection: Connection, place: Place, since: Mono) {
    let Connection { transport, remote, io, control, peer_certs } = connection;
    let certificate = peer_certs.first().map(|der| device_of_certificate(der));
    // Not to be held for as long as the connection lasts.
    drop(peer_certs);
    let peer = Peer { address: remote, transport: transport.as_str(), certificate };
    let (id, mailbox) = shared.register(transport);
    let mut session = Session::new(id, peer, place, &shared.hub.borrow(), since);
    let mut wire = Wire { io, out: Bytes::new(), unflushed: false, taken: mono_now(), timer: None };
    loop {
        let more = step(shared, &mut session, &mailbox);
        if wire.out.is_empty()
            && let Some(bytes) = session.poll_transmit()
        {
            wire.out = bytes;
            wire.taken = mono_now();
        }
        if session.is_closed() && wire.out.is_empty() && !wire.unflushed {
            break;
        }
        if more {
            yield_now().await;
        }
        match wire.wake(shared, &mut session, &mailbox, more).await {
            Wake::Letter | Wake::Read | Wake::Wrote => {}
            Wake::Time => {
                session.handle_timeout(now(), &mut shared.hub.borrow_mut());
                shared.dispatch();
            }
            Wake::Eof => session.handle_eof(),
            Wake::Broken => {
                session.gone(now(), &mut shared.hub.borrow_mut());
                shared.dispatch();
                break;
            }
            Wake::Slow => {
                count("dts_disconnects_total", &[("reason", "slow reader")], 1);
                session.gone(now(), &mut shared.hub.borrow_mut());
                shared.dispatch();
                break;
            }
        }
    }
    // If it cannot be closed in order, dropping it closes it.
    let _ = timeout(CLOSE_TIMEOUT, wire.close(transport, &control)).await;
    shared.unregister(id, transport);
}

/// Letters and one turn. Whether there is more to do at once.
fn step(shared: &Rc<Shared>, session: &mut Session, mailbox: &Rc<Mailbox>) -> bool {
    let now = now();
    let mut hub = shared.hub.borrow_mut();
    while let Some(letter) = mailbox.take() {
        match letter {
            Letter::Mail(mail) => session.mail(now, mail, &mut hub),
            Letter::Checked(result) => session.checked(now, result, &mut hub),
            Letter::Claimed(result) => session.claimed(now, result, &mut hub),
            Letter::Stop => session.stop(now.mono, &mut hub),
        }
    }
    let more = session.turn(now, &mut hub);
    if let Some(check) = session.poll_check() {
        match &shared.checker {
            None => session.checked(now, Err(Denied::Nobody), &mut hub),
            Some(checker) => match checker.check(check) {
                None => session.check_later(&mut hub),
                Some(result) => {
                    let mailbox = mailbox.clone();
                    spawn(async move {
                        let result = result.recv().await;
                        mailbox.post(Letter::Checked(result.unwrap_or(Err(Denied::Nobody))));
                    })
                    .detach();
                }
            },
        }
    }
    drop(hub);
    if let Some(device) = session.poll_claim() {
        shared.claim(device, mailbox.clone());
    }
    shared.dispatch();
    more
}

impl Wire {
    /// Waits until something is to be done; with `more`, only looks.
    async fn wake(&mut self, shared: &Shared, session: &mut Session, mailbox: &Mailbox, more: bool) -> Wake {
        let writing = !self.out.is_empty() || self.unflushed;
        let stalled = writing.then(|| self.taken + WRITE_TIMEOUT);
        let due = [session.poll_timeout(), stalled].into_iter().flatten().min();
        // A timer that rings too early does no harm; a new one costs more than a look at the clock.
        match (due, &self.timer) {
            (None, _) => self.timer = None,
            (Some(due), Some((armed, _))) if *armed <= due => {}
            (Some(due), _) => self.timer = Some((due, Box::pin(sleep_until(due)))),
        }
        poll_fn(|cx| {
            if mailbox.poll_letter(cx) {
                return Poll::Ready(Wake::Letter);
            }
            if let Poll::Ready(wake) = self.poll_write(cx) {
                return Poll::Ready(wake);
            }
            if let Some((_, timer)) = &mut self.timer
                && timer.as_mut().poll(cx).is_ready()
            {
                self.timer = None;
                let slow = stalled.is_some_and(|at| mono_now() >= at);
                return Poll::Ready(if slow { Wake::Slow } else { Wake::Time });
            }
            // What was read is handled before more is.
            if more {
                return Poll::Ready(Wake::Wrote);
            }
            if session.wants_read() && !shared.is_stopping() {
                return self.poll_read(cx, session);
            }
            Poll::Pending
        })
        .await
    }

    /// Closes our side in order. On TCP reads on for what lies unread: a connection that is dropped
    /// with it is reset, and the reason that we gave may be lost.
    async fn close(&mut self, transport: Transport, control: &Control) -> io::Result<()> {
        self.io.close().await?;
        if transport == Transport::Quic {
            return Ok(());
        }
        control.close("");
        let mut left = LINGER_BYTES;
        while left > 0 {
            let n = poll_fn(|cx| {
                SCRATCH.with_borrow_mut(|scratch| Pin::new(&mut self.io).poll_read(cx, scratch))
            });
            left = match n.await? {
                0 => break,
                n => left.saturating_sub(n),
            };
        }
        Ok(())
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<Wake> {
        if !self.out.is_empty() {
            return match Pin::new(&mut self.io).poll_write(cx, &self.out) {
                Poll::Ready(Ok(n)) if n > 0 => {
                    self.out.advance(n);
                    self.taken = mono_now();
                    self.unflushed = true;
                    Poll::Ready(Wake::Wrote)
                }
                Poll::Ready(_) => Poll::Ready(Wake::Broken),
                Poll::Pending => Poll::Pending,
            };
        }
        if self.unflushed {
            return match Pin::new(&mut self.io).poll_flush(cx) {
                Poll::Ready(Ok(())) => {
                    self.unflushed = false;
                    Poll::Ready(Wake::Wrote)
                }
                Poll::Ready(Err(_)) => Poll::Ready(Wake::Broken),
                Poll::Pending => Poll::Pending,
            };
        }
        Poll::Pending
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, session: &mut Session) -> Poll<Wake> {
        SCRATCH.with_borrow_mut(|scratch| match Pin::new(&mut self.io).poll_read(cx, scratch) {
            Poll::Ready(Ok(0)) => Poll::Ready(Wake::Eof),
            Poll::Ready(Ok(n)) => {
                session.receive(now(), scratch.get(..n).unwrap_or_default());
                Poll::Ready(Wake::Read)
            }
            Poll::Ready(Err(_)) => Poll::Ready(Wake::Broken),
            Poll::Pending => Poll::Pending,
        })
    }
}
