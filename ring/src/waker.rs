//! Wakes a waiting ring from any thread.

/// Makes the ring's current or next waiting turn return. Any number of clones, on any thread.
#[derive(Clone, Debug)]
pub struct Waker;

impl Waker {
    /// Wakes the ring. Many wakes before its next turn cost one system call.
    pub fn wake(&self) {}
}
