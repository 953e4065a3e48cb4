//! What the documents name is there: files, folders, links and tests. A document that has drifted apart from the code is
//! worse than none.

mod sources;

use std::fs;
use std::path::{Path, PathBuf};

use sources::sources;

/// Every document of the repository.
fn documents() -> Vec<PathBuf> {
    fn collect(dir: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(dir).expect("a folder of the repository") {
            let path = entry.expect("an entry").path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if path.is_dir() {
                if !name.starts_with('.') && !["target", "node_modules", "corpus", "run"].contains(&name) {
                    collect(&path, found);
                }
            } else if path.extension().is_some_and(|extension| extension == "md") {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    collect(Path::new(env!("CARGO_MANIFEST_DIR")), &mut found);
    assert!(found.len() > 5, "{found:?}");
    found
}

/// What stands between `open` and `close`, everywhere in a text.
fn between<'a>(text: &'a str, open: &'a str, close: &'a str) -> impl Iterator<Item = &'a str> {
    text.split(open).skip(1).filter_map(move |rest| rest.split_once(close).map(|(inner, _)| inner))
}

/// The text without its blocks of code.
fn prose(text: &str) -> String {
    text.split("\n```").step_by(2).collect()
}

#[test]
fn links_lead_somewhere() {
    for document in documents() {
        let text = prose(&fs::read_to_string(&document).expect("text"));
        for link in between(&text, "](", ")") {
            let file = link.split('#').next().unwrap_or_default();
            if file.is_empty() || file.contains("://") {
                continue;
            }
            let folder = document.parent().expect("a folder");
            assert!(folder.join(file).exists(), "{}: {link} is not there", document.display());
        }
    }
}

#[test]
fn files_that_are_named_are_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let crates: Vec<String> = fs::read_dir(root)
        .expect("the repository")
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| root.join(name).is_dir() && !["target", ".git"].contains(&name.as_str()))
        .collect();
    for document in documents() {
        let text = prose(&fs::read_to_string(&document).expect("text"));
        for name in text.split('`').skip(1).step_by(2) {
            let path = name.split([' ', ':']).next().unwrap_or_default();
            let is_of_the_repository =
                path.split_once('/').is_some_and(|(first, _)| crates.iter().any(|known| known == first));
            // Placeholders, patterns and what a program leaves are no files of the repository.
            let is_plain = path.chars().all(|c| c.is_ascii_alphanumeric() || "/._-".contains(c));
            if is_of_the_repository && is_plain && !path.starts_with("target/") {
                let is_there = root.join(path).exists()
                    || document.parent().expect("a folder").join(path).exists()
                    || path.starts_with("deploy/local/run")
                    || path.starts_with("fuzz/corpus");
                assert!(is_there, "{}: `{name}` is not there", document.display());
            }
        }
    }
}

#[test]
fn tests_that_the_changelog_names_are_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(root.join("CHANGELOG.md")).expect("text");
    let mut count = 0;
    for line in text.lines().filter(|line| line.contains("Found by the simulation")) {
        // `test` in `file`; each such bug has at least one.
        let quoted: Vec<&str> = between(line, "(`", ")").flat_map(|list| list.split('`')).collect();
        let is_code = |word: &&&str| Path::new(word).extension().is_some_and(|extension| extension == "rs");
        let file = quoted.iter().find(is_code).unwrap_or_else(|| panic!("{line}"));
        let code = fs::read_to_string(root.join(file)).unwrap_or_else(|e| panic!("{file}: {e}"));
        let mut tests = quoted.iter().filter(|w| w.len() > 20 && !w.contains(['.', ' ', '/'])).peekable();
        assert!(tests.peek().is_some(), "no test is named: {line}");
        for test in tests {
            assert!(code.contains(&format!("fn {test}(")), "{file} has no test {test}");
            count += 1;
        }
    }
    assert!(count >= 8, "{count}");
}

/// The table of bad days names tests that there are, and leaves out none of its folder.
#[test]
fn bad_days_are_staged_where_the_table_says() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut all = String::new();
    for folder in ["bus", "daemon", "edge", "persist", "protocol", "router"] {
        for kind in ["src", "tests"] {
            let folder = root.join(folder).join(kind);
            if folder.exists() {
                sources(&folder, &mut all);
            }
        }
    }
    sources(&root.join("tests"), &mut all);
    let table = fs::read_to_string(root.join("tests/cluster/README.md")).expect("the table");
    let rows: String = table.lines().filter(|line| line.starts_with('|')).collect();
    let named: Vec<_> = rows.split('`').skip(1).step_by(2).collect();
    assert!(named.len() > 20, "{named:?}");
    for name in &named {
        let is_there = match name.rsplit_once('.') {
            Some((_, "rs")) => {
                [root.join(name), root.join("tests/cluster").join(name)].iter().any(|p| p.exists())
            }
            _ => all.contains(&format!("fn {name}()")),
        };
        assert!(is_there, "`{name}` is named in tests/cluster/README.md and is not there");
    }
    let main = fs::read_to_string(root.join("tests/cluster/main.rs")).expect("text");
    let tests = main.split("\n\n").filter(|part| part.starts_with("mod ")).flat_map(str::lines);
    for module in tests.filter_map(|line| line.strip_prefix("mod ")?.strip_suffix(';')) {
        let file = format!("{module}.rs");
        let is_named = module == "two_edges" || named.contains(&&*file);
        assert!(is_named, "tests/cluster/README.md does not say what {file} stages");
    }
}
