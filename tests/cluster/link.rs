//! A TCP link that a test can cut, and hold in one direction.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;

const BUFFER_BYTES: usize = 16 << 10;

/// A direction, as seen by who connects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    Out,
    Back,
}

/// Passes connections on; runs until the test ends.
pub(crate) struct Link {
    addr: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    is_cut: bool,
    /// Counts up with each cut, which ends the connections made before.
    cuts: u64,
    held: Option<Way>,
    held_bytes: usize,
    attempts: u64,
    ends: Vec<TcpStream>,
}

impl Link {
    /// Passes connections on to `to`. It listens on 127.0.0.1, since the driver of Cassandra asks a node for its address
    /// and keeps the port alone.
    pub(crate) fn start(to: &str) -> Self {
        let to = to.to_socket_addrs().expect("an address").next().expect("one");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let addr = listener.local_addr().expect("bound");
        let shared = Arc::new(Shared::default());
        let its = Arc::clone(&shared);
        thread::spawn(move || {
            while let Ok((client, _)) = listener.accept() {
                its.pass(client, to);
            }
        });
        Self { addr, shared }
    }

    /// Where it listens.
    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Ends all connections, with what was held; new ones are closed until [`Self::mend`].
    pub(crate) fn cut(&self) {
        let mut state = self.shared.state();
        state.is_cut = true;
        state.end_all();
        self.shared.changed.notify_all();
    }

    /// Ends all connections, with what was held; new ones are passed on.
    pub(crate) fn lose(&self) {
        self.cut();
        self.mend();
    }

    /// Everything passes again; what is held goes on its way.
    pub(crate) fn mend(&self) {
        let mut state = self.shared.state();
        (state.is_cut, state.held, state.held_bytes) = (false, None, 0);
        self.shared.changed.notify_all();
    }

    /// From now on nothing passes this way; whoever sends does not notice.
    pub(crate) fn hold(&self, way: Way) {
        self.shared.state().held = Some(way);
    }

    /// Bytes that would have passed since [`Self::hold`].
    pub(crate) fn held_bytes(&self) -> usize {
        self.shared.state().held_bytes
    }

    /// Connections that were asked for.
    pub(crate) fn attempts(&self) -> u64 {
        self.shared.state().attempts
    }
}

impl State {
    fn end_all(&mut self) {
        self.cuts += 1;
        for end in self.ends.drain(..) {
            // Some have ended by themselves.
            let _ = end.shutdown(Shutdown::Both);
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic")
    }

    fn pass(self: &Arc<Self>, client: TcpStream, to: SocketAddr) {
        let is_cut = {
            let mut state = self.state();
            state.attempts += 1;
            state.is_cut
        };
        if is_cut {
            return;
        }
        let Ok(server) = TcpStream::connect(to) else { return };
        let pair = [&client, &server].map(|end| {
            end.set_nodelay(true).expect("a socket");
            [end.try_clone().expect("another handle"), end.try_clone().expect("another handle")]
        });
        let [[client_read, client_write], [server_read, server_write]] = pair;
        let cuts = {
            let mut state = self.state();
            state.ends.extend([client, server]);
            state.cuts
        };
        for (way, from, to) in [(Way::Out, client_read, server_write), (Way::Back, server_read, client_write)]
        {
            let its = Arc::clone(self);
            thread::spawn(move || its.copy(way, cuts, from, to));
        }
    }

    fn copy(&self, way: Way, cuts: u64, mut from: TcpStream, mut to: TcpStream) {
        let mut buffer = vec![0; BUFFER_BYTES];
        while let Ok(len @ 1..) = from.read(&mut buffer) {
            let mut state = self.state();
            if state.held == Some(way) {
                state.held_bytes += len;
            }
            while state.held == Some(way) && state.cuts == cuts {
                state = self.changed.wait(state).expect("no panic");
            }
            if state.cuts != cuts {
                break;
            }
            drop(state);
            if to.write_all(&buffer[..len]).is_err() {
                break;
            }
        }
        let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
    }
}
