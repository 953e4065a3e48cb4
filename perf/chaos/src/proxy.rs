//! A TCP link that can be cut, held up and delayed.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

/// Bytes that are read at once.
const CHUNK_BYTES: usize = 16 << 10;
/// Chunks of one direction of a connection that are under way while it is delayed.
const CHUNKS_MAX: usize = 64;

/// What is wrong with a link.
#[derive(Debug)]
pub(crate) struct Link {
    is_cut: AtomicBool,
    delay_ms: AtomicU64,
    is_held: watch::Sender<bool>,
    ends: watch::Sender<Ends>,
    connections: AtomicU64,
}

/// Which of the connections that are there have to end.
#[derive(Clone, Copy, Debug)]
enum Ends {
    None,
    All,
    /// Those whose bit is set.
    Some(u64),
}

impl Link {
    /// Passes connections from `listen` on to `to` until the program ends.
    pub(crate) async fn start(listen: &str, to: &str) -> io::Result<Arc<Self>> {
        let listener = TcpListener::bind(listen).await?;
        let link = Arc::new(Self {
            is_cut: AtomicBool::new(false),
            delay_ms: AtomicU64::new(0),
            is_held: watch::Sender::new(false),
            ends: watch::Sender::new(Ends::None),
            connections: AtomicU64::new(0),
        });
        let (its, to) = (Arc::clone(&link), to.to_owned());
        tokio::spawn(async move {
            loop {
                match listener.accept().await {
                    Ok((client, _)) if !its.is_cut.load(Ordering::Relaxed) => {
                        tokio::spawn(Arc::clone(&its).pass(client, to.clone()));
                    }
                    Ok(_) => {}
                    // Out of descriptors for a moment, or a client that has gone already.
                    Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
                }
            }
        });
        Ok(link)
    }

    /// Ends all connections; new ones are closed until it is mended.
    pub(crate) fn cut(&self) {
        self.is_cut.store(true, Ordering::Relaxed);
        self.ends.send_replace(Ends::All);
    }

    /// Ends each of the connections where its bit of `chance` is set.
    pub(crate) fn snap(&self, chance: u64) {
        self.ends.send_replace(Ends::Some(chance));
    }

    /// Whatever comes through comes so much later.
    pub(crate) fn delay(&self, ms: u64) {
        self.delay_ms.store(ms, Ordering::Relaxed);
    }

    /// Nothing comes through, as on a line that was pulled.
    pub(crate) fn hold(&self) {
        self.is_held.send_replace(true);
    }

    pub(crate) fn mend(&self) {
        self.is_cut.store(false, Ordering::Relaxed);
        self.delay(0);
        self.is_held.send_replace(false);
    }

    async fn pass(self: Arc<Self>, client: TcpStream, to: String) {
        let mut ends = self.ends.subscribe();
        let number = self.connections.fetch_add(1, Ordering::Relaxed);
        let Ok(server) = TcpStream::connect(to).await else { return };
        let _ = (client.set_nodelay(true), server.set_nodelay(true));
        let (client_read, client_write) = client.into_split();
        let (server_read, server_write) = server.into_split();
        let is_over = |ends: &Ends| match ends {
            Ends::None => false,
            Ends::All => true,
            Ends::Some(chance) => chance >> (number % 64) & 1 == 1,
        };
        let ended = async {
            while ends.changed().await.is_ok() {
                if is_over(&ends.borrow()) {
                    return;
                }
            }
        };
        tokio::select! {
            () = self.copy(client_read, server_write) => (),
            () = self.copy(server_read, client_write) => (),
            () = ended => (),
        }
    }

    /// Returns when either end is closed.
    async fn copy(&self, mut from: OwnedReadHalf, mut to: OwnedWriteHalf) {
        let (chunks, mut due) = mpsc::channel::<(Instant, Vec<u8>)>(CHUNKS_MAX);
        let read = async move {
            loop {
                let mut chunk = vec![0; CHUNK_BYTES];
                let Ok(len @ 1..) = from.read(&mut chunk).await else { return };
                chunk.truncate(len);
                let delay = Duration::from_millis(self.delay_ms.load(Ordering::Relaxed));
                if chunks.send((Instant::now() + delay, chunk)).await.is_err() {
                    return;
                }
            }
        };
        let mut is_held = self.is_held.subscribe();
        let write = async move {
            while let Some((at, chunk)) = due.recv().await {
                tokio::time::sleep_until(at).await;
                if is_held.wait_for(|is_held| !is_held).await.is_err() || to.write_all(&chunk).await.is_err()
                {
                    return;
                }
            }
        };
        // What was read is still written when nothing more comes.
        tokio::select! {
            () = write => (),
            () = async { read.await; std::future::pending().await } => (),
        }
    }
}
