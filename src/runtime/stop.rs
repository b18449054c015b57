//! The word to stop, heard by every task that holds a [`Stop`].

use std::future::Future;

use futures_lite::FutureExt;

/// Heard by tasks. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Stop(async_channel::Receiver<()>);

/// Says stop when it is dropped or told to.
#[derive(Debug)]
pub struct Stopper(async_channel::Sender<()>);

impl Stop {
    /// A pair.
    pub fn new() -> (Stopper, Self) {
        let (tx, rx) = async_channel::bounded(1);
        (Stopper(tx), Self(rx))
    }

    /// Whether the word was said.
    pub fn is_set(&self) -> bool {
        self.0.is_closed()
    }

    /// Waits for the word. Cancel safe.
    pub async fn wait(&self) {
        // Nothing is ever sent: the receive ends when the channel closes.
        while self.0.recv().await.is_ok() {}
    }

    /// Runs `future` until it is done or the word is said (`None`).
    pub async fn or<T>(&self, future: impl Future<Output = T>) -> Option<T> {
        async { Some(future.await) }
            .or(async {
                self.wait().await;
                None
            })
            .await
    }
}

impl Stopper {
    /// Says it.
    pub fn stop(&self) {
        self.0.close();
    }
}
