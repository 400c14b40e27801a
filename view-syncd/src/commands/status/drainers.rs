//! Who drains, and when the last cycle was.

use std::{collections::BTreeSet, time::Duration};

use serde::Serialize;
use views_postgres::observe::{Candidate, Candidates, Drainer};

use super::{Cycle, Status, seconds};
use crate::{commands::output, entry_id::now_ms, session_name};

/// How many intervals may pass without a cycle that succeeds, and how much more.
const CYCLES: u32 = 2;
const CYCLE_MARGIN: Duration = Duration::from_secs(60);

/// A session that drains.
#[derive(Debug, Serialize)]
pub(super) struct Leader {
    backend: i32,
    address: Option<String>,
    connected_seconds: Option<f64>,
    /// How many partitions of a cluster it drains.
    #[serde(skip_serializing_if = "Option::is_none")]
    partitions: Option<usize>,
}

impl Status {
    pub(super) fn take_candidates(&mut self, candidates: Candidates, interval: Duration) {
        self.standbys = Some(candidates.standbys);
        let Some(Drainer { candidate: leader, .. }) = candidates.drainers.into_iter().next() else {
            return self.problems.push("no view-syncd leads: start it".to_owned());
        };
        self.take_cycle(session_name::last_cycle_ms(&leader.name), interval);
        let connected_seconds = leader.connected.map(|connected| connected.as_secs_f64());
        let Candidate { backend, address, .. } = leader;
        self.leader = Some(Leader { backend, address, connected_seconds, partitions: None });
    }

    /// Takes those that share a cluster's partitions.
    pub(super) fn take_drainers(&mut self, candidates: Candidates, interval: Duration) {
        self.standbys = Some(candidates.standbys);
        if candidates.drainers.is_empty() {
            self.problems.push("no view-syncd drains anything: start it".to_owned());
        } else {
            // Each cycle is of the partitions of its own.
            let cycles = candidates.drainers.iter().map(|drainer| session_name::last_cycle_ms(&drainer.candidate.name));
            self.take_cycle(cycles.min().flatten(), interval);
        }
        let mut open = BTreeSet::new();
        for partition in self.partitions.iter_mut().flatten() {
            let drainer = candidates.drainers.iter().find(|drainer| drainer.partitions.contains(&partition.partition));
            partition.backend = drainer.map(|drainer| drainer.candidate.backend);
            if drainer.is_none() {
                open.insert(partition.name);
            }
        }
        if let Some(first) = open.first().filter(|_| !candidates.drainers.is_empty()) {
            self.problems.push(format!(
                "nobody drains {}, {first} among them",
                output::counted(open.len() as u64, "partition", "partitions")
            ));
        }
        let drainer = |Drainer { candidate, partitions }: Drainer| Leader {
            backend: candidate.backend,
            address: candidate.address,
            connected_seconds: candidate.connected.map(|connected| connected.as_secs_f64()),
            partitions: Some(partitions.len()),
        };
        self.drainers = Some(candidates.drainers.into_iter().map(drainer).collect());
    }

    /// Takes when the last cycle succeeded, in milliseconds since 1970; of several that drain, the one that it is longest ago
    /// of.
    fn take_cycle(&mut self, cycle_ms: Option<i64>, interval: Duration) {
        let age = cycle_ms.map(|ms| Duration::from_millis(u64::try_from(now_ms() - ms).unwrap_or(0)));
        self.last_cycle = cycle_ms.zip(age).map(|(ms, age)| Cycle { at: output::moment(ms), age_seconds: age.as_secs_f64() });
        match age {
            None => self.problems.push("no cycle has succeeded since the one that leads took over".to_owned()),
            Some(age) if age > interval * CYCLES + CYCLE_MARGIN => {
                self.problems.push(format!(
                    "the last cycle succeeded {} ago, and there should be one every {}",
                    output::age(age),
                    output::age(interval)
                ));
            }
            Some(_) => {}
        }
    }

    pub(super) fn drainers_text(&self, drainers: &[Leader]) -> String {
        let mut lines: Vec<String> = drainers
            .iter()
            .map(|drainer| {
                let partitions = output::counted(drainer.partitions.unwrap_or(0) as u64, "partition", "partitions");
                format!("{}: {partitions}", drainer.text())
            })
            .collect();
        if lines.is_empty() {
            lines.push("nobody".to_owned());
        }
        let standbys = self.standbys.unwrap_or(0);
        if standbys > 0 {
            lines.push(output::counted(standbys, "standby", "standbys"));
        }
        lines.join("\n")
    }

    pub(super) fn leader_text(&self) -> Option<String> {
        let standbys = self.standbys?;
        let standbys =
            if standbys == 0 { String::new() } else { format!(" · {}", output::counted(standbys, "standby", "standbys")) };
        let Some(leader) = &self.leader else { return Some(format!("none{standbys}")) };
        Some(format!("{}{standbys}", leader.text()))
    }
}

impl Leader {
    fn text(&self) -> String {
        let from = self.address.as_ref().map_or_else(String::new, |address| format!(" from {address}"));
        let since =
            self.connected_seconds.map_or_else(String::new, |connected| format!(", connected for {}", seconds(connected)));
        format!("backend {}{from}{since}", self.backend)
    }
}
