//! Requests of applications to the `http` input: any bytes on one connection.

use crate::mqtt::codec::sample::Gen;
use crate::source::http::fuzz;

/// Pieces of requests, or raw bytes.
pub fn http(data: &[u8]) {
    let g = &mut Gen(data);
    let raw = g.bit();
    let token = g.bit();
    let mut wire = Vec::new();
    if raw {
        wire.extend_from_slice(g.0);
    } else {
        while !g.0.is_empty() && wire.len() < 16 << 10 {
            request(g, &mut wire);
        }
    }
    let (answer, stored) = fuzz::talk(&wire, token);
    // Each promise is kept, and nothing is stored that was not promised.
    let text = String::from_utf8_lossy(&answer);
    let promised = text.split("\"stored\":").skip(1).map(|rest| {
        let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
        digits.parse::<u64>().unwrap_or(0)
    });
    let (promised, rows) = (promised.sum::<u64>(), stored.iter().map(|b| u64::from(b.rows)).sum::<u64>());
    assert_eq!(promised, rows, "{text}");
    for batch in &stored {
        super::row::judge(batch);
    }
}

fn request(g: &mut Gen<'_>, wire: &mut Vec<u8>) {
    let method = ["POST", "POST", "POST", "GET", "PUT", "pOST"][usize::from(g.pick(6))];
    let path =
        ["/t", "/a/b%20c", "/%", "/%zz", "/%C3%28", "/", "*", "/t?x=1", "/a+b"][usize::from(g.pick(9))];
    let kind = ["application/json", "application/x-ndjson", "text/plain", "application/json; charset=x", ""]
        [usize::from(g.pick(5))];
    let more = [
        "",
        "",
        "Idempotency-Key: a\r\n",
        "Idempotency-Key: \r\n",
        "Content-Encoding: gzip\r\n",
        "Authorization: Bearer secret\r\n",
        "Expect: 100-continue\r\n",
        "Connection: close\r\n",
        "Transfer-Encoding: chunked\r\n",
    ][usize::from(g.pick(9))];
    let bodies = [
        "1",
        "{\"id\":7}",
        "1\n2\n\n3\n",
        "{",
        "\"\\ud800\"",
        "[[[[[[[[]]]]]]]]",
        "{\"id\":\"\"}",
        "\u{feff}1",
    ];
    let body = if g.bit() {
        bodies[usize::from(g.pick(8))].as_bytes().to_vec()
    } else {
        let n = usize::from(g.u8());
        g.take(n).to_vec()
    };
    let body = if g.pick(16) == 0 { body.repeat(64) } else { body };
    let len = match g.pick(8) {
        0 => "18446744073709551616".to_owned(),
        1 => (body.len() + 1).to_string(),
        _ => body.len().to_string(),
    };
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Type: {kind}\r\n{more}Content-Length: {len}\r\n\r\n"
    );
    wire.extend_from_slice(head.as_bytes());
    if more.starts_with("Transfer") && g.bit() {
        wire.extend_from_slice(format!("{:x}\r\n", body.len()).as_bytes());
        wire.extend_from_slice(&body);
        wire.extend_from_slice(b"\r\n0\r\n\r\n");
    } else {
        wire.extend_from_slice(&body);
    }
}
