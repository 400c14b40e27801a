//! Repairing drifts: `recorded` less `acked` must be the number of a post's pairs in the outbox that are not settled, but for those that are
//! known to be repeated. Where a hash has expired at the wrong
//! moment, or an increment was lost or repeated, it is not, and the live count is wrong for good.
//!
//! Outbox and hashes are read in one transaction, so that no acknowledgement falls in between. view-ingest however writes the outbox first
//! and the hash a moment later; so a drift counts only when it is the same in two such snapshots, with a step of the drain in between.
//! Should chance have deceived both, the next scan repairs what this one has spoilt.

use std::collections::{HashMap, HashSet};

use views_core::{failpoints, ids::PostId, keys::field};
use views_postgres::ledger;
use views_redis::{
    resp::{Commands, Replies, Reply},
    scripts::Adjustment,
};

use crate::{
    acknowledge::is_young,
    drain::Urgency,
    engine::{Engine, Failure, refusal},
    outbox::{self, Batch, EntryId},
    scan::ScanReport,
};

/// A longer outbox is not read whole in one command.
const MAX_ENTRIES: usize = 100;
/// Posts in one snapshot.
const SNAPSHOT_POSTS: usize = 250;

impl Engine {
    /// Repairs the drifts among these posts. Where the outbox is too long to be read at once, the next cycle does it.
    pub(crate) async fn repair(&mut self, posts: HashSet<PostId>) -> Result<(), Failure> {
        // Where another process drains, its own repairs see to this.
        if posts.is_empty() || !self.drains {
            return Ok(());
        }
        self.check_owner().await?;
        let posts: Vec<PostId> = posts.into_iter().collect();
        let Some(first) = self.drifts(&posts).await? else { return Ok(()) };
        if first.is_empty() {
            return Ok(());
        }
        self.drain(Urgency::AtOnce).await?;
        let suspects: Vec<PostId> = first.keys().copied().collect();
        let Some(second) = self.drifts(&suspects).await? else { return Ok(()) };
        let drifted: Vec<(PostId, i64)> = second.into_iter().filter(|(post, drift)| first.get(post) == Some(drift)).collect();
        let mut counts = self.recover(&drifted).await?;
        failpoints::at("repair::before");
        let adjustment = |(post, drift): &(PostId, i64)| {
            let (known, views) = counts.remove(post).unzip();
            // With nothing in the outbox, as is now known, the count in PostgreSQL is the live one.
            Adjustment { acked: *drift, known: known.flatten(), views, is_quiet: true, ..Adjustment::of(*post) }
        };
        let adjustments: Vec<Adjustment> = drifted.iter().map(adjustment).collect();
        let failed = self.adjust(&adjustments, &mut ScanReport::default()).await?;
        for (post, drift) in drifted.iter().filter(|(post, _)| !failed.contains(post)) {
            self.metrics.drifts.inc();
            tracing::info!(%post, drift, "repaired a count that had drifted from the outbox");
        }
        Ok(())
    }

    /// Unites the sets with the ledger of posts of which more was recorded than the outbox ever had: the set may hold viewers whose entry is
    /// lost, and whom view-ingest would call duplicates for as long as the set lives. Done before the drift is repaired, which hides it.
    /// Returns the counts that Redis had of them and that PostgreSQL has.
    async fn recover(&mut self, drifted: &[(PostId, i64)]) -> Result<HashMap<PostId, (Option<i64>, i64)>, Failure> {
        let posts: Vec<PostId> = drifted.iter().filter(|(_, drift)| *drift > 0).map(|(post, _)| *post).collect();
        let mut counts = HashMap::new();
        for chunk in posts.chunks(SNAPSHOT_POSTS) {
            // What cannot be united is logged there, and has its turn again when it drifts again.
            let mut scanned = ScanReport::default();
            let states = self.read_states(chunk, &mut scanned).await?;
            self.import_sets(states.clone().into_iter().collect(), &mut scanned).await?;
            let stored = ledger::counts(&self.database, chunk).await?;
            counts.extend(stored.into_iter().filter_map(|(post, views)| Some((post, (states.get(&post)?.persisted, views)))));
        }
        Ok(counts)
    }

    /// The posts whose hashes disagree with the outbox, and by how much; nothing where the outbox is too long.
    async fn drifts(&mut self, posts: &[PostId]) -> Result<Option<HashMap<PostId, i64>>, Failure> {
        let mut drifts = HashMap::new();
        for chunk in posts.chunks(SNAPSHOT_POSTS) {
            // The transaction reads one entry more than is allowed, but a long outbox is better not read at all.
            if outbox::length(&self.redis, &self.keys).await? > MAX_ENTRIES as i64 {
                return Ok(None);
            }
            match self.snapshot(chunk, &mut drifts).await {
                Ok(true) => {}
                Ok(false) => return Ok(None),
                Err(failure) => return Err(failure),
            }
            self.checkpoint()?;
        }
        Ok(Some(drifts))
    }

    async fn snapshot(&mut self, posts: &[PostId], drifts: &mut HashMap<PostId, i64>) -> Result<bool, Failure> {
        let (mut commands, mut replies) = (Commands::default(), Replies::default());
        commands.command("MULTI", 0);
        commands.command("XRANGE", 5).text(self.keys.outbox()).text("-").text("+").text("COUNT").number(MAX_ENTRIES as i64 + 1);
        for post in posts {
            commands.command("HMGET", 5).parts(&self.keys.meta_parts(post));
            commands.text(field::RECORDED).text(field::ACKED).text(field::REPEATED).text(field::SETTLED);
        }
        commands.command("EXEC", 0);
        self.line.exchange(&commands, &mut replies).await?;
        let mut snapshot = match replies.iter().last() {
            Some(Reply::List(snapshot)) => snapshot.iter(),
            other => return Err(refusal(other).into()),
        };
        let mut outbox = Batch::default();
        match snapshot.next() {
            Some(Reply::List(page)) if page.len() <= MAX_ENTRIES => outbox.take(page),
            Some(Reply::List(_)) => return Ok(false),
            other => return Err(refusal(other).into()),
        }
        let place_of = |post: &PostId| outbox.pairs.posts().get_index_of(post).and_then(|place| u32::try_from(place).ok());
        for (post, meta) in posts.iter().zip(snapshot) {
            let Reply::List(meta) = meta else {
                tracing::debug!(%post, ?meta, "a snapshot met a key of another type");
                continue;
            };
            // A hash that has expired has no drift.
            if meta.iter().all(|field| field == Reply::Null) {
                continue;
            }
            let mut fields = meta.iter();
            let mut number = || fields.next().and_then(Reply::number).unwrap_or(0);
            let (recorded, acked) = (number(), number());
            let repeated = fields.next().map_or(0, repeated_pairs);
            let settled = fields.next().and_then(|id| if let Reply::Text(id) = id { id.parse().ok() } else { None });
            let settled = settled.unwrap_or(EntryId { ms: 0, sequence: 0 });
            let waiting = place_of(post).and_then(|place| outbox.entries.span_behind(place, settled));
            let pairs = waiting.map_or(0, |span| i64::try_from(span.pairs).unwrap_or(i64::MAX));
            // `repeated` may be left over from an entry that was settled while there was no hash.
            let drift = recorded + repeated.min(pairs) - acked - pairs;
            // The increment of a young entry may be on its way.
            if drift > 0 || (drift < 0 && waiting.is_none_or(|span| !is_young(span.last))) {
                drifts.insert(*post, drift);
            }
        }
        Ok(true)
    }
}

/// How many pairs [`field::REPEATED`] names in all.
fn repeated_pairs(list: Reply<'_>) -> i64 {
    let Reply::Text(list) = list else { return 0 };
    list.split(' ').filter_map(|item| item.split_once('=')?.1.parse::<i64>().ok()).sum()
}
