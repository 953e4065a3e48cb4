//! A WebSocket connection on monoio: the TCP connection, from a chosen source address if need be, and the upgrade.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use monoio::io::{AsyncReadRent, AsyncWriteRentExt};
use monoio::net::TcpStream;
use petrel_protocol::limits::HANDSHAKE_BYTES_MAX;
use petrel_protocol::websocket::upgrade::{ResponseFault, client_request, parse_response};
use socket2::{Domain, Socket, Type};

use crate::url::Target;

/// A connection after its upgrade.
#[derive(Debug)]
pub struct Opened {
    /// The connection.
    pub stream: TcpStream,
    /// Bytes of frames that came with the answer.
    pub early: Vec<u8>,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// No TCP connection, or it broke before the answer was whole.
    #[error("no connection: {0}")]
    Io(#[from] std::io::Error),
    /// The server did not agree.
    #[error("the upgrade was refused: {0}")]
    Refused(#[from] ResponseFault),
}

/// Opens a connection. `source` is the local address, where not the system's choice; `nonce` is random.
pub async fn open(
    target: &Target,
    source: Option<Ipv4Addr>,
    token: &str,
    nonce: [u8; 16],
) -> Result<Opened, OpenError> {
    let mut stream = connect(target.address, source).await?;
    let mut request = Vec::new();
    client_request(&mut request, &target.host, &target.path, nonce, Some(token));
    stream.write_all(request).await.0?;
    let mut answer = Vec::new();
    let mut buffer = Vec::with_capacity(1_024);
    loop {
        let (read, filled) = stream.read(buffer).await;
        buffer = filled;
        if read? == 0 {
            return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into());
        }
        answer.extend_from_slice(&buffer);
        if let Some(len) = parse_response(&answer, nonce)? {
            return Ok(Opened { stream, early: answer.split_off(len) });
        }
        if answer.len() > HANDSHAKE_BYTES_MAX {
            return Err(std::io::Error::other("the answer to the upgrade has no end").into());
        }
    }
}

/// The local address of the `n`th connection to a server: one for each `per_source` connections, since the ports of one
/// address run out. The system's choice for the first of them, and where the server is not on this machine.
pub fn source_of(target: SocketAddr, n: u32, per_source: u32) -> Option<Ipv4Addr> {
    let IpAddr::V4(address) = target.ip() else { return None };
    let place = n / per_source;
    if !address.is_loopback() || place == 0 {
        return None;
    }
    let [_, _, high, low] = place.to_be_bytes();
    Some(Ipv4Addr::new(127, 9, high, low))
}

async fn connect(address: SocketAddr, source: Option<Ipv4Addr>) -> std::io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_tcp_nodelay(true)?;
    if let Some(source) = source {
        socket.bind(&SocketAddr::from((source, 0)).into())?;
    }
    socket.set_nonblocking(true)?;
    let is_pending = match socket.connect(&address.into()) {
        Ok(()) => false,
        Err(e) if e.raw_os_error() == Some(EINPROGRESS) => true,
        Err(e) => return Err(e),
    };
    // The ring waits for the socket itself; on one that must not block it would fail instead.
    socket.set_nonblocking(false)?;
    let watched = socket.try_clone()?;
    let stream = TcpStream::from_std(socket.into())?;
    if is_pending {
        stream.writable(false).await?;
    }
    match watched.take_error()? {
        Some(e) => Err(e),
        None => Ok(stream),
    }
}

/// Linux's number on all its common architectures.
const EINPROGRESS: i32 = 115;
