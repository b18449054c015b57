//! From when to when a certificate is valid (RFC 5280 section 4.1.2.5), read without a full parser.

/// Seconds since 1970 UTC, both inclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// First second.
    pub not_before_s: u64,
    /// Last second.
    pub not_after_s: u64,
}

/// Reads the validity of a certificate in DER. `None` if it is none. Times before 1970 read as 0.
pub fn validity(der: &[u8]) -> Option<Validity> {
    // Certificate → TBSCertificate → [0] version?, serial, signature, issuer, validity
    let (certificate, _) = element(der, 0x30)?;
    let (mut tbs, _) = element(certificate, 0x30)?;
    if tbs.first() == Some(&0xa0) {
        tbs = element(tbs, 0xa0)?.1;
    }
    let (_serial, rest) = element(tbs, 0x02)?;
    let (_algorithm, rest) = element(rest, 0x30)?;
    let (_issuer, rest) = element(rest, 0x30)?;
    let (validity, _) = element(rest, 0x30)?;
    let (not_before_s, rest) = time(validity)?;
    let (not_after_s, _) = time(rest)?;
    Some(Validity { not_before_s, not_after_s })
}

/// Content of the DER element at the front, which must have this tag, and what follows it.
fn element(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&found, rest) = der.split_first()?;
    let (&first, rest) = rest.split_first()?;
    if found != tag {
        return None;
    }
    let (len, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81..=0x83 => {
            let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (bytes.iter().fold(0, |n, &b| n << 8 | usize::from(b)), rest)
        }
        _ => return None,
    };
    rest.split_at_checked(len)
}

/// A UTCTime (`YYMMDDHHMMSSZ`) or GeneralizedTime (`YYYYMMDDHHMMSSZ`) and what follows it.
fn time(der: &[u8]) -> Option<(u64, &[u8])> {
    let (text, rest, century) = match der.first()? {
        0x17 => {
            let (text, rest) = element(der, 0x17)?;
            (text, rest, None)
        }
        _ => {
            let (text, rest) = element(der, 0x18)?;
            let (century, text) = text.split_at_checked(2)?;
            (text, rest, Some(two(century)?))
        }
    };
    if text.len() != 13 || text.last() != Some(&b'Z') {
        return None;
    }
    let mut fields = [0u64; 6];
    for (field, digits) in fields.iter_mut().zip(text.chunks(2)) {
        *field = two(digits)?;
    }
    let [yy, month, day, hour, minute, second] = fields;
    let year = match century {
        Some(century) => century * 100 + yy,
        None if yy >= 50 => 1900 + yy,
        None => 2000 + yy,
    };
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let days = days_since_1970(year as i64, month as i64, day as i64);
    let seconds = days * 86_400 + (hour * 3600 + minute * 60 + second) as i64;
    Some((seconds.max(0) as u64, rest))
}

fn two(digits: &[u8]) -> Option<u64> {
    match digits {
        [a @ b'0'..=b'9', b @ b'0'..=b'9'] => Some(u64::from(a - b'0') * 10 + u64::from(b - b'0')),
        _ => None,
    }
}

/// Days of the proleptic Gregorian calendar.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    // Years start in March, so that the leap day is the last of its year.
    let year = if month <= 2 { year - 1 } else { year };
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certificate(from: &[u8], to: &[u8]) -> Vec<u8> {
        let wrap = |tag: u8, content: &[u8]| [&[tag, content.len() as u8], content].concat();
        let times = wrap(0x30, &[from, to].concat());
        let tbs = [
            wrap(0xa0, &[2, 1, 2]),
            wrap(2, &[7]),
            wrap(0x30, &[]),
            wrap(0x30, b"issuer"),
            times,
            wrap(0x30, b"subject"),
        ]
        .concat();
        wrap(0x30, &wrap(0x30, &tbs))
    }

    #[test]
    fn reads_both_time_forms_across_centuries() {
        let der = certificate(b"\x17\x0d700101000000Z", b"\x18\x0f20991231235959Z");
        assert_eq!(validity(&der), Some(Validity { not_before_s: 0, not_after_s: 4_102_444_799 }));
        let der = certificate(b"\x17\x0d240229120000Z", b"\x17\x0d491231235959Z");
        assert_eq!(
            validity(&der),
            Some(Validity { not_before_s: 1_709_208_000, not_after_s: 2_524_607_999 })
        );
    }

    #[test]
    fn refuses_what_is_cut_or_strange_without_a_panic() {
        let der = certificate(b"\x17\x0d240229120000Z", b"\x17\x0d491231235959Z");
        for end in 0..der.len() {
            assert_eq!(validity(&der[..end]), None, "cut at {end}");
        }
        for at in 0..der.len() {
            for byte in [0, 0x30, 0x7f, 0x84, 0xff] {
                let mut bad = der.clone();
                bad[at] = byte;
                validity(&bad);
            }
        }
        assert_eq!(validity(&certificate(b"\x17\x0d241329120000Z", b"\x17\x0d491231235959Z")), None);
    }
}
