//! Calls between processes, over real sockets.

mod bounds;
mod calls;
mod ends;
mod garbage;
mod pool;
mod support;
