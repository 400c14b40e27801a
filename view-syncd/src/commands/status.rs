//! `view-syncd status`: who drains, how far behind PostgreSQL is, what could not be stored, when the last cycle was.

mod drainers;
mod partitions;

use std::{process::ExitCode, time::Duration};

use serde::Serialize;
use views_core::settings::EXIT_CONFIG;
use views_postgres::DatabaseError;

use self::{drainers::Leader, partitions::PartitionStatus};
use super::{
    look::{
        Look, SeenNode, dead,
        dead::DeadLetters,
        in_time, keyspace, outboxes,
        writes::{self, Refusal},
    },
    output,
};
use crate::{
    cli::{SyncSettings, status::StatusSettings},
    context::half_moved,
};

/// An entry that waits for longer than this, and the linger, is behind.
const LONGEST_LAG: Duration = Duration::from_secs(60);
/// Reasons of dead letters that are shown.
const SHOWN_REASONS: usize = 5;

/// The state of the installation. What is not known is null.
#[derive(Debug, Default, Serialize)]
struct Status {
    well: bool,
    /// Why not, the gravest first.
    problems: Vec<String>,
    leader: Option<Leader>,
    standbys: Option<u64>,
    /// In a cluster, those that drain.
    #[serde(skip_serializing_if = "Option::is_none")]
    drainers: Option<Vec<Leader>>,
    outbox: Option<Outbox>,
    /// In a cluster, each of the partitions.
    #[serde(skip_serializing_if = "Option::is_none")]
    partitions: Option<Vec<PartitionStatus>>,
    /// In a cluster, the slots that are half moved.
    #[serde(skip_serializing_if = "Option::is_none")]
    half_moved_slots: Option<Vec<u16>>,
    dead: Option<DeadLetters>,
    last_cycle: Option<Cycle>,
    posts: Option<Posts>,
    redis: Store,
    postgresql: Store,
    /// Whether a store is not as it is needed.
    #[serde(skip)]
    is_unfit: bool,
}

#[derive(Debug, Serialize)]
struct Outbox {
    entries: u64,
    oldest: Option<String>,
    lag_seconds: f64,
}

#[derive(Debug, Serialize)]
struct Cycle {
    at: String,
    age_seconds: f64,
}

#[derive(Debug, Serialize)]
struct Posts {
    about: u64,
    exact: bool,
}

/// A store. What is not known is null.
#[derive(Debug, Default, Serialize)]
struct Store {
    up: bool,
    server: Option<String>,
    version: Option<String>,
    mode: Option<&'static str>,
}

/// Tells the state. The exit status is 0 where all is well, 78 where a store is not as it is needed, and else 1.
///
/// # Errors
/// When the settings do not fit together.
pub async fn run(settings: SyncSettings, command: StatusSettings) -> anyhow::Result<ExitCode> {
    let mut look = Look::open(&settings).await?;
    let mut status = Status::default();
    status.look_at_redis(&mut look, settings.redis.allow_eviction).await;
    status.look_at_database(&look, command.interval).await;
    status.look_at_owner(&look).await;
    status.judge(settings.work.linger);
    output::print(command.json, &status, || status.text())?;
    Ok(match status {
        Status { well: true, .. } => ExitCode::SUCCESS,
        Status { is_unfit: true, .. } => ExitCode::from(EXIT_CONFIG),
        _ => ExitCode::FAILURE,
    })
}

impl Status {
    async fn look_at_redis(&mut self, look: &mut Look, allow_eviction: bool) {
        self.redis.server = Some(look.redis_url.clone());
        let info = match &look.redis {
            Ok(info) => info.clone(),
            Err(error) => return self.problems.push(format!("Redis is away ({}): {error}", look.redis_url)),
        };
        self.redis.up = true;
        let is_clustered = look.context.redis.is_clustered();
        if let Some(info) = &info {
            self.redis.version = Some(info.version());
            self.redis.mode = Some(if info.is_clustered() {
                "cluster"
            } else if look.redis_url.contains("-sentinel://") {
                "sentinel"
            } else {
                "standalone"
            });
        }
        for node in &look.nodes {
            self.look_at_node(node, is_clustered, allow_eviction);
        }
        if is_clustered {
            self.look_at_slots(look).await;
        }
        if self.problems.is_empty()
            && let Some(Refusal::NoWrites(text)) = writes::refusal(look).await
        {
            self.problems.push(text);
        }
        match outboxes::measure(look).await {
            Ok(seen) => {
                let (entries, oldest) = (seen.entries(), seen.oldest().map(|oldest| oldest.to_string()));
                self.outbox = Some(Outbox { entries, oldest, lag_seconds: seen.age(look).as_secs_f64() });
                if let Some((number, error)) = &seen.unread {
                    self.problems.push(format!("the outboxes of {number} partitions cannot be read: {error}"));
                }
                self.partitions = is_clustered.then(|| partitions::of(look, &seen));
            }
            Err(error) => self.problems.push(format!("the outbox cannot be read: {error}")),
        }
        match dead::count(&mut look.session).await {
            Ok(dead) => self.dead = Some(dead),
            Err(error) => self.problems.push(format!("the dead letters cannot be read: {error}")),
        }
        // Where keys may not be gone through, it is not known.
        if let Ok(sample) = keyspace::sample(&mut look.session).await {
            let keys = |node: &SeenNode| Some(node.info.as_ref().ok()?.as_ref()?.keys(look.redis_database));
            let all = look.nodes.iter().map(keys).sum::<Option<u64>>();
            let about = (sample.is_complete || all.is_some()).then(|| sample.posts(all.unwrap_or(0)));
            self.posts = about.map(|about| Posts { about, exact: sample.is_complete });
        }
    }

    /// Looks at a server that takes writes.
    fn look_at_node(&mut self, node: &SeenNode, is_clustered: bool, allow_eviction: bool) {
        let info = match &node.info {
            Ok(Some(info)) => info,
            Ok(None) => return,
            Err(error) => return self.problems.push(node.tell(format!("a primary of Redis is away: {error}"))),
        };
        let eviction = info.eviction().filter(|_| !allow_eviction);
        let clustered = (!is_clustered && info.is_clustered()).then(|| "Redis is in cluster mode".to_owned());
        let unfit = info.too_old().or(clustered).or(eviction);
        self.is_unfit |= unfit.is_some();
        let problem = unfit.or_else(|| info.pause().map(|pause| format!("Redis takes no writes: {pause}")));
        self.problems.extend(problem.map(|problem| node.tell(problem)));
    }

    /// Looks where the slots of a cluster are.
    async fn look_at_slots(&mut self, look: &Look) {
        let without_primary = look.context.redis.slots_without_primary();
        if without_primary > 0 {
            self.problems
                .push(format!("{without_primary} slots of the cluster have no primary, so that their views are not taken"));
        }
        let half_moved = look.half_moved_slots().await;
        self.problems.extend(half_moved::in_words(&half_moved));
        self.half_moved_slots = Some(half_moved.into_iter().map(|half_moved| half_moved.slot).collect());
    }

    async fn look_at_database(&mut self, look: &Look, interval: Duration) {
        self.postgresql.server = Some(look.database_url.clone());
        let state = match &look.database {
            Ok(state) => state,
            Err(error) => return self.note(error),
        };
        self.postgresql.up = true;
        self.postgresql.version = Some(version(&state.version_text));
        self.postgresql.mode = Some(if state.is_standby { "standby" } else { "primary" });
        if state.is_read_only {
            self.problems.push("PostgreSQL takes no writes: it is a standby, or was made read-only".to_owned());
        }
        let database = &look.context.database;
        let schema = match in_time(database.schema()).await {
            Ok(schema) => schema,
            Err(error) => return self.note(&error),
        };
        let is_clustered = look.context.redis.is_clustered();
        match in_time(database.candidates(&schema, is_clustered)).await {
            Ok(candidates) if is_clustered => self.take_drainers(candidates, interval),
            Ok(candidates) => self.take_candidates(candidates, interval),
            Err(error) => self.note(&error),
        }
    }

    fn note(&mut self, error: &DatabaseError) {
        self.is_unfit |= matches!(error, DatabaseError::Setup(_));
        self.problems.push(error.to_string());
    }

    async fn look_at_owner(&mut self, look: &Look) {
        if look.redis.is_err() || look.database.is_err() {
            return;
        }
        if let Ok(Some(Err(foreign))) = look.owner().await {
            self.is_unfit = true;
            self.problems.insert(0, foreign.to_string());
        }
    }

    /// Decides whether all is well.
    fn judge(&mut self, linger: Duration) {
        if let Some(outbox) = &self.outbox
            && outbox.lag_seconds > (LONGEST_LAG + linger).as_secs_f64()
        {
            let lag = output::age(Duration::from_secs_f64(outbox.lag_seconds));
            self.problems.push(format!("the oldest view waits for {lag}: /readyz of a view-syncd that leads says for what"));
        }
        if let Some(dead) = self.dead.as_ref().filter(|dead| dead.entries > 0) {
            self.problems.push(format!(
                "{} could not be stored: see `view-syncd dead list`",
                output::counted(dead.entries, "view", "views")
            ));
        }
        self.well = self.problems.is_empty();
    }

    fn text(&self) -> String {
        let mut text = if self.well {
            "well\n".to_owned()
        } else {
            format!("{}\n", output::wrapped(&format!("not well: {}", self.problems.join("; ")), 0))
        };
        let row = |name: &str, told: Option<String>| [name.to_owned(), told.unwrap_or_else(|| "not known".to_owned())];
        let mut rows = Vec::new();
        if let Some(drainers) = &self.drainers {
            rows.push(row("drained by", Some(self.drainers_text(drainers))));
        } else {
            rows.push(row("leader", self.leader_text()));
        }
        rows.extend([
            row(
                "last cycle",
                self.last_cycle.as_ref().map(|cycle| format!("{} ago, at {}", seconds(cycle.age_seconds), cycle.at)),
            ),
            row("outbox", self.outbox.as_ref().map(Outbox::text)),
        ]);
        if let Some(told) = self.partitions.as_ref().and_then(|partitions| partitions::text(partitions)) {
            rows.push(row("partitions", Some(told)));
        }
        rows.extend([
            row("dead", self.dead.as_ref().map(dead_text)),
            row(
                "posts",
                self.posts
                    .as_ref()
                    .map(|posts| format!("{}{} in Redis", if posts.exact { "" } else { "about " }, output::count(posts.about))),
            ),
            row("Redis", Some(self.redis.text())),
            row("PostgreSQL", Some(self.postgresql.text())),
        ]);
        text.push_str(&output::table(&rows));
        text
    }
}

impl Outbox {
    fn text(&self) -> String {
        let entries = output::counted(self.entries, "entry", "entries");
        match &self.oldest {
            Some(oldest) => format!("{entries}, the oldest {} old ({oldest})", seconds(self.lag_seconds)),
            None => "empty".to_owned(),
        }
    }
}

impl Store {
    fn text(&self) -> String {
        let parts = [self.version.as_deref(), self.mode, self.server.as_deref()];
        let told: Vec<&str> = parts.into_iter().flatten().collect();
        if self.up { told.join(", ") } else { format!("away{}{}", if told.is_empty() { "" } else { ": " }, told.join(", ")) }
    }
}

fn dead_text(dead: &DeadLetters) -> String {
    if dead.entries == 0 {
        return "none".to_owned();
    }
    let mut lines = vec![output::count(dead.entries)];
    lines.extend(dead.reasons.iter().take(SHOWN_REASONS).map(|reason| {
        let again = if reason.retry { " (offered again with each cycle)" } else { "" };
        format!("{} {}{again}", output::count(reason.entries), reason.reason)
    }));
    let shown: u64 = dead.reasons.iter().take(SHOWN_REASONS).map(|reason| reason.entries).sum();
    if shown < dead.entries {
        lines.push(format!("{} others", output::count(dead.entries - shown)));
    }
    lines.join("\n")
}

/// Returns the version without the package's.
fn version(text: &str) -> String {
    format!("PostgreSQL {}", text.split(' ').next().unwrap_or(text))
}

fn seconds(seconds: f64) -> String {
    output::age(Duration::from_secs_f64(seconds.max(0.0)))
}
