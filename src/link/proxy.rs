//! A tunnel through an HTTP proxy: CONNECT (RFC 9110 section 9.3.6), with Basic authentication
//! (RFC 7617).

use std::fmt;

use futures_lite::{AsyncReadExt, AsyncWriteExt};

use super::Io;
use super::error::LinkError;
use crate::config::Secret;

/// More than this is no answer to CONNECT.
const MAX_ANSWER_BYTES: usize = 8 << 10;

/// An HTTP proxy for TCP.
#[derive(Clone, PartialEq, Eq)]
pub struct Proxy {
    /// Its name or address.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// `user:password`.
    auth: Option<Secret>,
}

impl Proxy {
    /// Reads `http://[user:password@]host:port`.
    pub fn parse(url: &Secret) -> Result<Self, LinkError> {
        let wrong =
            || LinkError::Config("`proxy` must look like `http://[user:password@]host:port`".to_owned());
        let rest = url.expose().strip_prefix("http://").ok_or_else(wrong)?;
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (auth, address) = match rest.rsplit_once('@') {
            Some((auth, address)) => (Some(Secret::new(percent_decoded(auth))), address),
            None => (None, rest),
        };
        let (host, port) = address.rsplit_once(':').ok_or_else(wrong)?;
        let port = port.parse().map_err(|_| wrong())?;
        if host.is_empty() || host.contains(['/', ' ', '\r', '\n']) {
            return Err(wrong());
        }
        Ok(Self { host: host.to_owned(), port, auth })
    }

    /// Asks for a tunnel to `host:port` over `io`, which leads to the proxy. After it, `io` leads to
    /// the target. The caller sets the time limit.
    pub(super) async fn open(&self, io: &mut dyn Io, host: &str, port: u16) -> Result<(), LinkError> {
        let fail =
            |reason: String| LinkError::Proxy { proxy: format!("{}:{}", self.host, self.port), reason };
        let host =
            if host.contains(':') && !host.starts_with('[') { format!("[{host}]") } else { host.to_owned() };
        let mut ask =
            zeroize::Zeroizing::new(format!("CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n"));
        if let Some(auth) = &self.auth {
            ask.push_str("Proxy-Authorization: Basic ");
            base64(auth.expose().as_bytes(), &mut ask);
            ask.push_str("\r\n");
        }
        ask.push_str("\r\n");
        io.write_all(ask.as_bytes()).await.map_err(|e| fail(e.to_string()))?;
        io.flush().await.map_err(|e| fail(e.to_string()))?;
        // One byte at a time: what follows the answer is the target's.
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            match io.read(&mut byte).await {
                Ok(1..) if answer.len() < MAX_ANSWER_BYTES => answer.extend(byte),
                Ok(1..) => return Err(fail("its answer is longer than 8 KiB".to_owned())),
                Ok(0) => return Err(fail("it closed the connection".to_owned())),
                Err(e) => return Err(fail(e.to_string())),
            }
        }
        let status = answer.strip_prefix(b"HTTP/1.").and_then(|rest| rest.get(2..5));
        match status {
            Some(b"200") => Ok(()),
            Some(b"407") => Err(fail("it wants a user and password, or other ones".to_owned())),
            Some(code) if code.iter().all(u8::is_ascii_digit) => {
                Err(fail(format!("it refuses with status {}", String::from_utf8_lossy(code))))
            }
            _ => Err(fail("it does not speak HTTP".to_owned())),
        }
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Proxy({}:{})", self.host, self.port)
    }
}

fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&b, tail)) = rest.split_first() {
        let hex = (b == b'%').then(|| tail.get(..2)).flatten().and_then(|h| std::str::from_utf8(h).ok());
        match hex.and_then(|h| u8::from_str_radix(h, 16).ok()) {
            Some(decoded) => {
                bytes.push(decoded);
                rest = tail.get(2..).unwrap_or_default();
            }
            None => {
                bytes.push(b);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// RFC 4648 section 4.
fn base64(bytes: &[u8], out: &mut String) {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for chunk in bytes.chunks(3) {
        let n = chunk.iter().fold(0u32, |n, &b| n << 8 | u32::from(b)) << (8 * (3 - chunk.len()));
        for i in 0..4 {
            let sextet = (n >> (18 - 6 * i)) as usize & 63;
            out.push(if i <= chunk.len() { char::from(ALPHABET[sextet]) } else { '=' });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxy(url: &str) -> Result<Proxy, LinkError> {
        Proxy::parse(&Secret::new(url.to_owned()))
    }

    #[test]
    fn reads_a_url_and_keeps_its_secret() {
        let p = proxy("http://user:pa%3Ass@proxy.test:3128/").unwrap();
        assert_eq!((p.host.as_str(), p.port), ("proxy.test", 3128));
        assert_eq!(p.auth.as_ref().unwrap().expose(), "user:pa:ss");
        assert_eq!(format!("{p:?}"), "Proxy(proxy.test:3128)");
        for bad in ["proxy.test:3128", "http://proxy.test", "http://:80", "http://a\r\nb:80", "https://a:1"] {
            let error = proxy(bad).unwrap_err().to_string();
            assert!(!error.contains("proxy.test"), "{error}");
        }
    }

    #[test]
    fn base64_of_the_rfc() {
        for (plain, coded) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")]
        {
            let mut out = String::new();
            base64(plain.as_bytes(), &mut out);
            assert_eq!(out, coded);
        }
    }
}
