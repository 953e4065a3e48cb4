//! A TCP link that can be cut and delayed.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

/// Bytes that one direction of a connection holds while it is delayed.
const BUFFER_BYTES: usize = 16 << 10;

/// What is wrong with a link.
#[derive(Debug, Default)]
pub(crate) struct Link {
    is_cut: AtomicBool,
    delay_ms: AtomicU64,
    /// Ends the connections that are there.
    cut: Notify,
}

impl Link {
    /// Passes connections from `listen` on to `to` until the program ends.
    pub(crate) async fn start(listen: &str, to: &str) -> io::Result<Arc<Self>> {
        let listener = TcpListener::bind(listen).await?;
        let link = Arc::new(Self::default());
        let (its, to) = (Arc::clone(&link), to.to_owned());
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                if !its.is_cut.load(Ordering::Relaxed) {
                    tokio::spawn(Arc::clone(&its).pass(client, to.clone()));
                }
            }
        });
        Ok(link)
    }

    /// Ends all connections; new ones are closed until it is mended.
    pub(crate) fn cut(&self) {
        self.is_cut.store(true, Ordering::Relaxed);
        self.cut.notify_waiters();
    }

    /// Whatever comes through comes so much later.
    pub(crate) fn delay(&self, ms: u64) {
        self.delay_ms.store(ms, Ordering::Relaxed);
    }

    pub(crate) fn mend(&self) {
        self.is_cut.store(false, Ordering::Relaxed);
        self.delay(0);
    }

    async fn pass(self: Arc<Self>, client: TcpStream, to: String) {
        let Ok(server) = TcpStream::connect(to).await else { return };
        let _ = (client.set_nodelay(true), server.set_nodelay(true));
        let (client_read, client_write) = client.into_split();
        let (server_read, server_write) = server.into_split();
        tokio::select! {
            () = self.copy(client_read, server_write) => (),
            () = self.copy(server_read, client_write) => (),
            () = self.cut.notified() => (),
        }
    }

    async fn copy(&self, mut from: OwnedReadHalf, mut to: OwnedWriteHalf) {
        let mut buffer = vec![0; BUFFER_BYTES];
        loop {
            let Ok(len @ 1..) = from.read(&mut buffer).await else { return };
            let delay_ms = self.delay_ms.load(Ordering::Relaxed);
            if delay_ms != 0 {
                tokio::time::sleep(Duration::from_millis(delay_ms)).await;
            }
            if to.write_all(&buffer[..len]).await.is_err() {
                return;
            }
        }
    }
}
