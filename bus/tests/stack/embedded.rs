//! An embedded log for each test.

use petrel_bus::Bus;

pub(crate) struct Stack {
    dir: tempfile::TempDir,
    partitions: u16,
}

impl Stack {
    /// Offsets begin at 0 and are dense.
    pub(crate) const IS_DENSE: bool = true;

    pub(crate) fn new(partitions: u16) -> Self {
        Self { dir: tempfile::tempdir().unwrap(), partitions }
    }

    /// Opens what is there.
    #[expect(clippy::unused_async, reason = "other logs wait for their broker")]
    pub(crate) async fn open(&self) -> Bus {
        Bus::embedded(self.dir.path(), self.partitions).expect("it opens")
    }
}
