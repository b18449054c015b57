//! Fetches the keys of tokens from a URL, in time and when asked.

use std::time::Duration;

use futures_lite::FutureExt;

use crate::link::web::{Connector, fetch};
use crate::runtime::{sleep, timeout};
use crate::source::devices::auth::FetchedKeys;
use crate::telemetry::{count, gauge};

/// For one fetch, connecting included.
const LIMIT: Duration = Duration::from_secs(10);
const MAX_BYTES: usize = 1 << 20;

/// How often.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// In any case.
    pub(super) refresh: Duration,
    /// Not more often than this, whoever asks.
    pub(super) rest: Duration,
}

/// Fetches once, and says how many usable keys there are.
pub(super) async fn once(connector: &Connector, keys: &FetchedKeys) -> Result<usize, String> {
    let fetched = timeout(LIMIT, fetch(connector, MAX_BYTES)).await;
    let document = fetched.unwrap_or_else(|| Err(format!("no answer within {LIMIT:?}")))?;
    keys.take(&document)
}

/// Keeps `keys` as they are published. Never ends; dropping it ends it.
pub(super) async fn keep(connector: Connector, keys: FetchedKeys, pace: Pace) {
    let mut known = None;
    let url = connector.url();
    loop {
        let taken = once(&connector, &keys).await;
        keys.rest(true);
        let well = taken.is_ok();
        count("dts_jwks_fetches_total", &[("result", if well { "ok" } else { "failed" })], 1);
        match taken {
            Ok(count) => {
                gauge("dts_jwks_keys", &[], count as f64);
                if known != Some(Ok(count)) {
                    log::info!("{count} keys of tokens were fetched from {}", url.authority);
                }
                known = Some(Ok(count));
            }
            Err(why) => {
                if !matches!(known, Some(Err(()))) {
                    log::warn!(
                        "keys of tokens from {}: {why}; those of last time stay in force, dts tries again",
                        url.authority
                    );
                }
                known = Some(Err(()));
            }
        }
        sleep(pace.rest.min(pace.refresh)).await;
        keys.rest(false);
        if well {
            keys.wanted().or(async { sleep(pace.refresh.saturating_sub(pace.rest)).await }).await;
        }
    }
}

#[cfg(test)]
#[path = "jwks_tests.rs"]
mod tests;
