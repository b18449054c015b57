//! Watermarks at start: what every sink has.

use std::rc::Rc;

use super::EngineError;
use crate::config::Plan;
use crate::pipeline::NamedSink;
use crate::pipeline::marks::MarkFile;
use crate::pipeline::run::KeepMarks;
use crate::sink::Mark;

/// The keeper for sinks that cannot store marks (if there are any such), and the marks that all sinks have reached.
pub(super) async fn load(
    plan: &Plan,
    sinks: &mut [NamedSink],
) -> Result<(Option<Rc<dyn KeepMarks>>, Vec<Mark>), EngineError> {
    let fail = |name: &str, error| EngineError::Sink { name: name.to_owned(), error };
    let file = if sinks.iter().any(|s| !s.sink.abilities().marks) {
        let path = plan.device.state_dir.join("marks.db");
        Some(Rc::new(MarkFile::open(&path).map_err(|error| fail("marks", error))?))
    } else {
        None
    };
    let mut of_each = Vec::new();
    for named in sinks.iter_mut() {
        let marks = match &file {
            Some(file) if !named.sink.abilities().marks => file.of(&named.name),
            _ => named.sink.marks().await.map_err(|error| fail(&named.name, error))?,
        };
        named.marks.clone_from(&marks);
        of_each.push(marks);
    }
    let keep = file.map(|file| file as Rc<dyn KeepMarks>);
    Ok((keep, reached_by_all(of_each)))
}

/// For each lane's epoch the lowest mark; none where a sink has none, so that the device sends again and the sinks
/// that have it absorb it.
fn reached_by_all(of_each: Vec<Vec<Mark>>) -> Vec<Mark> {
    let mut of_each = of_each.into_iter();
    let Some(mut all) = of_each.next() else { return Vec::new() };
    for marks in of_each {
        all.retain_mut(|mark| {
            let same = |m: &&Mark| m.device == mark.device && m.lane == mark.lane && m.epoch == mark.epoch;
            let Some(other) = marks.iter().find(same) else { return false };
            if other.seq < mark.seq {
                (mark.seq, mark.crc) = (other.seq, other.crc);
            }
            mark.session = mark.session.max(other.session);
            true
        });
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(device: &str, seq: u64) -> Mark {
        Mark { device: device.into(), lane: "l".into(), epoch: 1, seq, crc: seq as u32, session: seq }
    }

    #[test]
    fn a_mark_counts_only_as_far_as_every_sink_has_it() {
        let (a, b) = (vec![mark("x", 5), mark("y", 7), mark("z", 1)], vec![mark("y", 9), mark("x", 3)]);
        let all = reached_by_all(vec![a, b]);
        assert_eq!(all.len(), 2);
        assert_eq!((all[0].seq, all[0].crc, all[0].session), (3, 3, 5));
        assert_eq!((all[1].seq, all[1].session), (7, 9));
        assert!(reached_by_all(vec![vec![mark("x", 5)], vec![]]).is_empty());
    }
}
