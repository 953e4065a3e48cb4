//! The echo on tokio-tungstenite, on one thread.

use clap::Parser;
use futures_util::{SinkExt, StreamExt};
use petrel_engines::Options;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Error;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(clap::Parser)]
#[command(about = "A WebSocket echo on tokio-tungstenite")]
struct Arguments {
    #[command(flatten)]
    options: Options,
}

fn main() -> std::io::Result<()> {
    petrel_engines::on_tokio(Arguments::parse().options, echo)
}

async fn echo(stream: TcpStream, options: Options) -> Result<(), Error> {
    let config = WebSocketConfig::default()
        .max_message_size(Some(options.message_bytes_max))
        .max_frame_size(Some(options.message_bytes_max));
    let mut socket = tokio_tungstenite::accept_async_with_config(stream, Some(config)).await?;
    while let Some(message) = socket.next().await {
        let message = message?;
        if message.is_text() || message.is_binary() {
            socket.send(message).await?;
        }
    }
    Ok(())
}
