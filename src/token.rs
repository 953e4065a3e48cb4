//! `petrel token`: tokens without registration, for load tests.

use std::io::{BufWriter, ErrorKind, Write};
use std::time::SystemTime;

use petrel_protocol::ids::{Device, UserId};
use petrel_protocol::token::{Claims, Kind};

use crate::config::Token;
use crate::data::DataFolder;

/// Prints one token a line.
pub(crate) fn print(args: &Token) -> Result<(), String> {
    let device = Device::from_name(&args.device).ok_or_else(|| {
        format!("`{}` is no device type: android, ios, mini-program, web, desktop or bot", args.device)
    })?;
    let keys = DataFolder::open_existing(&args.data)?.keys()?;
    let now_s = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_secs());
    let mut out = BufWriter::new(std::io::stdout().lock());
    for user in args.users.0..=args.users.1 {
        let claims = Claims {
            user: UserId(user),
            device,
            version: 0,
            issued_at_s: now_s,
            expires_at_s: now_s + args.hours * 3_600,
            kind: Kind::Access,
        };
        match writeln!(out, "{}", keys.sign(&claims)) {
            Ok(()) => {}
            // The reader has had enough, as `head` does.
            Err(e) if e.kind() == ErrorKind::BrokenPipe => return Ok(()),
            Err(e) => return Err(format!("cannot write the tokens: {e}")),
        }
    }
    match out.flush() {
        Err(e) if e.kind() != ErrorKind::BrokenPipe => Err(format!("cannot write the tokens: {e}")),
        _ => Ok(()),
    }
}
