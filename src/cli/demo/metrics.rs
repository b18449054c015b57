//! What the centre says of itself on its HTTP port.

use std::net::SocketAddr;

use futures_lite::{AsyncReadExt, AsyncWriteExt};

/// The text of `/metrics`.
pub(super) async fn fetch(port: SocketAddr) -> Result<String, String> {
    let fail = |error: std::io::Error| format!("ask {port}: {error}");
    let mut stream = async_net::TcpStream::connect(port).await.map_err(fail)?;
    stream
        .write_all(b"GET /metrics HTTP/1.1\r\nHost: demo\r\nConnection: close\r\n\r\n")
        .await
        .map_err(fail)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.map_err(fail)?;
    Ok(answer)
}

/// The sum over all labels of a counter or gauge.
pub(super) fn sum(text: &str, name: &str) -> f64 {
    series(text, name).map(|(_, value)| value).sum()
}

fn series<'a>(text: &'a str, name: &'a str) -> impl Iterator<Item = (&'a str, f64)> {
    text.lines().filter_map(move |line| {
        let rest = line.strip_prefix(name)?;
        let (labels, value) = rest.rsplit_once(' ')?;
        (labels.is_empty() || labels.starts_with('{')).then_some((labels, value.parse().ok()?))
    })
}

/// Counts of a histogram by upper bound, added up over all labels; ascending.
pub(super) fn histogram(text: &str, name: &str) -> Vec<(f64, f64)> {
    let mut buckets: Vec<(f64, f64)> = Vec::new();
    for (labels, count) in series(text, &format!("{name}_bucket")) {
        let Some(bound) = labels.split("le=\"").nth(1).and_then(|l| l.split('"').next()) else { continue };
        let bound = if bound == "+Inf" { f64::INFINITY } else { bound.parse().unwrap_or(f64::NAN) };
        match buckets.iter_mut().find(|(b, _)| *b == bound) {
            Some((_, n)) => *n += count,
            None => buckets.push((bound, count)),
        }
    }
    buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
    buckets
}

/// The upper bound of the bucket that holds the `share` of all observations; `None` without any.
pub(super) fn quantile(buckets: &[(f64, f64)], share: f64) -> Option<f64> {
    let all = buckets.last()?.1;
    (all > 0.0)
        .then(|| buckets.iter().find(|(_, n)| *n >= all * share).map_or(f64::INFINITY, |(bound, _)| *bound))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_format_is_read() {
        let text = "# HELP a_total x\na_total{x=\"1\"} 3\na_total{x=\"2\"} 4\na_total_more 9\nb 1\n\
                    h_bucket{le=\"0.1\",s=\"a\"} 5\nh_bucket{le=\"+Inf\",s=\"a\"} 10\nh_bucket{le=\"0.1\",s=\"b\"} 5\n\
                    h_bucket{le=\"+Inf\",s=\"b\"} 10\n";
        assert_eq!(sum(text, "a_total"), 7.0);
        let buckets = histogram(text, "h");
        assert_eq!(buckets, [(0.1, 10.0), (f64::INFINITY, 20.0)]);
        assert_eq!(quantile(&buckets, 0.5), Some(0.1));
        assert_eq!(quantile(&buckets, 0.9), Some(f64::INFINITY));
        assert_eq!(quantile(&[], 0.5), None);
    }
}
