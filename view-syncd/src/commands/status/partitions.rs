//! The partitions of a cluster: what waits in each, and who drains it.

use serde::Serialize;
use views_core::partition::Partition;

use super::seconds;
use crate::commands::{
    look::{Look, outboxes::SeenOutboxes},
    output,
};

/// Partitions that are told, those that wait for longest first.
const SHOWN: usize = 8;

/// A partition. What is not known is null.
#[derive(Debug, Serialize)]
pub(super) struct PartitionStatus {
    #[serde(rename = "partition")]
    pub(super) name: &'static str,
    entries: u64,
    oldest: Option<String>,
    lag_seconds: f64,
    /// The backend of the one that drains it.
    pub(super) backend: Option<i32>,
    #[serde(skip)]
    pub(super) partition: Partition,
}

/// Returns what is in the partitions.
pub(super) fn of(look: &Look, seen: &SeenOutboxes) -> Vec<PartitionStatus> {
    let status = |outbox: &crate::commands::look::outboxes::SeenOutbox| PartitionStatus {
        name: outbox.partition.name(),
        entries: outbox.entries,
        oldest: outbox.oldest.map(|oldest| oldest.to_string()),
        lag_seconds: outbox.oldest.map_or(0.0, |oldest| look.age(oldest).as_secs_f64()),
        backend: None,
        partition: outbox.partition,
    };
    seen.outboxes.iter().map(status).collect()
}

/// Returns a line for each partition that has something to say; nothing where none has.
pub(super) fn text(partitions: &[PartitionStatus]) -> Option<String> {
    let mut waiting: Vec<&PartitionStatus> = partitions.iter().filter(|partition| partition.entries > 0).collect();
    waiting.sort_by(|one, other| other.lag_seconds.total_cmp(&one.lag_seconds));
    let mut lines: Vec<String> = waiting.iter().take(SHOWN).map(|partition| partition.text()).collect();
    if waiting.len() > SHOWN {
        lines.push(format!("{} others", waiting.len() - SHOWN));
    }
    (!lines.is_empty()).then(|| lines.join("\n"))
}

impl PartitionStatus {
    fn text(&self) -> String {
        let entries = output::counted(self.entries, "entry", "entries");
        let drained =
            self.backend.map_or_else(|| "drained by nobody".to_owned(), |backend| format!("drained by backend {backend}"));
        format!("{}: {entries}, the oldest {} old, {drained}", self.name, seconds(self.lag_seconds))
    }
}
