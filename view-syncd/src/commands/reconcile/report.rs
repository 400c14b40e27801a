//! What a comparison tells: differences as they are found in JSON, and for people a line for each kind.

use std::{collections::BTreeMap, io::Write, process::ExitCode, time::Instant};

use anyhow::Context as _;
use serde::Serialize;

use crate::reconcile::{
    compare::Seen,
    difference::{Difference, Kind},
};

/// Examples that are told of each kind.
const EXAMPLES: usize = 3;
/// The width of a line.
const COLUMNS: usize = 98;

/// What is to be known before a set without its ledger is mended: where the ledger has lost rows, the set is the only copy.
const ONLY_IN_REDIS: &str = "where the ledger has lost rows (a backup restored, a TRUNCATE), Redis alone has these viewers yet:
`--restore-from-redis` brings them back, and `--repair` takes them out of the sets for good";

/// What was found.
pub(super) struct Report {
    is_json: bool,
    repairs: bool,
    started: Instant,
    pub(super) database_posts: u64,
    pub(super) redis_posts: u64,
    pub(super) outbox_pairs: u64,
    /// Posts without a base whose counts have more than the ledger explains.
    pub(super) without_base: u64,
    pub(super) seen: Seen,
    kinds: BTreeMap<Kind, Found>,
    is_begun: bool,
}

/// What was found of a kind.
#[derive(Default)]
struct Found {
    number: u64,
    repaired: u64,
    examples: Vec<String>,
}

#[derive(Serialize)]
struct Told<'a> {
    #[serde(flatten)]
    difference: &'a Difference,
    repaired: bool,
}

#[derive(Serialize)]
struct Summary {
    found: BTreeMap<Kind, u64>,
    repaired: u64,
    left: u64,
    posts_in_postgresql: u64,
    posts_in_redis: u64,
    outbox_pairs: u64,
    without_base: u64,
    gone: u64,
    unsettled: u64,
    unreadable: u64,
    seconds: f64,
}

impl Report {
    pub(super) fn new(is_json: bool, repairs: bool) -> Self {
        Self {
            is_json,
            repairs,
            started: Instant::now(),
            database_posts: 0,
            redis_posts: 0,
            outbox_pairs: 0,
            without_base: 0,
            seen: Seen::default(),
            kinds: BTreeMap::new(),
            is_begun: false,
        }
    }

    /// Returns how many differences were found.
    pub(super) fn found(&self) -> u64 {
        self.kinds.values().map(|found| found.number).sum()
    }

    /// Adds differences, of which some are mended.
    pub(super) fn add_all(&mut self, differences: impl Iterator<Item = Difference>, is_repaired: impl Fn(&Difference) -> bool) {
        for difference in differences {
            let repaired = is_repaired(&difference);
            let found = self.kinds.entry(difference.kind).or_default();
            found.number += 1;
            found.repaired += u64::from(repaired);
            if found.examples.len() < EXAMPLES {
                found.examples.push(difference.to_string());
            }
            if self.is_json {
                let text = serde_json::to_string(&Told { difference: &difference, repaired }).unwrap_or_default();
                let begin = if std::mem::replace(&mut self.is_begun, true) { "," } else { "{\"differences\":[" };
                // Should nobody read it any more, that is told at the end.
                let _ = write!(std::io::stdout().lock(), "{begin}{text}");
            }
        }
    }

    /// Tells the numbers, and returns the exit status.
    pub(super) fn finish(self) -> anyhow::Result<ExitCode> {
        let (found, repaired) = (self.found(), self.kinds.values().map(|found| found.repaired).sum::<u64>());
        let left = if self.repairs { found - repaired } else { found };
        let mut output = std::io::stdout().lock();
        let text = if self.is_json { self.json(repaired, left)? } else { self.text(repaired, left) };
        writeln!(output, "{text}").and_then(|()| output.flush()).context("standard output is closed")?;
        Ok(if left == 0 && self.seen.unreadable == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    fn json(&self, repaired: u64, left: u64) -> anyhow::Result<String> {
        let number = |kind: &Kind| self.kinds.get(kind).map_or(0, |found| found.number);
        let summary = Summary {
            found: Kind::ALL.iter().map(|kind| (*kind, number(kind))).collect(),
            repaired,
            left,
            posts_in_postgresql: self.database_posts,
            posts_in_redis: self.redis_posts,
            outbox_pairs: self.outbox_pairs,
            without_base: self.without_base,
            gone: self.seen.gone,
            unsettled: self.seen.unsettled,
            unreadable: self.seen.unreadable,
            seconds: (self.started.elapsed().as_secs_f64() * 10.0).round() / 10.0,
        };
        let summary = serde_json::to_string(&summary)?;
        let list = if self.is_begun { "]," } else { "{\"differences\":[]," };
        Ok(format!("{list}{}", summary.strip_prefix('{').unwrap_or_default()))
    }

    fn text(&self, repaired: u64, left: u64) -> String {
        let mut lines = Vec::new();
        for (kind, found) in &self.kinds {
            lines.push(line(*kind, found));
        }
        let notes = [
            (self.without_base, "have a count that nothing explains, and no base: `view-syncd migrate` remembers it"),
            (self.seen.gone, "are gone from PostgreSQL: the next scan removes their keys"),
            (self.seen.unsettled, "were busy all the time, or whose outbox is too long, and are compared in part"),
            (self.seen.unreadable, "have keys of another type, see above"),
        ];
        for (number, what) in notes.into_iter().filter(|(number, _)| *number > 0) {
            lines.push(format!("posts that {what}: {number}"));
        }
        let found = self.found();
        let verdict = match (found, self.repairs) {
            (0, _) => "nothing differs".to_owned(),
            (_, false) => format!("differences {found} · `view-syncd reconcile --repair` mends them"),
            (_, true) => format!("differences {found} · repaired {repaired} · left {left}"),
        };
        lines.push(verdict);
        if !self.repairs && self.kinds.contains_key(&Kind::SetWithoutLedger) {
            lines.push(ONLY_IN_REDIS.to_owned());
        }
        lines.push(format!(
            "posts in PostgreSQL {} · posts in Redis {} · pairs in the outbox {} · {:.1} s",
            self.database_posts,
            self.redis_posts,
            self.outbox_pairs,
            self.started.elapsed().as_secs_f64()
        ));
        lines.join("\n")
    }
}

/// Returns the line of a kind: its number, and as many examples as there is room for.
fn line(kind: Kind, found: &Found) -> String {
    let mut text = format!("{:<22}{:>6}  ", kind.words(), found.number);
    let mut shown = 0;
    for example in &found.examples {
        let more = if shown == 0 { example.clone() } else { format!(" · {example}") };
        if shown > 0 && text.chars().count() + more.chars().count() > COLUMNS - 2 {
            break;
        }
        text.push_str(&more);
        shown += 1;
    }
    if found.number > shown {
        text.push_str(" …");
    }
    text
}
