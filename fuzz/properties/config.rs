//! Whatever an operator's file holds, a service is told what it documents, or why not in one line that names the file.

use std::sync::OnceLock;

use petrel_daemon::config::Documented;

const FILES: [(&str, &str); 3] = [
    ("petrel-edge", include_str!("../../deploy/config/edge.toml")),
    ("petrel-router", include_str!("../../deploy/config/router.toml")),
    ("petrel-persist", include_str!("../../deploy/config/persist.toml")),
];

/// The first byte chooses the service and a flag beside the file; the rest is the file.
pub(crate) fn check(bytes: &[u8]) {
    static SERVICES: OnceLock<Vec<(Documented, clap::Command)>> = OnceLock::new();
    let Some((choice, file)) = bytes.split_first() else { return };
    let services = SERVICES.get_or_init(|| {
        let of = |(program, text)| {
            let documented = Documented::new(program, "A service.", text);
            let command = documented.command();
            (documented, command)
        };
        FILES.map(of).into()
    });
    let (documented, command) = &services[usize::from(choice & 3) % FILES.len()];
    let path = std::env::temp_dir().join(format!("petrel-fuzz-config-{}.toml", std::process::id()));
    std::fs::write(&path, file).expect("the file is written");
    let mut told = vec![documented.program().into(), "--config".into(), path.clone().into_os_string()];
    let flags: Vec<_> = command.get_arguments().filter_map(|flag| flag.get_long()).collect();
    if choice & 4 != 0 {
        told.push(format!("--{}", flags[usize::from(choice >> 3) % flags.len()]).into());
        told.push("1".into());
    }
    let Ok(told) = command.clone().try_get_matches_from(told) else { return };
    let read = documented.read::<toml::Table>(&told);
    std::fs::remove_file(&path).expect("the file is removed");
    match read {
        // A key that is not there was not asked for, and one that is documented has at least its default.
        Ok(table) => {
            let documented: toml::Table =
                FILES[usize::from(choice & 3) % FILES.len()].1.parse().expect("TOML");
            assert!(table.keys().eq(documented.keys()));
            for (key, value) in documented.iter().filter_map(|(key, value)| Some((key, value.as_table()?))) {
                assert!(table[key].as_table().expect("a table").keys().eq(value.keys()));
            }
        }
        Err(error) => {
            assert!(!error.contains('\n') && !error.is_empty(), "{error:?}");
            assert!(error.contains("petrel-fuzz-config") || error.contains("--"), "{error}");
        }
    }
}
