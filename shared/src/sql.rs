//! Every SQL statement of the project. Each begins with its name in a comment, so that the database's log points at its caller.

pub mod identifier;

use self::identifier::{TableName, quote};
use crate::settings::PostsSettings;

/// The ledger's table: who viewed what, once, for ever. It lives in the schema of the posts table.
pub const LEDGER_TABLE: &str = "post_views";

/// Finds a table (`$1`, quoted) and those of its columns that are named in `$2`: schema, table, column, type's name, length limit of a
/// `varchar` plus four (or -1), and the type as it is declared.
pub const COLUMNS: &str = "\
-- columns
SELECT n.nspname::text, c.relname::text, a.attname::text, t.typname::text, a.atttypmod, format_type(a.atttypid, a.atttypmod)
FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_catalog.pg_attribute a
  ON a.attrelid = c.oid AND a.attname::text = ANY($2::text[]) AND a.attnum > 0 AND NOT a.attisdropped
LEFT JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
WHERE c.oid = to_regclass($1)";

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

/// What stands in for [`SERVER`] where the system identifier is not to be had: the name and the object id of the database, and the object
/// id of the posts table (`$1`, quoted).
pub const SERVER_WITHOUT_IDENTIFIER: &str = "\
-- server without identifier
SELECT datname || ':' || coalesce(to_regclass($1)::oid::int8, 0) || '/' || oid
FROM pg_catalog.pg_database WHERE datname = current_database()";

/// Takes the lock of the leader over the ledger `$1`, or tells that another session holds it. The number is the project's own.
pub const TRY_TO_LEAD: &str = "-- try to lead\nSELECT pg_try_advisory_lock(722643, hashtext($1))";

/// Whether the server answers and this session may write: a standby says no, and so does a server that was made read-only.
pub const PING: &str = "-- ping\nSELECT current_setting('transaction_read_only') = 'off'";

/// The statements that name the application's table and columns.
#[derive(Debug, Clone)]
pub struct Statements {
    /// Stores the pairs `$1[i]`, `$2[i]` (post, viewer; viewed at `$3[i]` milliseconds since 1970) that are new, and adds their number to
    /// each post's count. `$4` names each of the posts once. Gives, for each of them that exists, its id, its count now, how many pairs
    /// were new, its author, and (where `$5` is true) the viewers of the new pairs.
    ///
    /// Rows go in sorted by key, and the posts are locked sorted by id before they are updated, so that two writers never wait for
    /// each other in a circle. Repeating the statement changes nothing.
    pub drain: String,
    /// Gives, for each post of `$1` that exists, its id, author, count, and its viewers where the count is at most `$2`.
    pub hydrate: String,
    /// Gives, for each post of `$1` that exists, its id and count.
    pub counts: String,
    /// Compares the posts `$1[i]` with the counts `$2[i]` that somebody knows of them. Gives, for each that has another count or does not
    /// exist, its place among them (the first is 1) and its count (nothing where it does not exist).
    pub compare: String,
    /// Creates the ledger.
    pub create_ledger: String,
}

/// The SQL types into which the ids, which arrive as text, are cast.
#[derive(Debug, Clone)]
pub struct CastTypes<'a> {
    /// Of a post's id, without a length limit: a cast to `varchar(n)` would cut silently.
    pub post: &'a str,
    /// Of a viewer's id, likewise.
    pub viewer: &'a str,
    /// As what the drain and the scan send posts' ids: as they are, or as texts.
    pub post_sent: &'a str,
    /// As what the drain sends viewers' ids.
    pub viewer_sent: &'a str,
    /// What makes a viewer and an author comparable: nothing where both are of one type, otherwise a cast.
    pub author_cast: &'a str,
    /// Of a post's id, as it is declared.
    pub post_declared: &'a str,
    /// Of a viewer's id, as the author column is declared.
    pub viewer_declared: &'a str,
}

impl Statements {
    /// Writes the statements for the posts table `posts`, whose real schema is `schema`.
    #[must_use]
    pub fn new(schema: &str, posts: &PostsSettings, types: &CastTypes<'_>) -> Self {
        let table = TableName { schema: Some(schema.to_owned()), table: posts.table.table.clone() };
        let ledger = format!("{}.{}", quote(schema), quote(LEDGER_TABLE));
        let (id, author, count) = (&posts.id, &posts.author, &posts.count);
        let CastTypes { post, viewer, post_sent, viewer_sent, author_cast, post_declared, viewer_declared } = types;
        let drain = format!(
            "\
-- drain
WITH target AS (
  SELECT p.{id} AS id, p.{author}{author_cast} AS author, coalesce(p.{count}, 0)::int8 AS views
  FROM unnest($4::{post_sent}[]::{post}[]) AS named(id) JOIN {table} p ON p.{id} = named.id
), inserted AS (
  INSERT INTO {ledger} (post_id, user_id, viewed_at)
  SELECT pair.post_id, pair.user_id, to_timestamp(pair.ms / 1000.0::float8)
  FROM unnest($1::{post_sent}[]::{post}[], $2::{viewer_sent}[]::{viewer}[], $3::int8[]) AS pair(post_id, user_id, ms)
  JOIN target ON target.id = pair.post_id
  WHERE target.author IS DISTINCT FROM pair.user_id{author_cast}
  ORDER BY pair.post_id, pair.user_id
  ON CONFLICT DO NOTHING
  RETURNING post_id, user_id
), added AS (
  SELECT post_id, count(*) AS views, array_agg(user_id::text) FILTER (WHERE $5::bool) AS viewers FROM inserted GROUP BY post_id
), locked AS (
  SELECT p.{id} AS id FROM {table} p WHERE p.{id} IN (SELECT post_id FROM added) ORDER BY p.{id} FOR NO KEY UPDATE
), counted AS (
  UPDATE {table} p SET {count} = coalesce(p.{count}, 0) + added.views
  FROM added JOIN locked ON locked.id = added.post_id
  WHERE p.{id} = added.post_id
  RETURNING p.{id} AS id, p.{count}::int8 AS views
)
SELECT target.id::text, coalesce(counted.views, target.views), coalesce(added.views, 0), target.author::text,
  coalesce(added.viewers, '{{}}')
FROM target
LEFT JOIN counted ON counted.id = target.id
LEFT JOIN added ON added.post_id = target.id"
        );
        let hydrate = format!(
            "\
-- hydrate
SELECT p.{id}::text, p.{author}::text, coalesce(p.{count}, 0)::int8,
  CASE WHEN coalesce(p.{count}, 0) <= $2::int8
    THEN ARRAY(SELECT v.user_id::text FROM {ledger} v WHERE v.post_id = p.{id} LIMIT $2::int8)
    ELSE '{{}}'::text[] END
FROM {table} p WHERE p.{id} = ANY($1::text[]::{post}[])"
        );
        let counts = format!(
            "-- counts\nSELECT p.{id}::text, coalesce(p.{count}, 0)::int8 FROM {table} p WHERE p.{id} = ANY($1::text[]::{post}[])"
        );
        let compare = format!(
            "\
-- compare
SELECT known.place, CASE WHEN p.{id} IS NOT NULL THEN coalesce(p.{count}, 0)::int8 END
FROM unnest($1::{post_sent}[]::{post}[], $2::int8[]) WITH ORDINALITY AS known(id, views, place)
LEFT JOIN {table} p ON p.{id} = known.id
WHERE p.{id} IS NULL OR coalesce(p.{count}, 0)::int8 IS DISTINCT FROM known.views"
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
        Self { drain, hydrate, counts, compare, create_ledger }
    }
}
