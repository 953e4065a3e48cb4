//! What runs on the server, each in one step. All are given their time by the server, so routers' clocks do not matter.

use std::sync::LazyLock;

use redis::{Cmd, Script};

macro_rules! script {
    ($name:ident, $file:literal) => {
        pub(super) static $name: LazyLock<Source> =
            LazyLock::new(|| Source::new(include_str!(concat!("scripts/", $file))));
    };
}

script!(LEASE, "lease.lua");
script!(REVOKE, "revoke.lua");
script!(ANNOUNCE, "announce.lua");
script!(MEMBERS, "members.lua");
script!(FORGET, "forget.lua");
script!(CLAIM, "claim.lua");
script!(ASSERT, "assert.lua");
script!(RELEASE, "release.lua");
script!(TRY, "try.lua");
script!(USE_UP, "use_up.lua");

/// A script and its digest.
pub(super) struct Source {
    text: &'static str,
    digest: String,
}

impl Source {
    fn new(text: &'static str) -> Self {
        Self { text, digest: Script::new(text).get_hash().to_owned() }
    }

    /// The call of this script on a key.
    pub(super) fn on(&'static self, key: &str) -> Call {
        Call { source: self, key: key.to_owned(), arguments: Vec::new() }
    }
}

/// An argument: text, or a number in decimal digits.
pub(super) struct Argument(String);

impl From<String> for Argument {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl From<&str> for Argument {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl From<u64> for Argument {
    fn from(number: u64) -> Self {
        Self(number.to_string())
    }
}

/// A call of a script.
#[derive(Clone)]
pub(super) struct Call {
    source: &'static Source,
    key: String,
    arguments: Vec<String>,
}

impl Call {
    pub(super) fn with(mut self, argument: impl Into<Argument>) -> Self {
        self.arguments.push(argument.into().0);
        self
    }

    /// By the digest, or with the text where the server does not know it (it does from then on).
    pub(super) fn command(&self, with_text: bool) -> Cmd {
        let mut command = redis::cmd(if with_text { "EVAL" } else { "EVALSHA" });
        command.arg(if with_text { self.source.text } else { &self.source.digest });
        command.arg(1).arg(&self.key).arg(&self.arguments);
        command
    }
}
