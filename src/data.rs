//! The data folder: its format, its keys.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use petrel_bus::durable;
use petrel_protocol::token::Keys;

/// The format that this version writes. A folder of a newer one is not touched.
const FORMAT: u32 = 1;

/// Where everything of one Petrel lies.
pub(crate) struct DataFolder {
    dir: PathBuf,
}

impl DataFolder {
    /// Opens or creates the folder. The error's text says what to do.
    pub(crate) fn open(dir: &Path) -> Result<Self, String> {
        let name = dir.display();
        fs::create_dir_all(dir)
            .map_err(|e| format!("cannot create the data folder {name}: {e}; choose another with --data"))?;
        let file = dir.join("format");
        match fs::read_to_string(&file) {
            Ok(text) => check_format(&text, dir)?,
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                durable::replace(&file, &format!("{FORMAT}\n"), 0o644).map_err(|e| {
                    format!("cannot write in the data folder {name}: {e}; choose another with --data")
                })?;
            }
            Err(e) => return Err(format!("cannot read {}: {e}", file.display())),
        }
        Ok(Self { dir: dir.to_owned() })
    }

    /// Opens a folder that must be there already.
    pub(crate) fn open_existing(dir: &Path) -> Result<Self, String> {
        if !dir.join("format").exists() {
            return Err(format!(
                "{} is not a data folder of Petrel; start `petrel --data {0}` once, or give another --data",
                dir.display()
            ));
        }
        Self::open(dir)
    }

    /// A path in the folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// The keys that sign tokens; made at the first start, readable by their owner alone.
    pub(crate) fn keys(&self) -> Result<Keys, String> {
        let file = self.path("keys.json");
        let name = file.display();
        match fs::read_to_string(&file) {
            Ok(text) => Keys::from_json(&text)
                .map_err(|e| format!("{name}: {e}; restore the file, or delete it (all tokens then end)")),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                let mut secret = [0; 32];
                getrandom::fill(&mut secret).map_err(|e| format!("no randomness for the token key: {e}"))?;
                let keys = Keys::with_new_key("k1", secret);
                durable::replace(&file, &keys.to_json(), 0o600)
                    .map_err(|e| format!("cannot write {name}: {e}"))?;
                Ok(keys)
            }
            Err(e) => Err(format!("cannot read {name}: {e}")),
        }
    }
}

fn check_format(text: &str, dir: &Path) -> Result<(), String> {
    let name = dir.display();
    match text.trim().parse::<u32>() {
        Ok(FORMAT) => Ok(()),
        Ok(newer) if newer > FORMAT => Err(format!(
            "the data folder {name} has format {newer}, this version knows {FORMAT}: start a newer Petrel, or choose another folder with --data"
        )),
        _ => Err(format!("{name}/format does not hold a format number: is {name} a data folder of Petrel?")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder() -> tempfile::TempDir {
        tempfile::tempdir().expect("a folder")
    }

    #[test]
    fn keys_are_made_once_and_for_their_owner_alone() {
        use std::os::unix::fs::PermissionsExt;
        let dir = folder();
        let data = DataFolder::open(dir.path()).expect("opens");
        let first = data.keys().expect("made").to_json();
        assert_eq!(data.keys().expect("read").to_json(), first);
        let mode = fs::metadata(data.path("keys.json")).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_newer_format_is_left_alone() {
        let dir = folder();
        fs::write(dir.path().join("format"), "2\n").expect("written");
        let error = DataFolder::open(dir.path()).err().expect("refused");
        assert!(error.contains("newer Petrel") && error.contains("--data"), "{error}");
        assert!(!dir.path().join("keys.json").exists());
    }

    #[test]
    fn a_folder_of_something_else_is_refused_where_it_must_be_one() {
        let error = DataFolder::open_existing(folder().path()).err().expect("refused");
        assert!(error.contains("not a data folder"), "{error}");
    }
}
