//! Every SQL statement of the project. Each begins with its name in a comment, so that the database's log points at its
//! caller.

pub mod adopt;
pub mod bases;
pub mod catalogue;
pub mod compare;
pub mod duplicates;
pub mod explain;
pub mod forget;
pub mod identifier;
mod insert;
pub mod leases;
mod look;
pub mod migration;
pub mod observe;
mod probe;
pub mod tables;
pub mod types;
pub mod viewer_index;
pub mod warm;

use std::time::Duration;

use self::{
    bases::Walks,
    explain::Explanations,
    look::{Looks, looks},
    tables::Tables,
    types::{CastTypes, UserKey, literal},
};

/// Keeps two migrations from running at once. The number is the project's own, and has no meaning.
pub const MIGRATION_LOCK: &str = "-- migration lock\nSELECT pg_advisory_xact_lock(7226438871)";

/// The system identifier and the object id of the database, which together are those of no other database.
pub const SERVER: &str = "\
-- server
SELECT system_identifier || '/' || (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())
FROM pg_catalog.pg_control_system()";

/// What stands in for [`SERVER`] where the system identifier is not to be had: the name and the object id of the
/// database, and the object id of the posts table (`$1`, quoted).
pub const SERVER_WITHOUT_IDENTIFIER: &str = "\
-- server without identifier
SELECT datname || ':' || coalesce(to_regclass($1)::oid::int8, 0) || '/' || oid
FROM pg_catalog.pg_database WHERE datname = current_database()";

/// Whether the server answers and this session may write: a standby says no, and so does a server that was made read-only.
pub const PING: &str = "-- ping\nSELECT current_setting('transaction_read_only') = 'off'";

/// Begins a transaction with its deadlines, and with an error instead of an incomplete answer where row level security
/// would hide rows. The isolation is named because a database may have another one by default.
#[must_use]
pub fn begin(lock_timeout: Duration, statement_timeout: Duration, more: &str) -> String {
    format!(
        "-- begin\nBEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL row_security = off; \
         SET LOCAL lock_timeout = {}; SET LOCAL statement_timeout = {};{more}",
        lock_timeout.as_millis(),
        statement_timeout.as_millis()
    )
}

/// Bounds how long a transaction waits for a lock.
#[must_use]
pub fn limit_locks(timeout: Duration) -> String {
    format!("-- limit locks\nSET LOCAL lock_timeout = {}", timeout.as_millis())
}

/// The statements that name the application's table and columns. Posts go in as their places in a list of ids, and come
/// out by them: the database may spell an id otherwise.
#[derive(Debug, Clone)]
pub struct Statements {
    /// Stores the pairs `$1[i]`, `$2[i]` (a post's place, viewer; viewed at `$3[i]` milliseconds since 1970) that are
    /// new, and adds their number to each post's count. `$4` and `$5` name each of the posts once by its place and its
    /// id, `$6` says how many of the pairs are the post's. Gives, for each of the posts that exists: its place, whether
    /// its row could be locked, whether the count has room for its pairs (of a post without lock or room nothing is
    /// stored), its count now, how many pairs were new, its author, (where `$7` is true) the viewers of the new pairs,
    /// and whether it lacks a row in the table of counts, without which there is nothing to be locked.
    ///
    /// The posts are locked before anything is written, and those that somebody else has locked are left out instead of
    /// waited for. Rows go in sorted by key. Repeating the statement changes nothing.
    pub insert: String,
    /// Makes the rows that the posts `$2[i]` (at the places `$1[i]`) lack in the table of counts; none where the counts
    /// stand in the posts table.
    pub make_counts: Option<String>,
    /// For each foreign key of the ledger's viewers, by its name: gives those of the viewers `$1`, each as a text, whom
    /// it does not find.
    pub unknown_viewers: Vec<(String, String)>,
    /// Gives up to sixteen pairs, as texts, that could be in the ledger and are not: viewers, users and authors that
    /// exist, with posts that exist.
    pub probe_candidates: String,
    /// Stores the pair `$1`, `$2`, given as texts, and counts it, for a transaction that is rolled back.
    pub probe: String,
    /// Offers the ledger a pair again that it has, which its triggers, its checks and its partitions look at all the
    /// same. Gives a row where there is such a pair.
    pub probe_known: String,
    /// Gives, for each post `$2[i]` (at the place `$1[i]`) that exists, its place, author, count, and its viewers where
    /// they are at most `$3`.
    pub hydrate: String,
    /// Gives, for each post `$2[i]` (at the place `$1[i]`) that exists, its place, author, count, and those of the
    /// viewers `$4[j]` (of the post at the place `$3[j]`) whom the ledger has with it.
    pub look: String,
    /// Gives, for each post `$2[i]` (at the place `$1[i]`) that exists, its place and count.
    pub counts: String,
    /// Gives, for each post `$2[i]` (at the place `$1[i]`) that exists, its place and those of the viewers `$3` that
    /// the ledger has with it.
    pub viewers_among: String,
    /// Gives, of the posts `$2[i]` (at the places `$1[i]`), the places of those whose rows nobody has locked and whose
    /// counts have room.
    pub unlocked: String,
    /// Compares the posts `$2[i]` (at the places `$1[i]`) with the counts `$3[i]` and the authors `$4[i]` that somebody
    /// knows of them. Gives, for each that differs or does not exist, its place, whether it exists, its count and its
    /// author.
    pub compare: String,
    /// The walks through all posts.
    pub walks: Walks,
    /// What is asked of one post and one viewer.
    pub explain: Explanations,
    /// Locks a post; its ids follow, see [`lock`](Self::lock).
    lock: String,
    /// The type of a post's id, without a length limit.
    post_type: String,
}

impl Statements {
    /// Writes the statements. `users` are the foreign keys of the ledger's viewers that lead to something readable.
    #[must_use]
    pub fn new(tables: &Tables, types: &CastTypes<'_>, users: &[UserKey]) -> Self {
        let Looks { hydrate, counts, look, viewers_among, compare } = looks(tables, types);
        Self {
            insert: insert::insert(tables, types),
            make_counts: insert::make_counts(tables, types),
            unknown_viewers: probe::unknown_viewers(types, users),
            probe_candidates: probe::candidates(tables, types, users),
            probe: probe::probe(tables, types),
            probe_known: probe::probe_known(tables),
            hydrate,
            look,
            counts,
            viewers_among,
            unlocked: insert::unlocked(tables, types),
            compare,
            walks: Walks::new(tables, types),
            explain: Explanations::new(tables, types),
            lock: insert::lock(tables),
            post_type: types.post.to_owned(),
        }
    }

    /// Locks the row of a post, given in all spellings of its id, and bounds the waits for other locks in the same
    /// transaction. Without parameters, because it travels with the transaction's beginning.
    #[must_use]
    pub fn lock(&self, ids: &[String], lock_timeout: Duration) -> String {
        let ids: Vec<String> = ids.iter().map(|id| literal(id)).collect();
        format!(
            "{} = ANY(ARRAY[{}]::{}[]) FOR NO KEY UPDATE; SET LOCAL lock_timeout = {}",
            self.lock,
            ids.join(", "),
            self.post_type,
            lock_timeout.as_millis()
        )
    }
}
