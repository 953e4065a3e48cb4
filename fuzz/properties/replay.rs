//! The inputs that a target begins with, and those that once failed, on the stable toolchain.

use std::path::Path;

/// Gives every seed of `target` to `check`.
pub(crate) fn replay(target: &str, check: impl Fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/seeds").join(target);
    let mut count = 0;
    for entry in folder.read_dir().expect("the folder of the seeds") {
        let path = entry.expect("an entry").path();
        println!("{}", path.display());
        check(&std::fs::read(&path).expect("a seed"));
        count += 1;
    }
    assert!(count > 0, "{target} has seeds");
}
