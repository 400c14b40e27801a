//! Inserting a batch into PostgreSQL: two statements side by side, as large as the server manages in time.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use views_postgres::{
    Database, DatabaseError, Refusal,
    insert::{Insert, Options, Outcome, PairList},
};

use super::pairs::Pairs;
use crate::context::progress::Progress;

/// Fewer pairs than this do not make a statement any quicker.
const LEAST_STATEMENT_PAIRS: usize = 250;
/// As many pairs are worth two statements.
const LEAST_SHARED_PAIRS: usize = 20_000;
/// How long pairs are searched for that the server refuses before what is stored by then is acknowledged.
const SEARCH_TIME: Duration = Duration::from_secs(1);
/// What the session is set to as well (see `context.rs`), for a pooler may drop that.
const BEGIN: &str = " SET LOCAL jit = off; SET LOCAL work_mem = '64MB'";

/// Puts pairs into PostgreSQL.
#[derive(Debug, Clone)]
pub(crate) struct Inserter {
    database: Arc<Database>,
    progress: Progress,
    /// How many pairs go into one statement. Falls when PostgreSQL does not manage as many in time, and rises again.
    statement_pairs: Arc<AtomicUsize>,
}

/// Pairs on their way. No post is in both parts, so neither is in the other's way.
pub(crate) struct Insertion<'a> {
    inserter: &'a Inserter,
    parts: [Insert<'a, Pairs>; 2],
    largest: usize,
}

impl Inserter {
    pub(crate) fn new(database: Arc<Database>, progress: Progress) -> Self {
        Self { database, progress, statement_pairs: Arc::new(AtomicUsize::new(usize::MAX)) }
    }

    /// Begins to insert pairs that have been prepared. Where they were deferred and are tried again, each pair is
    /// looked at; with `patience`, locks on posts are waited for.
    pub(crate) fn begin<'a>(&'a self, pairs: &'a Pairs, is_retry: bool, patience: Option<Duration>) -> Insertion<'a> {
        let middle = if pairs.len() < LEAST_SHARED_PAIRS { pairs.len() } else { pairs.end_of_post(pairs.len() / 2) };
        let statement_pairs = match self.statement_pairs.load(Relaxed) {
            usize::MAX => 0,
            pairs => pairs,
        };
        let options = Options { names_new: false, patience, statement_pairs, begin: BEGIN, guesses: !is_retry };
        let part = |range| Insert::new(&self.database, pairs, range, options);
        Insertion {
            inserter: self,
            parts: [part(0..middle), part(middle..pairs.len())],
            largest: middle.max(pairs.len() - middle),
        }
    }

    /// Inserts pairs that have been prepared, to the end. When it fails, some of them may be stored, and repeating it
    /// changes nothing.
    pub(crate) async fn run(&self, pairs: &Pairs) -> Result<Outcome, DatabaseError> {
        let mut insertion = self.begin(pairs, true, None);
        let mut outcome = Outcome::default();
        loop {
            let (more, is_done) = insertion.run().await;
            extend(&mut outcome, more);
            if is_done? {
                return Ok(outcome);
            }
        }
    }
}

impl Insertion<'_> {
    /// Inserts pairs for a while. Returns what became of the posts that are done with now, and whether all are. Also
    /// where it fails, some may be done with.
    pub(crate) async fn run(&mut self) -> (Outcome, Result<bool, DatabaseError>) {
        let until = Some(Instant::now() + SEARCH_TIME);
        let progress = &self.inserter.progress;
        let [first, second] = &mut self.parts;
        // Both are waited for, so that none still runs when its pairs are tried again.
        let (first, second) = tokio::join!(first.run(until, || progress.made()), second.run(until, || progress.made()));
        let result = first.and_then(|first| second.map(|second| first && second));
        let statement_pairs = &self.inserter.statement_pairs;
        match &result {
            Ok(_) => statement_pairs.store(statement_pairs.load(Relaxed).saturating_mul(2), Relaxed),
            Err(error) if is_too_much(error) => {
                // Should PostgreSQL merely be away, the number rises again soon.
                let tried = self.largest.min(statement_pairs.load(Relaxed));
                statement_pairs.store((tried / 2).max(LEAST_STATEMENT_PAIRS), Relaxed);
            }
            Err(_) => {}
        }
        let [first, second] = &mut self.parts;
        let mut outcome = first.take_finished();
        extend(&mut outcome, second.take_finished());
        (outcome, result)
    }
}

fn extend(outcome: &mut Outcome, more: Outcome) {
    outcome.stored.extend(more.stored);
    outcome.deferred.extend(more.deferred);
    outcome.missing.extend(more.missing);
    outcome.refused.extend(more.refused);
}

/// Returns whether a statement may have been too much for the time limit, or for the server's memory.
fn is_too_much(error: &DatabaseError) -> bool {
    matches!(error, DatabaseError::Unavailable(_)) || error.refusal().is_some_and(Refusal::is_of_server)
}
