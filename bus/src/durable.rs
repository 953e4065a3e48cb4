//! Small files that are whole after a crash.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

/// Writes a file so that after a kill or a power cut it holds `text`, or what it held before. When this returns, it is
/// `text` that survives. A file that was there keeps its permissions, a new one gets `mode`.
pub fn replace(path: &Path, text: &str, mode: u32) -> io::Result<()> {
    let permissions = fs::metadata(path).map_or(Permissions::from_mode(mode), |before| before.permissions());
    let next = path.with_extension("next");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&next)?;
    // Before anything is in it: it may be one that a crash left, and hold secrets soon.
    file.set_permissions(permissions)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&next, path)?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).expect("it is there").permissions().mode() & 0o777
    }

    #[test]
    fn a_new_file_gets_the_mode_and_keeps_what_it_is_given_later() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("keys.json");
        fs::write(path.with_extension("next"), "half of").expect("what a crash left");
        replace(&path, "one", 0o600).expect("written");
        assert_eq!((fs::read_to_string(&path).expect("text").as_str(), mode(&path)), ("one", 0o600));
        fs::set_permissions(&path, Permissions::from_mode(0o640)).expect("changed");
        replace(&path, "two", 0o600).expect("written");
        assert_eq!((fs::read_to_string(&path).expect("text").as_str(), mode(&path)), ("two", 0o640));
        assert_eq!(fs::read_dir(dir.path()).expect("a folder").count(), 1);
    }
}
