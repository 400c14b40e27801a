//! `view-syncd forget`: erases a viewer from both stores. The totals stay: his views move into the posts' bases.
//!
//! It goes around until nothing is found any more. What is pending is stored first, so that no drain brings it later; then
//! dead letters and sets are cleaned, so that no scan imports a member whom the ledger lacks; then the ledger is, and each
//! set once more, which a look-up may have filled from the ledger meanwhile. All sets are gone through once, and again only
//! where something was pending. A view that comes afterwards is a new one.

use std::{
    collections::HashSet,
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

use super::{connect, progress_bar::ProgressBar};
use crate::{
    cli::{SyncSettings, forget::Options},
    context::Context,
    daemon::{leader, synchronizer::Synchronizer},
    drain::shared::Shared,
    entry_id::now_ms,
    error::Failure,
    reconcile::{
        forget::{delete_dead_letters, pending_pairs, take_out, take_out_of_all},
        live_count::write_live_counts,
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
    /// When he was out of all sets for the first time. Whatever was viewed before is no new view.
    taken_out_ms: Option<i64>,
    /// Posts whose rows are in the bases.
    based: HashSet<String>,
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
        taken_out_ms: None,
        based: HashSet::new(),
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
        self.store_pending().await?;
        failpoints::at("forget::stored");
        self.receipt.dead_letters += delete_dead_letters(&mut self.reconciler, &self.viewer).await?;
        let has_more = [self.receipt.outbox, self.receipt.dead_letters] != [before.outbox, before.dead_letters];
        if self.taken_out_ms.is_none() || has_more {
            let bar = ProgressBar::new("posts in Redis", 0);
            let taken = take_out_of_all(&mut self.reconciler, &self.spellings, |posts| bar.add(posts)).await?;
            drop(bar);
            self.receipt.sets += taken.sets;
            self.receipt.unreadable = taken.unreadable;
            self.taken_out_ms.get_or_insert_with(now_ms);
        }
        failpoints::at("forget::taken_out");
        self.clean_ledger().await?;
        let Receipt { ledger, sets, outbox, dead_letters, .. } = &self.receipt;
        Ok([*ledger, *sets, *outbox, *dead_letters] != [before.ledger, before.sets, before.outbox, before.dead_letters])
    }

    /// Has stored what the outbox has of the viewer: by the view-syncd that leads, or by this one where none does.
    async fn store_pending(&mut self) -> Result<(), Failure> {
        self.receipt.left_pairs = 0;
        let pairs = pending_pairs(&mut self.reconciler, &self.viewer).await?;
        if pairs == 0 {
            return Ok(());
        }
        let mut leadership = leader::campaign(Arc::clone(&self.context.database), self.context.metrics.clone());
        leadership.decided().await;
        let leads = leadership.works();
        let mut synchronizer = Synchronizer::new(self.context);
        synchronizer.set_drains(leads);
        synchronizer.set_leadership(leadership);
        let (started, patience) = (Instant::now(), if leads { LOCK_PATIENCE } else { LEADER_PATIENCE });
        loop {
            if leads {
                synchronizer.drain_all().await?;
            }
            let left = pending_pairs(&mut self.reconciler, &self.viewer).await?;
            if left == 0 || started.elapsed() >= patience {
                self.receipt.left_pairs = left;
                self.receipt.outbox += pairs.saturating_sub(left);
                return Ok(());
            }
            sleep(LEADER_POLL).await;
        }
    }

    /// Erases the viewer from the ledger, post by post, and from the sets of the same posts.
    async fn clean_ledger(&mut self) -> Result<(), Failure> {
        self.forgetting.restart();
        let total = if self.forgetting.has_index() { 0 } else { self.forgetting.estimated_posts() };
        let bar = ProgressBar::new("posts of the ledger", total);
        let mut throttle = Throttle::new();
        let (mut left, mut last) = (Vec::new(), Vec::new());
        while let Some(viewed) = self.forgetting.next(&left).await? {
            // A look-up that had read the ledger before may have brought him back meanwhile.
            self.take_out(&std::mem::take(&mut last)).await?;
            last = self.erase(viewed.ids, &mut left).await?;
            self.take_out(&last).await?;
            bar.add(viewed.posts);
            self.context.checkpoint()?;
            throttle.rest().await;
        }
        let started = Instant::now();
        while !left.is_empty() && started.elapsed() < LOCK_PATIENCE {
            sleep(LOCK_PAUSE).await;
            let again = std::mem::take(&mut left);
            let posts = self.erase(again, &mut left).await?;
            self.take_out(&posts).await?;
            last.extend(posts);
        }
        if !last.is_empty() {
            sleep(LOOKUP).await;
            self.take_out(&last).await?;
        }
        self.receipt.left_posts = left.len();
        Ok(())
    }

    /// Erases rows. Those that have come back, because somebody had read them before and stored them since, are in the
    /// bases already, and were counted twice. Returns the posts that had some.
    async fn erase(&mut self, mut ids: Vec<String>, left: &mut Vec<String>) -> Result<Vec<PostId>, Failure> {
        let back: Vec<String> = ids.iter().filter(|id| self.based.contains(*id)).cloned().collect();
        if let Some(until_ms) = self.taken_out_ms.filter(|_| !back.is_empty()) {
            let Erased { rows, locked, refused } = self.forgetting.take_back(&back, until_ms).await?;
            let posts = rows.iter().filter_map(|(post, _)| PostId::parse(post).ok()).collect();
            write_live_counts(&mut self.reconciler, posts).await?;
            // What could not be taken back now must not move into the base once more.
            ids.retain(|id| !locked.contains(id) && !refused.iter().any(|(post, _)| post == id));
            self.note(Erased { rows: Vec::new(), locked, refused }, left);
        }
        let erased = self.forgetting.erase(&ids).await?;
        let room = MOST_REMEMBERED.saturating_sub(self.based.len());
        self.based.extend(erased.rows.iter().take(room).map(|(post, _)| post.clone()));
        let mut posts = self.note(erased, left);
        posts.extend(back.iter().filter_map(|post| PostId::parse(post).ok()));
        Ok(posts)
    }

    /// Notes what became of rows. Returns the posts that had some.
    fn note(&mut self, erased: Erased, left: &mut Vec<String>) -> Vec<PostId> {
        for (post, error) in &erased.refused {
            tracing::warn!(post, error, "PostgreSQL does not let a view be erased");
        }
        left.extend(erased.locked);
        left.extend(erased.refused.into_iter().map(|(post, _)| post));
        self.receipt.ledger += erased.rows.iter().map(|(_, rows)| rows.unsigned_abs()).sum::<u64>();
        erased.rows.iter().filter_map(|(post, _)| PostId::parse(post).ok()).collect()
    }

    async fn take_out(&mut self, posts: &[PostId]) -> Result<(), Failure> {
        let taken = take_out(&mut self.reconciler, posts, &self.spellings).await?;
        self.receipt.sets += taken.sets;
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
