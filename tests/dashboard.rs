//! The dashboard shows what the services count, and nothing that nobody counts.

mod sources;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use sources::sources;

const SERVICES: [&str; 4] = ["bus", "edge", "persist", "router"];

/// The names of metrics in the expressions of the dashboard, as they are registered.
fn shown(dashboard: &serde_json::Value) -> BTreeSet<String> {
    let panels = dashboard["panels"].as_array().expect("panels");
    let targets = panels.iter().filter_map(|panel| panel["targets"].as_array()).flatten();
    let mut names = BTreeSet::new();
    for target in targets {
        let expression = target["expr"].as_str().expect("an expression");
        let words = expression.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        names.extend(words.filter(|word| word.starts_with("petrel_")).map(|word| {
            let base = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| word.strip_suffix(suffix));
            base.unwrap_or(word).to_owned()
        }));
    }
    names
}

#[test]
fn every_metric_that_it_names_is_counted() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(root.join("deploy/grafana/petrel.json")).expect("the dashboard");
    let shown = shown(&serde_json::from_str(&text).expect("JSON"));
    assert!(shown.len() > 25, "{shown:?}");
    let mut code = String::new();
    for service in SERVICES {
        sources(&root.join(service).join("src"), &mut code);
    }
    for name in &shown {
        // persist puts the first words before all of its names in one place.
        let short = name.strip_prefix("petrel_persist_").unwrap_or(name);
        let is_counted = [name.as_str(), short].iter().any(|name| code.contains(&format!("\"{name}\"")));
        assert!(is_counted, "{name} is shown and not counted: correct deploy/grafana/petrel.json");
    }
    for service in SERVICES.iter().filter(|service| **service != "bus") {
        let prefix = format!("petrel_{service}_");
        assert!(shown.iter().any(|name| name.starts_with(&prefix)), "nothing of {service} is shown");
    }
}
