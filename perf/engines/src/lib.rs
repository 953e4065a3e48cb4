//! A WebSocket echo (RFC 6455) for each engine that Petrel could have been built on, as small as the engine allows, and
//! the client that compares them: `petrel-engines`.
//!
//! The servers take the same flags and do the same: a text or binary message comes back as it is, a ping is answered, a
//! close is returned. Where the engine moves bytes only, the codec is `petrel-protocol`'s; the two that bring a codec of
//! their own (fastwebsockets, tokio-tungstenite) use that. Each is one thread.

pub mod compare;
mod echo;

use std::net::SocketAddr;

use tokio::net::{TcpListener, TcpStream};

pub use echo::{Echo, Over, Piece, send_frame};

/// What every echo server is told.
#[derive(Clone, Copy, Debug, clap::Parser)]
pub struct Options {
    /// Address to listen on.
    #[arg(long)]
    pub listen: SocketAddr,
    /// Largest message that is taken, bytes.
    #[arg(long, default_value_t = 1 << 20)]
    pub message_bytes_max: usize,
}

/// Bytes of the buffer that an engine without shared buffers keeps for each connection: a 16 KiB message and its header.
pub const READ_BYTES: usize = (16 << 10) + 64;

/// The echoes on tokio: each connection is a task, on the one thread that this takes for good.
///
/// # Errors
///
/// The address cannot be listened on, or no more connections can be accepted.
pub fn on_tokio<F>(options: Options, echo: fn(TcpStream, Options) -> F) -> std::io::Result<()>
where
    F: Future<Output: Send> + Send + 'static,
{
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        let listener = TcpListener::bind(options.listen).await?;
        println!("{}", listener.local_addr()?);
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            // A peer that is gone ends its own task only.
            tokio::spawn(async move { drop(echo(stream, options).await) });
        }
    })
}
