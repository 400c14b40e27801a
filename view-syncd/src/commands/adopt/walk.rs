//! The walk through a source, chunk by chunk.

use std::time::{Duration, Instant};

use views_core::log_names;
use views_postgres::{
    DatabaseError,
    adopt::{Adopted, Adoption, Tally},
};

use super::{Summary, chunk::Chunk, redis::Told};
use crate::{commands::progress_bar::ProgressBar, error::Failure};

/// Pairs in a chunk at first, and the bounds of it. Whoever writes a post of a chunk waits for the end of it.
const PAIRS: i64 = 20_000;
const LEAST_PAIRS: i64 = 500;
const MOST_PAIRS: i64 = 50_000;
/// A chunk that takes longer than the second is followed by smaller ones, one that takes less than the first by larger
/// ones.
const SHORT: Duration = Duration::from_millis(250);
const LONG: Duration = Duration::from_millis(600);
/// Posts that are looked at for the first chunk, and for any.
const FIRST_POSTS: i64 = 64;
const MOST_POSTS: i64 = 5_000;
/// How often a chunk is tried that meets somebody's lock, before it is looked for who that is.
const LOCK_TRIES: u32 = 5;
/// The pause in between.
const LOCK_PAUSE: Duration = Duration::from_millis(100);
/// How long posts are tried again at the end that others had locked.
const LEFT_PATIENCE: Duration = Duration::from_secs(3);
/// So many refusals in a row, and nothing stored, are no fault of the pairs.
const MOST_REFUSED: u32 = 64;
/// How many refusals, and posts that are left, are told one by one.
const TOLD: usize = 10;

/// A walk through a source.
pub(super) struct Walk<'a> {
    adoption: &'a Adoption<'a>,
    /// Where Redis is to be told; a walk without it only looks.
    told: Option<Told>,
    summary: Summary,
    bar: ProgressBar,
    /// How many pairs the next chunk is to have.
    pairs: i64,
    /// Keys whose posts others had locked, or that were refused for now, each with its part.
    left: Vec<Left>,
    /// The post that was counted last of which there may be more parts.
    counted: Option<String>,
    /// Refusals, while nothing was stored.
    refused: u32,
    refusals: usize,
    /// Posts that were refused for a reason that may pass.
    deferrals: usize,
}

/// Keys of which something is left.
struct Left {
    keys: Vec<String>,
    chunk: Chunk,
}

impl<'a> Walk<'a> {
    pub(super) fn new(adoption: &'a Adoption<'a>, told: Option<Told>) -> Self {
        let unit = if adoption.counts_posts() { "posts" } else { "pairs" };
        let (summary, bar) =
            (Summary { dry_run: told.is_none(), ..Summary::default() }, ProgressBar::new(unit, adoption.about()));
        Self {
            adoption,
            told,
            summary,
            bar,
            pairs: PAIRS,
            left: Vec::new(),
            counted: None,
            refused: 0,
            refusals: 0,
            deferrals: 0,
        }
    }

    /// Walks to the end.
    pub(super) async fn run(mut self) -> Result<Summary, Failure> {
        self.adoption.stage().await?;
        self.summary.add(&self.adoption.without_post().await?);
        let mut after: Option<String> = None;
        let mut posts = FIRST_POSTS;
        loop {
            let limit = if self.adoption.counts_posts() { posts } else { self.pairs };
            let keys = self.adoption.next(after.as_deref(), limit).await?;
            if keys.is_empty() {
                break;
            }
            let of_all: i64 = keys.iter().map(|(_, pairs)| pairs).sum();
            let average = of_all / i64::try_from(keys.len()).unwrap_or(1);
            posts = (2 * MOST_PAIRS.min(2 * self.pairs) / average.max(1)).clamp(1, MOST_POSTS);
            let chunk = Chunk::take(keys, self.pairs);
            after = chunk.keys.last().map(|(key, _)| key.clone());
            let (done, pairs) = (chunk.keys.len() as u64, chunk.pairs().unsigned_abs());
            for part in chunk.cut(self.pairs) {
                self.work_off(part).await?;
            }
            self.bar.add(self.adoption.progress(done, pairs));
        }
        self.retry_left().await?;
        if let Some(told) = &mut self.told {
            told.finish(self.adoption).await?;
        }
        if self.refusals > 0 {
            tracing::warn!(pairs = self.refusals, "PostgreSQL refuses views that are counted among those that do not fit");
        }
        if self.summary.repeated > 0 {
            tracing::info!(
                pairs = self.summary.repeated,
                "views that were in the ledger already, or are in the source more than once"
            );
        }
        Ok(self.summary)
    }

    /// Adopts a chunk and, where PostgreSQL refuses it, its halves, until what is refused is alone.
    async fn work_off(&mut self, chunk: Chunk) -> Result<(), Failure> {
        let mut work = vec![chunk];
        let mut tries = 0;
        while let Some(chunk) = work.pop() {
            if chunk.is_empty() {
                continue;
            }
            let error = match self.step(&chunk).await {
                Ok(()) => {
                    tries = 0;
                    continue;
                }
                Err(Failure::Database(error)) => error,
                Err(failure) => return Err(failure),
            };
            match &error {
                DatabaseError::Conflict(_) | DatabaseError::Locked(_) if tries < LOCK_TRIES => {
                    tries += 1;
                    tokio::time::sleep(LOCK_PAUSE).await;
                    work.push(chunk);
                }
                DatabaseError::Locked(_) if chunk.keys.len() == 1 => self.leave(&chunk, &error).await?,
                DatabaseError::Locked(_) => work.extend(chunk.halves().into_iter().flatten()),
                DatabaseError::Refused(refusal) if !refusal.is_of_server() => {
                    if self.adoption.is_of_pair(refusal) && self.is_refused_alone(&chunk).await {
                        self.refuse(&chunk, &error).await?;
                    } else if !self.adoption.is_of_pair(refusal) && chunk.keys.len() == 1 {
                        self.leave(&chunk, &error).await?;
                    } else {
                        work.extend(chunk.halves().into_iter().flatten());
                    }
                }
                // It may have been too much for the time that a statement has.
                DatabaseError::Unavailable(_) if self.pairs > LEAST_PAIRS && self.adoption.is_open() => {
                    self.pairs = (self.pairs / 2).max(LEAST_PAIRS);
                    work.extend(chunk.halves().into_iter().flatten());
                }
                _ => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Adopts a chunk, and tells Redis.
    async fn step(&mut self, chunk: &Chunk) -> Result<(), Failure> {
        let started = Instant::now();
        if self.told.is_none() {
            let tally = self.adoption.look(chunk.part_of(&chunk.keys_with_pairs())).await?;
            self.add(chunk, &tally);
            return Ok(());
        }
        let adopted = self.adoption.adopt(chunk.part_of(&chunk.keys_with_pairs())).await?;
        self.note_time(started.elapsed(), chunk);
        self.add(chunk, &adopted.tally);
        if adopted.tally.new > 0 {
            self.refused = 0;
        }
        self.take_left(chunk, &adopted);
        self.tell(chunk, &adopted).await
    }

    async fn tell(&mut self, chunk: &Chunk, adopted: &Adopted) -> Result<(), Failure> {
        match &mut self.told {
            Some(told) => told.tell(self.adoption, chunk, adopted).await,
            None => Ok(()),
        }
    }

    /// Adds what became of a chunk. A post that is cut is one post all the same.
    fn add(&mut self, chunk: &Chunk, tally: &Tally) {
        let mut tally = *tally;
        if let [(key, _)] = &chunk.keys[..] {
            if self.counted.as_ref() == Some(key) {
                tally.posts = 0;
            } else if tally.posts > 0 {
                self.counted = Some(key.clone());
            }
        }
        self.summary.add(&tally);
    }

    fn note_time(&mut self, time: Duration, chunk: &Chunk) {
        if time > LONG {
            self.pairs = (self.pairs / 2).max(LEAST_PAIRS);
        } else if time < SHORT && chunk.pairs() >= self.pairs / 2 {
            self.pairs = (self.pairs * 3 / 2).min(MOST_PAIRS);
        }
    }

    fn take_left(&mut self, chunk: &Chunk, adopted: &Adopted) {
        if adopted.left.is_empty() {
            return;
        }
        let posts = chunk.posts();
        let keys = adopted.left.iter().filter_map(|post| posts.get(post)).flatten().map(|key| (*key).to_owned()).collect();
        self.left.push(Left { keys, chunk: Chunk { keys: Vec::new(), ..chunk.clone() } });
    }

    /// Leaves a post for later of which a row of the ledger, or of its viewer, is locked, or that is refused for a reason
    /// that may pass.
    async fn leave(&mut self, chunk: &Chunk, error: &DatabaseError) -> Result<(), DatabaseError> {
        self.note_refusal(error)?;
        if matches!(error, DatabaseError::Refused(_)) {
            self.deferrals += 1;
            if self.deferrals <= TOLD {
                let post = chunk.keys.first().map_or("", |(key, _)| key);
                tracing::warn!(name: log_names::EXAMPLE, post, %error, "the views of a post are left");
            }
        }
        let tally = self.adoption.look(chunk.part_of(&chunk.keys_with_pairs())).await?;
        self.add(chunk, &Tally { new: 0, left: tally.new, ..tally });
        let keys = chunk.keys.iter().map(|(key, _)| key.clone()).collect();
        self.left.push(Left { keys, chunk: Chunk { keys: Vec::new(), ..chunk.clone() } });
        Ok(())
    }

    /// Returns whether a refused chunk has a single pair that is new, or nothing can be read of it.
    async fn is_refused_alone(&self, chunk: &Chunk) -> bool {
        match self.adoption.look(chunk.part_of(&chunk.keys_with_pairs())).await {
            Ok(tally) => tally.new <= 1 || chunk.halves().is_none(),
            Err(_) => chunk.keys.len() == 1,
        }
    }

    /// Counts what is refused among what does not fit.
    async fn refuse(&mut self, chunk: &Chunk, error: &DatabaseError) -> Result<(), DatabaseError> {
        self.note_refusal(error)?;
        let tally = self.adoption.look(chunk.part_of(&chunk.keys_with_pairs())).await.unwrap_or_else(|_| {
            let pairs = chunk.pairs();
            Tally { pairs, new: pairs, ..Tally::default() }
        });
        self.refusals += usize::try_from(tally.new).unwrap_or(0);
        if self.refusals <= TOLD {
            let post = chunk.keys.first().map_or("", |(key, _)| key);
            tracing::warn!(name: log_names::EXAMPLE, post, %error, "a view is not adopted");
        }
        self.add(chunk, &Tally { unfit: tally.unfit + tally.new, new: 0, ..tally });
        Ok(())
    }

    fn note_refusal(&mut self, error: &DatabaseError) -> Result<(), DatabaseError> {
        self.refused += 1;
        let is_any_stored = self.summary.new + self.summary.repeated > 0;
        if self.refused >= MOST_REFUSED && !is_any_stored { Err(error.clone()) } else { Ok(()) }
    }

    /// Tries the posts again that are left, for a while.
    async fn retry_left(&mut self) -> Result<(), Failure> {
        let until = Instant::now() + LEFT_PATIENCE;
        if !self.left.is_empty() {
            tracing::info!("some posts are locked by others, or refused for now: trying again for a while");
        }
        loop {
            let mut still = Vec::new();
            for Left { keys, chunk } in std::mem::take(&mut self.left) {
                let chunk = Chunk { keys: keys.iter().map(|key| (key.clone(), 1)).collect(), ..chunk };
                match self.adoption.adopt(chunk.part_of(&chunk.keys_with_pairs())).await {
                    Ok(adopted) => {
                        self.summary.new += adopted.tally.new;
                        self.summary.left -= adopted.tally.new;
                        self.tell(&chunk, &adopted).await?;
                        if !adopted.left.is_empty() {
                            let posts = chunk.posts();
                            let keys = adopted.left.iter().filter_map(|post| posts.get(post)).flatten();
                            still.push(Left { keys: keys.map(|key| (*key).to_owned()).collect(), chunk });
                        }
                    }
                    Err(DatabaseError::Locked(_) | DatabaseError::Conflict(_)) => still.push(Left { keys, chunk }),
                    // One of them costs only itself.
                    Err(DatabaseError::Refused(refusal)) if !refusal.is_of_server() => {
                        still.extend(keys.into_iter().map(|key| Left { keys: vec![key], chunk: chunk.clone() }));
                    }
                    Err(error) => return Err(error.into()),
                }
            }
            self.left = still;
            if self.left.is_empty() || Instant::now() >= until {
                break;
            }
            tokio::time::sleep(LOCK_PAUSE).await;
        }
        let mut posts: Vec<&String> = self.left.iter().flat_map(|left| &left.keys).collect();
        posts.sort_unstable();
        posts.dedup();
        self.summary.posts_left = posts.len();
        if !posts.is_empty() {
            let some = posts.iter().take(TOLD).map(|post| post.as_str()).collect::<Vec<_>>().join(", ");
            tracing::warn!(
                posts = posts.len(),
                "posts are locked by others, refused for now, or their counts are full, and their views are left: run this again ({some}{})",
                if posts.len() > TOLD { ", …" } else { "" }
            );
        }
        Ok(())
    }
}
