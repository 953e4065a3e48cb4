//! The command `check`: judges a history file by the judge of the simulation, and tells the story of the message where
//! something is wrong.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use petrel_simulation::Checker;
use petrel_simulation::check::{Verdict, Violation};
use petrel_simulation::history::{Entry, Id, What};

/// Why a history cannot be judged.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// It cannot be read.
    #[error("cannot read {0}: {1}")]
    Unreadable(String, std::io::Error),
    /// A line is no entry.
    #[error("{0}: line {1} is not an entry of a history: {2:?}")]
    BadLine(String, u64, String),
}

/// The judgement of a file.
#[derive(Debug)]
pub enum Judged {
    /// Nothing is wrong.
    Good(Verdict),
    /// Something is: what, and all that the history says about that message or that place.
    Bad(Box<Violation>, String),
}

/// Lines of a story, from its beginning and from its end.
const STORY_LINES: usize = 40;

/// Judges a file, line by line.
pub fn check(path: &Path) -> Result<Judged, CheckError> {
    let mut checker = Checker::default();
    let mut violation = None;
    for_each(path, |entry| {
        violation = checker.entry(entry).err();
        violation.is_none()
    })?;
    let violation = match violation.map_or_else(|| checker.end(), Err) {
        Ok(verdict) => return Ok(Judged::Good(verdict)),
        Err(violation) => violation,
    };
    let story = story(path, &violation)?;
    Ok(Judged::Bad(Box::new(violation), story))
}

/// Gives the entries one by one, as long as they are wanted.
fn for_each(path: &Path, mut wants_more: impl FnMut(&Entry) -> bool) -> Result<(), CheckError> {
    let name = || path.display().to_string();
    let file = File::open(path).map_err(|e| CheckError::Unreadable(name(), e))?;
    for (number, line) in (1..).zip(BufReader::new(file).lines()) {
        let line = line.map_err(|e| CheckError::Unreadable(name(), e))?;
        let Ok(entry) = line.parse() else { return Err(CheckError::BadLine(name(), number, line)) };
        if !wants_more(&entry) {
            break;
        }
    }
    Ok(())
}

/// All that concerns the message, or its place in the conversation, oldest first.
fn story(path: &Path, violation: &Violation) -> Result<String, CheckError> {
    let (user, peer) = (violation.device.user, violation.peer);
    let is_place = |entry: &Entry, of: u64, seq: u64| {
        let here = [entry.device.user, of];
        violation.seq != 0 && seq == violation.seq && (here == [user, peer] || here == [peer, user])
    };
    let mut lines: Vec<String> = Vec::new();
    let mut left_out = 0;
    for_each(path, |entry| {
        let is_it = match (id_of(entry.what), place_of(entry.what)) {
            (Some(id), _) if Some(id) == violation.id => true,
            (_, Some((of, seq))) => is_place(entry, of, seq),
            _ => false,
        } || matches!(entry.what, What::Recall { peer, seq, .. } if is_place(entry, peer, seq));
        if is_it {
            if lines.len() == STORY_LINES {
                lines.remove(STORY_LINES / 2);
                left_out += 1;
            }
            lines.push(format!("{:>12.3} ms  {}  {}", entry.at_us as f64 / 1e3, entry.device, entry.what));
        }
        true
    })?;
    let mut text = String::new();
    for (number, line) in lines.iter().enumerate() {
        if left_out > 0 && number == STORY_LINES / 2 {
            writeln!(text, "{:>12}     {left_out} more", "…").expect("a String grows");
        }
        writeln!(text, "{line}").expect("a String grows");
    }
    Ok(text)
}

fn id_of(what: What) -> Option<Id> {
    match what {
        What::Send { id, .. }
        | What::Contested { id }
        | What::Resent { id }
        | What::Accepted { id }
        | What::Postponed { id, .. }
        | What::Refused { id, .. }
        | What::Status { id, .. }
        | What::Arrived { id, .. }
        | What::Message { id, .. } => Some(id),
        _ => None,
    }
}

fn place_of(what: What) -> Option<(u64, u64)> {
    match what {
        What::Arrived { peer, seq, .. }
        | What::Message { peer, seq, .. }
        | What::Own { peer, seq }
        | What::Absent { peer, seq }
        | What::Served { peer, seq, .. } => Some((peer, seq)),
        What::Recall { peer, target, .. } => Some((peer, target)),
        _ => None,
    }
}
