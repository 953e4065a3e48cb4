//! The workspace's code as text.

use std::fs;
use std::path::Path;

/// Adds the code of a folder and those below.
pub(crate) fn sources(dir: &Path, text: &mut String) {
    for entry in fs::read_dir(dir).expect("a folder of the workspace") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, text);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            text.push_str(&fs::read_to_string(path).expect("text"));
        }
    }
}
