//! Bringing existing views into the ledger: set by set in SQL, a chunk at a time, over a connection of its own.

mod origin;
mod source;

use std::time::Duration;

use deadpool_postgres::ClientWrapper;
use futures_util::future::join;
use tokio::sync::Mutex;
use tokio_postgres::{Row, error::SqlState, types::ToSql};
use views_core::ids::{PostId, ViewerId};

pub use self::source::{Source, SourceError};
pub use crate::sql::adopt::Counting;
use crate::{
    COMMIT, Database, DatabaseError, Refusal,
    sql::adopt::{self, AdoptStatements, ChunkStatements},
};

/// How long a chunk waits for a lock that it cannot pass over: it holds posts meanwhile.
const LOCK_TIMEOUT: Duration = Duration::from_millis(50);
/// How long the copy of a source may take.
const STAGING_TIMEOUT: Duration = Duration::from_secs(3_600);
/// How long another adoption is waited for. One that was killed goes on with its last statement.
const TURN_TIMEOUT: Duration = Duration::from_secs(40);
/// How often it is looked whether that is over.
const TURN_POLL: Duration = Duration::from_millis(200);

/// An adoption, from its first chunk to its last.
pub struct Adoption<'a> {
    database: &'a Database,
    client: ClientWrapper,
    statements: AdoptStatements,
    counts_posts: bool,
    about: u64,
    /// The table with the counts, without its schema.
    counted: String,
    copied: Mutex<Copied>,
}

/// The copy of the pairs of a post that is cut.
#[derive(Debug, Default)]
enum Copied {
    /// There is none yet.
    #[default]
    Nothing,
    /// It has those of this key, whose count is known to be explained by the ledger and the table of bases while it is what
    /// the second says.
    Key(String, Option<i64>),
    /// Nothing can be copied.
    Never,
}

/// What pairs are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// All.
    pub pairs: i64,
    /// Those without a viewer.
    pub no_viewer: i64,
    /// Those without a post that exists.
    pub unknown_post: i64,
    /// Those whose ids the ledger cannot hold, or that no view can have.
    pub unfit: i64,
    /// Views of authors.
    pub own: i64,
    /// The posts that exist.
    pub posts: i64,
    /// Those that the ledger did not have.
    pub new: i64,
    /// Those that would be, but for locks on their posts.
    pub left: i64,
}

/// A post whose count has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Changed {
    /// The post.
    pub post: PostId,
    /// The count.
    pub views: i64,
}

/// What became of a chunk.
#[derive(Debug, Default)]
pub struct Adopted {
    /// What its pairs are.
    pub tally: Tally,
    /// Posts of which nothing was stored, because somebody has locked them, or their counts are full.
    pub left: Vec<PostId>,
    /// Posts whose counts have changed.
    pub changed: Vec<Changed>,
}

/// A part of a source.
#[derive(Debug, Clone, Copy)]
pub struct Part<'a> {
    /// Its keys.
    pub keys: &'a [&'a str],
    /// In how many parts these are cut.
    pub parts: i32,
    /// Which of the parts it is.
    pub part: i32,
}

impl Database {
    /// Prepares an adoption. Nothing is changed yet, but that no other one runs beside it, unless `is_dry`.
    ///
    /// # Errors
    /// [`DatabaseError::Setup`] when there is no such source, or nothing can be read from it; `Unavailable` when nobody
    /// answers, or another adoption is at work.
    pub async fn adopt(&self, source: &Source, counting: Counting, is_dry: bool) -> Result<Adoption<'_>, DatabaseError> {
        let schema = self.schema().await?;
        let client = self.dedicated().await?;
        origin::demand_bases(&client, &schema).await?;
        let found = origin::find(&client, &schema, source).await?;
        let statements = AdoptStatements::new(&schema.target, &found.origin, found.raw, counting);
        let counts_posts = matches!(source, Source::Array(_));
        let counted = schema.tables.counted().table.clone();
        let adoption =
            Adoption { database: self, client, statements, counts_posts, about: found.about, counted, copied: Mutex::default() };
        if !is_dry {
            adoption.take_turn(&schema.tables.ledger.spelled()).await?;
        }
        Ok(adoption)
    }
}

impl Adoption<'_> {
    /// Waits until no other adoption is at work.
    async fn take_turn(&self, ledger: &str) -> Result<(), DatabaseError> {
        let started = tokio::time::Instant::now();
        loop {
            let row = self.client.query_one(adopt::TRY_TO_ADOPT, &[&ledger]).await?;
            if row.get(0) {
                return Ok(());
            }
            if started.elapsed() > TURN_TIMEOUT {
                return Err(DatabaseError::Unavailable("another `view-syncd adopt` is at work".to_owned()));
            }
            tokio::time::sleep(TURN_POLL).await;
        }
    }

    /// Copies the source where it has no index by which its chunks are found.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn stage(&self) -> Result<(), DatabaseError> {
        let Some(stage) = &self.statements.stage else { return Ok(()) };
        let may = self.client.query_one(adopt::MAY_STAGE, &[]).await?;
        if !may.get::<_, bool>(0) {
            let grant: String = may.get(1);
            return Err(DatabaseError::Setup(format!(
                "the source has no index that begins with its column of posts, and this role may not copy it into a temporary \
                 table: make that index, or {grant}"
            )));
        }
        let begin = self.database.begin(LOCK_TIMEOUT, &format!("{}; {}", adopt::BEGIN, adopt::BEGIN_STAGING));
        let work = async {
            self.client.batch_execute(&begin).await?;
            self.client.batch_execute(stage).await?;
            self.client.batch_execute(COMMIT).await
        };
        match tokio::time::timeout(STAGING_TIMEOUT, work).await {
            Ok(done) => Ok(done?),
            Err(_) => Err(DatabaseError::no_answer()),
        }
    }

    /// Returns about how much there is to do, in what [`Self::progress`] counts; zero where nobody knows.
    #[must_use]
    pub fn about(&self) -> u64 {
        self.about
    }

    /// Returns how much of that a chunk was: posts of an array, rows of a table.
    #[must_use]
    pub fn progress(&self, posts: u64, pairs: u64) -> u64 {
        if self.counts_posts { posts } else { pairs }
    }

    /// Returns whether [`Self::next`] takes its limit for posts, and not for pairs.
    #[must_use]
    pub fn counts_posts(&self) -> bool {
        self.counts_posts
    }

    /// Returns whether it is the pair that is refused: its ids fit no column, or the ledger's own rules or foreign keys
    /// keep it out. Whatever else refuses it, such as a trigger, or a rule about the posts' counts, may be gone later.
    #[must_use]
    pub fn is_of_pair(&self, refusal: &Refusal) -> bool {
        let is_of_count = refusal.table.as_ref().is_some_and(|table| *table == self.counted);
        !is_of_count && (refusal.is_of_reference() || !refusal.may_pass())
    }

    /// Returns whether the connection is there still. A copy of the source ends with it.
    #[must_use]
    pub fn is_open(&self) -> bool {
        !self.client.is_closed()
    }

    /// Returns the next keys, and how many pairs each has.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn next(&self, after: Option<&str>, limit: i64) -> Result<Vec<(String, i64)>, DatabaseError> {
        let rows = self.run(&self.statements.next, &[&after, &limit]).await?;
        Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
    }

    /// Returns what the pairs without a key are.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn without_post(&self) -> Result<Tally, DatabaseError> {
        let Some(statement) = &self.statements.without_post else { return Ok(Tally::default()) };
        let rows = self.run(statement, &[]).await?;
        let [no_viewer, unknown_post] = rows.first().map_or([0, 0], |row| [row.get(0), row.get(1)]);
        Ok(Tally { pairs: no_viewer + unknown_post, no_viewer, unknown_post, ..Tally::default() })
    }

    /// Adopts a part.
    ///
    /// # Errors
    /// [`DatabaseError`]. Nothing has been done then, or (when the connection broke) all of it.
    pub async fn adopt(&self, of: Part<'_>) -> Result<Adopted, DatabaseError> {
        let explained = match &*self.copied.lock().await {
            Copied::Key(key, explained) if of.keys == [key] => *explained,
            _ => None,
        };
        if let Some(make_counts) = self.statements.make_counts.as_ref().filter(|_| of.part == 0) {
            self.run_part(make_counts, of, &[]).await?;
        }
        // Only what the ledger lacks is stored. That somebody else stores one of these pairs in the very same moment is rare,
        // and to be prepared for it takes a third of the time that it takes to store a pair.
        let rows = match self.run_chunk(|chunk| &chunk.alone, of, &[&explained]).await {
            Err(DatabaseError::Refused(refusal)) if refusal.state == SqlState::UNIQUE_VIOLATION => {
                self.run_chunk(|chunk| &chunk.beside, of, &[&explained]).await?
            }
            result => result?,
        };
        if let (Copied::Key(key, explained), Some(row)) = (&mut *self.copied.lock().await, rows.first())
            && of.keys == [key]
        {
            *explained = row.get(11);
        }
        Ok(read(&rows))
    }

    /// Returns what pairs are, and adopts none.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn look(&self, of: Part<'_>) -> Result<Tally, DatabaseError> {
        let rows = self.run_chunk(|chunk| &chunk.look, of, &[]).await?;
        Ok(rows.first().map(tally).unwrap_or_default())
    }

    /// Returns the pairs of a part that are in the ledger by now, in the order of the posts.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn adopted(&self, of: Part<'_>) -> Result<Vec<(PostId, ViewerId)>, DatabaseError> {
        let rows = self.run_chunk(|chunk| &chunk.adopted, of, &[]).await?;
        let pair = |row: &Row| Some((PostId::parse(row.get(0)).ok()?, ViewerId::parse(row.get(1)).ok()?));
        Ok(rows.iter().filter_map(pair).collect())
    }

    /// Runs what is done with a chunk. Of a post that is cut, it reads the copy.
    async fn run_chunk(
        &self,
        what: fn(&ChunkStatements) -> &String,
        of: Part<'_>,
        more: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, DatabaseError> {
        if let ([key], true) = (of.keys, of.parts > 1) {
            let mut copied = self.copied.lock().await;
            if self.copy(&mut copied, key).await? {
                match self.run_part(what(&self.statements.of_copy), of, more).await {
                    // A pooler has given the connection to another session of the server.
                    Err(DatabaseError::Setup(_)) => *copied = Copied::Never,
                    result => return result,
                }
            }
        }
        self.run_part(what(&self.statements.of_source), of, more).await
    }

    /// Copies the pairs of a key, unless that was done, and returns whether there is a copy.
    async fn copy(&self, copied: &mut Copied, key: &str) -> Result<bool, DatabaseError> {
        let prepare = match copied {
            Copied::Key(of, _) if *of == key => return Ok(true),
            Copied::Never => return Ok(false),
            Copied::Key(..) => adopt::EMPTY_COPY,
            Copied::Nothing => self.statements.make_copy.as_str(),
        };
        let begin = self.database.begin(LOCK_TIMEOUT, &format!("{}; {}", adopt::BEGIN, adopt::BEGIN_STAGING));
        let work = async {
            self.client.batch_execute(&format!("{begin}; {prepare}")).await?;
            self.client.execute(&self.statements.copy, &[&[key].as_slice()]).await?;
            self.client.batch_execute(adopt::ANALYZE_COPY).await
        };
        let done = tokio::time::timeout(STAGING_TIMEOUT, work).await.map_err(|_| DatabaseError::no_answer())?;
        let done = self.client.batch_execute(COMMIT).await.and(done);
        match done.map_err(DatabaseError::from) {
            Ok(()) => {
                *copied = Copied::Key(key.to_owned(), None);
                Ok(true)
            }
            Err(error) if self.client.is_closed() => Err(error),
            // A role without the right to temporary tables, a full disk: the source has the same pairs, if not as fast.
            Err(_) => {
                *copied = Copied::Never;
                Ok(false)
            }
        }
    }

    async fn run_part(
        &self,
        statement: &str,
        Part { keys, parts, part }: Part<'_>,
        more: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, DatabaseError> {
        self.run(statement, &[&[&parts as &(dyn ToSql + Sync), &part, &keys], more].concat()).await
    }

    /// Runs a statement in a transaction of its own, within the deadlines.
    async fn run(&self, statement: &str, params: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>, DatabaseError> {
        let begin = self.database.begin(LOCK_TIMEOUT, adopt::BEGIN);
        let work = async {
            let rest = async {
                // Prepared for each chunk: a plan that was made for the first, when the ledger was empty, would not do for the
                // last. `plan_cache_mode` does the same to the foreign keys' own statements, for each row.
                let prepared = self.client.prepare(statement).await;
                let query = async { self.client.query(&prepared?, params).await };
                join(query, self.client.batch_execute(COMMIT)).await
            };
            let (begun, (rows, ended)) = join(self.client.batch_execute(&begin), rest).await;
            begun?;
            let rows = rows?;
            ended?;
            Ok::<_, DatabaseError>(rows)
        };
        // The server gives up a statement after the same time; the rest is for its answer to arrive.
        let deadline = self.database.statement_timeout + Duration::from_secs(5);
        tokio::time::timeout(deadline, work).await.unwrap_or_else(|_| Err(DatabaseError::no_answer()))
    }
}

fn tally(row: &Row) -> Tally {
    let [pairs, no_viewer, unknown_post, unfit, own, posts, new, left] =
        [0, 1, 2, 3, 4, 5, 6, 7].map(|place: usize| row.get(place));
    Tally { pairs, no_viewer, unknown_post, unfit, own, posts, new, left }
}

fn read(rows: &[Row]) -> Adopted {
    let Some(row) = rows.first() else { return Adopted::default() };
    let posts = |place: usize| row.get::<_, Vec<&str>>(place).into_iter().map(|post| PostId::parse(post).ok());
    let counts = posts(9).zip(row.get::<_, Vec<i64>>(10));
    let changed = counts.filter_map(|(post, views)| Some(Changed { post: post?, views }));
    Adopted { tally: tally(row), left: posts(8).flatten().collect(), changed: changed.collect() }
}
