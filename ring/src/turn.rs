//! The shard's one closed loop.

use std::io;
use std::rc::Rc;
use std::time::Duration;

use crate::submit::{Completion, Wait};
use crate::tag::{Kind, Tag};
use crate::{Handler, Ring, sys};

impl Ring {
    /// One round: submits what was asked for since the last one, waits at most `wait` while nothing is there (`None`:
    /// until something happens), in one system call; then calls the handler for everything that completed. Signals only
    /// make it return early.
    ///
    /// # Errors
    /// The kernel refused the ring as such. Nothing works after that: drop the ring.
    ///
    /// # Panics
    /// When the handler replaced this ring by another one.
    pub fn turn<H: Handler>(&mut self, wait: Option<Duration>, handler: &mut H) -> io::Result<()> {
        // A handler could replace the whole ring while it holds bytes of this one.
        let memory = self.buffers.memory();
        self.arm_accepts();
        let receives = self.push_receives();
        // The last before the submission, since sends point into memory that handlers may change.
        self.push_sends();
        let must_settle = self.sends.must_settle_soon(H::WANTS_DRAINED);
        let wait = self.wait(wait, receives > 0 || must_settle);
        self.queues.enter(wait)?;
        let is_woken = self.waker.take();
        self.now_ms = sys::clock_ms();
        self.settle_sends(handler);
        self.report_closed(handler);
        self.complete(wait.wanted > 0, &memory, handler);
        self.buffers.publish();
        if is_woken {
            handler.woken(self);
        }
        self.cut_late_closes();
        self.cool_quiet_sockets();
        handler.turn_ended(self);
        assert!(self.buffers.is_memory(&memory), "the handler replaced the ring within its turn");
        Ok(())
    }

    fn complete(&mut self, has_waited: bool, memory: &Rc<sys::Mapping>, handler: &mut impl Handler) {
        let completions = self.queues.take_completions();
        if has_waited {
            self.pace.arrived(completions.len() as u32, completions.iter().map(Completion::bytes).sum());
        }
        for completion in &completions {
            self.dispatch(completion, handler);
            assert!(self.buffers.is_memory(memory), "the handler replaced the ring within its turn");
        }
        self.queues.recycle(completions);
    }

    fn dispatch(&mut self, completion: &Completion, handler: &mut impl Handler) {
        match completion.tag.kind() {
            Kind::Stream => self.on_stream(completion, handler),
            Kind::Poll => self.on_poll(completion),
            Kind::Receive => self.on_receive(completion, handler),
            Kind::Writable => self.on_writable(completion),
            Kind::Accept => self.on_accept(completion, handler),
            Kind::Connect => self.on_connect(completion, handler),
            Kind::Install => self.on_install(completion),
            Kind::Wake => {
                if !completion.stays() {
                    self.queues.poll_event(self.waker.event_fd(), Tag::of_kind(Kind::Wake));
                }
            }
            Kind::Close | Kind::Send | Kind::Update | Kind::Cancel => {
                unreachable!("taken where they are gathered")
            }
        }
    }

    /// Slots that are closed are reported before anything else, since the kernel may have used them again since.
    fn report_closed(&mut self, handler: &mut impl Handler) {
        let closed = self.queues.take_closed();
        for &id in &closed {
            self.on_close(id, handler);
        }
        self.queues.recycle_closed(closed);
    }

    /// `is_next_soon`: there will be something to do right after the submission.
    fn wait(&self, wait: Option<Duration>, is_next_soon: bool) -> Wait {
        let has_work = is_next_soon || !self.readable.is_empty() || self.queues.has_completions();
        let (wanted, batch_us) = self.pace.next();
        let deadline = self.deadlines.front().map(|&(deadline_ms, _)| deadline_ms);
        let next_ms = deadline.into_iter().chain(self.accepting.rests_until_ms()).min();
        let until_next = next_ms.map(|at_ms| Duration::from_millis(at_ms.saturating_sub(self.now_ms).max(1)));
        let longest = wait.into_iter().chain(until_next).min();
        let must_not_wait = has_work || longest == Some(Duration::ZERO);
        if must_not_wait || !self.waker.may_wait() {
            return Wait { wanted: 0, batch_us: 0, longest: None };
        }
        Wait { wanted, batch_us, longest }
    }
}
