//! What shipping remembers from one connection to the next, all of it bounded: which frames were
//! denied, whether a frame makes the peer hang up, how large a packet may be.
//!
//! It exists so that no frame makes the agent reconnect for ever: the culprit is found and set aside.

use std::collections::HashMap;
use std::sync::Arc;

use crate::spool::StoredId;

/// Connections that must deny a frame before it is set aside.
const DENIALS: u8 = 3;
/// Connections in a row that the peer must end with an error before frames go one at a time.
const STRIKES: u32 = 2;
/// Times that a frame alone in flight must end its connection before it is set aside.
const BLAMES: u8 = 2;
/// Frames taken one at a time before the window opens again.
const CAREFUL_FRAMES: u32 = 64;
/// Frames remembered. More than any window; if it overflows all are forgotten and judged anew.
const MAX_FRAMES: usize = 1024;
/// No packet limit below this is believed.
const MIN_PACKET_BYTES: usize = 1024;

type Key = (Arc<str>, StoredId);

/// Outlives the sessions.
#[derive(Debug, Default)]
pub struct Memory {
    /// Connections that denied a frame (0x87), and the last of them.
    denied: HashMap<Key, (u8, u64)>,
    /// Connections that ended with an error while only this frame was in flight.
    blamed: HashMap<Key, u8>,
    /// Connections in a row that ended with an error, with no frame taken between.
    strikes: u32,
    /// While above 0, frames go one at a time.
    careful: u32,
    /// Epochs of lanes that the centre says another copy of this buffer has written, too.
    forks: HashMap<Arc<str>, u64>,
    /// Learned from a peer that takes less than it says.
    max_packet_bytes: Option<usize>,
    /// Connections so far.
    connections: u64,
}

impl Memory {
    /// The number of a new connection.
    pub(super) fn connection(&mut self) -> u64 {
        self.connections += 1;
        self.connections
    }

    /// Connection `connection` denied the frame. True if enough of them did.
    pub(super) fn denied(&mut self, lane: &Arc<str>, id: StoredId, connection: u64) -> bool {
        bound(&mut self.denied);
        let (times, last) = self.denied.entry((lane.clone(), id)).or_insert((0, 0));
        if *last != connection {
            *last = connection;
            *times += 1;
        }
        *times >= DENIALS
    }

    /// The peer ended the connection for something that it was sent. `alone`: the one frame that was in
    /// flight. True if that frame is to be set aside.
    pub(super) fn kicked(&mut self, alone: Option<(&Arc<str>, StoredId)>) -> bool {
        self.strikes = self.strikes.saturating_add(1);
        if self.strikes >= STRIKES {
            self.careful = CAREFUL_FRAMES;
        }
        let Some((lane, id)) = alone else { return false };
        bound(&mut self.blamed);
        let times = self.blamed.entry((lane.clone(), id)).or_insert(0);
        *times += 1;
        *times >= BLAMES
    }

    /// The peer said that a packet was too large (0x95); the largest in flight had `bytes`.
    pub(super) fn too_large(&mut self, bytes: usize) {
        let half = (bytes / 2).max(MIN_PACKET_BYTES);
        self.max_packet_bytes = Some(self.max_packet_bytes.map_or(half, |old| old.min(half)));
    }

    /// The centre says that it holds something else of this lane's epoch.
    pub(super) fn forked(&mut self, lane: Arc<str>, epoch: u64) {
        self.forks.insert(lane, epoch);
    }

    /// The epoch that forked, to be told to the spool once.
    pub(super) fn take_fork(&mut self, lane: &Arc<str>) -> Option<u64> {
        self.forks.remove(lane)
    }

    /// A frame was taken, or needs no more judging.
    pub(super) fn settled(&mut self, lane: &Arc<str>, id: StoredId) {
        self.strikes = 0;
        self.careful = self.careful.saturating_sub(1);
        if !self.denied.is_empty() || !self.blamed.is_empty() {
            let key = (lane.clone(), id);
            self.denied.remove(&key);
            self.blamed.remove(&key);
        }
    }

    /// Whether frames go one at a time.
    pub(super) fn is_careful(&self) -> bool {
        self.careful > 0
    }

    /// Largest packet, if less than the peer says.
    pub(super) fn max_packet_bytes(&self) -> usize {
        self.max_packet_bytes.unwrap_or(usize::MAX)
    }
}

fn bound<V>(map: &mut HashMap<Key, V>) {
    if map.len() >= MAX_FRAMES {
        map.clear();
    }
}
