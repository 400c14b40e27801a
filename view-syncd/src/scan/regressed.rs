//! Posts of which PostgreSQL has fewer views than it had: the ledger was restored from a backup, or the post was created anew. The ledger is
//! the truth, so whoever is in the set and neither in the ledger nor on the way to it is taken out of the set: his next view counts.

use std::{collections::HashSet, time::Instant};

use views_core::{
    failpoints,
    ids::{PostId, ViewerId},
    keys::field,
};
use views_postgres::ledger;
use views_redis::resp::{Commands, Replies, Reply};

use super::ScanReport;
use crate::{
    engine::{Engine, Failure, refusal},
    outbox::{Batch, EntryId},
};

/// Members that one `SSCAN` reads.
const SSCAN_COUNT: i64 = 500;
/// Members that are compared with the ledger at once.
const MEMBERS: usize = 10_000;
/// Members that are taken out of a set in one step.
const REMOVED: usize = 200;
/// Pairs of the outbox that are read to know who is on the way. Where there are more, the next scan does it.
const MOST_WAITING: usize = 100_000;

impl Engine {
    /// Compares the sets of such posts with the ledger.
    pub(super) async fn rebuild_sets(&mut self, scanned: &mut ScanReport, drained: &mut Instant) -> Result<(), Failure> {
        for post in std::mem::take(&mut scanned.regressed) {
            self.check_owner().await?;
            if self.rebuild_set(post, scanned, drained).await? {
                tracing::info!(%post, "the set of a post has been made from the ledger again, which has fewer views than it had");
            }
            self.checkpoint()?;
        }
        Ok(())
    }

    /// Takes out of a set whom the ledger lacks. Returns whether that could be done.
    async fn rebuild_set(&mut self, post: PostId, scanned: &mut ScanReport, drained: &mut Instant) -> Result<bool, Failure> {
        let Some(regressed) = self.regressions(&post).await? else { return Ok(false) };
        let mut cursor = "0".to_owned();
        loop {
            let mut members = Vec::new();
            let next = loop {
                let Some((next, page)) = self.page_of_set(&post, &cursor, scanned).await? else { return Ok(false) };
                members.extend(page);
                if next == "0" || members.len() >= MEMBERS {
                    break next;
                }
                cursor = next;
            };
            failpoints::at("fallen::before");
            // Whoever is in the set was in the outbox before. So whoever is not there now is in the ledger by now, or nowhere.
            let Some(waiting) = self.pending_viewers(&post).await? else { return Ok(false) };
            let in_ledger = ledger::viewers_among(&self.database, &post, &members).await?;
            let lost: Vec<&ViewerId> =
                members.iter().filter(|member| !in_ledger.contains(*member) && !waiting.contains(*member)).collect();
            if !lost.is_empty() {
                self.take_out(&post, &lost, 0).await?;
            }
            self.progress.made();
            self.give_turn(drained).await?;
            if next == "0" {
                break;
            }
            self.checkpoint()?;
            cursor = next;
        }
        // What has been noted meanwhile is for the next scan.
        self.take_out(&post, &[], regressed).await?;
        Ok(true)
    }

    /// How often it has been noted that PostgreSQL had fewer views of a post than before.
    async fn regressions(&mut self, post: &PostId) -> Result<Option<i64>, Failure> {
        let (mut commands, mut replies) = (Commands::default(), Replies::default());
        commands.command("HMGET", 2).parts(&self.keys.meta_parts(post)).text(field::FALLEN);
        self.exchange(&commands, &mut replies).await?;
        let Some(Reply::List(fields)) = replies.iter().next() else { return Ok(None) };
        Ok(Some(fields.iter().next().and_then(Reply::number).unwrap_or(0)))
    }

    async fn page_of_set(
        &mut self,
        post: &PostId,
        cursor: &str,
        scanned: &mut ScanReport,
    ) -> Result<Option<(String, Vec<ViewerId>)>, Failure> {
        let (mut commands, mut replies) = (Commands::default(), Replies::default());
        commands.command("SSCAN", 4).parts(&self.keys.views_parts(post)).text(cursor).text("COUNT").number(SSCAN_COUNT);
        self.exchange(&commands, &mut replies).await?;
        let reply = replies.iter().next();
        let Some(Reply::List(parts)) = reply else {
            scanned.fail(post, &refusal(reply).details());
            return Ok(None);
        };
        let mut parts = parts.iter();
        let (Some(Reply::Text(next)), Some(Reply::List(members))) = (parts.next(), parts.next()) else {
            return Err(refusal(None).into());
        };
        let viewer = |member| if let Reply::Text(member) = member { ViewerId::parse(member).ok() } else { None };
        Ok(Some((next.to_owned(), members.iter().filter_map(viewer).collect())))
    }

    /// The viewers of a post that are on their way to the ledger; nothing where they are too many to be read. Entries up to which the post is
    /// settled may be there still, for the sake of other posts: who is in these was in the ledger.
    async fn pending_viewers(&mut self, post: &PostId) -> Result<Option<HashSet<ViewerId>>, Failure> {
        let (mut commands, mut replies) = (Commands::default(), Replies::default());
        commands.command("HMGET", 2).parts(&self.keys.meta_parts(post)).text(field::SETTLED);
        self.exchange(&commands, &mut replies).await?;
        let Some(Reply::List(fields)) = replies.iter().next() else { return Ok(None) };
        let settled = fields.iter().next().and_then(|id| if let Reply::Text(id) = id { id.parse().ok() } else { None });
        let from = settled.map_or(EntryId::FIRST, EntryId::next);
        let mut outbox = Batch::of([(*post, from)].into(), EntryId::LAST, self.line.number());
        outbox.read_on(&mut self.line, &self.keys, MOST_WAITING).await?;
        Ok(outbox.is_at_end.then(|| outbox.pairs.viewers_of(post)))
    }

    /// Takes viewers out of a set; both numbers of the post fall by as many, so that the live count stays what it is.
    /// Once they are compared, so many falls are forgotten.
    async fn take_out(&mut self, post: &PostId, lost: &[&ViewerId], regressions: i64) -> Result<(), Failure> {
        let (mut commands, mut replies) = (Commands::default(), Replies::default());
        for chunk in lost.chunks(REMOVED).chain(lost.is_empty().then_some(lost)) {
            commands.clear();
            views_redis::scripts::take_out(&mut commands, &self.keys, post, chunk, regressions);
            self.exchange(&commands, &mut replies).await?;
            if let Some(error @ Reply::Error(_)) = replies.iter().next() {
                return Err(refusal(Some(error)).into());
            }
        }
        Ok(())
    }
}
