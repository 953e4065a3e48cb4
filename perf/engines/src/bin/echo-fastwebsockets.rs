//! The echo on fastwebsockets and tokio, on one thread.

use clap::Parser;
use fastwebsockets::{Frame, OpCode, Role, WebSocket, WebSocketError};
use petrel_engines::Options;
use petrel_protocol::limits::HANDSHAKE_BYTES_MAX;
use petrel_protocol::websocket::upgrade::{self, Request};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(clap::Parser)]
#[command(about = "A WebSocket echo on fastwebsockets and tokio")]
struct Arguments {
    #[command(flatten)]
    options: Options,
}

fn main() -> std::io::Result<()> {
    petrel_engines::on_tokio(Arguments::parse().options, echo)
}

async fn echo(mut stream: TcpStream, options: Options) -> Result<(), WebSocketError> {
    if !accept(&mut stream).await? {
        return Ok(());
    }
    let mut socket = WebSocket::after_handshake(stream, Role::Server);
    socket.set_auto_close(true);
    socket.set_auto_pong(true);
    socket.set_max_message_size(options.message_bytes_max);
    let mut socket = fastwebsockets::FragmentCollector::new(socket);
    loop {
        let frame = socket.read_frame().await?;
        match frame.opcode {
            OpCode::Close => return Ok(()),
            OpCode::Text | OpCode::Binary => {
                socket.write_frame(Frame::new(true, frame.opcode, None, frame.payload)).await?;
            }
            _ => {}
        }
    }
}

/// Answers the upgrade request; false when there is none. The client of the comparison sends no frame before the answer.
async fn accept(stream: &mut TcpStream) -> std::io::Result<bool> {
    let mut request = Vec::with_capacity(512);
    while stream.read_buf(&mut request).await? > 0 && request.len() <= HANDSHAKE_BYTES_MAX {
        let mut response = Vec::new();
        match upgrade::parse_request(&request) {
            Ok(None) => continue,
            Ok(Some(Request::Upgrade(upgrade, _))) => upgrade::accept_response(&mut response, &upgrade),
            Ok(Some(Request::Plain(_))) | Err(_) => break,
        }
        stream.write_all(&response).await?;
        return Ok(true);
    }
    Ok(false)
}
