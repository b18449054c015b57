//! What an answer means.
//!
//! | status | for the write |
//! |---|---|
//! | 2xx | durable at the peer |
//! | 400, 413, 422 | a row of it can never be written: it is looked for by halves, then rejected |
//! | 401, 403, 404, 407–410, 421, 425, 429, 5xx | the same again, not before Retry-After: the peer is away, busy, or not yet set up |
//! | 3xx, other 4xx | the config is wrong: ends |

use std::time::Duration;

/// What to do after an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The peer has it.
    Done,
    /// A row of it is bad.
    Reject,
    /// The same later.
    Retry,
    /// Never like this.
    Fatal,
}

/// The table above.
pub(super) fn verdict(status: u16) -> Verdict {
    match status {
        200..=299 => Verdict::Done,
        400 | 413 | 422 => Verdict::Reject,
        401 | 403 | 404 | 407..=410 | 421 | 425 | 429 | 500..=599 => Verdict::Retry,
        _ => Verdict::Fatal,
    }
}

/// What the user can do about a status that is no success.
pub(super) fn advice(status: u16) -> &'static str {
    match status {
        300..=399 => "redirects are not followed: write the final address into `url`",
        401 | 403 | 407 => "check `token` and `headers`; dts tries again",
        404 | 410 => "check the path of `url`; dts tries again",
        429 | 503 => "the peer is busy; dts tries again when it says so",
        405 | 406 | 411 | 415 | 417 | 426 => "the peer does not take such posts: check `url` and `format`",
        400..=499 => "the peer refuses",
        _ => "dts tries again",
    }
}

/// Longest pause that a peer can order.
const MAX_PAUSE: Duration = Duration::from_secs(3600);

/// The pause that Retry-After asks for (RFC 9110, section 10.2.3): seconds, or a date, which is
/// compared with the answer's own Date, since this machine's clock may be wrong.
pub(super) fn pause(retry_after: Option<&str>, date: Option<&str>) -> Option<Duration> {
    let text = retry_after?.trim();
    let seconds = match text.parse::<u64>() {
        Ok(seconds) => seconds,
        Err(_) => u64::try_from(http_date(text)? - http_date(date?.trim())?).unwrap_or(0),
    };
    Some(Duration::from_secs(seconds).min(MAX_PAUSE))
}

/// Seconds since 1970 of an IMF-fixdate: `Sun, 06 Nov 1994 08:49:37 GMT`.
fn http_date(text: &str) -> Option<i64> {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let mut words = text.split_once(", ")?.1.split(' ');
    let day: i64 = words.next()?.parse().ok()?;
    let month = words.next()?;
    let month = MONTHS.iter().position(|m| *m == month)? as i64 + 1;
    let year: i64 = words.next()?.parse().ok().filter(|y| (1970..10_000).contains(y))?;
    let mut clock = words.next()?.split(':').map(|n| n.parse::<i64>().ok());
    let (h, m, s) = (clock.next()??, clock.next()??, clock.next()??);
    let in_range =
        (1..=31).contains(&day) && (0..24).contains(&h) && (0..60).contains(&m) && (0..=60).contains(&s);
    if !in_range || words.next()? != "GMT" {
        return None;
    }
    // Days from civil, by Howard Hinnant.
    let y = year - i64::from(month <= 2);
    let doy = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let days = y / 400 * 146_097 + (y % 400) * 365 + (y % 400) / 4 - (y % 400) / 100 + doy - 719_468;
    Some(days * 86_400 + h * 3600 + m * 60 + s)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        assert_eq!(http_date("Sun, 06 Nov 1994 08:49:37 GMT"), Some(784_111_777));
        assert_eq!(http_date("Thu, 29 Feb 2024 23:59:59 GMT"), Some(1_709_251_199));
        assert_eq!(http_date("Thu, 01 Jan 1970 00:00:00 GMT"), Some(0));
        for bad in
            ["", "now", "Sun, 06 Nov 1994", "Sun, 6 Foo 1994 08:49:37 GMT", "Sun, 06 Nov 1994 08:49:37 CET"]
        {
            assert_eq!(http_date(bad), None, "{bad}");
        }
    }

    #[test]
    fn pauses() {
        let date = Some("Thu, 29 Feb 2024 23:59:00 GMT");
        assert_eq!(pause(Some("7"), None), Some(Duration::from_secs(7)));
        assert_eq!(pause(Some("Thu, 29 Feb 2024 23:59:59 GMT"), date), Some(Duration::from_secs(59)));
        assert_eq!(pause(Some("Thu, 29 Feb 2024 23:58:00 GMT"), date), Some(Duration::ZERO));
        assert_eq!(pause(Some("999999999999"), None), Some(MAX_PAUSE));
        assert_eq!(pause(Some("soon"), date), None);
        assert_eq!(pause(None, date), None);
    }

    #[test]
    fn every_status_has_a_verdict() {
        let is = |v: Verdict| (100..=999).filter(|&s| verdict(s) == v).count();
        assert_eq!(is(Verdict::Done), 100);
        assert_eq!(is(Verdict::Reject), 3);
        assert!((500..600).all(|s| verdict(s) == Verdict::Retry));
        assert!([301, 302, 405, 415].iter().all(|&s| verdict(s) == Verdict::Fatal));
    }
}
