//! `view-syncd forget`: erases a viewer from both stores. The totals stay: his views move into the posts' bases.
//!
//! It goes around until nothing is found any more. What is pending is stored first, so that no drain brings it later;
//! then dead letters are deleted, and the ledger is cleaned. A set is cleaned right before the row of its post is: no
//! scan imports a member whom the ledger lacks, and a view that is recorded in between is stored as the new one that it was
//! answered to be. At last all sets are gone through, which a look-up may have filled from the ledger meanwhile.
//! They are gone through once, and again only where something was pending, or in the ledger.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    io::Write,
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use serde::Serialize;
use tokio::time::sleep;
use views_core::{
    failpoints,
    ids::{PostId, ViewerId},
    settings::EXIT_CONFIG,
};
use views_postgres::{
    DatabaseError,
    forget::{Erased, Forgetting, spellings},
};

use super::{connect, progress_bar::ProgressBar, take_leases};
use crate::{
    cli::{SyncSettings, forget::Options},
    context::Context,
    daemon::synchronizer::Synchronizer,
    drain::shared::Shared,
    entry_id::now_ms,
    error::Failure,
    reconcile::{
        forget::{delete_dead_letters, find_in_sets, pending_pairs, put_back, take_out},
        keyspace::Keyspace,
        live_count::write_live_counts,
        outboxes,
        reconciler::Reconciler,
        throttle::Throttle,
    },
};

/// Rounds at most. A viewer who goes on viewing is found in each of them.
const ROUNDS: usize = 5;
/// The pause between two rounds: whatever had read him before is done by then.
const ROUND_PAUSE: Duration = Duration::from_secs(2);
/// How long posts are tried again that somebody has locked: most are free in a moment.
const LOCK_PATIENCE: Duration = Duration::from_secs(3);
/// The pause in between.
const LOCK_PAUSE: Duration = Duration::from_millis(100);
/// How long the view-syncd that leads may take to store what is pending. It has pairs in its memory, and would store them
/// after the ledger is clean, so nobody does it in its place.
const LEADER_PATIENCE: Duration = Duration::from_secs(15);
/// How often it is looked what it has done.
const LEADER_POLL: Duration = Duration::from_millis(250);
/// Posts whose rows were erased that are remembered: a row that is there again is one that has come back.
const MOST_REMEMBERED: usize = 100_000;
/// Posts whose sets have the viewer that are cleaned together.
const SET_POSTS: usize = 200;
/// How long it may take from a look-up's answer until Redis knows the post.
const LOOKUP: Duration = Duration::from_millis(250);

/// What was erased, and what is left.
#[derive(Debug, Clone, Default, Serialize)]
struct Receipt {
    /// Rows of the ledger, which are in the bases now.
    ledger: u64,
    /// Sets that he was taken out of.
    sets: u64,
    /// Pairs that were pending, and went through the ledger.
    outbox: u64,
    dead_letters: u64,
    /// Posts whose rows are left, because others have locked them, or PostgreSQL refuses the change.
    left_posts: usize,
    /// Pairs that nobody has stored.
    left_pairs: u64,
    /// Keys that hold something else than a set.
    unreadable: u64,
    seconds: f64,
}

/// Who is being erased.
struct Erasure<'a> {
    context: &'a Arc<Context>,
    reconciler: Reconciler,
    forgetting: Forgetting<'a>,
    viewer: ViewerId,
    spellings: Vec<String>,
    /// Posts whose rows are in the bases, and since when he is out of their sets. What was viewed before is not new.
    based: HashMap<String, i64>,
    has_seen_sets: bool,
    receipt: Receipt,
}

/// Erases a viewer, and prints a receipt.
///
/// # Errors
/// When a store is away.
pub async fn run(settings: SyncSettings, options: Options) -> anyhow::Result<ExitCode> {
    let Some(context) = connect(&settings, "Forget failed: a store is away").await? else {
        return Ok(ExitCode::from(EXIT_CONFIG));
    };
    let started = Instant::now();
    let result = erase(&context, options.viewer).await;
    match result {
        Ok(mut receipt) => {
            receipt.seconds = (started.elapsed().as_secs_f64() * 10.0).round() / 10.0;
            print(&receipt, options.json)?;
            let is_left = receipt.left_posts > 0 || receipt.left_pairs > 0 || receipt.unreadable > 0;
            Ok(if is_left { ExitCode::FAILURE } else { ExitCode::SUCCESS })
        }
        Err(failure @ (Failure::Foreign(_) | Failure::Database(DatabaseError::Setup(_)))) => {
            tracing::error!("{failure}");
            Ok(ExitCode::from(EXIT_CONFIG))
        }
        Err(failure) => {
            Err(anyhow::Error::from(failure).context("not everything is erased: run this again, which does the rest"))
        }
    }
}

async fn erase(context: &Arc<Context>, viewer: ViewerId) -> Result<Receipt, Failure> {
    // A standby does not take writes.
    context.database.ping().await?;
    let forgetting = Forgetting::begin(&context.database, &viewer).await?;
    if !forgetting.has_index() {
        tracing::warn!(
            posts = forgetting.estimated_posts(),
            "no index leads from a viewer to his views, so that all posts of the ledger are looked at: `view-syncd migrate --viewer-index` \
             makes one"
        );
    }
    let reconciler = Reconciler::new(context, &Shared::new(context));
    let spellings = spellings(&viewer);
    let mut erasure = Erasure {
        context,
        reconciler,
        forgetting,
        viewer,
        spellings,
        based: HashMap::new(),
        has_seen_sets: false,
        receipt: Receipt::default(),
    };
    for round in 1..=ROUNDS {
        if !erasure.round().await? || round == ROUNDS {
            break;
        }
        sleep(ROUND_PAUSE).await;
    }
    Ok(erasure.receipt)
}

impl Erasure<'_> {
    /// Erases what is there now. Returns whether anything was.
    async fn round(&mut self) -> Result<bool, Failure> {
        let before = self.receipt.clone();
        self.receipt.left_pairs = 0;
        self.store_pending().await?;
        failpoints::at("forget::stored");
        self.receipt.dead_letters += delete_dead_letters(&mut self.reconciler, &self.viewer).await?;
        self.reconciler.session.check_owner().await?;
        let mut left = Vec::new();
        let is_stored = self.clean_ledger(&mut left).await?;
        if is_stored {
            // A look-up that had read the ledger before may bring him back.
            sleep(LOOKUP).await;
        }
        failpoints::at("forget::taken_out");
        let has_more = [self.receipt.outbox, self.receipt.dead_letters] != [before.outbox, before.dead_letters];
        if !self.has_seen_sets || has_more || is_stored {
            self.clean_sets(&mut left).await?;
            self.has_seen_sets = true;
        }
        let started = Instant::now();
        while !left.is_empty() && started.elapsed() < LOCK_PATIENCE {
            sleep(LOCK_PAUSE).await;
            let again = std::mem::take(&mut left);
            self.erase(again, &mut left).await?;
        }
        self.receipt.left_posts = left.len();
        let Receipt { ledger, sets, outbox, dead_letters, .. } = &self.receipt;
        Ok([*ledger, *sets, *outbox, *dead_letters] != [before.ledger, before.sets, before.outbox, before.dead_letters])
    }

    /// Has stored what the outbox has of the viewer by now: by the view-syncd that leads, or by this one.
    async fn store_pending(&mut self) -> Result<(), Failure> {
        let newest = outboxes::newest(&mut self.reconciler.session).await?;
        let pairs = pending_pairs(&mut self.reconciler, &self.viewer, &newest).await?;
        if pairs == 0 {
            return Ok(());
        }
        let leases = take_leases(self.context).await;
        let mut synchronizer = Synchronizer::new(self.context);
        synchronizer.set_leases(leases.clone());
        let started = Instant::now();
        loop {
            // The one that leads may end meanwhile.
            let leads = leases.works();
            let patience = if leads { LOCK_PATIENCE } else { LEADER_PATIENCE };
            if leads {
                synchronizer.drain_all().await?;
            }
            let left = pending_pairs(&mut self.reconciler, &self.viewer, &newest).await?;
            if left == 0 || started.elapsed() >= patience {
                self.receipt.left_pairs = left;
                self.receipt.outbox += pairs.saturating_sub(left);
                return Ok(());
            }
            sleep(LEADER_POLL).await;
        }
    }

    /// Erases the viewer from the ledger, post by post. Returns whether it had any rows.
    async fn clean_ledger(&mut self, left: &mut Vec<String>) -> Result<bool, Failure> {
        self.forgetting.restart();
        let total = if self.forgetting.has_index() { 0 } else { self.forgetting.estimated_posts() };
        let bar = ProgressBar::new("posts of the ledger", total);
        let (mut throttle, mut any) = (Throttle::new(), false);
        while let Some(viewed) = self.forgetting.next(left).await? {
            any |= !viewed.ids.is_empty();
            self.erase(viewed.ids, left).await?;
            bar.add(viewed.posts);
            self.context.checkpoint()?;
            throttle.rest().await;
        }
        Ok(any)
    }

    /// Takes the viewer out of all sets, which is paced as the scan is.
    async fn clean_sets(&mut self, left: &mut Vec<String>) -> Result<(), Failure> {
        let bar = ProgressBar::new("posts in Redis", 0);
        let (mut keyspace, mut throttle) = (Keyspace::new(self.context.keys.clone()), Throttle::new());
        let mut found = Vec::new();
        self.receipt.unreadable = 0;
        while let Some(page) = keyspace.next_page(&mut self.reconciler.session, &mut throttle, None).await? {
            let of_page = find_in_sets(&mut self.reconciler, &page.sets, &self.spellings).await?;
            self.receipt.unreadable += of_page.unreadable;
            found.extend(of_page.posts);
            bar.add(page.sets.len() as u64);
            self.context.checkpoint()?;
            if found.len() >= SET_POSTS {
                self.clean_found(&std::mem::take(&mut found), left).await?;
            }
            throttle.rest().await;
        }
        for failure in keyspace.failures() {
            self.receipt.unreadable += 1;
            tracing::warn!("the sets of a part of Redis cannot be read: {failure}");
        }
        self.clean_found(&found, left).await
    }

    /// Takes the viewer out of sets that have him, and erases the rows of the same posts.
    async fn clean_found(&mut self, posts: &[PostId], left: &mut Vec<String>) -> Result<(), Failure> {
        if posts.is_empty() {
            return Ok(());
        }
        // Where he is in the set by a view that is pending still, the next one would count beside it. Who waited for a
        // leader in vain does not wait once more.
        if self.receipt.left_pairs == 0 {
            self.store_pending().await?;
        }
        let mut ids = self.forgetting.among(posts).await?;
        let viewed: HashSet<PostId> = ids.iter().filter_map(|id| PostId::parse(id).ok()).collect();
        ids.retain(|id| !left.contains(id));
        self.erase(ids, left).await?;
        let others: Vec<PostId> = posts.iter().filter(|post| !viewed.contains(*post)).copied().collect();
        self.take_out(&others).await
    }

    /// Takes the viewer out of the sets of posts, and erases their rows. Those that have come back, because somebody
    /// had read them before and stored them since, are in the bases already, and were counted twice.
    async fn erase(&mut self, mut ids: Vec<String>, left: &mut Vec<String>) -> Result<(), Failure> {
        let posts: Vec<PostId> = ids.iter().filter_map(|id| PostId::parse(id).ok()).collect();
        // Before it, so that no new view is taken for one that has come back.
        let taken_out_ms = now_ms();
        self.take_out(&posts).await?;
        let mut back: BTreeMap<i64, Vec<String>> = BTreeMap::new();
        for id in &ids {
            if let Some(until_ms) = self.based.get(id) {
                back.entry(*until_ms).or_default().push(id.clone());
            }
        }
        for (until_ms, back) in back {
            let Erased { rows, locked, refused } = self.forgetting.take_back(&back, until_ms).await?;
            let posts = rows.iter().filter_map(|(post, _)| PostId::parse(post).ok()).collect();
            write_live_counts(&mut self.reconciler, posts).await?;
            // What could not be taken back now must not move into the base once more.
            let is_left = |id: &String| locked.contains(id) || refused.iter().any(|(post, _)| post == id);
            ids.retain(|id| !is_left(id));
            self.note(Erased { rows: Vec::new(), locked, refused }, left);
        }
        let mut erased = self.forgetting.erase(&ids).await?;
        erased.refused.extend(self.kept(&ids, &erased).await?);
        for (post, _) in &erased.rows {
            if self.based.len() < MOST_REMEMBERED || self.based.contains_key(post) {
                self.based.insert(post.clone(), taken_out_ms);
            }
        }
        // Whose row stays is known as before: his next view is none.
        let stays = |id: &String| erased.locked.contains(id) || erased.refused.iter().any(|(post, _)| post == id);
        let known: Vec<PostId> = ids.iter().filter(|id| stays(id)).filter_map(|id| PostId::parse(id).ok()).collect();
        let put_back = put_back(&mut self.reconciler, &known, &self.viewer).await?;
        self.receipt.sets = self.receipt.sets.saturating_sub(put_back);
        self.note(erased, left);
        Ok(())
    }

    /// Returns the posts whose rows are there still, although nobody has said why: a trigger may keep them.
    async fn kept(&self, ids: &[String], erased: &Erased) -> Result<Vec<(String, String)>, Failure> {
        let told: HashSet<&String> = erased
            .locked
            .iter()
            .chain(erased.rows.iter().map(|(post, _)| post))
            .chain(erased.refused.iter().map(|(post, _)| post))
            .collect();
        let others = ids.iter().filter(|id| !told.contains(id));
        let posts: Vec<PostId> = others.filter_map(|id| PostId::parse(id).ok()).collect();
        let kept = self.forgetting.among(&posts).await?;
        Ok(kept.into_iter().map(|id| (id, "the row is there still: look for a trigger or a rule".to_owned())).collect())
    }

    /// Notes what became of rows.
    fn note(&mut self, erased: Erased, left: &mut Vec<String>) {
        for (post, error) in &erased.refused {
            tracing::warn!(post, error, "PostgreSQL does not let a view be erased");
        }
        left.extend(erased.locked);
        left.extend(erased.refused.into_iter().map(|(post, _)| post));
        self.receipt.ledger += erased.rows.iter().map(|(_, rows)| rows.unsigned_abs()).sum::<u64>();
    }

    async fn take_out(&mut self, posts: &[PostId]) -> Result<(), Failure> {
        self.receipt.sets += take_out(&mut self.reconciler, posts, &self.spellings).await?;
        Ok(())
    }
}

fn print(receipt: &Receipt, as_json: bool) -> anyhow::Result<()> {
    let mut output = std::io::stdout().lock();
    if as_json {
        writeln!(output, "{}", serde_json::to_string(receipt)?)?;
    } else {
        let Receipt { ledger, sets, outbox, dead_letters, left_posts, left_pairs, unreadable, seconds } = receipt;
        writeln!(
            output,
            "erased: ledger {ledger} · sets {sets} · outbox {outbox} · dead letters {dead_letters} · {seconds:.1} s"
        )?;
        if left_posts + usize::try_from(left_pairs + unreadable).unwrap_or(usize::MAX) > 0 {
            writeln!(output, "left: posts {left_posts} · pairs in the outbox {left_pairs} · unreadable keys {unreadable}")?;
            writeln!(output, "run this again when locks are gone and the outbox is drained")?;
        } else {
            writeln!(output, "nothing is left · totals are as they were: the views count in the posts' bases")?;
        }
    }
    output.flush().context("standard output is closed")
}
