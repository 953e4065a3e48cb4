//! The echo on monoio: a task and a buffer for each connection.

use std::io;
use std::rc::Rc;

use clap::Parser;
use monoio::io::{AsyncReadRent, AsyncWriteRentExt};
use monoio::net::{TcpListener, TcpStream};
use petrel_engines::{Echo, Options, READ_BYTES};
use petrel_protocol::websocket::Config;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(clap::Parser)]
#[command(about = "A WebSocket echo on monoio")]
struct Arguments {
    #[command(flatten)]
    options: Options,
}

fn main() -> io::Result<()> {
    let options = Arguments::parse().options;
    let builder = monoio::RuntimeBuilder::<monoio::IoUringDriver>::new().with_entries(4_096);
    builder.build()?.block_on(serve(options))
}

async fn serve(options: Options) -> io::Result<()> {
    let config = Rc::new(Echo::config(&options));
    let listener = TcpListener::bind(options.listen)?;
    println!("{}", listener.local_addr()?);
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let config = Rc::clone(&config);
        // A peer that is gone ends its own task only.
        monoio::spawn(async move { drop(echo(stream, &config).await) });
    }
}

async fn echo(mut stream: TcpStream, config: &Config) -> io::Result<()> {
    let mut echo = Echo::default();
    let mut buffer = Vec::with_capacity(READ_BYTES);
    let mut out = Vec::new();
    loop {
        let (read, mut bytes) = stream.read(buffer).await;
        if read? == 0 {
            return Ok(());
        }
        let state = echo.read(config, &mut bytes, &mut |piece| out.extend_from_slice(piece));
        if !out.is_empty() {
            let (written, sent) = stream.write_all(out).await;
            written?;
            out = sent;
            out.clear();
        }
        if state.is_err() {
            return Ok(());
        }
        bytes.clear();
        buffer = bytes;
    }
}
