//! The statements of the measurements themselves.

/// The application's posts: as many as there are ids (`$1`) with an author (`$2`) who views nothing.
pub(crate) const INSERT_POSTS: &str =
    "INSERT INTO posts (id, author_id) SELECT id, $2::text::uuid FROM unnest($1::text[]::uuid[]) AS id";

/// The table of the server that is written as the design's origin had it.
pub(crate) const CREATE_NEST_POSTS: &str =
    "CREATE TABLE posts_nest (id text PRIMARY KEY, author_id text, views text[] NOT NULL DEFAULT '{}')";

/// Its posts.
pub(crate) const INSERT_NEST_POSTS: &str = "INSERT INTO posts_nest (id, author_id) SELECT id, $2 FROM unnest($1::text[]) AS id";

/// Nobody has viewed anything yet.
pub(crate) const EMPTY_NEST_POSTS: &str = "TRUNCATE posts_nest";

/// Rows in the ledger.
pub(crate) const LEDGER_ROWS: &str = "SELECT count(*) FROM post_views";

/// The sum of all counts.
pub(crate) const SUM_OF_COUNTS: &str = "SELECT coalesce(sum(views_count), 0)::bigint FROM posts";

/// What a drain is compared with: the rows `$1[i]`, `$2[i]` that are known to be new, sorted by the caller, and nothing
/// asked.
pub(crate) const PLAIN_INSERT: &str = "\
INSERT INTO post_views (post_id, user_id, viewed_at)
SELECT post_id, user_id, now() FROM unnest($1::uuid[], $2::uuid[]) AS pair(post_id, user_id)
ON CONFLICT DO NOTHING";

/// The counts that belong to them: the posts `$1[i]` have `$2[i]` more views.
pub(crate) const PLAIN_COUNTS: &str = "\
UPDATE posts SET views_count = views_count + added.views
FROM unnest($1::uuid[], $2::int8[]) AS added(id, views) WHERE posts.id = added.id";

/// The viewer `$1` views every post.
pub(crate) const VIEW_EVERYTHING: &str = "\
INSERT INTO post_views (post_id, user_id, viewed_at) SELECT id, $1::text::uuid, now() FROM posts ORDER BY id";

/// The counts that belong to that.
pub(crate) const COUNT_EVERYTHING_ONCE: &str = "UPDATE posts SET views_count = 1";

/// So that a table that has just been filled is planned for as what it is.
pub(crate) const ANALYZE: &str = "VACUUM ANALYZE";

/// So that no measurement pays for what the one before has left behind.
pub(crate) const CHECKPOINT: &str = "CHECKPOINT";

/// Sessions of this database that hold at least `$1` advisory locks: view-syncd with a share of the partitions.
pub(crate) const SESSIONS_WITH_LOCKS: &str = "\
SELECT count(*) FROM (
    SELECT pid FROM pg_locks
    WHERE locktype = 'advisory' AND granted AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
    GROUP BY pid HAVING count(*) >= $1
) AS session";

/// How much has been written ahead since the server was made.
pub(crate) const WAL_BYTES: &str = "SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::bigint";
