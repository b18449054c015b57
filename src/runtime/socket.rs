//! The reading side of a stream socket, which asks the kernel only when something is there.
//!
//! `Async`'s own `poll_read` asks the kernel at each poll, and asks the poller again after each "nothing there". A task that is
//! polled for other reasons (an answer is ready, another of its futures moved) then pays two system calls a poll. Here a read that
//! came up short, or found nothing, waits for the poller's word, once, however often it is polled.

use std::io::{self, ErrorKind, Read};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use async_io::{Async, ReadableOwned};
use futures_lite::{AsyncRead, ready};

/// See the module. `T` is a std socket in non-blocking mode.
#[derive(Debug)]
pub struct Socket<T> {
    io: Arc<Async<T>>,
    /// Nothing is there until this resolves.
    readable: Option<ReadableOwned<T>>,
}

impl<T> Socket<T> {
    /// From async-net's stream, which is an `Arc` of it.
    pub fn new(stream: impl Into<Arc<Async<T>>>) -> Self {
        Self { io: stream.into(), readable: None }
    }

    /// The socket itself, to write to.
    pub fn io(&self) -> &Arc<Async<T>> {
        &self.io
    }

    fn wait(&mut self) {
        self.readable = Some(self.io.clone().readable_owned());
    }
}

impl<T> AsyncRead for Socket<T>
where
    for<'a> &'a T: Read,
{
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        loop {
            if let Some(readable) = &mut self.readable {
                let readable = ready!(Pin::new(readable).poll(cx));
                self.readable = None;
                readable?;
            }
            match self.io.get_ref().read(buf) {
                Ok(n) => {
                    // All that was there; the poller is level-triggered, so what comes in between shows.
                    if n > 0 && n < buf.len() {
                        self.wait();
                    }
                    return Poll::Ready(Ok(n));
                }
                Err(e) if e.kind() == ErrorKind::WouldBlock => self.wait(),
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Poll::Ready(Err(e)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::net::UnixStream;

    use futures_lite::AsyncReadExt;

    use super::*;
    use crate::runtime::{block_on, spawn};

    #[test]
    fn what_comes_in_pieces_and_the_end_are_read() {
        let (near, mut far) = UnixStream::pair().unwrap();
        let read = block_on(async {
            let mut socket = Socket::new(Async::new(near).unwrap());
            let reader = spawn(async move {
                let mut all = Vec::new();
                let mut buf = [0; 4];
                loop {
                    match socket.read(&mut buf).await.unwrap() {
                        0 => return all,
                        n => all.push(buf[..n].to_vec()),
                    }
                }
            });
            // As much as the buffer holds, less, more, and nothing more.
            for piece in [&b"1234"[..], b"ab", b"", b"ABCDEF"] {
                far.write_all(piece).unwrap();
                for _ in 0..8 {
                    futures_lite::future::yield_now().await;
                }
            }
            drop(far);
            reader.await
        });
        assert_eq!(read.concat(), b"1234abABCDEF");
    }

    #[test]
    fn a_second_poll_does_not_ask_again() {
        /// Counts reads; there is never anything.
        #[derive(Debug)]
        struct Counted(UnixStream, std::rc::Rc<std::cell::Cell<u32>>);
        impl Read for &Counted {
            fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
                self.1.set(self.1.get() + 1);
                (&self.0).read(buf)
            }
        }
        impl std::os::fd::AsFd for Counted {
            fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
                self.0.as_fd()
            }
        }
        let (near, _far) = UnixStream::pair().unwrap();
        let reads = std::rc::Rc::default();
        let mut socket = Socket::new(Async::new(Counted(near, std::rc::Rc::clone(&reads))).unwrap());
        let mut cx = Context::from_waker(std::task::Waker::noop());
        for _ in 0..5 {
            assert!(Pin::new(&mut socket).poll_read(&mut cx, &mut [0; 4]).is_pending());
        }
        assert_eq!(reads.get(), 1);
    }
}
