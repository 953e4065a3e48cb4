//! Where to connect to, as URLs say it.

use std::net::{SocketAddr, ToSocketAddrs};

/// A host, its address and a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Where to connect to.
    pub address: SocketAddr,
    /// For the `Host` header.
    pub host: String,
    /// With its leading slash, and its query if it has one.
    pub path: String,
}

/// Why a URL cannot be used.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum UrlError {
    /// Another scheme, TLS included.
    #[error("{0}: the URL must begin with {1}")]
    Scheme(String, &'static str),
    /// No address for the host.
    #[error("{0}: the host cannot be resolved: write HOST:PORT")]
    Host(String),
}

impl Target {
    /// Of several URLs with commas between them.
    pub fn parse_all(urls: &str, scheme: &'static str) -> Result<Vec<Self>, UrlError> {
        urls.split(',').map(|url| Self::parse(url.trim(), scheme)).collect()
    }

    /// Of a URL that begins with `scheme`, such as `ws://`. The port is 80 where there is none.
    pub fn parse(url: &str, scheme: &'static str) -> Result<Self, UrlError> {
        let rest = url.strip_prefix(scheme).ok_or_else(|| UrlError::Scheme(url.to_owned(), scheme))?;
        let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let with_port = if host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok()) {
            host.to_owned()
        } else {
            format!("{host}:80")
        };
        let is_plain = rest.bytes().all(|b| b.is_ascii_graphic());
        let address = with_port.to_socket_addrs().ok().and_then(|mut all| all.next()).filter(|_| is_plain);
        let address = address.ok_or_else(|| UrlError::Host(url.to_owned()))?;
        let path = if path.is_empty() { "/" } else { path };
        Ok(Self { address, host: host.to_owned(), path: path.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_split() {
        let target = Target::parse("ws://127.0.0.1:10001/websocket?userId=3", "ws://").expect("a URL");
        assert_eq!(target.address, "127.0.0.1:10001".parse().expect("an address"));
        assert_eq!((&*target.host, &*target.path), ("127.0.0.1:10001", "/websocket?userId=3"));
        let target = Target::parse("http://127.0.0.1", "http://").expect("a URL");
        assert_eq!((target.address.port(), &*target.path), (80, "/"));
    }

    #[test]
    fn other_urls_are_refused() {
        for url in ["wss://127.0.0.1/", "127.0.0.1:5", "ws://", "ws://127.0.0.1:1/a b"] {
            Target::parse(url, "ws://").expect_err(url);
        }
    }
}
