//! The system calls that the standard library has no safe form for.

use std::fs::File;
use std::io;
use std::mem;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::ptr::{self, NonNull};

/// Anonymous memory of our own, page-aligned and zeroed. A page takes memory only when it is first written.
pub(crate) struct Mapping {
    start: NonNull<u8>,
    bytes: usize,
}

impl Mapping {
    pub(crate) fn new(bytes: usize) -> io::Result<Self> {
        let access = libc::PROT_READ | libc::PROT_WRITE;
        let kind = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        // SAFETY: an anonymous mapping at an address of the kernel's choice touches no memory that exists.
        let start = unsafe { libc::mmap(ptr::null_mut(), bytes, access, kind, -1, 0) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).expect("the kernel maps nothing at address 0 unless asked to");
        Ok(Self { start, bytes })
    }

    pub(crate) fn start(&self) -> NonNull<u8> {
        self.start
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: this is exactly what `new` mapped, it is unmapped once, and whoever took pointers into it owns this
        // mapping and is being dropped with it.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.bytes) };
    }
}

/// A socket address as the kernel reads it.
pub(crate) struct RawAddr {
    storage: libc::sockaddr_storage,
    len: libc::socklen_t,
}

impl RawAddr {
    pub(crate) fn as_ptr(&self) -> *const libc::sockaddr {
        (&raw const self.storage).cast()
    }

    pub(crate) fn len(&self) -> libc::socklen_t {
        self.len
    }

    fn of<T>(addr: T) -> Self {
        const { assert!(size_of::<T>() <= size_of::<libc::sockaddr_storage>()) };
        const { assert!(align_of::<T>() <= align_of::<libc::sockaddr_storage>()) };
        // SAFETY: sockaddr_storage is plain integers, for which all zeroes is a value.
        let mut storage: libc::sockaddr_storage = unsafe { mem::zeroed() };
        // SAFETY: the asserts above say that a `T` fits here in size and alignment; sockaddr_storage is made to hold
        // any address.
        unsafe { (&raw mut storage).cast::<T>().write(addr) };
        Self { storage, len: size_of::<T>() as libc::socklen_t }
    }
}

impl From<SocketAddr> for RawAddr {
    fn from(addr: SocketAddr) -> Self {
        match addr {
            SocketAddr::V4(v4) => Self::of(libc::sockaddr_in {
                sin_family: libc::AF_INET as libc::sa_family_t,
                sin_port: v4.port().to_be(),
                sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(v4.ip().octets()) },
                sin_zero: [0; 8],
            }),
            SocketAddr::V6(v6) => Self::of(libc::sockaddr_in6 {
                sin6_family: libc::AF_INET6 as libc::sa_family_t,
                sin6_port: v6.port().to_be(),
                sin6_flowinfo: v6.flowinfo(),
                sin6_addr: libc::in6_addr { s6_addr: v6.ip().octets() },
                sin6_scope_id: v6.scope_id(),
            }),
        }
    }
}

/// A listening socket whose options the accepted sockets inherit, and the address that it got.
pub(crate) fn listening(addr: SocketAddr, backlog: i32) -> io::Result<(TcpListener, SocketAddr)> {
    let socket = stream(addr)?;
    set(&socket, libc::SOL_SOCKET, libc::SO_REUSEADDR, 1)?;
    set(&socket, libc::SOL_SOCKET, libc::SO_REUSEPORT, 1)?;
    bind(&socket, addr)?;
    // SAFETY: the descriptor is open, since `socket` owns it.
    check(unsafe { libc::listen(socket.as_raw_fd(), backlog) })?;
    let listener = TcpListener::from(socket);
    let bound = listener.local_addr()?;
    Ok((listener, bound))
}

/// A socket that is ready to connect to `to`. The port of `from` is chosen at the connect where it is 0, so that one
/// source address has all ports towards each destination.
pub(crate) fn connecting(from: Option<SocketAddr>, to: SocketAddr) -> io::Result<OwnedFd> {
    let socket = stream(to)?;
    if let Some(from) = from {
        if from.port() == 0 {
            set(&socket, libc::IPPROTO_IP, libc::IP_BIND_ADDRESS_NO_PORT, 1)?;
        }
        bind(&socket, from)?;
    }
    Ok(socket)
}

/// An eventfd that nobody has written to.
pub(crate) fn eventfd() -> io::Result<File> {
    // SAFETY: the call takes no pointers.
    let fd = check(unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) })?;
    // SAFETY: the kernel just opened this descriptor for us and nobody else has it.
    Ok(unsafe { File::from_raw_fd(fd) })
}

/// Takes over a descriptor that the kernel installed for us.
pub(crate) fn adopt(fd: RawFd) -> OwnedFd {
    // SAFETY: callers pass the result of an install operation, which opened it for us alone.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// Milliseconds of the coarse monotonic clock (a few milliseconds fine, a few nanoseconds dear).
pub(crate) fn clock_ms() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` is a timespec of ours that the call fills.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC_COARSE, &raw mut now) };
    now.tv_sec as u64 * 1_000 + now.tv_nsec as u64 / 1_000_000
}

fn stream(addr: SocketAddr) -> io::Result<OwnedFd> {
    let family = if addr.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    let kind = libc::SOCK_STREAM | libc::SOCK_CLOEXEC;
    // SAFETY: the call takes no pointers.
    let fd = check(unsafe { libc::socket(family, kind, libc::IPPROTO_TCP) })?;
    // SAFETY: the kernel just opened this descriptor for us and nobody else has it.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    set(&socket, libc::IPPROTO_TCP, libc::TCP_NODELAY, 1)?;
    Ok(socket)
}

fn bind(socket: &OwnedFd, addr: SocketAddr) -> io::Result<()> {
    let addr = RawAddr::from(addr);
    // SAFETY: `addr` outlives the call, and its length is the one of its family.
    check(unsafe { libc::bind(socket.as_raw_fd(), addr.as_ptr(), addr.len()) }).map(drop)
}

fn set(socket: &OwnedFd, level: i32, name: i32, value: i32) -> io::Result<()> {
    let len = size_of::<i32>() as libc::socklen_t;
    // SAFETY: every option that this file sets takes an int; `value` is one and outlives the call.
    check(unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, (&raw const value).cast(), len) })
        .map(drop)
}

fn check(result: i32) -> io::Result<i32> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
