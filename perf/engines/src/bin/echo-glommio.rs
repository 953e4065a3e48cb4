//! The echo on glommio: a task and a buffer for each connection.

use std::io;
use std::rc::Rc;

use clap::Parser;
use futures_lite::{AsyncReadExt, AsyncWriteExt};
use glommio::net::{TcpListener, TcpStream};
use glommio::{GlommioError, LocalExecutor};
use petrel_engines::{Echo, Options, READ_BYTES};
use petrel_protocol::websocket::Config;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(clap::Parser)]
#[command(about = "A WebSocket echo on glommio")]
struct Arguments {
    #[command(flatten)]
    options: Options,
}

fn main() -> Result<(), GlommioError<()>> {
    let options = Arguments::parse().options;
    LocalExecutor::default().run(serve(options))
}

async fn serve(options: Options) -> Result<(), GlommioError<()>> {
    let config = Rc::new(Echo::config(&options));
    let listener = TcpListener::bind(options.listen)?;
    println!("{}", listener.local_addr()?);
    loop {
        let stream = listener.accept().await?;
        stream.set_nodelay(true)?;
        let config = Rc::clone(&config);
        // A peer that is gone ends its own task only.
        glommio::spawn_local(async move { drop(echo(stream, &config).await) }).detach();
    }
}

async fn echo(mut stream: TcpStream, config: &Config) -> io::Result<()> {
    let mut echo = Echo::default();
    let mut buffer = vec![0; READ_BYTES];
    let mut out = Vec::new();
    loop {
        let len = stream.read(&mut buffer).await?;
        if len == 0 {
            return Ok(());
        }
        let state = echo.read(config, &mut buffer[..len], &mut |piece| out.extend_from_slice(piece));
        if !out.is_empty() {
            stream.write_all(&out).await?;
            out.clear();
        }
        if state.is_err() {
            return stream.close().await;
        }
    }
}
