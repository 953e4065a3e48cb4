//! What a ring refuses to be made of, and the text that says what to change.

mod support;

use std::io::ErrorKind;

use petrel_ring::{Config, Ring};
use support::small;

fn refusal(config: Config) -> (ErrorKind, String) {
    let error = Ring::new(config).err().expect("it is refused");
    (error.kind(), error.to_string())
}

#[test]
fn a_wrong_setting_is_named() {
    for (config, name) in [
        (Config { sockets: 0, ..small() }, "Config::sockets"),
        (Config { sockets: (1 << 24) + 1, ..small() }, "Config::sockets"),
        (Config { entries: 4, ..small() }, "Config::entries"),
        (Config { buffers: 3, ..small() }, "Config::buffers"),
        (Config { buffer_bytes: 0, ..small() }, "Config::buffer_bytes"),
        (Config { egress_bytes_max: 0, ..small() }, "Config::egress_bytes_max"),
        (Config { accept_per_turn: 0, ..small() }, "Config::accept_per_turn"),
    ] {
        let (kind, text) = refusal(config);
        assert_eq!(kind, ErrorKind::InvalidInput);
        assert!(text.contains(name), "{text}");
    }
}

#[test]
fn a_table_beyond_the_descriptor_limit_names_the_limit() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a rlimit of ours that the call fills.
    unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) };
    let Ok(sockets) = u32::try_from(limit.rlim_cur + 1) else { return };
    if sockets > 1 << 24 {
        return;
    }
    let (_, text) = refusal(Config { sockets, ..small() });
    assert!(text.contains("RLIMIT_NOFILE") && text.contains("Config::sockets"), "{text}");
}
