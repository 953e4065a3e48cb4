//! Whatever a power cut leaves of a journal behind what was synced, the database opens again, with a prefix of what was
//! written that holds all that was synced; and what is written then survives the next start.

#[path = "../../../../fuzz/properties/folder.rs"]
pub(super) mod folder;

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

use self::folder::{Folder, tear};
use super::recovery;
use fjall::{Database, Error, Keyspace, KeyspaceCreateOptions, PersistMode};

/// The first bytes choose what was synced and the damage. Each of the next is the size of a row. From a zero on they are
/// what stands in the journal instead.
pub fn check(bytes: &[u8]) {
    check_whole_batches(bytes);
    let [synced, cut, kind, rest @ ..] = bytes else { return };
    let (sizes, noise) = rest.split_at(rest.iter().position(|&byte| byte == 0).unwrap_or(rest.len()).min(24));
    let folder = Folder::new("torn");
    let original = folder.0.join("original");
    let database = Database::builder(&original).worker_threads(1).manual_journal_persist(true).open();
    let database = database.expect("a database");
    let rows = keyspace(&database);
    let synced = usize::from(*synced) % (sizes.len() + 1);
    let mut durable = journal(&original).len();
    for (index, &size) in sizes.iter().enumerate() {
        rows.insert([index as u8], row(index, size)).expect("written");
        // Sizes are multiples, so that rows cross blocks.
        if index + 1 == synced {
            database.persist(PersistMode::SyncData).expect("synced");
            durable = journal(&original).len();
        }
    }
    database.persist(PersistMode::Buffer).expect("flushed");
    let mut torn = journal(&original);
    tear(&mut torn, durable, *cut, *kind, noise);
    let copy = folder.0.join("copy");
    copy_folder(&original, &copy);
    fs::write(copy.join("0.jnl"), torn).expect("written");
    check_opens(&copy, &folder.0, synced, sizes);
}

fn check_whole_batches(bytes: &[u8]) {
    let whole = recovery::whole_batches(bytes);
    assert_eq!(recovery::whole_batches(&bytes[..whole]), whole);
}

fn check_opens(copy: &Path, keep_in: &Path, synced: usize, sizes: &[u8]) {
    let mut kept = None;
    for start in 0..2 {
        let open = || Database::builder(copy).worker_threads(1).open();
        let database: Result<_, Error> = recovery::open(copy, keep_in, open);
        let database = database.unwrap_or_else(|error| panic!("{error}"));
        let rows = keyspace(&database);
        let count = (0..sizes.len()).take_while(|&index| is_there(&rows, index, sizes[index])).count();
        assert!(count >= synced, "{count} of {synced} rows that were synced");
        assert_eq!(*kept.get_or_insert(count), count, "the same at each start");
        let beyond = (count..sizes.len()).any(|index| is_there(&rows, index, sizes[index]));
        assert!(!beyond, "what is there is a prefix");
        let is_written = rows.get("more").expect("it can be read").is_some();
        assert_eq!(is_written, start > 0);
        rows.insert("more", "more").expect("it can be written");
        // What was not handed over may go with the process.
        database.persist(PersistMode::Buffer).expect("flushed");
    }
}

fn is_there(rows: &Keyspace, index: usize, size: u8) -> bool {
    let found = rows.get([index as u8]).expect("it can be read");
    assert!(found.as_ref().is_none_or(|found| **found == row(index, size)[..]), "no row is half there");
    found.is_some()
}

fn row(index: usize, size: u8) -> Vec<u8> {
    vec![index as u8 | 1; usize::from(size) * 16]
}

fn keyspace(database: &Database) -> Keyspace {
    let options = || KeyspaceCreateOptions::default().manual_journal_persist(true);
    database.keyspace("rows", options).expect("a keyspace")
}

/// The journal's bytes up to the last that is not zero. It is made with its full length, of which little is used here.
pub(super) fn journal(database: &Path) -> Vec<u8> {
    let mut journal = Vec::new();
    let file = File::open(database.join("0.jnl")).expect("a journal");
    file.take(1 << 20).read_to_end(&mut journal).expect("it can be read");
    journal.truncate(journal.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1));
    journal
}

/// Copies all but the journal.
pub(super) fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).expect("a folder") {
        let entry = entry.expect("an entry");
        if entry.path().is_dir() {
            copy_folder(&entry.path(), &to.join(entry.file_name()));
        } else if entry.file_name() != "0.jnl" {
            fs::copy(entry.path(), to.join(entry.file_name())).expect("a copy");
        }
    }
}
