//! Whatever a file of a history holds, it is refused by its line or judged, twice alike, and what is read is written alike.

use petrel_simulation::check::check as judge;
use petrel_simulation::history::History;

/// A history, as a file has it.
pub(crate) fn check(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let history = match text.parse::<History>() {
        Ok(history) => history,
        Err(bad) => return assert!(bad.line <= text.lines().count() && text.contains(&bad.text)),
    };
    assert_eq!(history.to_string().parse::<History>(), Ok(history.clone()));
    let said = |history| judge(history).map_err(|violation| violation.to_string());
    assert_eq!(said(&history), said(&history));
}
