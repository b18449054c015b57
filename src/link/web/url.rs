//! Where to post: `http://host[:port][/path]` or `https://…`.

use hyper::Uri;

use crate::config::node::{Kind, Node};
use crate::config::{Context, Field};

/// A checked URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    /// Host name or address, IPv6 without brackets.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Whether TLS is spoken.
    pub tls: bool,
    /// Path and query.
    pub path: String,
    /// `host[:port]` as written, for the Host header.
    pub authority: String,
}

impl Url {
    /// Reads it; the error says what is expected.
    pub fn parse(text: &str) -> Result<Self, String> {
        let uri: Uri = text.parse().map_err(|_| "a URL like `https://host/path`".to_owned())?;
        let tls = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err("a URL that starts with `http://` or `https://`".to_owned()),
        };
        let authority = uri.authority().ok_or("a URL with a host")?;
        if authority.as_str().contains('@') {
            // Not repeated in the message: it holds a password.
            return Err("a URL without user and password: use `token` or `headers`".to_owned());
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = authority.port_u16().unwrap_or(if tls { 443 } else { 80 });
        let path = uri.path_and_query().map_or("/", |p| p.as_str()).to_owned();
        Ok(Self { host, port, tls, path, authority: authority.as_str().to_owned() })
    }
}

impl Field for Url {
    fn read(node: &Node, cx: &mut Context) -> Option<Self> {
        let Kind::Scalar { text, .. } = &node.kind else { return cx.expected(node, "a URL") };
        match Self::parse(text) {
            Ok(url) => Some(url),
            Err(expected) => {
                cx.mistake(node.place, format!("expected {expected}"));
                None
            }
        }
    }

    fn schema() -> serde_json::Value {
        serde_json::json!({ "type": "string", "pattern": "^https?://[^@]+$" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        let url = Url::parse("https://[::1]:8443/in?x=1").unwrap();
        assert_eq!((url.host.as_str(), url.port, url.tls, url.path.as_str()), ("::1", 8443, true, "/in?x=1"));
        assert_eq!(url.authority, "[::1]:8443");
        let url = Url::parse("http://host").unwrap();
        assert_eq!((url.host.as_str(), url.port, url.tls, url.path.as_str()), ("host", 80, false, "/"));
        for bad in ["", "host/path", "ftp://host/", "http://", "http://me:secret@host/"] {
            let error = Url::parse(bad).unwrap_err();
            assert!(!error.contains("secret"), "{error}");
        }
    }
}
