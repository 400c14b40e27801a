//! Every SQL statement of the project. Each begins with its name in a comment, so that the database's log points at its
//! caller.

pub mod adopt;
pub mod catalogue;
pub mod identifier;

use std::time::Duration;

use self::identifier::{TableName, quote};
use crate::config::PostsSettings;

/// The ledger's table: who viewed what, once, for ever. It lives in the schema of the posts table.
pub const LEDGER_TABLE: &str = "post_views";

/// Keeps two migrations from running at once. The number is the project's own, and has no meaning.
pub const MIGRATION_LOCK: &str = "-- migration lock\nSELECT pg_advisory_xact_lock(7226438871)";

/// Has the server notice within seconds when the leader's machine is gone without a word, so that its lock is free.
pub const LEADER_SESSION: &str = "\
-- leader session
SET tcp_keepalives_idle = 3; SET tcp_keepalives_interval = 2; SET tcp_keepalives_count = 2; SET tcp_user_timeout = 7000";

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

/// Takes the lock of the leader over the ledger `$1`, or tells that another session holds it. The number is the
/// project's own.
pub const TRY_TO_LEAD: &str = "-- try to lead\nSELECT pg_try_advisory_lock(722643, hashtext($1)), pg_backend_pid()";

/// Whether the session of the backend `$1` holds a lock of the leader.
pub const LEADS: &str = "\
-- leads
SELECT EXISTS (SELECT FROM pg_catalog.pg_locks WHERE locktype = 'advisory' AND classid = 722643 AND granted AND pid = $1::int4)";

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
    /// stored), its count now, how many pairs were new, its author, and (where `$7` is true) the viewers of the new
    /// pairs.
    ///
    /// The posts are locked before anything is written, and those that somebody else has locked are left out instead of
    /// waited for. Rows go in sorted by key. Repeating the statement changes nothing.
    pub insert: String,
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
    /// Creates the ledger.
    pub create_ledger: String,
    /// Locks a post; its ids follow, see [`lock`](Self::lock).
    lock: String,
    /// The type of a post's id, without a length limit.
    post_type: String,
}

/// The SQL types into which the ids, which arrive as text, are cast.
#[derive(Debug, Clone, Copy)]
pub struct CastTypes<'a> {
    /// Of a post's id, without a length limit: a cast to `varchar(n)` would cut silently.
    pub post: &'a str,
    /// Of a viewer's id, likewise.
    pub viewer: &'a str,
    /// As what the drain and the scan send posts' ids: as they are, or as texts.
    pub post_sent: &'a str,
    /// As what the drain sends viewers' ids.
    pub viewer_sent: &'a str,
    /// Whether authors are texts, which may spell a UUID in any way.
    pub author_is_text: bool,
    /// Whether authors and viewers are of one type.
    pub authors_are_viewers: bool,
    /// A viewer that hardly exists, as an expression of the viewers' type.
    pub made_up_viewer: &'a str,
    /// The greatest count that the count's column holds.
    pub most_views: i64,
    /// Of a post's id, as it is declared.
    pub post_declared: &'a str,
    /// Of a viewer's id, as the author column is declared.
    pub viewer_declared: &'a str,
}

/// A foreign key of the ledger's viewers alone, to where the role may read.
#[derive(Debug, Clone)]
pub struct UserKey {
    /// The constraint's name.
    pub name: String,
    /// The table that it leads to.
    pub table: TableName,
    /// The column there, quoted.
    pub column: String,
}

/// Returns the canonical spelling of an author: that of [`views_core::ids::ViewerId`], in SQL.
pub(crate) fn canonical(author: &str) -> String {
    let uuid = "'^([0-9a-fA-F]{32}|[0-9a-fA-F]{8}-([0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12})$'";
    format!("CASE WHEN {author} ~ {uuid} THEN {author}::uuid::text ELSE {author} END")
}

/// Returns the first and the last values of a column that has an index, as a query in parentheses: what is wrong with
/// some of them may not be with others, such as those of another partition.
fn from_both_ends(column: &str, table: &str, cast: &str, number: usize) -> String {
    let end = |order: &str| format!("(SELECT t.{column}::{cast} FROM {table} t ORDER BY t.{column} {order} LIMIT {number})");
    format!("({} UNION {})", end("ASC"), end("DESC"))
}

/// Returns a text as SQL writes it.
fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

impl Statements {
    /// Writes the statements for the posts table `posts`, whose real schema is `schema`. `users` are the foreign keys
    /// of the ledger's viewers that lead to something readable.
    #[must_use]
    pub fn new(schema: &str, posts: &PostsSettings, types: &CastTypes<'_>, users: &[UserKey]) -> Self {
        let table = TableName { schema: Some(schema.to_owned()), table: posts.table.table.clone() };
        let ledger = format!("{}.{}", quote(schema), quote(LEDGER_TABLE));
        let (id, count) = (&posts.id, &posts.count);
        let CastTypes { post, viewer, post_sent, viewer_sent, author_is_text, authors_are_viewers, .. } = *types;
        let CastTypes { made_up_viewer, most_views, post_declared, viewer_declared, .. } = *types;
        let author = match author_is_text {
            true => canonical(&format!("p.{}::text", posts.author)),
            false => format!("p.{}::text", posts.author),
        };
        let insert = format!(
            "\
-- insert
WITH known AS MATERIALIZED (
  SELECT named.place, named.pairs, p.{id} AS id, coalesce(p.{count}, 0)::int8 AS views
  FROM unnest($4::int4[], $5::{post_sent}[]::{post}[], $6::int8[]) AS named(place, id, pairs) JOIN {table} p ON p.{id} = named.id
), locked AS MATERIALIZED (
  SELECT known.place, known.pairs, p.{id} AS id, {author} AS author, coalesce(p.{count}, 0)::int8 AS views
  FROM known JOIN {table} p ON p.{id} = known.id
  FOR NO KEY UPDATE OF p SKIP LOCKED
), open AS MATERIALIZED (
  SELECT place, id, author FROM locked WHERE views <= {most_views} - pairs
), inserted AS (
  INSERT INTO {ledger} (post_id, user_id, viewed_at)
  SELECT open.id, pair.viewer, to_timestamp(pair.ms / 1000.0::float8)
  FROM unnest($1::int4[], $2::{viewer_sent}[]::{viewer}[], $3::int8[]) AS pair(place, viewer, ms) JOIN open ON open.place = pair.place
  WHERE open.author IS DISTINCT FROM pair.viewer::text
  ORDER BY pair.place, pair.viewer
  ON CONFLICT DO NOTHING
  RETURNING post_id, user_id
), added AS (
  SELECT post_id, count(*) AS views, array_agg(user_id::text) FILTER (WHERE $7::bool) AS viewers FROM inserted GROUP BY post_id
), counted AS (
  UPDATE {table} p SET {count} = coalesce(p.{count}, 0) + added.views FROM added WHERE p.{id} = added.post_id
  RETURNING p.{id} AS id, p.{count}::int8 AS views
)
SELECT known.place, locked.place IS NOT NULL, open.place IS NOT NULL, coalesce(counted.views, locked.views, known.views),
  coalesce(added.views, 0), locked.author, coalesce(added.viewers, '{{}}')
FROM known
LEFT JOIN locked ON locked.place = known.place
LEFT JOIN open ON open.place = known.place
LEFT JOIN counted ON counted.id = known.id
LEFT JOIN added ON added.post_id = known.id"
        );
        let mut others: String = users
            .iter()
            .map(|UserKey { table, column, .. }| format!("UNION {} ", from_both_ends(column, &table.to_string(), viewer, 8)))
            .collect();
        if authors_are_viewers {
            others +=
                &format!("UNION (SELECT p.{author} FROM {table} p WHERE p.{author} IS NOT NULL LIMIT 16)", author = posts.author);
        }
        let unknown_viewers = users.iter().map(|UserKey { name, table, column }| {
            let statement = format!(
                "\
-- unknown_viewers
SELECT wanted.viewer::text FROM unnest($1::{viewer_sent}[]::{viewer}[]) AS wanted(viewer)
WHERE NOT EXISTS (SELECT FROM {table} u WHERE u.{column} = wanted.viewer)"
            );
            (name.clone(), statement)
        });
        let unknown_viewers = unknown_viewers.collect();
        let some_posts = from_both_ends(&id.to_string(), &table.to_string(), post, 16);
        let probe_candidates = format!(
            "\
-- probe candidates
WITH some_posts AS (
  SELECT ends.id FROM {some_posts} AS ends(id)
), some_viewers AS (
  (SELECT v.user_id AS viewer FROM {ledger} v LIMIT 16) {others} UNION SELECT {made_up_viewer}
)
SELECT some_posts.id::text, some_viewers.viewer::text FROM some_posts, some_viewers
WHERE NOT EXISTS (SELECT FROM {ledger} v WHERE v.post_id = some_posts.id AND v.user_id = some_viewers.viewer)
ORDER BY random() LIMIT 16"
        );
        let probe = format!(
            "\
-- probe
WITH inserted AS (
  INSERT INTO {ledger} (post_id, user_id, viewed_at) VALUES ($1::text::{post}, $2::text::{viewer}, now()) RETURNING post_id
)
UPDATE {table} p SET {count} = coalesce(p.{count}, 0) + 1 FROM inserted WHERE p.{id} = inserted.post_id RETURNING 1"
        );
        let probe_known = format!(
            "\
-- probe known
WITH known AS MATERIALIZED (
  SELECT few.post_id, few.user_id FROM (SELECT v.post_id, v.user_id FROM {ledger} v LIMIT 100) few ORDER BY random() LIMIT 1
), again AS (
  INSERT INTO {ledger} (post_id, user_id, viewed_at) SELECT known.post_id, known.user_id, now() FROM known ON CONFLICT DO NOTHING
)
SELECT FROM known"
        );
        let hydrate = format!(
            "\
-- hydrate
SELECT named.place, {author}, coalesce(p.{count}, 0)::int8,
  ARRAY(SELECT v.user_id::text FROM {ledger} v WHERE v.post_id = p.{id} LIMIT $3::int8 + 1)
FROM unnest($1::int4[], $2::{post_sent}[]::{post}[]) AS named(place, id) JOIN {table} p ON p.{id} = named.id"
        );
        let counts = format!(
            "\
-- counts
SELECT named.place, coalesce(p.{count}, 0)::int8
FROM unnest($1::int4[], $2::{post_sent}[]::{post}[]) AS named(place, id) JOIN {table} p ON p.{id} = named.id"
        );
        let look = format!(
            "\
-- look
WITH named AS MATERIALIZED (
  SELECT named.place, p.{id} AS id, {author} AS author, coalesce(p.{count}, 0)::int8 AS views
  FROM unnest($1::int4[], $2::{post_sent}[]::{post}[]) AS named(place, id) JOIN {table} p ON p.{id} = named.id
), stored AS (
  SELECT pair.place, array_agg(v.user_id::text) AS viewers
  FROM unnest($3::int4[], $4::{viewer_sent}[]::{viewer}[]) AS pair(place, viewer) JOIN named ON named.place = pair.place
  JOIN {ledger} v ON v.post_id = named.id AND v.user_id = pair.viewer
  GROUP BY pair.place
)
SELECT named.place, named.author, named.views, coalesce(stored.viewers, '{{}}')
FROM named LEFT JOIN stored ON stored.place = named.place"
        );
        let viewers_among = format!(
            "\
-- viewers among
SELECT named.place,
  ARRAY(SELECT v.user_id::text FROM {ledger} v WHERE v.post_id = p.{id} AND v.user_id = ANY($3::{viewer_sent}[]::{viewer}[]))
FROM unnest($1::int4[], $2::{post_sent}[]::{post}[]) AS named(place, id) JOIN {table} p ON p.{id} = named.id"
        );
        let unlocked = format!(
            "\
-- unlocked
SELECT named.place FROM unnest($1::int4[], $2::{post_sent}[]::{post}[]) AS named(place, id) JOIN {table} p ON p.{id} = named.id
WHERE coalesce(p.{count}, 0)::int8 < {most_views}
FOR NO KEY UPDATE OF p SKIP LOCKED"
        );
        let compare = format!(
            "\
-- compare
SELECT known.place, p.{id} IS NOT NULL, coalesce(p.{count}, 0)::int8, {author}
FROM unnest($1::int4[], $2::{post_sent}[]::{post}[], $3::int8[], $4::text[]) AS known(place, id, views, author)
LEFT JOIN {table} p ON p.{id} = known.id
WHERE p.{id} IS NULL OR coalesce(p.{count}, 0)::int8 IS DISTINCT FROM known.views
  OR coalesce({author}, '') IS DISTINCT FROM known.author"
        );
        let create_ledger = format!(
            "\
-- create ledger
CREATE TABLE IF NOT EXISTS {ledger} (
  post_id {post_declared} NOT NULL REFERENCES {table} ({id}) ON DELETE CASCADE,
  user_id {viewer_declared} NOT NULL,
  viewed_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (post_id, user_id)
)"
        );
        let lock = format!("-- lock\nSELECT FROM {table} p WHERE p.{id}");
        let post_type = post.to_owned();
        Self {
            lock,
            post_type,
            insert,
            unknown_viewers,
            probe_candidates,
            probe,
            probe_known,
            hydrate,
            look,
            counts,
            viewers_among,
            unlocked,
            compare,
            create_ledger,
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
