//! What the devices of a run did and saw, written down for the judge of the simulation.
//!
//! Each thread writes its own part as it goes, in the order of its time; the parts are merged when the run is over. So a
//! run of any length takes a buffer for each thread, and the disk.

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

use petrel_protocol::client::{Config, Output, Row};
use petrel_protocol::codes::Code;
use petrel_protocol::ids::UserId;
use petrel_protocol::packets::{C2cMsgPush, SyncRange, sync_row};
use petrel_simulation::history::{Content, Device, Entry, Id, What, fingerprint};

use crate::stamp::Stamp;

/// `format` of a message whose content was recalled.
const FORMAT_RECALLED: i32 = 10;

/// One thread's part.
#[derive(Debug)]
pub struct Recorder {
    out: BufWriter<File>,
    /// The first thing that could not be written; nothing more is then.
    failed: Option<std::io::Error>,
}

impl Recorder {
    /// Begins the part of a thread.
    pub fn create(history: &Path, thread: u32) -> std::io::Result<Self> {
        Ok(Self { out: BufWriter::new(File::create(part(history, thread))?), failed: None })
    }

    /// A device exists from here on.
    pub fn opened(&mut self, at: Stamp, device: Device, config: &Config) {
        let sends_one_by_one = config.pipeline == 1;
        self.write(at, device, What::Opened { shows_in_order: true, sends_one_by_one });
    }

    /// A device is asked to send.
    pub fn send(&mut self, at: Stamp, device: Device, to: UserId, id: [u8; 16], content: &str) {
        let content = fingerprint(content.as_bytes());
        self.write(at, device, What::Send { to: to.0, id: Id(id), content });
    }

    /// Something happened to a device.
    pub fn write(&mut self, at: Stamp, device: Device, what: What) {
        if self.failed.is_none()
            && let Err(e) = writeln!(self.out, "{}", Entry { at_us: at.us(), device, what })
        {
            self.failed = Some(e);
        }
    }

    /// What a device's machine has learnt, as far as it is judged.
    pub fn output(&mut self, at: Stamp, device: Device, output: &Output) {
        let what = match output {
            Output::Sent(id, attempt) if *attempt > 0 => What::Resent { id: Id(*id) },
            Output::Accepted { id, .. } => What::Accepted { id: Id(*id) },
            Output::Refused { id, may_exist, .. } => What::Refused { id: Id(*id), may_exist: *may_exist },
            Output::Postponed { id, code, .. } => {
                let is_certain = *code != Code::OutcomeUnknown as i32 && *code != Code::HeldBack as i32;
                What::Postponed { id: Id(*id), is_certain }
            }
            Output::Status { id, status, .. } => What::Status { id: Id(*id), status: *status },
            Output::Arrived(push) => arrived(device, push),
            Output::Shown(peer, row) => shown(peer.0, row),
            Output::Range(range) => return self.served(at, device, range),
            _ => return,
        };
        self.write(at, device, what);
    }

    fn served(&mut self, at: Stamp, device: Device, range: &SyncRange) {
        for row in &range.rows {
            if let Some(sync_row::Row::Message(push)) = &row.row {
                let (peer, seq, content) = (range.peer, push.seq, content_of(push));
                self.write(at, device, What::Served { peer, seq, content });
            }
        }
    }

    /// Ends the part.
    pub fn finish(mut self) -> std::io::Result<()> {
        match self.failed.take() {
            Some(e) => Err(e),
            None => self.out.flush(),
        }
    }
}

fn part(history: &Path, thread: u32) -> PathBuf {
    let mut name = history.as_os_str().to_owned();
    name.push(format!(".{thread}"));
    name.into()
}

fn content_of(push: &C2cMsgPush) -> Content {
    if push.format == FORMAT_RECALLED && push.content.is_empty() {
        Content::Recalled
    } else {
        Content::Is(fingerprint(push.content.as_bytes()))
    }
}

fn id_of(push: &C2cMsgPush) -> Id {
    Id(push.client_msg_id[..].try_into().unwrap_or_default())
}

fn arrived(device: Device, push: &C2cMsgPush) -> What {
    let peer = if push.from == device.user { push.to } else { push.from };
    let (seq, from) = (push.seq, push.from);
    What::Arrived { peer, seq, from, id: id_of(push), content: content_of(push) }
}

fn shown(peer: u64, row: &Row) -> What {
    match row {
        Row::Message(push) => {
            let (seq, from) = (push.seq, push.from);
            What::Message { peer, seq, from, id: id_of(push), content: content_of(push) }
        }
        Row::Own(seq) => What::Own { peer, seq: *seq },
        Row::Recall(recall) => {
            What::Recall { peer, seq: recall.seq, from: recall.from, target: recall.target_seq }
        }
        Row::Absent(seq) => What::Absent { peer, seq: *seq },
    }
}

/// Merges the parts of all threads by their times, line by line, and removes them.
pub fn merge(history: &Path, threads: u32) -> std::io::Result<()> {
    let mut parts = Vec::new();
    for thread in 0..threads {
        let mut lines = BufReader::new(File::open(part(history, thread))?);
        let next = next_line(&mut lines)?;
        parts.push((next, lines));
    }
    let mut out = BufWriter::new(File::create(history)?);
    loop {
        let first = parts.iter_mut().filter(|(next, _)| next.is_some());
        let Some((next, lines)) = first.min_by_key(|(next, _)| next.as_ref().map(|(at, _)| *at)) else {
            break;
        };
        if let Some((_, line)) = next.take() {
            out.write_all(line.as_bytes())?;
        }
        *next = next_line(lines)?;
    }
    out.flush()?;
    (0..threads).try_for_each(|thread| std::fs::remove_file(part(history, thread)))
}

fn next_line(lines: &mut impl BufRead) -> std::io::Result<Option<(u64, String)>> {
    let mut line = String::new();
    if lines.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let at_us = line.split(' ').next().and_then(|at| at.parse().ok()).unwrap_or(0);
    Ok(Some((at_us, line)))
}
