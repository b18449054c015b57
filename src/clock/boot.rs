//! What is known of the clocks of one boot.

use serde::{Deserialize, Serialize};

/// One boot of the machine and what its monotonic clock was worth. Kept over restarts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Boot {
    /// Names the boot ([`crate::runtime::boot_id`]).
    pub id: u64,
    /// The wall clock, as it was found, minus the monotonic clock, in microseconds. The wall clock
    /// may be wrong, but as long as nobody sets it, it is wrong by the same in every boot.
    pub wall_offset_us: i64,
    /// The time as a verified centre told it, minus the monotonic clock, in microseconds; `None` if it
    /// was not told in that boot.
    pub offset_us: Option<i64>,
}
