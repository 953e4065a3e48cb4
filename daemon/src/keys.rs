//! The keys that sign and verify tokens: one file, the same for every router and edge.
//!
//! It holds secrets: readable by its owner alone, and carried to the other machines by the operator's own means. A key is
//! replaced in three steps, each carried everywhere and followed by a SIGHUP to the services, which read it again: `add`
//! (all verify with the new key), `use` (routers sign with it), and, when the tokens of the old one have expired, `remove`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use clap::{Args, Subcommand};
use petrel_bus::durable;
use petrel_protocol::token::Keys;
use serde_json::{Value, json};

/// Makes and changes the file of token keys.
#[derive(Debug, Args)]
pub struct KeysCommand {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Makes a file with one new key
    New {
        /// The file
        file: PathBuf,
    },
    /// Adds a new key that verifies and does not sign yet; prints its id
    Add {
        /// The file
        file: PathBuf,
    },
    /// Signs with this key from now on; the others still verify
    Use {
        /// The file
        file: PathBuf,
        /// The key's id
        id: String,
    },
    /// Removes a key: its tokens end
    Remove {
        /// The file
        file: PathBuf,
        /// The key's id
        id: String,
    },
    /// Prints the ids, without the secrets
    List {
        /// The file
        file: PathBuf,
    },
}

/// Carries a command out. What is to be printed; an error is one line that names the mend.
pub fn carry_out(command: &KeysCommand) -> Result<String, String> {
    match &command.what {
        What::New { file } => {
            if file.exists() {
                return Err(format!("{} is there already: `keys add` adds a key to it", file.display()));
            }
            let (id, keys) = fresh(&[])?;
            store(file, &keys)?;
            Ok(format!("{id} signs"))
        }
        What::Add { file } => {
            let mut keys = load(file)?;
            let (id, fresh) = fresh(&ids(&keys))?;
            let list = keys["keys"].as_array_mut().expect("verified");
            list.extend(fresh["keys"].as_array().cloned().unwrap_or_default());
            store(file, &keys)?;
            Ok(format!("{id} verifies; when every router and edge has it: keys use {} {id}", file.display()))
        }
        What::Use { file, id } => {
            let mut keys = load(file)?;
            known(&keys, id, file)?;
            keys["sign_with"] = json!(id);
            store(file, &keys)?;
            Ok(format!("{id} signs"))
        }
        What::Remove { file, id } => {
            let mut keys = load(file)?;
            known(&keys, id, file)?;
            if keys["sign_with"] == json!(id) {
                return Err(format!("{id} signs: `keys use` another one first"));
            }
            keys["keys"].as_array_mut().expect("verified").retain(|key| key["id"] != json!(id));
            store(file, &keys)?;
            Ok(format!("{id} is removed"))
        }
        What::List { file } => {
            let keys = load(file)?;
            let line = |id: String| {
                let does = if keys["sign_with"] == json!(id) { "signs" } else { "verifies" };
                format!("{id} {does}")
            };
            Ok(ids(&keys).into_iter().map(line).collect::<Vec<_>>().join("\n"))
        }
    }
}

/// The keys of a service. An error is one line that names the mend.
pub fn read(file: &Path) -> Result<Keys, String> {
    let text = text(file)?;
    let mode = fs::metadata(file).map_or(0, |metadata| metadata.permissions().mode());
    if mode & 0o007 != 0 {
        tracing::warn!("{} holds secrets and everybody can use it: chmod o= {0}", file.display());
    }
    Keys::from_json(&text).map_err(|e| format!("{}: {e}; restore the file", file.display()))
}

fn text(file: &Path) -> Result<String, String> {
    fs::read_to_string(file).map_err(|e| {
        let name = file.display();
        format!("cannot read the token keys {name}: {e}; `petrel-router keys new {name}` makes them, once for all machines")
    })
}

fn load(file: &Path) -> Result<Value, String> {
    let text = text(file)?;
    Keys::from_json(&text).map_err(|e| format!("{}: {e}; restore the file", file.display()))?;
    serde_json::from_str(&text).map_err(|e| format!("{}: {e}", file.display()))
}

fn ids(keys: &Value) -> Vec<String> {
    let list = keys["keys"].as_array().map(Vec::as_slice).unwrap_or_default();
    list.iter().filter_map(|key| key["id"].as_str().map(str::to_owned)).collect()
}

fn known(keys: &Value, id: &str, file: &Path) -> Result<(), String> {
    let ids = ids(keys);
    if ids.iter().any(|known| known == id) {
        return Ok(());
    }
    Err(format!("{} has no key `{id}`: it has {}", file.display(), ids.join(", ")))
}

/// A new key, in a file of its own, under an id that is not taken.
fn fresh(taken: &[String]) -> Result<(String, Value), String> {
    let mut secret = [0; 32];
    getrandom::fill(&mut secret).map_err(|e| format!("the system gives no random bytes: {e}"))?;
    let days = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() / 86_400);
    let mut ids = (0..=taken.len()).map(|n| format!("d{days}-{n}"));
    let id = ids.find(|id| !taken.contains(id)).expect("one of more than are taken is free");
    let keys =
        serde_json::from_str(&Keys::with_new_key(&id, secret).to_json()).expect("what was just written");
    Ok((id, keys))
}

/// Writes the file whole or not at all, for its owner alone; where there is one, for whom it was: services may read it as
/// members of its group.
fn store(file: &Path, keys: &Value) -> Result<(), String> {
    let text = keys.to_string();
    Keys::from_json(&text).map_err(|e| e.to_string())?;
    durable::replace(file, &text, 0o600).map_err(|e| format!("cannot write {}: {e}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use petrel_protocol::ids::{Device, UserId};
    use petrel_protocol::token::{Claims, Kind};

    const CLAIMS: Claims = Claims {
        user: UserId(7),
        device: Device::Web,
        version: 0,
        issued_at_s: 0,
        expires_at_s: 1_000,
        kind: Kind::Access,
    };

    #[test]
    fn a_key_is_replaced_without_a_token_that_nobody_knows() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("keys.json");
        let run = |what| carry_out(&KeysCommand { what });
        assert!(read(&file).expect_err("refused").contains("keys new"));
        run(What::New { file: file.clone() }).expect("made");
        assert!(run(What::New { file: file.clone() }).expect_err("refused").contains("keys add"));
        let mode = fs::metadata(&file).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);

        let old = read(&file).expect("read");
        let added = run(What::Add { file: file.clone() }).expect("added");
        let id = added.split(' ').next().expect("an id").to_owned();
        let both = read(&file).expect("read");
        assert!(old.verify(&both.sign(&CLAIMS), 1, Kind::Access).is_ok(), "the old one signs");
        run(What::Use { file: file.clone(), id: id.clone() }).expect("used");
        let new = read(&file).expect("read");
        assert!(
            both.verify(&new.sign(&CLAIMS), 1, Kind::Access).is_ok(),
            "who has both verifies the new one"
        );
        assert!(new.verify(&old.sign(&CLAIMS), 1, Kind::Access).is_ok(), "the old one's tokens go on");
        assert!(
            run(What::Remove { file: file.clone(), id: id.clone() })
                .expect_err("refused")
                .contains("keys use")
        );
        let shown = run(What::List { file: file.clone() }).expect("listed");
        let first = shown.split(' ').next().expect("an id").to_owned();
        assert!(shown.contains(&format!("{id} signs")), "{shown}");
        run(What::Remove { file: file.clone(), id: first }).expect("removed");
        let rest = read(&file).expect("read");
        assert!(rest.verify(&old.sign(&CLAIMS), 1, Kind::Access).is_err(), "its tokens end");
        assert!(run(What::Use { file, id: "other".to_owned() }).expect_err("refused").contains(&id));
    }
}
