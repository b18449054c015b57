use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use async_net::unix::UnixStream;
use futures_lite::{AsyncReadExt, AsyncWriteExt, FutureExt};

use super::*;
use crate::clock::Stamp;
use crate::event::Value;
use crate::mqtt::server::{Server, ServerEvent, ServerLimits};
use crate::mqtt::{ConnAck, Publish, SubAck};
use crate::runtime::mono_now;
use crate::source::{Refused, Submission};

fn connect() -> Connect {
    Connect {
        version: Version::V5,
        clean_start: false,
        keep_alive_s: 30,
        client_id: "dts-in".into(),
        username: None,
        password: None,
        will: None,
        session_expiry_s: 60,
        receive_maximum: None,
        maximum_packet_size: None,
        topic_alias_maximum: 0,
        request_problem_information: true,
        authentication_method: None,
        user: Vec::new(),
    }
}

/// A broker that sends `messages` once it has a subscription; the reasons of the answers, by packet id.
async fn broker(mut io: UnixStream, messages: Vec<Publish>, suback: u8, acked: Rc<RefCell<Vec<(u64, u8)>>>) {
    let mut server = Server::new(ServerLimits::default(), mono_now());
    let mut chunk = [0; 4096];
    loop {
        while let Some(event) = server.poll_event() {
            match event {
                ServerEvent::Connect(_) => server.accept(ConnAck::default()),
                ServerEvent::Subscribe(s) => {
                    let reasons = vec![suback; s.filters.len()];
                    server.suback(SubAck {
                        packet_id: s.packet_id,
                        reasons,
                        reason_string: None,
                        user: vec![],
                    });
                    for (n, m) in messages.iter().enumerate() {
                        server.publish(m.clone(), n as u64).unwrap();
                    }
                }
                ServerEvent::Delivered { token, ack } => acked.borrow_mut().push((token, ack.reason)),
                ServerEvent::Closed { .. } => return,
                _ => {}
            }
        }
        while let Some(bytes) = server.poll_transmit() {
            if io.write_all(&bytes).await.is_err() {
                return;
            }
        }
        match io.read(&mut chunk).await {
            Ok(n) if n > 0 => server.receive(mono_now(), &chunk[..n]).unwrap(),
            _ => server.handle_eof(),
        }
    }
}

/// Runs one session against the broker; each stored batch is answered by `answer`.
fn session(
    messages: Vec<Publish>,
    suback: u8,
    mut answer: impl FnMut(usize) -> Result<(), Refused> + 'static,
    stop_after: usize,
) -> (Result<(), String>, Vec<Vec<String>>, Vec<(u64, u8)>) {
    runtime::block_on(async {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let acked = Rc::new(RefCell::new(Vec::new()));
        let broker = runtime::spawn(broker(theirs, messages, suback, acked.clone()));
        let (tx, rx) = async_channel::bounded::<Submission>(64);
        let (stopper, stop) = Stop::new();
        let outlet = Outlet::new("in".into(), "l".into(), Stamp::new(|| 1), 1_000, Arc::new([]), tx);
        let stored: Rc<RefCell<Vec<Vec<String>>>> = Rc::default();
        let rows = stored.clone();
        let store = async move {
            let mut n = 0;
            while n < stop_after {
                let Ok(s) = rx.recv().await else { break };
                let result = answer(n);
                n += 1;
                if result.is_ok() {
                    for row in &s.batch {
                        let image = row.unwrap().newest().unwrap().unwrap();
                        let text = |v| if let Value::Text(t) = v { t.to_owned() } else { format!("{v:?}") };
                        rows.borrow_mut().push(image.iter().map(|(_, v)| text(v)).collect());
                    }
                }
                s.done.try_send(result).ok();
            }
            stopper.stop();
            std::future::pending::<()>().await;
        };
        let store = runtime::spawn(store);
        let mut session = Session::new(outlet, vec!["a/#".into()], QoS::AtLeastOnce, 8, 64 * 1024);
        let run = session.run(Box::new(ours), connect(), &stop);
        let ended = run.or(async {
            runtime::sleep(Duration::from_secs(20)).await;
            Err("hangs".to_owned())
        });
        let ended = ended.await;
        drop(session);
        broker.await;
        store.cancel().await;
        let stored = stored.borrow().clone();
        (ended, stored, Rc::try_unwrap(acked).unwrap().into_inner())
    })
}

fn message(n: usize, payload: &str) -> Publish {
    let mut m = Publish::new(format!("a/{n}"), 1, payload.as_bytes().to_vec());
    m.user = vec![("unit".into(), "C".into())];
    m
}

#[test]
fn a_message_is_acknowledged_after_it_is_stored() {
    let messages = (0..5).map(|n| message(n, &format!("{{\"n\":{n}}}"))).collect();
    let (ended, stored, acked) = session(messages, 1, |_| Ok(()), 5);
    assert_eq!(ended, Ok(()));
    assert_eq!(stored.len(), 5);
    assert_eq!(stored[3][1..3], ["a/3", "{\"n\":3}"]);
    assert_eq!(stored[3][5], "{\"unit\":\"C\"}");
    assert_eq!(acked, (0..5).map(|n| (n, 0)).collect::<Vec<_>>(), "also what was stored while stopping");
}

#[test]
fn what_the_buffer_refuses_is_not_acknowledged_and_comes_again_after_a_reconnect() {
    let messages = (0..3).map(|n| message(n, "x")).collect();
    let full = |n| if n == 1 { Err(Refused::Busy("full".into())) } else { Ok(()) };
    let (ended, _, acked) = session(messages, 1, full, 9);
    assert!(ended.is_err());
    assert!(acked.iter().all(|(n, _)| *n == 0), "{acked:?}");
}

#[test]
fn a_message_that_fits_no_frame_is_answered_so_that_it_does_not_come_for_ever() {
    let messages = vec![message(0, &"x".repeat(5_000)), message(1, "fits")];
    let (ended, stored, acked) = session(messages, 1, |_| Ok(()), 1);
    assert_eq!(ended, Ok(()));
    assert_eq!(stored.len(), 1);
    assert_eq!(acked, [(0, crate::mqtt::reason::IMPLEMENTATION_SPECIFIC), (1, 0)]);
}

#[test]
fn a_subscription_that_is_refused_is_said() {
    let (ended, ..) = session(vec![], 0x87, |_| Ok(()), 1);
    assert!(ended.unwrap_err().contains("refused"));
}
