//! A small file system in memory that is filled and emptied.

use std::fs::File;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use crate::stack;

/// Says that this process is in a namespace of its own already.
const INSIDE: &str = "PETREL_CHAOS_NAMESPACE";
const CHUNK_BYTES: usize = 64 << 10;

/// Runs this program again where it may mount without anybody else seeing it; what is mounted there is gone with it, however
/// it ends. None: this is that run.
pub(crate) fn in_own_namespace() -> Option<Result<ExitCode, String>> {
    if std::env::var_os(INSIDE).is_some() {
        return None;
    }
    let mut options = vec!["--mount", "--propagation", "private"];
    // Who is not root is it in a namespace of its own, where the kernel allows that.
    if !is_root() {
        options.extend(["--user", "--map-root-user"]);
    }
    options.push("--");
    let tried = Command::new("unshare").args(&options).arg("true").output();
    if !tried.is_ok_and(|output| output.status.success()) {
        let needs = "this stack fills a disk of its own: run as root, with `unshare` of util-linux, or give --no-disk";
        return Some(Err(needs.to_owned()));
    }
    let status = Command::new("unshare").args(options).args(std::env::args_os()).env(INSIDE, "1").status();
    Some(
        status
            .map_err(|e| format!("unshare: {e}"))
            .map(|status| status.code().map_or(ExitCode::FAILURE, |code| ExitCode::from(code as u8))),
    )
}

fn is_root() -> bool {
    Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout.starts_with(b"0\n"))
}

/// A mounted one.
#[derive(Debug)]
pub(crate) struct Disk {
    filler: PathBuf,
}

impl Disk {
    pub(crate) fn mount(disk: &stack::Disk) -> Result<Self, String> {
        std::fs::create_dir_all(&disk.at).map_err(|e| format!("{}: {e}", disk.at))?;
        let size = format!("size={}m", disk.megabytes);
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", &size, "petrel-chaos", &disk.at]).output();
        match mounted {
            Ok(output) if output.status.success() => Ok(Self { filler: Path::new(&disk.at).join("filler") }),
            Ok(output) => Err(format!(
                "a disk cannot be mounted at {}: {}; run as root, or give --no-disk",
                disk.at,
                String::from_utf8_lossy(&output.stderr).trim()
            )),
            Err(e) => Err(format!("mount: {e}")),
        }
    }

    /// Takes all the room that is left. Called again and again, it takes what has become free.
    pub(crate) fn fill(&self) -> Result<(), String> {
        let wrong = |e: std::io::Error| format!("{}: {e}", self.filler.display());
        let mut file = File::options().create(true).append(true).open(&self.filler).map_err(wrong)?;
        for len in [CHUNK_BYTES, 1] {
            loop {
                match file.write(&vec![0; len]) {
                    Ok(_) => {}
                    Err(e) if e.kind() == ErrorKind::StorageFull => break,
                    Err(e) => return Err(wrong(e)),
                }
            }
        }
        Ok(())
    }

    pub(crate) fn empty(&self) -> Result<(), String> {
        std::fs::remove_file(&self.filler).map_err(|e| format!("{}: {e}", self.filler.display()))
    }
}
