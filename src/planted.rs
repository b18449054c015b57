//! Bugs that tests of the simulation switch on, one at a time, to show that its oracle sees them. A build that ships has
//! none: there [`on`] is the constant `false`.

/// What is wrong while it is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(dead_code, reason = "each is named by the feature whose code it spoils")]
pub(crate) enum Bug {
    /// The spool acknowledges a batch before its commit.
    AckBeforeCommit,
    /// A frame that was sent leaves the buffer without waiting for its PUBACK.
    DeleteBeforePuback,
    /// The centre starts without the watermarks that its sinks hold.
    ForgetDedup,
    /// A packet id is given out though its last PUBLISH has no answer yet.
    SkipCollision,
    /// The identity gives the last epoch out again.
    ReuseEpoch,
    /// The watermark moves over frames that never came.
    WatermarkPastHole,
    /// A resent frame is taken for new.
    ApplyTwice,
    /// A batch that was sent in parts counts as delivered with its first.
    LoseTail,
    /// What the limits evict is not reported.
    EvictSilently,
    /// A device's batches are handed to the sinks in another order than its own.
    OrderByArrival,
    /// After a power cut a RAM-first lane goes on with the numbers that it had used.
    ReuseSeqAfterCrash,
    /// A resent frame is answered while its first copy is on its way to the sink.
    AnswerResendEarly,
    /// PUBACK 0x97 (quota exceeded) counts as done.
    TakeQuotaForAck,
    /// The local wall clock becomes the floor of what TLS believes.
    FalseFloor,
    /// A cloned buffer goes on under its old epoch, and the centre takes its frames for known.
    ContinueOnClone,
    /// What a damaged file lost is not reported.
    LoseCorruptSilently,
    /// An input's position is not stored with its batch.
    ForgetPosition,
    /// What was handed out and not acknowledged is evicted.
    EvictWindow,
    /// A connection over QUIC stays on its socket when the address changes.
    ForgetRebind,
    /// On TCP, QUIC is not tried again.
    NeverProbe,
    /// The next connection begins while the old one is still in use.
    SwitchUndrained,
    /// A connection on which nothing is acknowledged any more counts as alive.
    OverlookStall,
}

/// Whether `bug` is switched on for this thread.
#[cfg(not(test))]
pub(crate) const fn on(_bug: Bug) -> bool {
    false
}

#[cfg(test)]
pub(crate) use switch::{on, plant};

#[cfg(test)]
mod switch {
    use std::cell::Cell;

    use super::Bug;

    thread_local! {
        static PLANTED: Cell<Option<Bug>> = const { Cell::new(None) };
    }

    pub(crate) fn on(bug: Bug) -> bool {
        PLANTED.get() == Some(bug)
    }

    /// Switches `bug` on for this thread, or all off.
    pub(crate) fn plant(bug: Option<Bug>) {
        PLANTED.set(bug);
    }
}
