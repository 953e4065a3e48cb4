//! Configuration: the documented file of a service, and above it the operator's file, the environment and the flags.
//!
//! The documented file (`deploy/config/…`) is built in: it holds every key at its default with what it means, so it can
//! neither forget a key nor show a wrong default, and the help of a flag is what stands above its key. A key `a` of table
//! `[t]` is the flag `--t-a` and the variable `PETREL_T_A`. An empty text stands for a value that is not there.

use std::path::{Path, PathBuf};

use clap::{Arg, ArgMatches, Command};
use serde::de::DeserializeOwned;
use toml::{Table, Value};

/// What a service may be told.
pub struct Documented {
    /// Its program, such as `petrel-edge`.
    program: &'static str,
    about: &'static str,
    /// The documented file.
    text: &'static str,
    defaults: Table,
}

impl Documented {
    /// What `text` documents. `text` is built in, so a fault in it is ours.
    ///
    /// # Panics
    /// `text` is not TOML.
    pub fn new(program: &'static str, about: &'static str, text: &'static str) -> Self {
        let defaults = text.parse().expect("the documented file is TOML");
        Self { program, about, text, defaults }
    }

    /// The program's name.
    pub fn program(&self) -> &'static str {
        self.program
    }

    /// The command line: `--config`, and a flag for each key.
    pub fn command(&self) -> Command {
        let config = Arg::new("config").long("config").env("PETREL_CONFIG").value_name("FILE");
        let config = config.value_parser(clap::value_parser!(PathBuf));
        let config =
            config.help(format!("Configuration file (TOML); deploy/config/{} has all keys", self.file()));
        let mut command =
            Command::new(self.program).version(env!("CARGO_PKG_VERSION")).about(self.about).arg(config);
        for key in self.keys() {
            let name = key.flag();
            let arg = Arg::new(leak(name.clone())).long(leak(name)).env(leak(key.variable()));
            let default = plain(key.value);
            let shown = if default.is_empty() { String::new() } else { format!(" [default: {default}]") };
            command = command.arg(
                arg.value_name(kind(key.value)).hide_env_values(true).help(key.help(self.text) + &shown),
            );
        }
        command
    }

    /// What the service is told in all. An error is one line that names the mend.
    pub fn read<T: DeserializeOwned>(&self, told: &ArgMatches) -> Result<T, String> {
        let mut table = self.defaults.clone();
        if let Some(file) = told.get_one::<PathBuf>("config") {
            self.overlay(&mut table, file)?;
        }
        for key in self.keys() {
            let Some(text) = told.get_one::<String>(&key.flag()) else { continue };
            let value = parse(text, key.value).map_err(|kind| {
                let (flag, variable) = (key.flag(), key.variable());
                format!("--{flag} (or {variable}) is `{text}`: give {kind}")
            })?;
            let of = match key.table {
                Some(name) => table[name].as_table_mut().expect("a table of the documented file"),
                None => &mut table,
            };
            of.insert(key.name.to_owned(), value);
        }
        table.try_into().map_err(|e: toml::de::Error| {
            format!("{}: see deploy/config/{}", e.to_string().trim().replace('\n', " "), self.file())
        })
    }

    /// Lays the operator's file above the defaults.
    fn overlay(&self, table: &mut Table, file: &Path) -> Result<(), String> {
        let name = file.display();
        let text = std::fs::read_to_string(file)
            .map_err(|e| format!("cannot read {name}: {e}; give another file with --config"))?;
        let told: Table = text.parse().map_err(|e: toml::de::Error| {
            let before = e.span().map_or("", |span| text.get(..span.start).unwrap_or(&text));
            let line = 1 + before.matches('\n').count();
            format!("{name}, line {line}: {}", e.message().replace('\n', " "))
        })?;
        for (key, value) in told {
            match (table.get_mut(&key), value) {
                (Some(Value::Table(below)), Value::Table(above)) => {
                    for (inner, value) in above {
                        let known = below.get_mut(&inner);
                        *known.ok_or_else(|| self.unknown(&name, &format!("{key}.{inner}")))? = value;
                    }
                }
                (Some(Value::Table(_)), _) => {
                    return Err(format!("{name}: `{key}` is a table: write its keys below a line [{key}]"));
                }
                (Some(below), value) => *below = value,
                (None, _) => return Err(self.unknown(&name, &key)),
            }
        }
        Ok(())
    }

    fn unknown(&self, file: &dyn std::fmt::Display, key: &str) -> String {
        let key = key.escape_debug();
        format!(
            "{file}: there is no key `{key}`; deploy/config/{} has all of them: remove or correct it",
            self.file()
        )
    }

    fn file(&self) -> String {
        format!("{}.toml", self.program.trim_start_matches("petrel-"))
    }

    fn keys(&self) -> Vec<Key<'_>> {
        let mut keys = Vec::new();
        for (name, value) in &self.defaults {
            match value {
                Value::Table(inner) => {
                    keys.extend(inner.iter().map(|(inner, value)| Key {
                        table: Some(name),
                        name: inner,
                        value,
                    }));
                }
                _ => keys.push(Key { table: None, name, value }),
            }
        }
        keys
    }
}

/// One key, with its default.
struct Key<'a> {
    table: Option<&'a str>,
    name: &'a str,
    value: &'a Value,
}

impl Key<'_> {
    fn path(&self, between: &str) -> String {
        self.table.map_or_else(|| self.name.to_owned(), |table| format!("{table}{between}{}", self.name))
    }

    fn flag(&self) -> String {
        self.path("-").replace('_', "-")
    }

    fn variable(&self) -> String {
        format!("PETREL_{}", self.path("_").to_uppercase())
    }

    /// The comment above the key.
    fn help(&self, text: &str) -> String {
        let mut table = None;
        let mut comment: Vec<&str> = Vec::new();
        for line in text.lines() {
            if let Some(words) = line.strip_prefix('#') {
                comment.push(words.trim());
            } else if let Some(name) = line.strip_prefix('[') {
                table = name.strip_suffix(']');
                comment.clear();
            } else if line.split_once('=').is_some_and(|(name, _)| name.trim() == self.name)
                && table == self.table
            {
                return comment.join(" ").trim_end_matches('.').to_owned();
            } else {
                comment.clear();
            }
        }
        String::new()
    }
}

/// The value that a flag's text stands for; else the kind that it should be of.
fn parse(text: &str, like: &Value) -> Result<Value, &'static str> {
    let number = || text.parse().map(Value::Integer).map_err(|_| kind(like));
    match like {
        Value::String(_) => Ok(Value::String(text.to_owned())),
        Value::Integer(_) => number(),
        Value::Boolean(_) => text.parse().map(Value::Boolean).map_err(|_| kind(like)),
        Value::Array(_) => {
            let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
            Ok(Value::Array(items.map(|item| Value::String(item.to_owned())).collect()))
        }
        _ => Err("nothing: it can be set in the file alone"),
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Integer(_) => "NUMBER",
        Value::Boolean(_) => "true|false",
        Value::Array(_) => "TEXT,TEXT",
        _ => "TEXT",
    }
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(","),
        other => other.to_string(),
    }
}

/// Once for each key, at the start: clap keeps names that live as long as the program.
fn leak(name: String) -> &'static str {
    Box::leak(name.into_boxed_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Config {
        listen: std::net::SocketAddr,
        routers: Vec<String>,
        shards: u16,
        log: Log,
    }

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Log {
        url: String,
        is_fast: bool,
    }

    const TEXT: &str = "# A service.\n\n# Where clients\n# connect.\nlisten = \"127.0.0.1:1\"\n\n# Whom to ask.\nrouters = [\"a:1\"]\nshards = 2\n\n[log]\n# Where it is.\nurl = \"x\"\nis_fast = false\n";

    fn read(arguments: &[&str]) -> Result<Config, String> {
        let documented = Documented::new("petrel-test", "Tests.", TEXT);
        let arguments = ["petrel-test"].iter().chain(arguments);
        documented.read(&documented.command().try_get_matches_from(arguments).expect("known flags"))
    }

    fn file(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), text).expect("written");
        file
    }

    #[test]
    fn flags_are_above_the_file_and_the_file_above_the_defaults() {
        let file = file("shards = 3\n[log]\nurl = \"y\"\n");
        let config = read(&[
            "--config",
            file.path().to_str().expect("text"),
            "--shards",
            "4",
            "--routers",
            "b:1, c:1",
        ]);
        let log = Log { url: "y".to_owned(), is_fast: false };
        let routers = vec!["b:1".to_owned(), "c:1".to_owned()];
        let listen = "127.0.0.1:1".parse().expect("an address");
        assert_eq!(config, Ok(Config { listen, routers, shards: 4, log }));
        let config = read(&["--log-is-fast", "true", "--log-url", "z"]).expect("valid");
        assert_eq!(config.log, Log { url: "z".to_owned(), is_fast: true });
    }

    #[test]
    fn what_is_wrong_is_named_in_one_line_with_its_mend() {
        let error = |text: &str| {
            let file = file(text);
            let error = read(&["--config", file.path().to_str().expect("text")]).expect_err("refused");
            assert!(!error.contains('\n'), "{error}");
            error
        };
        let unknown = error("shard = 3");
        assert!(unknown.contains("`shard`") && unknown.contains("deploy/config/test.toml"), "{unknown}");
        assert!(error("[log]\nuri = \"y\"").contains("`log.uri`"));
        assert!(error("shards = 3\nlisten = ").contains("line 2"));
        assert!(error("log = 1").contains("`log` is a table"));
        assert!(error("\"a\\nb\" = 1").contains("`a\\nb`"));
        assert!(error("listen = \"everywhere\"").contains("deploy/config/test.toml"));
        let error = read(&["--shards", "many"]).expect_err("refused");
        assert!(
            error.contains("--shards") && error.contains("PETREL_SHARDS") && error.contains("NUMBER"),
            "{error}"
        );
        let error = read(&["--config", "/nowhere"]).expect_err("refused");
        assert!(error.contains("/nowhere") && error.contains("--config"), "{error}");
    }

    #[test]
    fn the_help_of_a_flag_is_what_stands_above_its_key() {
        let documented = Documented::new("petrel-test", "Tests.", TEXT);
        let help = documented.command().render_long_help().to_string();
        for text in
            ["Where clients connect [default: 127.0.0.1:1]", "Where it is [default: x]", "PETREL_LOG_URL"]
        {
            assert!(help.contains(text), "{text}: {help}");
        }
    }
}
