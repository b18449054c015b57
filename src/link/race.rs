//! Happy eyeballs (RFC 8305 sections 4 and 5): the address families take turns, the next attempt
//! starts a little after the last or as soon as one fails, the first success wins.

use std::future::{Future, poll_fn};
use std::net::IpAddr;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use super::error::{Class, LinkError};
use crate::runtime;

/// More addresses than these are not tried: a resolver may answer with any number.
pub(super) const MAX_ADDRESSES: usize = 8;

/// Orders addresses so that the families take turns, the family of the first one first.
pub(super) fn interleave(addresses: &[IpAddr]) -> Vec<IpAddr> {
    let first_v6 = addresses.first().is_some_and(IpAddr::is_ipv6);
    let (mut first, mut second): (Vec<IpAddr>, Vec<IpAddr>) =
        addresses.iter().copied().partition(|a: &IpAddr| a.is_ipv6() == first_v6);
    first.reverse();
    second.reverse();
    let mut mixed = Vec::with_capacity(addresses.len().min(MAX_ADDRESSES));
    while mixed.len() < MAX_ADDRESSES {
        match (first.pop(), second.pop()) {
            (None, None) => break,
            (a, b) => mixed.extend(a.into_iter().chain(b)),
        }
    }
    mixed.truncate(MAX_ADDRESSES);
    mixed
}

/// Runs `attempt` for each address, `delay` apart. The first success wins and the others are
/// dropped. Of failures the most telling is returned. Cancel safe: dropping it drops all attempts.
pub(super) async fn race<A, T, F>(
    addresses: Vec<A>,
    delay: Duration,
    attempt: impl Fn(A) -> F,
) -> Result<T, LinkError>
where
    F: Future<Output = Result<T, LinkError>>,
{
    let mut waiting = addresses.into_iter();
    let mut running: Vec<Pin<Box<F>>> = Vec::new();
    let mut pause = Box::pin(runtime::sleep(Duration::ZERO));
    let mut failure = LinkError::Config("no address to connect to".to_owned());
    let mut start_next = true;
    poll_fn(move |cx| {
        loop {
            if start_next {
                start_next = false;
                if let Some(address) = waiting.next() {
                    running.push(Box::pin(attempt(address)));
                    pause = Box::pin(runtime::sleep(delay));
                }
            }
            let mut at = 0;
            while let Some(future) = running.get_mut(at) {
                match future.as_mut().poll(cx) {
                    Poll::Ready(Ok(done)) => return Poll::Ready(Ok(done)),
                    Poll::Ready(Err(e)) => {
                        drop(running.swap_remove(at));
                        // Who was reached and refused by TLS says more than who was not reached.
                        if failure.class() != Class::Reject {
                            failure = e;
                        }
                        start_next = true;
                    }
                    Poll::Pending => at += 1,
                }
            }
            if running.is_empty() && waiting.len() == 0 {
                let failure = std::mem::replace(&mut failure, LinkError::Config(String::new()));
                return Poll::Ready(Err(failure));
            }
            if waiting.len() > 0 && (start_next || pause.as_mut().poll(cx).is_ready()) {
                start_next = true;
                continue;
            }
            start_next = false;
            return Poll::Pending;
        }
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::block_on;
    use std::cell::Cell;

    fn refused() -> LinkError {
        LinkError::Refused { peer: String::new() }
    }

    #[test]
    fn families_take_turns_and_the_count_is_bounded() {
        let v4 = |n| IpAddr::from([10, 0, 0, n]);
        let v6 = |n: u16| IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, n]);
        assert_eq!(interleave(&[v6(1), v6(2), v4(1), v6(3)]), [v6(1), v4(1), v6(2), v6(3)]);
        assert_eq!(interleave(&[v4(1), v6(1), v4(2)]), [v4(1), v6(1), v4(2)]);
        let many: Vec<_> = (0..200).map(v4).collect();
        assert_eq!(interleave(&many).len(), MAX_ADDRESSES);
    }

    #[test]
    fn a_hanging_address_does_not_hold_up_the_next() {
        let won = block_on(race(vec![1, 2], Duration::from_millis(5), |n| async move {
            if n == 1 {
                std::future::pending::<()>().await;
            }
            Ok(n)
        }));
        assert_eq!(won.ok(), Some(2));
    }

    #[test]
    fn a_failure_starts_the_next_at_once_and_tls_is_the_failure_that_is_told() {
        let started = Cell::new(0);
        let lost = block_on(race(vec![1, 2, 3], Duration::from_secs(3600), |n| {
            started.set(started.get() + 1);
            async move {
                match n {
                    2 => Err::<(), _>(LinkError::Tls { peer: String::new(), reason: String::new() }),
                    _ => Err(refused()),
                }
            }
        }));
        assert_eq!(started.get(), 3);
        assert!(matches!(lost, Err(LinkError::Tls { .. })));
        assert!(matches!(
            block_on(race(Vec::<u8>::new(), Duration::ZERO, |_| async { Ok(()) })),
            Err(LinkError::Config(_))
        ));
    }
}
