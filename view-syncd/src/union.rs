//! Uniting a set with the ledger: somebody else than view-ingest has written it (an older service, an operator, a restored backup), so
//! all its members are stored, and its numbers are brought into order.
//!
//! Afterwards `recorded` must be the size of the set again, and the live count must not move by the correction itself. So the difference
//! between the two, as read *before* the members were, is added to both `recorded` and `acked`. Why this is right while others write:
//!
//! * `SSCAN` gives every member that is there from its beginning to its end, so all members that the size counted are stored.
//! * A viewer whom view-ingest adds meanwhile moves size and `recorded` alike, so the difference stays what it was.
//! * Where the size was read between view-ingest's `SADD` and its `HINCRBY`, the difference is wrong by one; then size and `recorded`
//!   differ at the next scan by that one in the other direction, and this very procedure takes it back.
//! * A viewer who is in the outbox still is stored here already, and counts twice in the live count until the drain acknowledges him.
//!   The cycle drains before and after the scan, so that this is short.

use std::collections::HashMap;

use fred::{
    interfaces::{ClientLike, HashesInterface, KeysInterface},
    types::{ClusterHash, CustomCommand, ExpireOptions, Value},
};
use shared::{
    failpoints,
    ids::{PostId, ViewerId},
    keys::field,
    ledger, redis,
};

use crate::{
    dead::DeadLetter,
    drain::Urgency,
    engine::{Engine, Failure, is_about_the_key, replies},
    outbox::now_ms,
    pairs::Pairs,
    scan::{Look, Scanned},
};

/// Members that one `SSCAN` reads: about a quarter of a millisecond of Redis's time.
const SSCAN_COUNT: i64 = 500;
/// Posts whose numbers are corrected in one pipeline.
const CHUNK: usize = 500;

/// Members that have been read and not been stored.
#[derive(Debug, Default)]
struct Members {
    pairs: Pairs,
    dead: Vec<DeadLetter>,
}

impl Engine {
    /// Unites the sets of posts with the ledger, and settles their numbers.
    pub(crate) async fn unite(&mut self, differing: Vec<(PostId, Look)>, scanned: &mut Scanned) -> Result<(), Failure> {
        if differing.is_empty() {
            return Ok(());
        }
        self.check_owner().await?;
        let mut united = Vec::with_capacity(differing.len());
        let mut members = Members::default();
        for (post, look) in differing {
            match self.read_members(&post, &mut members).await {
                Ok(()) => united.push((post, look)),
                Err(Failure::Redis(error)) if is_about_the_key(&error) => scanned.fail(&post, &error),
                Err(failure) => return Err(failure),
            }
        }
        self.store_members(&mut members).await?;
        failpoints::at("union::after_commit");
        self.publish().await;
        for chunk in united.chunks(CHUNK) {
            self.settle_unions(chunk, scanned).await?;
        }
        Ok(())
    }

    /// Reads a set in bounded steps. Whenever there are enough members for a batch, they are stored, and the drain has its turn.
    async fn read_members(&mut self, post: &PostId, members: &mut Members) -> Result<(), Failure> {
        let sscan = CustomCommand::new_static("SSCAN", ClusterHash::FirstKey, false);
        let key = self.keys.views(post);
        let mut cursor = "0".to_owned();
        loop {
            let args: Vec<Value> = vec![key.as_str().into(), cursor.into(), "COUNT".into(), SSCAN_COUNT.into()];
            let (next, page): (String, Vec<Value>) = self.redis.custom(sscan.clone(), args).await?;
            for member in page {
                members.add(post, member);
            }
            self.progress.made();
            if members.pairs.len() + members.dead.len() >= self.settings.batch_size {
                self.store_members(members).await?;
                self.go_on()?;
                self.drain(Urgency::Patient).await?;
            }
            if next == "0" {
                return Ok(());
            }
            cursor = next;
        }
    }

    async fn store_members(&mut self, members: &mut Members) -> Result<(), Failure> {
        let Members { mut pairs, mut dead } = std::mem::take(members);
        let schema = self.database.schema().await?;
        dead.extend(pairs.prepare(&schema));
        let outcome = self.store.run(&pairs).await?;
        dead.extend(outcome.dead);
        self.bury(&dead).await?;
        let mut added = 0;
        for (post, stored) in outcome.posts {
            added += stored.added.unsigned_abs();
            if stored.added > 0 {
                self.changed(post, stored.views);
            }
        }
        self.metrics.new.inc_by(added);
        Ok(())
    }

    /// Corrects the numbers of posts whose sets are in the ledger now.
    async fn settle_unions(&mut self, united: &[(PostId, Look)], scanned: &mut Scanned) -> Result<(), Failure> {
        let ttl = i64::try_from(self.settings.view_ttl.as_secs()).unwrap_or(i64::MAX);
        let posts: Vec<PostId> = united.iter().map(|(post, _)| *post).collect();
        let counts: HashMap<PostId, i64> = ledger::counts(&self.database, &posts).await?;
        // A post that was deleted this moment has its turn with the next scan.
        let posts: Vec<_> = united.iter().filter_map(|(post, look)| Some((post, look, *counts.get(post)?))).collect();
        if posts.is_empty() {
            return Ok(());
        }
        let pipeline = self.redis.pipeline();
        for (post, look, count) in &posts {
            let (views, meta) = (self.keys.views(post), self.keys.meta(post));
            let difference = look.members - look.recorded;
            let () = pipeline.hset(&meta, (field::PERSISTED, *count)).await?;
            let () = pipeline.hincrby(&meta, field::RECORDED, difference).await?;
            let () = pipeline.hincrby(&meta, field::ACKED, difference).await?;
            let () = pipeline.expire(&views, ttl, Some(ExpireOptions::NX)).await?;
            let () = pipeline.expire(&meta, ttl, Some(ExpireOptions::NX)).await?;
        }
        let all = replies(redis::send::<Value>(&self.redis, &pipeline).await, 5 * posts.len())?;
        for (own, (post, look, _)) in all.chunks(5).zip(&posts) {
            match own.iter().find_map(|reply| reply.as_ref().err()) {
                Some(error) => scanned.fail(post, error),
                None => {
                    scanned.successful += 1;
                    scanned.united += 1;
                    self.metrics.unions.inc();
                    tracing::debug!(%post, members = look.members, recorded = look.recorded, "united a set with PostgreSQL");
                }
            }
        }
        self.progress.made();
        Ok(())
    }
}

impl Members {
    fn add(&mut self, post: &PostId, member: Value) {
        match member.as_str().and_then(|member| ViewerId::parse(&member).ok()) {
            Some(viewer) => {
                let place = self.pairs.place(*post);
                self.pairs.push(place, &viewer, now_ms());
            }
            None => {
                let member = member.into_bytes().unwrap_or_default();
                self.dead.push(DeadLetter::of_bytes(post.as_str().as_bytes(), &member, "not the id of a viewer"));
            }
        }
    }
}
