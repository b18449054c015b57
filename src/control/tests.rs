use std::path::PathBuf;
use std::rc::Rc;

use super::client::{AskError, ask};
use super::*;
use crate::event::builtin::{self, Payload};
use crate::event::{Batch, BatchBuilder, Op};
use crate::runtime::{self, LocalFuture, Stop};

struct Known;

impl Answers for Known {
    fn health(&self) -> LocalFuture<'_, serde_json::Value> {
        Box::pin(async { serde_json::json!({ "status": "ok" }) })
    }

    fn spool_stats(&self) -> LocalFuture<'_, Result<serde_json::Value, String>> {
        Box::pin(async { Err("there is no buffer here".to_owned()) })
    }

    fn spool_peek(&self, _: Option<String>, limit: usize) -> LocalFuture<'_, Result<Vec<Batch>, String>> {
        Box::pin(async move { Ok((0..limit).map(|_| batch("in")).collect()) })
    }
}

fn batch(source: &str) -> Batch {
    let mut b = BatchBuilder::new(source.into());
    let values = builtin::message_values("t", None, Payload::Text("x"), None);
    b.push(Op::Message, 1, builtin::message(), None, builtin::image(&values)).unwrap();
    b.finish()
}

/// Serves in a new folder while `asker` runs on a thread of its own.
fn with_server<T: Send + 'static>(tap: &Tap, asker: impl FnOnce(PathBuf) -> T + Send + 'static) -> T {
    let dir = std::env::temp_dir().join(format!("dts-ctl-{}-{}", std::process::id(), fastrand::u64(..)));
    std::fs::create_dir_all(&dir).unwrap();
    let folder = dir.clone();
    let result = runtime::block_on(async {
        let (stopper, stop) = Stop::new();
        serve(&socket(&dir), Rc::new(Known), tap.clone(), stop).await.unwrap();
        let again = serve(&socket(&dir), Rc::new(Known), tap.clone(), Stop::new().1).await;
        assert!(again.unwrap_err().contains("another dts"));
        let (tx, rx) = async_channel::bounded(1);
        std::thread::spawn(move || tx.try_send(asker(folder)).ok());
        let result = loop {
            tap.show(&batch("in"));
            tap.show(&batch("other"));
            match rx.try_recv() {
                Ok(result) => break result,
                Err(_) => runtime::sleep(std::time::Duration::from_millis(2)).await,
            }
        };
        stopper.stop();
        result
    });
    std::fs::remove_dir_all(&dir).unwrap();
    result
}

#[test]
fn questions_are_answered() {
    let (health, stats, peek) = with_server(&Tap::default(), |dir| {
        let lines = |a: Ask| ask(&dir, &a).map(|l| l.collect::<Result<Vec<_>, _>>().unwrap());
        let peek = lines(Ask::SpoolPeek { lane: None, limit: 3 }).unwrap();
        (lines(Ask::Health {}).unwrap(), lines(Ask::SpoolStats {}).unwrap_err(), peek)
    });
    assert_eq!(health, ["{\"status\":\"ok\"}"]);
    assert!(matches!(stats, AskError::Refused(why) if why == "there is no buffer here"));
    assert_eq!(peek.len(), 3);
}

#[test]
fn a_tap_shows_what_passes_of_the_source_asked_for() {
    let lines = with_server(&Tap::default(), |dir| {
        let lines = ask(&dir, &Ask::Tap { source: Some("other".into()) }).unwrap();
        lines.take(3).collect::<Result<Vec<_>, _>>().unwrap()
    });
    assert!(
        lines.iter().all(|l| l.contains("\"source\":\"other\"") && l.contains("\"kind\":\"message\"")),
        "{lines:?}"
    );
}

#[test]
fn a_looker_that_does_not_read_holds_nothing_up_and_is_told_what_it_missed() {
    let tap = Tap::default();
    let rows = tap.look(None).unwrap();
    for _ in 0..200 {
        tap.show(&batch("in"));
    }
    while rows.try_recv().is_ok() {}
    tap.show(&batch("in"));
    assert_eq!(rows.try_recv().unwrap(), "{\"missed\":136}\n");
    drop(rows);
    tap.show(&batch("in"));
    assert!(!tap.is_watched(), "who went away is forgotten");
}

#[test]
fn nobody_there_is_said() {
    let nobody = ask(&PathBuf::from("/nonexistent"), &Ask::Health {});
    assert!(matches!(nobody.err(), Some(AskError::NotRunning { .. })));
}
