//! Repairing drifts: `recorded` less `acked` must be the number of a post's pairs in the outbox. Where a hash has expired at the wrong
//! moment, or an increment was lost or repeated, it is not, and the live count is wrong for good.
//!
//! Outbox and hashes are read in one transaction, so that no acknowledgement falls in between. view-ingest however writes the outbox first
//! and the hash a moment later; so a drift counts only when it is the same in two such snapshots, with a step of the drain in between.
//! Should chance have deceived both, the next scan repairs what this one has spoilt.

use std::collections::{HashMap, HashSet};

use fred::{
    interfaces::{HashesInterface, StreamsInterface, TransactionInterface},
    types::Value,
};
use shared::{
    failpoints,
    ids::PostId,
    keys::{self, field},
};

use crate::{
    drain::Urgency,
    engine::{Engine, Failure, is_about_the_key},
    outbox,
    scan::Scanned,
};

/// A longer outbox is not read whole in one command.
const MAX_ENTRIES: usize = 100;
/// Posts in one snapshot.
const SNAPSHOT_POSTS: usize = 250;

impl Engine {
    /// Repairs the drifts among these posts. Where the outbox is too long to be read at once, the next cycle does it.
    pub(crate) async fn repair(&mut self, posts: HashSet<PostId>) -> Result<(), Failure> {
        if posts.is_empty() {
            return Ok(());
        }
        let posts: Vec<PostId> = posts.into_iter().collect();
        let Some(first) = self.drifts(&posts).await? else { return Ok(()) };
        if first.is_empty() {
            return Ok(());
        }
        self.drain(Urgency::AtOnce).await?;
        let suspects: Vec<PostId> = first.keys().copied().collect();
        let Some(second) = self.drifts(&suspects).await? else { return Ok(()) };
        let drifted: Vec<(PostId, i64)> = second.into_iter().filter(|(post, drift)| first.get(post) == Some(drift)).collect();
        self.rescue(&drifted).await?;
        for (post, drift) in drifted {
            failpoints::at("repair::before");
            let acked: i64 = self.redis.hincrby(keys::meta(&post), field::ACKED, drift).await?;
            self.metrics.drifts.inc();
            tracing::info!(%post, drift, acked, "repaired a count that had drifted from the outbox");
        }
        Ok(())
    }

    /// Unites the sets with the ledger of posts of which more was recorded than the outbox ever had: the set may hold viewers whose entry is
    /// lost, and whom view-ingest would call duplicates for as long as the set lives. Done before the drift is repaired, which hides it.
    async fn rescue(&mut self, drifted: &[(PostId, i64)]) -> Result<(), Failure> {
        let posts: Vec<PostId> = drifted.iter().filter(|(_, drift)| *drift > 0).map(|(post, _)| *post).collect();
        for chunk in posts.chunks(SNAPSHOT_POSTS) {
            // What cannot be united is logged there, and has its turn again when it drifts again.
            let mut scanned = Scanned::default();
            let looks = self.look(chunk, &mut scanned).await?;
            self.unite(looks.into_iter().collect(), &mut scanned).await?;
        }
        Ok(())
    }

    /// The posts whose hashes disagree with the outbox, and by how much; nothing where the outbox is too long.
    async fn drifts(&mut self, posts: &[PostId]) -> Result<Option<HashMap<PostId, i64>>, Failure> {
        let mut drifts = HashMap::new();
        for chunk in posts.chunks(SNAPSHOT_POSTS) {
            // The transaction reads one entry more than is allowed, but a long outbox is better not read at all.
            if outbox::length(&self.redis).await? > MAX_ENTRIES as i64 {
                return Ok(None);
            }
            match self.snapshot(chunk, &mut drifts).await {
                Ok(true) => {}
                Ok(false) => return Ok(None),
                Err(Failure::Redis(error)) if is_about_the_key(&error) => {
                    tracing::debug!(%error, "a snapshot met a key of another type");
                }
                Err(failure) => return Err(failure),
            }
            self.go_on()?;
        }
        Ok(Some(drifts))
    }

    async fn snapshot(&self, posts: &[PostId], drifts: &mut HashMap<PostId, i64>) -> Result<bool, Failure> {
        let transaction = self.redis.multi();
        let () = transaction.xrange(keys::OUTBOX, "-", "+", Some(MAX_ENTRIES as u64 + 1)).await?;
        for post in posts {
            let () = transaction.hmget(keys::meta(post), vec![field::RECORDED, field::ACKED]).await?;
        }
        let mut snapshot: std::vec::IntoIter<Value> = transaction.exec::<Vec<Value>>(true).await?.into_iter();
        let entries = outbox::entries(snapshot.next().unwrap_or(Value::Null));
        if entries.len() > MAX_ENTRIES {
            return Ok(false);
        }
        let mut waiting: HashMap<PostId, usize> = HashMap::new();
        for (post, pairs) in entries.iter().flat_map(|entry| &entry.posts) {
            *waiting.entry(*post).or_default() += pairs;
        }
        for (post, meta) in posts.iter().zip(snapshot) {
            let meta = meta.into_array();
            // A hash that has expired has no drift.
            if meta.iter().all(Value::is_null) {
                continue;
            }
            let number = |place: usize| meta.get(place).and_then(Value::as_i64).unwrap_or(0);
            let waiting = waiting.get(post).map_or(0, |pairs| i64::try_from(*pairs).unwrap_or(i64::MAX));
            let drift = number(0) - number(1) - waiting;
            if drift != 0 {
                drifts.insert(*post, drift);
            }
        }
        Ok(true)
    }
}
