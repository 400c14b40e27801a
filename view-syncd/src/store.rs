//! Storing pairs in PostgreSQL whatever is wrong with some of them: a conflict is tried again, a pair that is refused is found by halving.

use std::{
    collections::HashMap,
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use shared::{
    ids::PostId,
    ledger::{self, Stored},
    postgres::{Database, DatabaseError},
};

use crate::{dead::DeadLetter, engine::Failure, pairs::Pairs, watchdog::Progress};

/// How often a statement that gave way to another transaction is repeated before the whole step is.
const CONFLICT_ATTEMPTS: u32 = 8;
/// The pause before the first repetition; it grows with each.
const CONFLICT_PAUSE: Duration = Duration::from_millis(5);
/// Fewer pairs than this do not make a statement any quicker.
const LEAST_STATEMENT_PAIRS: usize = 250;

/// Puts pairs into PostgreSQL.
#[derive(Debug, Clone)]
pub(crate) struct Store {
    database: Arc<Database>,
    progress: Progress,
    /// How many pairs go into one statement. Falls when PostgreSQL does not manage as many in time, and rises again.
    statement_pairs: Arc<AtomicUsize>,
}

/// As many pairs are worth two statements.
const LEAST_SHARED_PAIRS: usize = 20_000;

/// What became of pairs.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// The posts that exist.
    pub(crate) posts: HashMap<PostId, Stored>,
    /// Pairs that PostgreSQL refused.
    pub(crate) dead: Vec<DeadLetter>,
}

impl Store {
    pub(crate) fn new(database: Arc<Database>, progress: Progress) -> Self {
        Self { database, progress, statement_pairs: Arc::new(AtomicUsize::new(usize::MAX)) }
    }

    /// Stores pairs that have been prepared. When it returns, everything but the dead is committed; when it fails, some of it may be, and
    /// repeating it changes nothing.
    ///
    /// Many pairs are stored by two statements side by side. No post is in both, so neither waits for the other.
    pub(crate) async fn run(&self, pairs: &Pairs) -> Result<Outcome, Failure> {
        if pairs.len() < LEAST_SHARED_PAIRS {
            return self.run_part(pairs, 0..pairs.len()).await;
        }
        let middle = pairs.end_of_post(pairs.len() / 2);
        // Both are waited for, so that none still runs when its pairs are tried again.
        let (first, second) = tokio::join!(self.run_part(pairs, 0..middle), self.run_part(pairs, middle..pairs.len()));
        let (mut first, second) = (first?, second?);
        first.posts.extend(second.posts);
        first.dead.extend(second.dead);
        Ok(first)
    }

    async fn run_part(&self, pairs: &Pairs, part: Range<usize>) -> Result<Outcome, Failure> {
        let mut outcome = Outcome::default();
        // What is still to be done, the next at the end. Usually everything in one statement.
        let mut work: Vec<Range<usize>> = Vec::new();
        work.extend((!part.is_empty()).then_some(part));
        let mut attempts = 0;
        while let Some(range) = work.pop() {
            if range.len() > self.statement_pairs.load(Relaxed) {
                work.extend(halves(&range));
                continue;
            }
            let result = ledger::store(&self.database, pairs.part(range.clone())).await;
            self.progress.made();
            let error = match result {
                Ok(stored) => {
                    outcome.add(stored);
                    attempts = 0;
                    continue;
                }
                Err(error) => error,
            };
            match error {
                DatabaseError::Conflict(_) if attempts < CONFLICT_ATTEMPTS => {
                    attempts += 1;
                    tracing::debug!(%error, attempts, "repeating a statement");
                    tokio::time::sleep(CONFLICT_PAUSE * attempts).await;
                    work.push(range);
                }
                // A viewer that a foreign key of the application's own knows nothing of is refused as surely as a value of a wrong form.
                _ if matches!(error, DatabaseError::Rejected(_)) || error.is_missing_reference() => {
                    attempts = 0;
                    if range.len() == 1 {
                        outcome.dead.push(pairs.letter(range.start, error.to_string()));
                    } else {
                        work.extend(halves(&range));
                    }
                }
                DatabaseError::Unavailable(_) => {
                    // Perhaps it was too much for the time limit. Should PostgreSQL merely be away, the number rises again soon.
                    self.statement_pairs.store((range.len() / 2).max(LEAST_STATEMENT_PAIRS), Relaxed);
                    return Err(error.into());
                }
                _ => return Err(error.into()),
            }
        }
        self.statement_pairs.store(self.statement_pairs.load(Relaxed).saturating_mul(2), Relaxed);
        Ok(outcome)
    }
}

impl Outcome {
    fn add(&mut self, stored: HashMap<PostId, Stored>) {
        for (post, stored) in stored {
            let sum = self.posts.entry(post).or_insert(Stored { views: 0, added: 0 });
            // A later statement has seen what the earlier one did.
            sum.views = stored.views;
            sum.added += stored.added;
        }
    }
}

/// The second half first: work is taken from the end.
fn halves(range: &Range<usize>) -> [Range<usize>; 2] {
    let middle = range.start + range.len() / 2;
    [middle..range.end, range.start..middle]
}
