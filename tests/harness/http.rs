//! The least of an HTTP client, so that no library of ours stands between the test and the bytes.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};

use super::PATIENCE;

/// What came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: String,
}

/// One request on a connection of its own. An error where nobody answers, or not to the end.
pub(crate) fn request(
    port: u16,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> io::Result<Answer> {
    let mut stream = TcpStream::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    let mut head = format!("{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str(&format!("Content-Length: {}\r\n\r\n", body.len()));
    let mut whole = head.into_bytes();
    whole.extend_from_slice(body);
    // A server that refuses a long body answers before it has read all of it.
    let sent = stream.write_all(&whole);
    let mut answer = Vec::new();
    let read = stream.read_to_end(&mut answer);
    parse(&answer).ok_or_else(|| {
        let error = sent.and(read).err();
        error.unwrap_or_else(|| io::Error::new(io::ErrorKind::UnexpectedEof, "no whole answer"))
    })
}

fn parse(answer: &[u8]) -> Option<Answer> {
    let end = answer.windows(4).position(|w| w == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&answer[..end]).ok()?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some(Answer { status, body: String::from_utf8_lossy(&answer[end + 4..]).into_owned() })
}

/// `POST /<topic>` with JSON.
pub(crate) fn post(port: u16, topic: &str, json: &str) -> io::Result<Answer> {
    request(port, "POST", &format!("/{topic}"), &[("Content-Type", "application/json")], json.as_bytes())
}

pub(crate) fn get(port: u16, path: &str) -> io::Result<Answer> {
    request(port, "GET", path, &[], b"")
}
