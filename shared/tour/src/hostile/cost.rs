//! What a thousand anonymous requests cost: queries, bytes of Redis and log lines, each within a bound.

use std::time::{Duration, Instant};

use testkit::http::Client;
use testkit::within;

use super::target::Target;

/// Posts that exist, each with viewers in the ledger, and how many ids a request names.
const POSTS: usize = 1_000;
const VIEWERS: usize = 100;
const IDS: usize = 100;
/// Requests for posts that exist, and as many for the same hundred that do not.
const REQUESTS: usize = 500;
/// Bounds. A look-up is for up to 64 posts.
const MOST_QUERIES: i64 = 120;
/// What both daemons ask PostgreSQL each second by themselves, at most.
const QUERIES_PER_SECOND: i64 = 10;
const MOST_BYTES_PER_POST: i64 = 2_048;
const MOST_LOG_LINES: usize = 10;
/// How long sessions that have ended may take to be gone.
const GONE: Duration = Duration::from_secs(30);

const QUERIES: &str = "SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = 'demo'";
const SESSIONS: &str = "SELECT count(*) FROM pg_stat_activity WHERE datname = 'demo'";

/// The queries that there were before, and when.
pub(super) struct Before {
    queries: i64,
    at: Instant,
}

/// Sends the requests and checks all but the queries.
pub(super) async fn measure(target: &mut Target) -> Before {
    target.report.headline("What do a thousand requests of strangers cost?");
    create_posts(target).await;
    let (memory, lines) = (used_memory(target).await, target.log_lines().len());
    let before = Before { queries: queries(target).await, at: Instant::now() };
    let refused = send(target).await;
    target.report.check("requests of strangers that are not answered", 0, refused);
    let posts = i64::try_from(POSTS).unwrap_or(i64::MAX);
    let bytes = (used_memory(target).await - memory) / posts;
    target.report.holds("bytes of Redis for each post that exists", at_most(bytes, MOST_BYTES_PER_POST));
    target.report.holds("log lines that they cause", at_most(target.log_lines().len() - lines, MOST_LOG_LINES));
    let made_up = target.stores.redis_values(&["KEYS", "*made-up*"]).await.len();
    target.report.check("keys of posts that do not exist", 0, made_up);
    let viewers = target.stores.redis_values(&["KEYS", "post:cost-*"]).await.len();
    target.report.check("viewers that reads have brought", 0, viewers);
    before
}

/// Checks the queries when the daemons have ended, because PostgreSQL adds a session's numbers up at its end.
pub(super) async fn check_queries(target: &mut Target, before: Before) {
    let seconds = i64::try_from(before.at.elapsed().as_secs()).unwrap_or(i64::MAX);
    let gone = within(GONE, async || target.stores.sql_from_outside(SESSIONS).await == "0").await;
    target.report.holds("all sessions of PostgreSQL end", gone);
    let most = MOST_QUERIES + seconds * QUERIES_PER_SECOND;
    target.report.holds("queries that they cause", at_most(queries(target).await - before.queries, most));
}

async fn create_posts(target: &Target) {
    let statements = format!(
        "INSERT INTO posts (id, author_id, views_count)
            SELECT 'cost-' || n, 'somebody-else', {VIEWERS} FROM generate_series(0, {POSTS} - 1) n;
        INSERT INTO post_views (post_id, user_id)
            SELECT 'cost-' || n, 'viewer-' || v FROM generate_series(0, {POSTS} - 1) n, generate_series(1, {VIEWERS}) v"
    );
    target.stores.database.client().await.batch_execute(&statements).await.expect("the posts can be created");
}

/// Sends all requests, one after the other, and returns how many were not answered as they should.
async fn send(target: &Target) -> usize {
    let client = Client::new(target.ingest.public);
    let made_up = path((1..=IDS).map(|number| format!("made-up-{number}")));
    let mut refused = 0;
    for request in 0..REQUESTS {
        let first = request * IDS % POSTS;
        let existing = path((first..first + IDS).map(|number| format!("cost-{number}")));
        for path in [&existing, &made_up] {
            let answer = client.try_request("GET", path, &[], "").await;
            refused += usize::from(!answer.is_ok_and(|answer| answer.status == 200));
        }
    }
    refused
}

fn path(ids: impl Iterator<Item = String>) -> String {
    format!("/posts/views?ids={}", ids.collect::<Vec<_>>().join(","))
}

async fn used_memory(target: &Target) -> i64 {
    let info = target.stores.redis(&["INFO", "memory"]).await;
    let value = info.lines().find_map(|line| line.strip_prefix("used_memory:"));
    value.and_then(|value| value.trim().parse().ok()).expect("Redis tells its memory")
}

/// Asked from outside of the database, so that asking is no query of it.
async fn queries(target: &Target) -> i64 {
    target.stores.sql_from_outside(QUERIES).await.parse().expect("PostgreSQL counts transactions")
}

fn at_most<T: Copy + PartialOrd + std::fmt::Display>(found: T, bound: T) -> Result<(), String> {
    if found <= bound { Ok(()) } else { Err(format!("{found}, which is more than {bound}")) }
}
