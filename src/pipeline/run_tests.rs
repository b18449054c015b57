use std::cell::{Cell, RefCell};
use std::sync::Arc;

use super::*;
use crate::event::builtin::{Payload, image, message, message_values};
use crate::event::{BatchBuilder, Op};
use crate::runtime::{block_on, spawn, timeout};
use crate::sink::Claimed;
use crate::source::Receipt;

/// Generous: a busy machine is no failure.
const PATIENCE: Duration = Duration::from_secs(30);

fn batch(device: &str, seq: u64) -> Batch {
    let mut rows = BatchBuilder::new("app".into());
    let values = message_values("t", None, Payload::Text("x"), None);
    rows.push(Op::Message, 1 << 20, message(), None, image(&values)).unwrap();
    let origin =
        Origin::Device { device: device.into(), lane: "l".into(), epoch: 1, first_seq: seq, last_seq: seq };
    Batch { origin, ..rows.finish() }
}

fn submission(device: &str, session: u64, seq: u64) -> (Submission, Receipt) {
    let (done, receipt) = Receipt::channel();
    let mark = Mark { device: device.into(), lane: "l".into(), epoch: 1, seq, crc: 0, session };
    let (source, lane) = ("in".into(), "l".into());
    (Submission { source, lane, batch: batch(device, seq), mark: Some(mark), done }, receipt)
}

/// What a sink of the tests was asked, and how it answers.
#[derive(Default)]
struct State {
    hangs: Cell<bool>,
    /// Newest session of each device.
    sessions: RefCell<HashMap<Arc<str>, u64>>,
    written: RefCell<Vec<Mark>>,
}

struct Fake(Rc<State>);

impl Sink for Fake {
    fn abilities(&self) -> Abilities {
        Abilities { marks: true, max_write_bytes: 1 << 20, ..Abilities::default() }
    }

    fn write(&mut self, batches: Vec<Batch>, marks: Vec<Mark>) -> LocalFuture<'_, Result<(), SinkError>> {
        Box::pin(async move {
            if self.0.hangs.get() {
                std::future::pending::<()>().await;
            }
            let sessions = self.0.sessions.borrow();
            let newest = |m: &Mark| sessions.get(&m.device).copied().filter(|s| m.session < *s);
            let devices: Vec<_> = marks.iter().filter_map(|m| Some((m.device.clone(), newest(m)?))).collect();
            if !devices.is_empty() {
                return Err(SinkError::Fenced { devices });
            }
            assert!(batches.len() >= marks.len());
            self.0.written.borrow_mut().extend(marks);
            Ok(())
        })
    }

    fn claim(&mut self, device: Arc<str>) -> LocalFuture<'_, Result<Claimed, SinkError>> {
        let mut sessions = self.0.sessions.borrow_mut();
        let session = sessions.entry(device).or_default();
        *session += 1;
        let claimed = Claimed { session: *session, marks: Vec::new() };
        Box::pin(async { Ok(claimed) })
    }

    fn probe(&mut self) -> LocalFuture<'_, Result<String, SinkError>> {
        Box::pin(async { Ok(String::new()) })
    }

    fn close(self: Box<Self>) -> LocalFuture<'static, Result<(), SinkError>> {
        Box::pin(async { Ok(()) })
    }
}

#[test]
fn a_sink_that_hangs_does_not_hold_up_a_stop() {
    block_on(async {
        let state = Rc::new(State::default());
        state.hangs.set(true);
        let sink = Box::new(Fake(state));
        let named = NamedSink { name: "s".to_owned(), sink, marks: Vec::new(), claims: None };
        let (tx, rx) = async_channel::bounded(4);
        let (stopper, stop) = Stop::new();
        let running = spawn(run(vec![named], None, Limits::default(), rx, Tap::default(), stop));
        let (one, receipt) = submission("a", 1, 1);
        tx.send(one).await.unwrap();
        stopper.stop();
        drop(tx);
        assert!(timeout(PATIENCE, running).await.expect("it stops").is_ok());
        assert_eq!(receipt.await, Err(Refused::Stopping));
    });
}

#[test]
fn batches_of_fenced_sessions_are_left_out_and_the_rest_is_written() {
    block_on(async {
        let state = Rc::new(State::default());
        let (ask, claims) = async_channel::bounded(4);
        let sink = Box::new(Fake(state.clone()));
        let named = NamedSink { name: "s".to_owned(), sink, marks: Vec::new(), claims: Some(claims) };
        let (tx, rx) = async_channel::bounded(8);
        let (_stopper, stop) = Stop::new();
        let running = spawn(run(vec![named], None, Limits::default(), rx, Tap::default(), stop));
        let claim = async |device: &str| {
            let (done, claimed) = async_channel::bounded(1);
            ask.send(Claim { device: device.into(), done }).await.unwrap();
            claimed.recv().await.unwrap().unwrap().session
        };
        assert_eq!((claim("a").await, claim("a").await, claim("b").await), (1, 2, 1));
        let mut receipts = Vec::new();
        for (device, session, seq) in [("a", 1, 1), ("b", 1, 1), ("a", 2, 2), ("a", 1, 3), ("b", 1, 2)] {
            let (submission, receipt) = submission(device, session, seq);
            tx.send(submission).await.unwrap();
            receipts.push(receipt);
        }
        let mut results = Vec::new();
        for receipt in receipts {
            results.push(timeout(PATIENCE, receipt).await.expect("an answer"));
        }
        // In one write with the newer session, or before it: the older is refused only where it stands alone.
        assert_eq!(results[1], Ok(()));
        assert_eq!(results[2], Ok(()));
        assert_eq!(results[4], Ok(()));
        let (old, receipt) = submission("a", 1, 9);
        tx.send(old).await.unwrap();
        assert_eq!(timeout(PATIENCE, receipt).await, Some(Err(Refused::TakenOver)));
        let (new, receipt) = submission("a", 2, 9);
        tx.send(new).await.unwrap();
        assert_eq!(timeout(PATIENCE, receipt).await, Some(Ok(())));
        // Claims end before the batches do.
        drop(ask);
        let (last, receipt) = submission("b", 1, 3);
        tx.send(last).await.unwrap();
        assert_eq!(timeout(PATIENCE, receipt).await, Some(Ok(())));
        drop(tx);
        assert!(timeout(PATIENCE, running).await.expect("it ends").is_ok());
        assert!(state.written.borrow().iter().all(|m| *m.device != *"a" || m.session == 2));
    });
}

/// A sink that takes several writes; the test says when each is durable.
#[derive(Default)]
struct Several {
    under_way: RefCell<VecDeque<(Vec<u64>, async_channel::Sender<Result<(), SinkError>>)>>,
    durable: RefCell<Vec<u64>>,
}

struct Begins(Rc<Several>);

impl Sink for Begins {
    fn abilities(&self) -> Abilities {
        Abilities { max_write_bytes: 1, writes_under_way: 3, ..Abilities::default() }
    }

    fn begin(
        &mut self,
        batches: Vec<Batch>,
        _marks: Vec<Mark>,
    ) -> Option<LocalFuture<'static, Result<(), SinkError>>> {
        let seq = |batch: &Batch| match batch.origin {
            Origin::Device { last_seq, .. } => last_seq,
            _ => 0,
        };
        let (tx, rx) = async_channel::bounded(1);
        self.0.under_way.borrow_mut().push_back((batches.iter().map(seq).collect(), tx));
        Some(Box::pin(async move { rx.recv().await.unwrap() }))
    }

    fn write(&mut self, _batches: Vec<Batch>, _marks: Vec<Mark>) -> LocalFuture<'_, Result<(), SinkError>> {
        unreachable!("it begins them")
    }

    fn probe(&mut self) -> LocalFuture<'_, Result<String, SinkError>> {
        Box::pin(async { Ok(String::new()) })
    }

    fn close(self: Box<Self>) -> LocalFuture<'static, Result<(), SinkError>> {
        Box::pin(async { Ok(()) })
    }
}

#[test]
fn writes_overlap_and_a_failed_one_takes_those_behind_it_along() {
    block_on(async {
        let state = Rc::new(Several::default());
        let sink = Box::new(Begins(state.clone()));
        let named = NamedSink { name: "s".to_owned(), sink, marks: Vec::new(), claims: None };
        let (tx, rx) = async_channel::bounded(64);
        let (_stopper, stop) = Stop::new();
        let running = spawn(run(vec![named], None, Limits::default(), rx, Tap::default(), stop));
        let mut receipts = Vec::new();
        for seq in 1..=40 {
            let (one, receipt) = submission("a", 1, seq);
            tx.send(one).await.unwrap();
            receipts.push(receipt);
        }
        drop(tx);
        let (mut rng, mut most, mut failures) = (fastrand::Rng::with_seed(3), 0, 0);
        while state.durable.borrow().len() < 40 {
            runtime::sleep(Duration::from_millis(1)).await;
            let mut under_way = state.under_way.borrow_mut();
            most = most.max(under_way.len());
            if rng.u8(0..3) == 0 {
                continue;
            }
            if failures < 5 && rng.u8(0..4) == 0 {
                // As the contract has it: all that were begun after it.
                failures += usize::from(!under_way.is_empty());
                for (_, done) in under_way.drain(..) {
                    done.try_send(Err(SinkError::Retry("no".to_owned()))).unwrap();
                }
            } else if let Some((seqs, done)) = under_way.pop_front() {
                state.durable.borrow_mut().extend(seqs);
                done.try_send(Ok(())).unwrap();
            }
        }
        assert_eq!(*state.durable.borrow(), (1..=40).collect::<Vec<_>>(), "each once, in order");
        assert_eq!((most, failures), (3, 5));
        for receipt in receipts {
            assert_eq!(timeout(PATIENCE, receipt).await.expect("an answer"), Ok(()));
        }
        assert!(timeout(PATIENCE, running).await.expect("it ends").is_ok());
    });
}
