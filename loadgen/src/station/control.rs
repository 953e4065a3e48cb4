//! What a thread does by the clock: stages, sends, timers, who is offline.

use std::rc::Rc;
use std::sync::atomic::Ordering::Release;
use std::task::Poll;
use std::time::Duration;

use monoio::io::AsyncReadRent;
use monoio::net::UnixStream;
use petrel_protocol::client::Input;
use petrel_simulation::history::What;

use super::{Inner, Link, Slot, Station, connection};
use crate::measure::Timed;
use crate::pace::{self, BEAT_BYTES, Beat, Pace};
use crate::plan::Stage;
use crate::stamp::Stamp;

const SWEEP: Duration = Duration::from_millis(20);
/// Sends between two looks at the sockets.
const BURST: usize = 256;
/// A polite close is answered within this time, or the connection is dropped.
const CLOSE_TIMEOUT_US: u64 = 2_000_000;
/// Connections closed in one sweep at the end: closing very many at once would pin the kernel's memory.
const CLOSES_AT_ONCE: usize = 200;

/// Runs the thread until the end.
pub(super) async fn run(station: Rc<Station>) {
    let devices = station.inner.borrow().devices.len();
    for d in 0..devices {
        monoio::spawn(connection::run(Rc::clone(&station), d));
    }
    monoio::spawn(send(Rc::clone(&station)));
    let mut offline = Offline::default();
    loop {
        monoio::time::sleep(SWEEP).await;
        if station.sweep(&mut offline) {
            return;
        }
    }
}

/// Who is offline, and until when.
#[derive(Debug, Default)]
struct Offline {
    /// Users by their devices' first place in the thread.
    away: Vec<(usize, Stamp)>,
    /// Reconnections that are due, as a fraction adds up.
    churn: f64,
}

impl Station {
    /// One look at everything. Returns whether it is over.
    fn sweep(&self, offline: &mut Offline) -> bool {
        let now = self.plan.clock.stamp();
        let mut inner = self.inner.borrow_mut();
        let stage = self.board.stage();
        if stage != inner.stage {
            inner.enter(stage, self.board.load_start(), now);
        }
        if stage == Stage::Load {
            inner.rotate_offline(offline, now);
            inner.churn(offline, now);
            // In a closed loop those that were away wait for their turn.
            inner.wake_sender();
        }
        let is_over = stage == Stage::End && inner.close_some(now);
        let mono_ms = self.plan.clock.now().mono_ms;
        for d in 0..inner.devices.len() {
            let device = &mut inner.devices[d];
            if device.link == Link::Closing && now.us_since(device.closing_at) > CLOSE_TIMEOUT_US {
                device.hang_up(now, false);
            }
            if device.client.due_ms().is_some_and(|due| due <= mono_ms) {
                inner.handle(d, Input::Tick);
            }
        }
        self.publish(&inner);
        is_over
    }

    fn publish(&self, inner: &Inner) {
        let gauges = &self.board.gauges[self.number as usize];
        let count = |is: fn(&super::Device) -> bool| inner.devices.iter().filter(|d| is(d)).count() as u32;
        let sum = |of: fn(&super::Device) -> usize| inner.devices.iter().map(of).sum::<usize>() as u32;
        gauges.devices.store(inner.devices.len() as u32, Release);
        gauges.connected.store(count(|d| d.link == Link::Up), Release);
        gauges.ready.store(count(|d| d.is_wanted && d.link == Link::Up && d.client.is_ready()), Release);
        gauges.wanted.store(count(|d| d.is_wanted), Release);
        gauges.synced.store(count(|d| d.has_resynced), Release);
        // Only their return settles what those who are away have left.
        gauges.pending.store(sum(|d| if d.is_wanted { d.client.pending() } else { 0 }), Release);
        gauges.gaps.store(sum(|d| if d.is_wanted { d.client.gaps() } else { 0 }), Release);
        let counts = &inner.measures.counts;
        gauges.offered.store(counts.offered, Release);
        gauges.accepted.store(counts.accepted, Release);
        gauges.refused.store(counts.refused, Release);
        gauges.delivered.store(counts.delivered, Release);
        gauges.last_news.store(inner.last_news.0, Release);
        let slowest_us = inner.measures.total[Timed::Delivery as usize].max_us();
        gauges.slowest_us.store(u32::try_from(slowest_us).unwrap_or(u32::MAX), Release);
        gauges.is_load_over.store(inner.is_load_over, Release);
        gauges.stage.store(inner.stage as u8, Release);
    }
}

impl Inner {
    fn enter(&mut self, stage: Stage, load_start: Stamp, now: Stamp) {
        self.stage = stage;
        self.last_news = now;
        match stage {
            Stage::Load => {
                self.load_start = load_start;
                if self.plan.phases()[0].rate == 0.0 {
                    let window = self.plan.scenario.window as usize;
                    self.turns =
                        (0..self.devices.len()).flat_map(|d| std::iter::repeat_n(d, window)).collect();
                }
            }
            Stage::Gather => (0..self.devices.len()).for_each(|d| self.want(d, true, now)),
            Stage::Resync | Stage::Again => (0..self.devices.len()).for_each(|d| {
                // Everybody leaves at once; the ramp's rate paces the return.
                let device = &mut self.devices[d];
                (device.has_resynced, device.resync_connects) = (false, 0);
                device.hang_up(now, true);
            }),
            Stage::End => self.devices.iter_mut().for_each(|d| d.is_wanted = false),
            Stage::Ramp | Stage::Drain => {}
        }
        self.wake_sender();
    }

    fn want(&mut self, d: usize, is_wanted: bool, now: Stamp) {
        let is_polite = self.random.below(2) == 0;
        if !is_wanted {
            self.record(d, What::Away);
        }
        let device = &mut self.devices[d];
        device.is_wanted = is_wanted;
        if is_wanted {
            device.ring(Slot::Online);
        } else {
            device.hang_up(now, is_polite);
        }
    }

    fn wake_sender(&mut self) {
        if let Some(waker) = self.sender.take() {
            waker.wake();
        }
    }

    /// Keeps the share of users offline: who was away for long enough comes back, others go.
    fn rotate_offline(&mut self, offline: &mut Offline, now: Stamp) {
        let per_user = self.plan.scenario.devices as usize;
        let users = self.devices.len() / per_user;
        let target = (users as f64 * self.plan.scenario.offline_share).round() as usize;
        let back: Vec<usize> =
            offline.away.iter().filter(|(_, until)| *until <= now).map(|(u, _)| *u).collect();
        offline.away.retain(|(_, until)| *until > now);
        for first in back {
            (first..first + per_user).for_each(|d| self.want(d, true, now));
        }
        while offline.away.len() < target {
            let first = self.random.below(users as u64) as usize * per_user;
            if offline.away.iter().any(|(away, _)| *away == first) {
                continue;
            }
            (first..first + per_user).for_each(|d| self.want(d, false, now));
            // Between half and one and a half of the mean, so that they do not come back together.
            let stay = self.plan.scenario.offline_s * (0.5 + self.random.unit());
            offline.away.push((first, now.after(Duration::from_secs_f64(stay))));
        }
    }

    fn churn(&mut self, offline: &mut Offline, now: Stamp) {
        let threads = f64::from(self.plan.threads);
        offline.churn += self.plan.scenario.churn_per_s / threads * SWEEP.as_secs_f64();
        while offline.churn >= 1.0 {
            offline.churn -= 1.0;
            let d = self.random.below(self.devices.len() as u64) as usize;
            let is_polite = self.random.below(2) == 0;
            self.devices[d].hang_up(now, is_polite);
        }
    }

    /// Closes some of the connections. Returns whether all are gone.
    fn close_some(&mut self, now: Stamp) -> bool {
        let up = self.devices.iter_mut().filter(|d| d.link == Link::Up);
        up.take(CLOSES_AT_ONCE).for_each(|d| d.hang_up(now, true));
        self.devices.iter().all(|d| d.link == Link::Down)
    }

    /// Sends from a device drawn at random: one that can, or any where many draws found none.
    fn send_from_anybody(&mut self, intended: Stamp) {
        const DRAWS: usize = 32;
        let devices = self.devices.len() as u64;
        let mut d = 0;
        for _ in 0..DRAWS {
            d = self.random.below(devices) as usize;
            if self.can_send(d) {
                break;
            }
        }
        self.send(d, intended);
    }
}

/// Sends what is due, as the load says.
async fn send(station: Rc<Station>) {
    station.stage_reached(Stage::Load).await;
    if station.inner.borrow().devices.is_empty() {
        station.inner.borrow_mut().is_load_over = true;
        return;
    }
    let share = share(station.plan.scenario.messages, station.number, station.plan.threads);
    if station.plan.phases()[0].rate > 0.0 {
        send_open(&station, share).await.expect("the metronome's socket is this process's own");
    } else {
        send_closed(&station, share).await;
    }
    station.inner.borrow_mut().is_load_over = true;
}

/// A thread's share of the messages; all that there are where they are not counted.
fn share(messages: u64, thread: u32, threads: u32) -> u64 {
    match messages {
        0 => u64::MAX,
        _ => messages / u64::from(threads) + u64::from(u64::from(thread) < messages % u64::from(threads)),
    }
}

async fn send_open(station: &Station, share: u64) -> std::io::Result<()> {
    let load_start = station.inner.borrow().load_start;
    let pace = Pace::new(station.plan.phases(), station.number, station.plan.threads, share);
    let metronome = pace::metronome(pace, station.plan.clock, load_start)?;
    let mut metronome = UnixStream::from_std(metronome)?;
    let mut waiting: Vec<u8> = Vec::new();
    let mut buffer = Vec::with_capacity(BEAT_BYTES * 64);
    loop {
        let (len, filled) = metronome.read(buffer).await;
        buffer = filled;
        if len? == 0 || station.board.stage() != Stage::Load {
            return Ok(());
        }
        waiting.extend_from_slice(&buffer);
        let (beats, _) = waiting.as_chunks::<BEAT_BYTES>();
        for beat in beats {
            let beat = Beat::from_bytes(*beat);
            for sent in 1..=beat.count as usize {
                station.inner.borrow_mut().send_from_anybody(beat.at);
                if sent.is_multiple_of(BURST) {
                    breathe().await;
                }
            }
        }
        let whole = beats.len() * BEAT_BYTES;
        waiting.drain(..whole);
    }
}

/// Lets every other task of the thread run once.
async fn breathe() {
    let mut has_run = false;
    std::future::poll_fn(|cx| {
        if std::mem::replace(&mut has_run, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

impl Station {
    async fn stage_reached(&self, stage: Stage) {
        std::future::poll_fn(|cx| {
            let mut inner = self.inner.borrow_mut();
            if inner.stage >= stage {
                return Poll::Ready(());
            }
            inner.sender = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }
}

async fn send_closed(station: &Station, mut share: u64) {
    let load_s = station.plan.load_s();
    loop {
        let over_at = station.inner.borrow().load_start.after(Duration::from_secs_f64(load_s.min(1e6)));
        std::future::poll_fn(|cx| {
            let mut inner = station.inner.borrow_mut();
            let is_work =
                inner.stage != Stage::Load || (0..inner.turns.len()).any(|i| inner.can_send(inner.turns[i]));
            if is_work || station.plan.clock.stamp() >= over_at {
                return Poll::Ready(());
            }
            inner.sender = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
        let now = station.plan.clock.stamp();
        let mut inner = station.inner.borrow_mut();
        if inner.stage != Stage::Load || now >= over_at {
            return;
        }
        for d in std::mem::take(&mut inner.turns) {
            if !inner.can_send(d) {
                inner.turns.push(d);
                continue;
            }
            if share == 0 {
                return;
            }
            share -= 1;
            inner.send(d, now);
        }
        if share == 0 {
            return;
        }
    }
}
