//! One thread, one executor. Futures need not be `Send`.

use std::future::Future;
use std::time::Duration;

use async_executor::LocalExecutor;
use futures_lite::FutureExt;

use super::time::{Mono, mono_now};

thread_local! {
    /// Leaked on purpose: one per thread that calls [`block_on`], and it lives as long as it.
    static EXECUTOR: &'static LocalExecutor<'static> = Box::leak(Box::new(LocalExecutor::new()));
}

/// A spawned future. Dropping it cancels the future; `detach` lets it run on.
pub type Task<T> = async_executor::Task<T>;

/// Runs `main` and everything spawned on this thread until `main` is done.
pub fn block_on<T>(main: impl Future<Output = T>) -> T {
    EXECUTOR.with(|e| async_io::block_on(e.run(main)))
}

/// Spawns onto this thread's executor.
pub fn spawn<T: 'static>(future: impl Future<Output = T> + 'static) -> Task<T> {
    #[cfg(test)]
    if let Some(node) = super::simulated::node() {
        return node.spawn(future);
    }
    EXECUTOR.with(|e| e.spawn(future))
}

/// Waits for `d`. Cancel safe.
pub async fn sleep(d: Duration) {
    #[cfg(test)]
    if let Some(node) = super::simulated::node() {
        let at = node.now() + d;
        return node.sleep_until(at).await;
    }
    async_io::Timer::after(d).await;
}

/// Waits until `at`. Cancel safe.
pub async fn sleep_until(at: Mono) {
    #[cfg(test)]
    if let Some(node) = super::simulated::node() {
        return node.sleep_until(at).await;
    }
    async_io::Timer::after(at.since(mono_now())).await;
}

/// `None` if `future` is not done within `d`; it is dropped then.
pub async fn timeout<T>(d: Duration, future: impl Future<Output = T>) -> Option<T> {
    async { Some(future.await) }
        .or(async {
            sleep(d).await;
            None
        })
        .await
}
