//! What Petrel is told: by flag, by environment, by file, in this order.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use clap::{Args, Parser, Subcommand};
use serde::Deserialize;

/// All of Petrel in one process, on embedded defaults: an instant-messaging server over WebSocket.
#[derive(Debug, Parser)]
#[command(version, about)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    #[command(flatten)]
    pub(crate) serve: Serve,
}

/// What else than serving there is.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Prints one token a line, so that a load test needs no registration
    Token(Token),
}

/// The flags of the server. What is not given comes from the file, then from the defaults.
#[derive(Debug, Args)]
pub(crate) struct Serve {
    /// Folder of everything that Petrel keeps [default: petrel-data]
    #[arg(long, env = "PETREL_DATA", value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// Where clients connect by WebSocket [default: 127.0.0.1:10001]
    #[arg(long, env = "PETREL_LISTEN", value_name = "ADDR")]
    pub(crate) listen: Option<SocketAddr>,
    /// Where register, login, metrics and health are served [default: 127.0.0.1:8080]
    #[arg(long, env = "PETREL_HTTP", value_name = "ADDR")]
    pub(crate) http: Option<SocketAddr>,
    /// Threads that hold sockets [default: one a core]
    #[arg(long, env = "PETREL_SHARDS", value_name = "N")]
    pub(crate) shards: Option<u16>,
    /// Configuration file (TOML); deploy/config/petrel.toml documents its keys
    #[arg(long, env = "PETREL_CONFIG", value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
}

/// The flags of `petrel token`.
#[derive(Debug, Args)]
pub(crate) struct Token {
    /// Folder whose key signs the tokens
    #[arg(long, env = "PETREL_DATA", value_name = "DIR", default_value = "petrel-data")]
    pub(crate) data: PathBuf,
    /// User ids, the last one included
    #[arg(long, value_name = "FROM..TO", value_parser = parse_users)]
    pub(crate) users: (u64, u64),
    /// android, ios, mini-program, web, desktop or bot
    #[arg(long, value_name = "TYPE")]
    pub(crate) device: String,
    /// How long the tokens are valid, hours
    #[arg(long, value_name = "HOURS", default_value_t = 24)]
    pub(crate) hours: u64,
}

fn parse_users(text: &str) -> Result<(u64, u64), String> {
    let (from, to) = text.split_once("..").ok_or("give a range, such as 1..1000")?;
    let number = |t: &str| t.trim_start_matches('=').parse::<u64>().map_err(|e| format!("`{t}`: {e}"));
    let (from, to) = (number(from)?, number(to)?);
    if from == 0 || to < from {
        return Err("user ids begin at 1, and the first is not above the last".to_owned());
    }
    Ok((from, to))
}

/// The file. Every key has a default; an unknown one is refused.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Config {
    /// Folder of everything that Petrel keeps.
    pub(crate) data: PathBuf,
    /// Where clients connect by WebSocket.
    pub(crate) listen: SocketAddr,
    /// Where HTTP is served.
    pub(crate) http: SocketAddr,
    /// The URL that login gives to clients, where it is not the listen address (a proxy, a name).
    pub(crate) url: Option<String>,
    /// Threads that hold sockets; 0: one a core.
    pub(crate) shards: u16,
    /// Sockets of one shard, at most RLIMIT_NOFILE. 40 bytes each when unused.
    pub(crate) sockets_per_shard: u32,
    /// A silent client is pinged after this long, seconds.
    pub(crate) ping_after_s: u64,
    /// A silent client is closed after this long, seconds.
    pub(crate) evict_after_s: u64,
    /// An access token is valid this long, minutes.
    pub(crate) token_minutes: u64,
    /// Partitions of the embedded log: fixed when the data folder is made.
    pub(crate) partitions: u16,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data: "petrel-data".into(),
            listen: SocketAddr::from(([127, 0, 0, 1], 10_001)),
            http: SocketAddr::from(([127, 0, 0, 1], 8_080)),
            url: None,
            shards: 0,
            sockets_per_shard: 12_000,
            ping_after_s: petrel_protocol::limits::PING_AFTER_MS / 1_000,
            evict_after_s: petrel_protocol::limits::EVICT_AFTER_MS / 1_000,
            token_minutes: 24 * 60,
            partitions: 4,
        }
    }
}

impl Config {
    /// The file, where there is one, and what the flags and the environment say above it.
    pub(crate) fn of(serve: &Serve) -> Result<Self, String> {
        let mut config = serve.config.as_deref().map_or_else(|| Ok(Self::default()), Self::read)?;
        config.data = serve.data.clone().unwrap_or(config.data);
        config.listen = serve.listen.unwrap_or(config.listen);
        config.http = serve.http.unwrap_or(config.http);
        config.shards = serve.shards.unwrap_or(config.shards);
        if config.shards == 0 {
            config.shards = std::thread::available_parallelism().map_or(1, |n| n.get() as u16);
        }
        config.check()?;
        Ok(config)
    }

    fn read(file: &Path) -> Result<Self, String> {
        let text =
            std::fs::read_to_string(file).map_err(|e| format!("cannot read {}: {e}", file.display()))?;
        toml::from_str(&text).map_err(|e| format!("{}: {}", file.display(), one_line(&e)))
    }

    fn check(&self) -> Result<(), String> {
        if self.shards > 1_024 {
            return Err(format!("shards = {}: at most 1024", self.shards));
        }
        if !(16..=1 << 20).contains(&self.sockets_per_shard) {
            return Err(format!("sockets_per_shard = {}: give 16 to 1048576", self.sockets_per_shard));
        }
        if self.ping_after_s == 0 || self.evict_after_s <= self.ping_after_s {
            return Err("evict_after_s must be above ping_after_s, and that above 0".to_owned());
        }
        if !(1..=64).contains(&self.partitions) {
            return Err(format!("partitions = {}: give 1 to 64", self.partitions));
        }
        if self.token_minutes == 0 {
            return Err("token_minutes must be above 0".to_owned());
        }
        Ok(())
    }
}

fn one_line(error: &toml::de::Error) -> String {
    error.message().replace('\n', " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_key_is_named() {
        let error = toml::from_str::<Config>("shard = 2").expect_err("refused");
        assert!(one_line(&error).contains("`shard`"), "{error}");
        assert!(!one_line(&error).contains('\n'));
    }

    #[test]
    fn the_documented_file_holds_every_key_at_its_default() {
        let file: toml::Table = toml::from_str(include_str!("../deploy/config/petrel.toml")).expect("valid");
        let documented: Config = file.clone().try_into().expect("all keys are known");
        assert_eq!(format!("{documented:?}"), format!("{:?}", Config::default()));
        // `url` has no default, so it stands there as a comment.
        let debug = format!("{documented:?}");
        let keys = debug.matches(": ").count() - 1;
        assert_eq!(file.len(), keys, "{debug}");
    }

    #[test]
    fn ranges_of_users() {
        assert_eq!(parse_users("1..1000"), Ok((1, 1_000)));
        assert!(parse_users("0..5").is_err());
        assert!(parse_users("7..5").is_err());
        assert!(parse_users("seven").is_err());
    }
}
