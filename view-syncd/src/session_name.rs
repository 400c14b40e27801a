//! The name of the leader's session in PostgreSQL (`application_name`), which every role can see. It says when the last
//! cycle succeeded, so that `view-syncd status` knows, wherever it runs: the name is there for as long as the leader is.

use std::time::{Duration, UNIX_EPOCH};

/// What the name begins with.
const LEADER: &str = "view-syncd leader, ";
/// What stands before the time of the last cycle.
const CYCLE: &str = "last cycle ";

/// Returns the name of a leader whose last cycle succeeded at that moment, in milliseconds since 1970.
pub(crate) fn leader(cycle_ms: Option<i64>) -> String {
    let Some(ms) = cycle_ms.and_then(|ms| u64::try_from(ms).ok()) else { return format!("{LEADER}no cycle yet") };
    format!("{LEADER}{CYCLE}{}", humantime::format_rfc3339_millis(UNIX_EPOCH + Duration::from_millis(ms)))
}

/// Returns the moment that such a name tells, in milliseconds since 1970.
pub(crate) fn last_cycle_ms(name: &str) -> Option<i64> {
    let time = humantime::parse_rfc3339(name.strip_prefix(LEADER)?.strip_prefix(CYCLE)?).ok()?;
    i64::try_from(time.duration_since(UNIX_EPOCH).ok()?.as_millis()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_fits() {
        let name = leader(Some(1_700_000_000_123));
        assert_eq!(name, "view-syncd leader, last cycle 2023-11-14T22:13:20.123Z");
        assert_eq!(last_cycle_ms(&name), Some(1_700_000_000_123));
        // Longer names are cut.
        assert!(name.len() < 64);
        for other in [leader(None).as_str(), "", "psql", "view-syncd leader, last cycle soon"] {
            assert_eq!(last_cycle_ms(other), None, "{other}");
        }
    }
}
