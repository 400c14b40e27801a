//! Storing pairs in PostgreSQL, whatever is in the way of some of them: the one way in for the drain and for views past
//! Redis.
//!
//! A statement locks the rows of its posts first and leaves out what others have locked. Where the server refuses a
//! statement, the pairs are halved until the refused ones are alone, so that the number of statements grows like that
//! of the refused pairs times a logarithm. One refused pair alone says nothing about the table: only when another pair
//! goes in is it the pair that is bad.

mod arrays;
pub(crate) mod count_rows;
mod probe;
mod suspects;
mod unknown_viewers;

use std::{
    collections::{HashMap, HashSet},
    ops::Range,
    time::{Duration, Instant},
};

use tokio_postgres::Row;
use views_core::{
    failpoints,
    ids::{PostId, ViewerId},
};

use self::{arrays::Arrays, suspects::Suspects};
use super::{COMMIT, Database, DatabaseError, Refusal, schema::Schema};
pub use crate::pair::PairList;
use crate::pair::Sent;
use crate::spelling::{Spelling, canonical_author};

/// How long a statement waits for a lock that it cannot pass over: one on the table, on a row that a foreign key of the
/// application's leads to, on a ledger's row that somebody has not committed yet. It holds the posts' rows meanwhile,
/// so this is far below `deadlock_timeout`.
const LOCK_TIMEOUT: Duration = Duration::from_millis(50);
/// The same once a lock has been met, and the pairs that wait for it are looked for: there may be hundreds.
const SEARCH_LOCK_TIMEOUT: Duration = Duration::from_millis(2);
/// As long waits who makes that mistake on purpose (see [`failpoints`]).
const WRONG_LOCK_TIMEOUT: Duration = Duration::from_secs(5);
/// How often a statement that gave way to another transaction is repeated.
const CONFLICT_ATTEMPTS: u32 = 8;
/// The pause before such a repetition; it grows with each.
const CONFLICT_PAUSE: Duration = Duration::from_millis(5);
/// As many pairs are refused before it is asked again whether the table takes any: it may have become one that takes none.
const MOST_UNCONFIRMED: usize = 16;

/// What became of a post's pairs that were stored.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stored {
    /// The count in PostgreSQL.
    pub views: i64,
    /// How many of the pairs were new.
    pub added: i64,
    /// The author in its canonical spelling; empty when the post has none.
    pub author: String,
    /// The viewers whose pair was new, where they were asked for.
    pub new: Vec<ViewerId>,
}

/// Why a post's pairs wait, of which some may be stored already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deferred {
    /// Somebody has locked the post's row.
    Locked,
    /// The count's column is full.
    Full,
}

/// A pair that the server refuses while it takes others, or for which it would have to wait: for the row of the viewer,
/// or for the same pair, which somebody has not committed yet.
#[derive(Debug, Clone)]
pub struct Refused {
    /// The pair's place.
    pub place: usize,
    /// What the server says.
    pub refusal: Refusal,
}

/// What became of pairs. A post that is in neither map nor set has nothing but refused pairs.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Posts whose pairs are stored, but for the refused ones.
    pub stored: HashMap<PostId, Stored>,
    /// Posts whose pairs wait.
    pub deferred: HashMap<PostId, Deferred>,
    /// Posts that do not exist.
    pub missing: HashSet<PostId>,
    /// Refused pairs.
    pub refused: Vec<Refused>,
}

/// How pairs are stored.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// Whether the viewers of new pairs are named.
    pub names_new: bool,
    /// Whether a lock on a post's row is waited for, and how long. For a single post: nothing else is held meanwhile.
    pub patience: Option<Duration>,
    /// How many pairs go into one statement at most; zero for any number.
    pub statement_pairs: usize,
    /// What the transaction is to begin with, beside its deadlines.
    pub begin: &'static str,
    /// Whether all pairs of a viewer are refused for a lock when some of them were. Meant for those who try again, one
    /// by one.
    pub guesses: bool,
}

/// Pairs on their way into PostgreSQL.
pub struct Insert<'a, P> {
    database: &'a Database,
    pairs: &'a P,
    options: Options,
    /// What is still to be done, the next at the end.
    work: Vec<Range<usize>>,
    /// The places of refused pairs that are within what is still to be done.
    left_out: HashSet<usize>,
    outcome: Outcome,
    /// Whether the table has taken a pair since this began.
    is_proven: bool,
    /// Refused pairs, while it is not known that the table took pairs afterwards, too.
    unconfirmed: Vec<Refused>,
    suspects: Suspects,
    conflicts: u32,
    has_met_lock: bool,
}

impl<'a, P: PairList> Insert<'a, P> {
    /// Prepares to store a range of pairs.
    #[must_use]
    pub fn new(database: &'a Database, pairs: &'a P, range: Range<usize>, options: Options) -> Self {
        let work = if range.is_empty() { Vec::new() } else { vec![range] };
        Self {
            database,
            pairs,
            options,
            work,
            left_out: HashSet::new(),
            outcome: Outcome::default(),
            is_proven: false,
            unconfirmed: Vec::new(),
            suspects: Suspects::default(),
            conflicts: 0,
            has_met_lock: false,
        }
    }

    /// Stores pairs until all are done, or until `until`. Returns whether all are done. `step` is called after each
    /// statement.
    ///
    /// # Errors
    /// [`DatabaseError`], when the server is away or the table takes no pair. What is done so far is committed, and can
    /// be taken.
    pub async fn run(&mut self, until: Option<Instant>, mut step: impl FnMut()) -> Result<bool, DatabaseError> {
        let result = match self.work_off(until, &mut step).await {
            Ok(()) => self.confirm().await,
            Err(error) => Err(error),
        };
        // Where something went wrong, nothing is known of these.
        self.work.extend(self.unconfirmed.drain(..).map(|refused| refused.place..refused.place + 1));
        result.map(|()| self.work.is_empty()).map_err(|error| {
            let pairs = self.work.iter().flat_map(|range| self.pairs.range(range.clone()));
            error.without_viewers(pairs.map(|(_, viewer, _)| viewer))
        })
    }

    async fn work_off(&mut self, until: Option<Instant>, step: &mut impl FnMut()) -> Result<(), DatabaseError> {
        while let Some(range) = self.work.pop() {
            let most = self.options.statement_pairs;
            if most > 0 && range.len() > most {
                self.work.extend(halves(&range));
                continue;
            }
            let result = self.store(range.clone(), Spelling::Canonical, None).await;
            step();
            match result {
                Ok(()) => self.conflicts = 0,
                Err(error) => self.fail(range, error).await?,
            }
            if until.is_some_and(|until| Instant::now() >= until) {
                break;
            }
        }
        Ok(())
    }

    /// Takes what became of the posts of which no pair is left to do. A post's outcome is taken once.
    pub fn take_finished(&mut self) -> Outcome {
        let mut outcome = std::mem::take(&mut self.outcome);
        let mut open: HashSet<PostId> = HashSet::new();
        let mut last = "";
        for (post, ..) in self.work.iter().flat_map(|range| self.pairs.range(range.clone())) {
            if post != last {
                last = post;
                open.extend(PostId::parse(post));
            }
        }
        if !open.is_empty() {
            let is_open = |post: &PostId| open.contains(post);
            let rest = &mut self.outcome;
            rest.stored.extend(outcome.stored.extract_if(|post, _| is_open(post)));
            rest.deferred.extend(outcome.deferred.extract_if(|post, _| is_open(post)));
            rest.missing.extend(outcome.missing.extract_if(is_open));
            let (left, done) = outcome
                .refused
                .into_iter()
                .partition(|refused| self.post_at(refused.place).is_some_and(|post| open.contains(&post)));
            (self.outcome.refused, outcome.refused) = (left, done);
        }
        // A post that was locked, or gone, for one of its pairs is so for all of them.
        for post in &outcome.missing {
            outcome.deferred.remove(post);
        }
        outcome.stored.retain(|post, _| !outcome.deferred.contains_key(post) && !outcome.missing.contains(post));
        outcome
    }

    /// Ends it. Returns what became of all posts, also of those that have pairs left to do (so that a post may have
    /// stored pairs and be held, too), and the places of these pairs.
    pub fn end(self) -> (Outcome, Vec<Range<usize>>) {
        (self.outcome, self.work)
    }

    fn post_at(&self, place: usize) -> Option<PostId> {
        self.pairs.range(place..place + 1).next().and_then(|(post, ..)| PostId::parse(post).ok())
    }

    /// Returns the pairs of a range, with their places, but for those that are left out.
    fn rest(&self, range: &Range<usize>) -> impl Iterator<Item = (usize, Sent<'a>)> + Clone + Send + use<'a, '_, P> {
        let left_out = &self.left_out;
        range.clone().zip(self.pairs.range(range.clone())).filter(|(place, _)| !left_out.contains(place))
    }

    async fn fail(&mut self, range: Range<usize>, error: DatabaseError) -> Result<(), DatabaseError> {
        match error {
            DatabaseError::Conflict(_) if self.conflicts < CONFLICT_ATTEMPTS => {
                self.conflicts += 1;
                tracing::debug!(%error, attempts = self.conflicts, "repeating a statement");
                tokio::time::sleep(CONFLICT_PAUSE * self.conflicts).await;
                self.work.push(range);
                Ok(())
            }
            // Whether it is the post or one of its pairs that is locked, only a statement tells that waits for no post.
            DatabaseError::Locked(_) if self.options.patience.take().is_some() => {
                self.work.push(range);
                Ok(())
            }
            DatabaseError::Locked(_) | DatabaseError::Refused(_) => self.search(range, error).await,
            _ => {
                self.work.push(range);
                Err(error)
            }
        }
    }

    /// Goes on after a statement was refused: by halves, once it is known that the table takes other pairs.
    async fn search(&mut self, range: Range<usize>, error: DatabaseError) -> Result<(), DatabaseError> {
        self.has_met_lock |= matches!(error, DatabaseError::Locked(_));
        if error.refusal().is_some_and(Refusal::is_of_server) {
            self.work.push(range);
            return Err(error);
        }
        if range.len() > 1
            && let Some(refusal) = error.refusal()
        {
            match self.leave_out_unknown_viewers(&range, refusal).await {
                Ok(false) => {}
                result => {
                    self.work.push(range);
                    return result.map(drop);
                }
            }
        }
        if !self.is_proven {
            let proven = self.prove(&range, error).await;
            // Also where it takes pairs: it may have begun to do so only after it has refused these.
            self.work.push(range);
            return proven;
        }
        let tried = self.rest(&range).filter(|(_, (post, viewer, _))| !self.suspects.has(post, viewer));
        let tried: Vec<(usize, Sent<'_>)> = tried.take(2).collect();
        let (place, post, viewer) = match tried[..] {
            [(place, (post, viewer, _))] => (place, post, viewer),
            [] => return Ok(()),
            _ => {
                self.work.extend(halves(&range));
                return Ok(());
            }
        };
        let Some(refusal) = error.refusal().cloned() else { return Err(error) };
        if refusal.is_lock() {
            let is_viewer = self.options.guesses && self.suspects.note_viewer(viewer);
            if self.suspects.note_post(post) || is_viewer {
                self.take_for_locked(&refusal);
            }
        }
        let refused = Refused { place, refusal };
        if refused.refusal.is_of_reference() {
            // That another row is missing is no fault of the table.
            self.outcome.refused.push(refused);
            return Ok(());
        }
        self.unconfirmed.push(refused);
        if self.unconfirmed.len() >= MOST_UNCONFIRMED { self.confirm().await } else { Ok(()) }
    }

    /// Refuses what is still to be done of viewers and posts of which enough was refused for a lock.
    fn take_for_locked(&mut self, refusal: &Refusal) {
        let others = self.work.iter().flat_map(|range| self.rest(range));
        let others: Vec<usize> =
            others.filter(|(_, (post, viewer, _))| self.suspects.has(post, viewer)).map(|(place, _)| place).collect();
        self.left_out.extend(&others);
        self.outcome.refused.extend(others.into_iter().map(|place| Refused { place, refusal: refusal.clone() }));
    }

    /// Makes sure that the table takes pairs still, so that those that it has refused are bad.
    async fn confirm(&mut self) -> Result<(), DatabaseError> {
        if let Some(last) = self.unconfirmed.last() {
            let error = DatabaseError::Refused(last.refusal.clone());
            let range = last.place..last.place + 1;
            self.prove(&range, error).await?;
            self.outcome.refused.append(&mut self.unconfirmed);
        }
        Ok(())
    }

    /// Stores the pairs of a range with one statement or, where posts are not found and may be spelled otherwise, with
    /// some more.
    async fn store(
        &mut self,
        range: Range<usize>,
        spelling: Spelling,
        only: Option<HashSet<PostId>>,
    ) -> Result<(), DatabaseError> {
        let schema = self.database.schema().await?;
        let (mut spelling, mut only) = (spelling, only);
        loop {
            let rest = self.rest(&range).map(|(_, pair)| pair);
            let pairs = rest.filter(|(post, viewer, _)| !self.suspects.has(post, viewer));
            let arrays = Arrays::new(&schema, pairs, spelling, only.as_ref())?;
            if arrays.posts.is_empty() {
                return Ok(());
            }
            let Sending { mut missing, rowless } = self.send(&arrays, &schema, false).await?;
            if !rowless.is_empty() {
                let ids: Vec<_> = rowless.iter().map(|post| spelling.of(post.as_str())).collect();
                count_rows::make(self.database, &schema, &ids).await?;
                let rest = self.rest(&range).map(|(_, pair)| pair);
                let pairs = rest.filter(|(post, viewer, _)| !self.suspects.has(post, viewer));
                let arrays = Arrays::new(&schema, pairs, spelling, Some(&rowless))?;
                missing.extend(self.send(&arrays, &schema, true).await?.missing);
            }
            let next = spelling.next();
            let may_differ = |post: &PostId| next.is_some() && Spelling::may_differ(&schema, post);
            let others: HashSet<PostId> = missing.extract_if(may_differ).collect();
            self.outcome.missing.extend(missing);
            let Some(next) = next.filter(|_| !others.is_empty()) else { return Ok(()) };
            (spelling, only) = (next, Some(others));
        }
    }

    /// Sends one statement. Posts that lack a row in the table of counts are locked ones once that was to be made.
    async fn send(&mut self, arrays: &Arrays<'_>, schema: &Schema, is_made: bool) -> Result<Sending, DatabaseError> {
        let lock_timeout = if self.has_met_lock { SEARCH_LOCK_TIMEOUT } else { LOCK_TIMEOUT };
        let statements = &schema.statements;
        let wrong = failpoints::is_broken(failpoints::WAIT_FOR_LOCKS).then_some(WRONG_LOCK_TIMEOUT);
        let begin = match wrong.or(self.options.patience) {
            // With nothing else held, so that it is in nobody's way. What holds the row then waits for nothing as long.
            Some(patience) => {
                let lock = statements.lock(&Spelling::all(schema, &arrays.posts), lock_timeout);
                self.database.begin(patience, &format!("{}; {lock}", self.options.begin))
            }
            None => self.database.begin(lock_timeout, self.options.begin),
        };
        let params = arrays.params(&self.options.names_new);
        let rows = self.database.transact(&begin, &statements.insert, &params, COMMIT).await?;
        let mut missing: HashSet<PostId> = arrays.posts.iter().copied().collect();
        let mut rowless = HashSet::new();
        for row in &rows {
            let Some(post) = usize::try_from(row.get::<_, i32>(0)).ok().and_then(|place| arrays.posts.get(place)) else {
                continue;
            };
            missing.remove(post);
            if row.get(7) && !is_made {
                rowless.insert(*post);
            } else {
                self.note(*post, row);
            }
        }
        Ok(Sending { missing, rowless })
    }

    /// Notes what a statement says of a post.
    fn note(&mut self, post: PostId, row: &Row) {
        let (is_locked, is_open): (bool, bool) = (row.get(1), row.get(2));
        if !is_open {
            self.outcome.deferred.insert(post, if is_locked { Deferred::Full } else { Deferred::Locked });
            return;
        }
        let (views, added): (i64, i64) = (row.get(3), row.get(4));
        if added > 0 {
            self.is_proven = true;
        }
        let stored = self.outcome.stored.entry(post).or_default();
        // A later statement has seen what an earlier one did.
        stored.views = views;
        stored.added += added;
        stored.author = row.get::<_, Option<&str>>(5).map(canonical_author).unwrap_or_default();
        stored.new.extend(row.get::<_, Vec<&str>>(6).into_iter().filter_map(|viewer| ViewerId::parse(viewer).ok()));
    }
}

/// What a statement says of posts of which it has stored nothing.
struct Sending {
    /// Posts that were not found.
    missing: HashSet<PostId>,
    /// Posts that lack a row in the table of counts.
    rowless: HashSet<PostId>,
}

/// Returns the second half first: work is taken from the end.
fn halves(range: &Range<usize>) -> [Range<usize>; 2] {
    let middle = range.start + range.len() / 2;
    [middle..range.end, range.start..middle]
}
