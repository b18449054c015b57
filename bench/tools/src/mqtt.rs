//! As much MQTT as a load generator needs.

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::net::Result;

pub fn text(out: &mut Vec<u8>, s: &[u8]) {
    out.extend_from_slice(&(s.len() as u16).to_be_bytes());
    out.extend_from_slice(s);
}

pub fn packet(out: &mut Vec<u8>, head: u8, body: &[u8]) {
    out.push(head);
    let mut n = body.len();
    loop {
        let more = n > 127;
        out.push((n & 127) as u8 | if more { 128 } else { 0 });
        n >>= 7;
        if !more {
            break;
        }
    }
    out.extend_from_slice(body);
}

pub struct Connect<'a> {
    pub v5: bool,
    pub client_id: &'a str,
    pub user: Option<(&'a str, &'a str)>,
    /// As a dts agent.
    pub dts: bool,
    pub keep_alive_s: u16,
}

pub fn connect(c: &Connect<'_>) -> Vec<u8> {
    let mut body = Vec::new();
    text(&mut body, b"MQTT");
    let user = if c.user.is_some() { 0xc0 } else { 0 };
    body.extend_from_slice(&[if c.v5 { 5 } else { 4 }, 2 | user]);
    body.extend_from_slice(&c.keep_alive_s.to_be_bytes());
    if c.v5 {
        let mut properties = Vec::new();
        if c.dts {
            properties.push(38);
            text(&mut properties, b"dts");
            text(&mut properties, b"1");
        }
        body.push(properties.len() as u8);
        body.extend_from_slice(&properties);
    }
    text(&mut body, c.client_id.as_bytes());
    if let Some((user, password)) = c.user {
        text(&mut body, user.as_bytes());
        text(&mut body, password.as_bytes());
    }
    let mut out = Vec::new();
    packet(&mut out, 0x10, &body);
    out
}

/// A QoS 1 publish.
pub fn publish(out: &mut Vec<u8>, v5: bool, topic: &str, id: u16, payload: &[u8]) {
    let mut body = Vec::with_capacity(topic.len() + payload.len() + 5);
    text(&mut body, topic.as_bytes());
    body.extend_from_slice(&id.to_be_bytes());
    if v5 {
        body.push(0);
    }
    body.extend_from_slice(payload);
    packet(out, 0x32, &body);
}

/// Takes whole packets out of a stream.
pub struct Packets<R> {
    reader: R,
    buffer: BytesMut,
}

impl<R: AsyncRead + Unpin> Packets<R> {
    pub fn new(reader: R) -> Self {
        Self { reader, buffer: BytesMut::with_capacity(16 << 10) }
    }

    /// Whether a read would have to wait: time to flush what is to be written.
    pub fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }

    pub async fn next(&mut self) -> Result<(u8, BytesMut)> {
        loop {
            if let Some(found) = self.take()? {
                return Ok(found);
            }
            if self.reader.read_buf(&mut self.buffer).await? == 0 {
                return Err("the other side closed the connection".into());
            }
        }
    }

    fn take(&mut self) -> Result<Option<(u8, BytesMut)>> {
        let (mut len, mut at) = (0usize, 1);
        loop {
            let Some(&byte) = self.buffer.get(at) else { return Ok(None) };
            len |= usize::from(byte & 127) << (7 * (at - 1));
            at += 1;
            if byte < 128 {
                break;
            }
            if at > 4 {
                return Err("bad packet length".into());
            }
        }
        if self.buffer.len() < at + len {
            self.buffer.reserve(at + len - self.buffer.len());
            return Ok(None);
        }
        let head = self.buffer[0];
        self.buffer.advance(at);
        Ok(Some((head, self.buffer.split_to(len))))
    }

    /// The CONNACK, or why there is none; the reason code is 0 on success.
    pub async fn connack(&mut self) -> Result<()> {
        let (head, body) = self.next().await?;
        if head >> 4 != 2 || body.len() < 2 {
            return Err(format!("no CONNACK but {head:#x}").into());
        }
        if body[1] != 0 {
            return Err(format!("refused with reason {:#x}", body[1]).into());
        }
        Ok(())
    }
}
