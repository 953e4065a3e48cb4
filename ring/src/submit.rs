//! The two queues shared with the kernel. Everything that goes in or comes out passes here.

use std::io;
use std::time::Duration;

use io_uring::types::{CancelBuilder, Fd, Fixed, SubmitArgs, Timespec};
use io_uring::{EnterFlags, IoUring, Probe, cqueue, opcode, squeue};

use crate::tag::{Kind, Tag};
use crate::{Config, SocketId};

/// The group of the one provided-buffer ring.
pub(crate) const BUFFER_GROUP: u16 = 0;
/// Completions for each submission entry. More than four only delays what an overflow does anyway: one more call.
const COMPLETIONS_PER_SUBMISSION: u32 = 4;
/// A submission that the kernel has no memory for is tried this often before the ring is given up.
const RETRIES_MAX: u32 = 1_000;

/// One completion, taken out of the shared queue.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Completion {
    pub(crate) tag: Tag,
    pub(crate) result: i32,
    flags: u32,
}

impl Completion {
    /// Whether the operation stays armed. False: this was its last completion.
    pub(crate) fn stays(&self) -> bool {
        cqueue::more(self.flags)
    }

    /// The provided buffer that was filled.
    pub(crate) fn buffer(&self) -> Option<u16> {
        cqueue::buffer_select(self.flags)
    }

    /// The bytes that were received.
    pub(crate) fn bytes(&self) -> u64 {
        self.buffer().map_or(0, |_| self.result.max(0) as u64)
    }

    /// Whether the socket had more to give when this receive ended.
    pub(crate) fn more_to_read(&self) -> bool {
        cqueue::sock_nonempty(self.flags)
    }
}

/// How long a turn waits, and for how much.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wait {
    /// Completions to wait for; 0 does not wait.
    pub(crate) wanted: u32,
    /// After this many microseconds one completion is enough. 0: it is from the start. Needs Linux 6.12.
    pub(crate) batch_us: u32,
    /// The longest wait. None: until something happens.
    pub(crate) longest: Option<Duration>,
}

/// The submission and completion queues.
pub(crate) struct Queues {
    ring: IoUring,
    taken: Vec<Completion>,
    closed: Vec<SocketId>,
    failed_sends: Vec<(u32, i32)>,
    has_batch_wait: bool,
    broken: Option<i32>,
}

impl Queues {
    pub(crate) fn new(config: &Config) -> io::Result<Self> {
        let mut builder = IoUring::builder();
        builder
            .dontfork()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_coop_taskrun()
            .setup_submit_all()
            .setup_no_sqarray()
            .setup_cqsize(config.entries.next_power_of_two() * COMPLETIONS_PER_SUBMISSION);
        let ring = builder.build(config.entries).map_err(explain_setup)?;
        let mut probe = Probe::new();
        ring.submitter().register_probe(&mut probe)?;
        if !probe.is_supported(opcode::FixedFdInstall::CODE) || !ring.params().is_feature_nodrop() {
            return Err(needs_newer_kernel());
        }
        ring.submitter()
            .register_files_sparse(config.sockets)
            .map_err(|error| explain_table(&error, config))?;
        let has_batch_wait = ring.params().is_feature_min_timeout();
        let completions = ring.params().cq_entries() as usize;
        Ok(Self {
            ring,
            taken: Vec::with_capacity(completions),
            closed: Vec::new(),
            failed_sends: Vec::with_capacity(64),
            has_batch_wait,
            broken: None,
        })
    }

    pub(crate) fn ring(&self) -> &IoUring {
        &self.ring
    }

    pub(crate) fn has_batch_wait(&self) -> bool {
        self.has_batch_wait
    }

    /// The error that ended this ring, if one did. Nothing is submitted after it.
    pub(crate) fn check(&self) -> io::Result<()> {
        self.broken.map_or(Ok(()), |errno| Err(io::Error::from_raw_os_error(errno)))
    }

    /// Takes what completed. Hand the vector back to [`Self::recycle`], so that its memory is used again.
    pub(crate) fn take_completions(&mut self) -> Vec<Completion> {
        std::mem::take(&mut self.taken)
    }

    pub(crate) fn recycle(&mut self, mut completions: Vec<Completion>) {
        completions.clear();
        // A submission within the turn may have taken some meanwhile.
        completions.append(&mut self.taken);
        self.taken = completions;
    }

    pub(crate) fn has_completions(&self) -> bool {
        !self.taken.is_empty() || !self.closed.is_empty()
    }

    /// Takes the sockets whose slots are closed. Hand the vector back to [`Self::recycle_closed`].
    pub(crate) fn take_closed(&mut self) -> Vec<SocketId> {
        std::mem::take(&mut self.closed)
    }

    pub(crate) fn recycle_closed(&mut self, mut closed: Vec<SocketId>) {
        closed.clear();
        closed.append(&mut self.closed);
        self.closed = closed;
    }

    /// Completions taken so far, for whoever submitted something that completes at once.
    pub(crate) fn completions_mut(&mut self) -> &mut Vec<Completion> {
        &mut self.taken
    }

    /// The sends of the last [`Self::enter`] that were short or failed: their index in the turn, and the result.
    pub(crate) fn failed_sends(&self) -> &[(u32, i32)] {
        &self.failed_sends
    }

    pub(crate) fn forget_failed_sends(&mut self) {
        self.failed_sends.clear();
    }

    pub(crate) fn accept(&mut self, listener: i32, tag: Tag) {
        let slot = Some(io_uring::types::DestinationSlot::auto_target());
        let accept = opcode::Accept::new(Fd(listener), std::ptr::null_mut(), std::ptr::null_mut());
        self.push_pointerless(accept.file_index(slot).build(), tag);
    }

    pub(crate) fn poll_event(&mut self, fd: i32, tag: Tag) {
        self.push_pointerless(opcode::PollAdd::new(Fd(fd), libc::POLLIN as u32).multi(true).build(), tag);
    }

    pub(crate) fn poll_readable(&mut self, id: SocketId) {
        let events = (libc::POLLIN | libc::POLLRDHUP) as u32;
        let poll = opcode::PollAdd::new(Fixed(id.slot), events).multi(true).build();
        self.push_pointerless(poll, Tag::new(Kind::Poll, id));
    }

    pub(crate) fn poll_writable(&mut self, id: SocketId) {
        let poll = opcode::PollAdd::new(Fixed(id.slot), libc::POLLOUT as u32).build();
        self.push_pointerless(poll, Tag::new(Kind::Writable, id));
    }

    /// One receive into a provided buffer. `MSG_DONTWAIT` makes it complete within its submission.
    pub(crate) fn receive(&mut self, id: SocketId) {
        let receive = opcode::Recv::new(Fixed(id.slot), std::ptr::null_mut(), 0)
            .flags(libc::MSG_DONTWAIT)
            .buf_group(BUFFER_GROUP)
            .build()
            .flags(squeue::Flags::BUFFER_SELECT);
        self.push_pointerless(receive, Tag::new(Kind::Receive, id));
    }

    pub(crate) fn receive_stream(&mut self, id: SocketId) {
        let stream = opcode::RecvMulti::new(Fixed(id.slot), BUFFER_GROUP).build();
        self.push_pointerless(stream, Tag::new(Kind::Stream, id));
    }

    pub(crate) fn install(&mut self, id: SocketId) {
        let install = opcode::FixedFdInstall::new(Fixed(id.slot), 0).build();
        self.push_pointerless(install, Tag::new(Kind::Install, id));
    }

    pub(crate) fn close(&mut self, id: SocketId) {
        self.push_pointerless(opcode::Close::new(Fixed(id.slot)).build(), Tag::new(Kind::Close, id));
    }

    /// Closes a slot that never had a socket of ours.
    pub(crate) fn close_unused(&mut self, slot: u32) {
        self.push_pointerless(opcode::Close::new(Fixed(slot)).build(), Tag::of_kind(Kind::Cancel));
    }

    /// Cancels every operation with this tag. Each still completes by itself.
    pub(crate) fn cancel(&mut self, tag: Tag) {
        let cancel = opcode::AsyncCancel2::new(CancelBuilder::user_data(tag.0).all()).build();
        self.push_pointerless(cancel.flags(squeue::Flags::SKIP_SUCCESS), Tag::of_kind(Kind::Cancel));
    }

    fn push_pointerless(&mut self, entry: squeue::Entry, tag: Tag) {
        // SAFETY: the callers are the methods above. Their operations hold no pointers; a receive writes to a provided
        // buffer, and the memory of those outlives this ring (`Ring` drops its queues first).
        unsafe { self.push(entry, tag) };
    }

    /// Queues an operation; when the queue is full, what it holds is submitted first.
    ///
    /// # Safety
    /// Whatever the entry points to must be valid until the next [`Self::submit`] or [`Self::enter`] has returned `Ok`,
    /// or for as long as the queues exist if that fails, and the operation must need it no longer than its submission.
    pub(crate) unsafe fn push(&mut self, entry: squeue::Entry, tag: Tag) {
        let entry = entry.user_data(tag.0);
        if self.broken.is_some() {
            return;
        }
        if self.ring.submission().is_full() && self.submit().is_err() {
            return;
        }
        // SAFETY: the caller's promise is this function's.
        let pushed = unsafe { self.ring.submission().push(&entry) };
        pushed.expect("a queue that was just submitted has room");
    }

    /// Submits without waiting. The queue is empty after `Ok`.
    pub(crate) fn submit(&mut self) -> io::Result<()> {
        self.enter(Wait { wanted: 0, batch_us: 0, longest: None })
    }

    /// Submits everything and waits, in one system call, then takes every completion. After `Ok` the queue is empty,
    /// and every operation that completes within its submission has been taken.
    pub(crate) fn enter(&mut self, wait: Wait) -> io::Result<()> {
        self.check()?;
        let mut wait = wait;
        let mut retries = 0;
        loop {
            let entered = self.enter_once(wait);
            self.gather();
            let is_submitted = self.ring.submission().is_empty();
            let overflowed = self.ring.submission().cq_overflow();
            match entered.map_err(|error| error.raw_os_error().unwrap_or(libc::EIO)) {
                Ok(_) | Err(libc::EINTR | libc::ETIME) if is_submitted && !overflowed => return Ok(()),
                Ok(_) | Err(libc::EINTR | libc::ETIME) => {}
                // The kernel is short of memory or of room for completions. The room was made just now.
                Err(libc::EBUSY | libc::EAGAIN | libc::ENOMEM) if retries < RETRIES_MAX => {
                    retries += 1;
                    std::thread::yield_now();
                }
                Err(errno) => {
                    self.broken = Some(errno);
                    return Err(io::Error::from_raw_os_error(errno));
                }
            }
            wait.wanted = 0;
        }
    }

    fn enter_once(&mut self, wait: Wait) -> io::Result<usize> {
        let queued = self.ring.submission().len() as u32;
        let flags = EnterFlags::GETEVENTS.bits();
        if wait.wanted == 0 {
            // SAFETY: without the extended argument the kernel reads a signal mask, and there is none.
            return unsafe { self.ring.submitter().enter::<libc::sigset_t>(queued, 0, flags, None) };
        }
        let timeout = wait.longest.map(Timespec::from);
        let mut args = SubmitArgs::new();
        if let Some(timeout) = &timeout {
            args = args.timespec(timeout);
        }
        if self.has_batch_wait {
            args = args.min_wait_usec(wait.batch_us);
        }
        let flags = flags | EnterFlags::EXT_ARG.bits();
        // SAFETY: EXT_ARG says that the argument is an io_uring_getevents_arg, which SubmitArgs is; it and the timespec
        // in it outlive the call.
        unsafe { self.ring.submitter().enter(queued, wait.wanted, flags, Some(&args)) }
    }

    fn gather(&mut self) {
        for entry in self.ring.completion() {
            let tag = Tag(entry.user_data());
            match tag.kind() {
                Kind::Send => self.failed_sends.push((tag.id().slot, entry.result())),
                Kind::Close => self.closed.push(tag.id()),
                Kind::Cancel => {}
                _ => self.taken.push(Completion { tag, result: entry.result(), flags: entry.flags() }),
            }
        }
    }
}

fn explain_setup(error: io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(libc::EINVAL) => needs_newer_kernel(),
        Some(libc::ENOSYS) => io::Error::new(
            io::ErrorKind::Unsupported,
            "this kernel is built without io_uring; run Linux 6.8 or newer",
        ),
        Some(libc::EPERM) => io::Error::new(
            io::ErrorKind::PermissionDenied,
            "io_uring is forbidden here: set the sysctl kernel.io_uring_disabled to 0, and allow the io_uring_* calls \
             in the container's seccomp profile",
        ),
        Some(libc::ENOMEM) => io::Error::new(
            io::ErrorKind::OutOfMemory,
            "the kernel has no memory for the ring: raise RLIMIT_MEMLOCK (LimitMEMLOCK= in systemd) or lower \
             Config::entries",
        ),
        _ => error,
    }
}

fn needs_newer_kernel() -> io::Error {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let text = format!(
        "Linux {} lacks what the ring needs (deferred task work, no submission array, descriptor install): run Linux \
         6.8 or newer",
        release.trim()
    );
    io::Error::new(io::ErrorKind::Unsupported, text)
}

fn explain_table(error: &io::Error, config: &Config) -> io::Error {
    let text = format!(
        "a table of {} sockets was refused ({error}): it may not exceed RLIMIT_NOFILE; raise that (LimitNOFILE= in \
         systemd) or lower Config::sockets",
        config.sockets
    );
    io::Error::new(error.kind(), text)
}
