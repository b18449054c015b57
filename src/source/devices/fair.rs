//! Turns between devices: a queue each, one item a turn. A device with a long backlog does not
//! keep the others waiting, and the order of each device is kept. Sans-IO.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use crate::planted::{self, Bug};

/// Queues of many devices.
#[derive(Debug)]
pub struct Fair<T> {
    queues: HashMap<Arc<str>, VecDeque<T>>,
    /// Devices that have something, each once.
    turns: VecDeque<Arc<str>>,
}

impl<T> Default for Fair<T> {
    fn default() -> Self {
        Self { queues: HashMap::new(), turns: VecDeque::new() }
    }
}

impl<T> Fair<T> {
    /// Puts `item` behind the others of `device`.
    pub fn push(&mut self, device: &Arc<str>, item: T) {
        if let Some(queue) = self.queues.get_mut(device) {
            queue.push_back(item);
            return;
        }
        self.queues.insert(device.clone(), VecDeque::from([item]));
        self.turns.push_back(device.clone());
    }

    /// The next device's oldest item.
    pub fn pop(&mut self) -> Option<T> {
        let device = self.turns.pop_front()?;
        let queue = self.queues.get_mut(&device)?;
        let item = if planted::on(Bug::OrderByArrival) { queue.pop_back() } else { queue.pop_front() };
        if queue.is_empty() {
            self.queues.remove(&device);
        } else {
            self.turns.push_back(device);
        }
        item
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_light_device_does_not_wait_for_a_heavy_one() {
        let mut fair = Fair::default();
        let (heavy, light) = ("heavy".into(), "light".into());
        for n in 0..100 {
            fair.push(&heavy, ("heavy", n));
        }
        fair.push(&light, ("light", 0));
        fair.push(&light, ("light", 1));
        let first: Vec<_> = (0..5).filter_map(|_| fair.pop()).collect();
        assert_eq!(first, [("heavy", 0), ("light", 0), ("heavy", 1), ("light", 1), ("heavy", 2)]);
        let rest: Vec<_> = std::iter::from_fn(|| fair.pop()).collect();
        assert_eq!(rest.len(), 97);
        assert!(rest.is_sorted() && fair.queues.is_empty() && fair.turns.is_empty());
    }
}
