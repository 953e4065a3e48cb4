//! Makes good what a crash leaves of a fjall database, before it is opened.
//!
//! - A kill while a database is created leaves a folder that fjall refuses for ever. Nothing was written to it yet.
//! - What was not synced when the power went may be on disk in part: a block is missing and a later one is there. fjall
//!   refuses a journal whose last batches have such a hole, or trips over it, though nobody was promised them. The newest
//!   journal is cut before its first broken batch, and what is cut off is kept in a file.
//!
//! It reads fjall's journal of format 3 (`fjall::journal::entry`): batches of `1 count:u32 seqno:u64`, then `count` times
//! `2 type:u8 compression:u8 keyspace:u64 key_length:u16 length:u32 stored_length:u32 key value` or `4 keyspace:u64`, then
//! `3 xxh3(items):u64 "FJL" 3`; integers are little-endian. The checksum leaves out the seqno, of which fjall takes whatever
//! is there and goes on counting from it: that it follows the last one is looked at here.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::xxh3_64;

const MAGIC: &[u8] = b"FJL\x03";
/// From the top bit on, seqnos are fjall's own, and counting into it is a panic.
const SEQNO_MAX: u64 = 1 << 62;
/// Between two batches of a journal fjall takes numbers for tables that it writes and merges, by far fewer than these.
const SEQNO_STEP_MAX: u64 = 1 << 32;
/// What fjall makes before it writes the file `version`, which says that the database is there.
const MADE_FIRST: [&str; 4] = ["lock", "keyspaces", "0.jnl", "version"];

/// Mends what a crash left of the database in this folder, and opens it. What is cut off its journal is kept in the folder
/// `keep_in`.
pub(super) fn open<T, E: From<fjall::Error>>(
    database: &Path,
    keep_in: &Path,
    open: impl FnOnce() -> Result<T, E>,
) -> Result<T, E> {
    if let Some(cut) = mend(database, keep_in).map_err(fjall::Error::from)? {
        tracing::warn!(
            "the journal in {} was torn, as a power cut or a kill leaves what was not synced. Its last {} bytes were not \
             promised to anybody; they are kept in {}, which can be deleted",
            database.display(),
            cut.bytes,
            cut.kept_in.display(),
        );
    }
    open()
}

/// Mends what nobody has open: whoever does is in the middle of writing, and opening it will say so.
fn mend(database: &Path, keep_in: &Path) -> io::Result<Option<Cut>> {
    let lock = match File::open(database.join("lock")) {
        Ok(lock) => lock,
        // It was not even begun.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Ok(None),
        Err(TryLockError::Error(error)) => return Err(error),
    }
    clear_unfinished(database)?;
    mend_journal(database, keep_in)
}

/// Removes a database whose creation was cut short. A folder in which there is anything else is left as it is.
fn clear_unfinished(database: &Path) -> io::Result<()> {
    let version = fs::metadata(database.join("version")).map_or(0, |version| version.len());
    if version != 0 || !database.exists() {
        return Ok(());
    }
    for entry in fs::read_dir(database)? {
        if !MADE_FIRST.iter().any(|made| entry.as_ref().is_ok_and(|entry| entry.file_name() == *made)) {
            return Ok(());
        }
    }
    // The first keyspace is made after the version.
    let keyspaces = database.join("keyspaces");
    if keyspaces.exists() && fs::read_dir(keyspaces)?.next().is_some() {
        return Ok(());
    }
    fs::remove_dir_all(database)
}

/// What was cut off.
struct Cut {
    bytes: u64,
    kept_in: PathBuf,
}

/// Cuts the newest journal of the database before its first broken batch. None where there is none: the older ones were
/// synced.
fn mend_journal(database: &Path, keep_in: &Path) -> io::Result<Option<Cut>> {
    let Some((number, path)) = newest_journal(database)? else { return Ok(None) };
    if broken_from(&read_used(&path)?).is_none() {
        return Ok(None);
    }
    // All of it: there may have been more behind what seemed to be its end.
    let journal = fs::read(&path)?;
    let Some(whole) = broken_from(&journal) else { return Ok(None) };
    let rest = &journal[whole..];
    let used = rest.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
    let kept_in = keep_in.join(format!("torn-{number}-{whole}"));
    fs::write(&kept_in, &rest[..used])?;
    File::open(&kept_in)?.sync_all()?;
    let file = OpenOptions::new().write(true).open(&path)?;
    file.set_len(whole as u64)?;
    file.sync_all()?;
    Ok(Some(Cut { bytes: used as u64, kept_in }))
}

fn newest_journal(database: &Path) -> io::Result<Option<(u64, PathBuf)>> {
    if !database.exists() {
        return Ok(None);
    }
    let mut newest: Option<(u64, PathBuf)> = None;
    for entry in fs::read_dir(database)? {
        let path = entry?.path();
        let number = path.file_name().and_then(|name| name.to_str()?.strip_suffix(".jnl")?.parse().ok());
        if let Some(number) = number
            && newest.as_ref().is_none_or(|(newest, _)| number > *newest)
        {
            newest = Some((number, path));
        }
    }
    Ok(newest)
}

/// The journal up to its first long row of zeroes: it is made with its full length, most of which may be unused.
fn read_used(path: &Path) -> io::Result<Vec<u8>> {
    const STEP: u64 = 1 << 20;
    let mut file = File::open(path)?;
    let mut journal = Vec::new();
    loop {
        let before = journal.len();
        let read = file.by_ref().take(STEP).read_to_end(&mut journal)?;
        let is_unused = |block: &[u8]| *block == [0; 4096][..block.len()];
        if read == 0 || journal[before..].chunks(4096).all(is_unused) {
            return Ok(journal);
        }
    }
}

/// Where the first batch begins that is there and is not whole. A zero begins none: fjall ends there.
fn broken_from(journal: &[u8]) -> Option<usize> {
    let whole = whole_batches(journal);
    journal.get(whole).filter(|&&byte| byte != 0).map(|_| whole)
}

/// The length in bytes of the batches at the journal's start that are whole, and each of which follows the one before it.
pub(super) fn whole_batches(journal: &[u8]) -> usize {
    let mut rest = journal;
    let mut last = None;
    while let Some((seqno, after)) = after_batch(rest) {
        if seqno > SEQNO_MAX || last.is_some_and(|last| seqno <= last || seqno - last > SEQNO_STEP_MAX) {
            break;
        }
        (last, rest) = (Some(seqno), after);
    }
    journal.len() - rest.len()
}

/// The seqno of the batch at the start and what follows it, where that batch is whole.
fn after_batch(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (start, items) = bytes.split_at_checked(1 + 4 + 8)?;
    if start[0] != 1 {
        return None;
    }
    let seqno = u64::from_le_bytes(start[5..].try_into().expect("8 bytes"));
    let mut rest = items;
    for _ in 0..u32::from_le_bytes(start[1..5].try_into().expect("4 bytes")) {
        rest = after_item(rest)?;
    }
    let (end, after) = rest.split_at_checked(1 + 8 + MAGIC.len())?;
    let checksum = u64::from_le_bytes(end[1..9].try_into().expect("8 bytes"));
    let items = &items[..items.len() - rest.len()];
    (end[0] == 3 && &end[9..] == MAGIC && xxh3_64(items) == checksum).then_some((seqno, after))
}

fn after_item(bytes: &[u8]) -> Option<&[u8]> {
    match bytes.first()? {
        2 => {
            let (head, rest) = bytes.split_at_checked(1 + 1 + 1 + 8 + 2 + 4 + 4)?;
            let key = u16::from_le_bytes(head[11..13].try_into().expect("2 bytes"));
            let stored = u32::from_le_bytes(head[17..21].try_into().expect("4 bytes"));
            rest.get(usize::from(key) + stored as usize..)
        }
        4 => bytes.get(1 + 8..),
        _ => None,
    }
}
