//! The thread that checks passwords and tokens: a key derivation takes milliseconds.

use std::io;

use async_channel::{Receiver, Sender, TrySendError, bounded};

use crate::runtime::wall_now_us;
use crate::source::devices::auth::{Authority, Denied, Identity};
use crate::source::devices::session::Check;

/// Checks that may wait. More clients are told Server Busy.
const QUEUE: usize = 256;

pub(crate) struct Checker(Sender<(Check, Sender<Result<Identity, Denied>>)>);

impl Checker {
    pub(super) fn start(mut authority: Authority) -> io::Result<Self> {
        let (tx, rx) = bounded::<(Check, Sender<Result<Identity, Denied>>)>(QUEUE);
        // It ends when the sender is dropped.
        std::thread::Builder::new().name("auth".to_owned()).stack_size(256 << 10).spawn(move || {
            while let Ok((check, done)) = rx.recv_blocking() {
                let result = authority.check(
                    check.user.as_deref(),
                    check.password.as_ref().map(|p| &p[..]),
                    wall_now_us(),
                );
                // The connection may be gone.
                done.try_send(result).ok();
            }
        })?;
        Ok(Self(tx))
    }

    /// `None` if too many wait.
    pub(super) fn check(&self, check: Check) -> Option<Receiver<Result<Identity, Denied>>> {
        let (tx, rx) = bounded(1);
        match self.0.try_send((check, tx)) {
            Ok(()) => Some(rx),
            Err(TrySendError::Full(_) | TrySendError::Closed(_)) => None,
        }
    }
}
