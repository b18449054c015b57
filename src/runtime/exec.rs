//! One thread, one executor. Futures need not be `Send`.

use std::future::Future;
use std::time::{Duration, Instant};

use async_executor::LocalExecutor;
use futures_lite::FutureExt;

use super::time::{Mono, mono_now};
use super::timer::{Driver, Running, Sleep, now};

thread_local! {
    /// Leaked on purpose: one per thread that calls [`block_on`], and it lives as long as it.
    static EXECUTOR: &'static LocalExecutor<'static> = Box::leak(Box::new(LocalExecutor::new()));
}

/// A spawned future. Dropping it cancels the future; `detach` lets it run on.
pub type Task<T> = async_executor::Task<T>;

/// Runs `main` and everything spawned on this thread until `main` is done.
pub fn block_on<T>(main: impl Future<Output = T>) -> T {
    EXECUTOR.with(|e| {
        if let Some(driver) = Driver::new() {
            e.spawn(driver).detach();
        }
        let _running = Running::new();
        async_io::block_on(e.run(main))
    })
}

/// Spawns onto this thread's executor.
pub fn spawn<T: 'static>(future: impl Future<Output = T> + 'static) -> Task<T> {
    #[cfg(test)]
    if let Some(node) = super::simulated::node() {
        return node.spawn(future);
    }
    EXECUTOR.with(|e| e.spawn(future))
}

/// What no clock reaches is far enough.
fn after(d: Duration) -> Instant {
    let now = now();
    now.checked_add(d).unwrap_or(now + Duration::from_secs(100 * 365 * 86_400))
}

/// Waits for `d`. Cancel safe.
pub async fn sleep(d: Duration) {
    #[cfg(test)]
    if let Some(node) = super::simulated::node() {
        let at = node.now() + d;
        return node.sleep_until(at).await;
    }
    Sleep::until(after(d)).await;
}

/// Waits until `at`. Cancel safe.
pub async fn sleep_until(at: Mono) {
    #[cfg(test)]
    if let Some(node) = super::simulated::node() {
        return node.sleep_until(at).await;
    }
    Sleep::until(after(at.since(mono_now()))).await;
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
