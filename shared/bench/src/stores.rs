//! Private stores: one PostgreSQL for the whole run, and for each server a Redis and a database of its own.

mod nodes;

use std::{path::Path, time::Duration};

use anyhow::{Context, ensure};
use fred::{
    clients::Client as Redis,
    interfaces::{ClientLike, KeysInterface, SetsInterface},
    types::InfoKind,
};
use testkit::{
    eventually,
    postgres::{Database, PostgresServer},
    posts::PostsTable,
    process::{Daemon, DaemonBuilder},
};
use views_core::ids::PostId;

pub(crate) use self::nodes::Nodes;
use crate::{
    population::{Population, SECRET},
    sql,
};

/// As durable as a real server, with some memory. What the server would do at times of its own choice would hit one
/// measurement and not another, so it is asked for in between.
const POSTGRES_SETTINGS: [(&str, &str); 7] = [
    ("fsync", "on"),
    ("synchronous_commit", "on"),
    ("full_page_writes", "on"),
    ("shared_buffers", "512MB"),
    ("max_wal_size", "8GB"),
    ("checkpoint_timeout", "1h"),
    ("autovacuum", "off"),
];
/// Somebody who views nothing.
pub(crate) const AUTHOR: &str = "00000000-0000-4000-8000-000000000000";
/// A cycle that takes longer than this will not end any more.
const LONGEST_CYCLE: Duration = Duration::from_secs(1_200);
/// Posts or commands that are sent at once.
const CHUNK: usize = 10_000;

/// Starts the PostgreSQL of the run.
pub(crate) async fn postgres() -> PostgresServer {
    PostgresServer::start_with(&POSTGRES_SETTINGS).await
}

/// What one server works on.
pub(crate) struct Stores {
    pub(crate) nodes: Nodes,
    pub(crate) redis: Redis,
    pub(crate) database: Database,
    pub(crate) sql: tokio_postgres::Client,
}

impl Stores {
    /// Returns an empty Redis, a database with the posts, and an empty ledger.
    pub(crate) async fn new(postgres: &PostgresServer, binaries: &Path, population: &Population) -> anyhow::Result<Self> {
        Self::on(Nodes::one().await, postgres, binaries, population).await
    }

    /// Returns the same on a Redis or a cluster that is there.
    pub(crate) async fn on(
        nodes: Nodes,
        postgres: &PostgresServer,
        binaries: &Path,
        population: &Population,
    ) -> anyhow::Result<Self> {
        let (database, sql) = database(postgres, &nodes.url(), binaries, population).await?;
        Ok(Self { redis: nodes.redis.clone(), nodes, database, sql })
    }

    /// view-syncd, as it is shipped.
    pub(crate) fn syncd(&self, binaries: &Path) -> DaemonBuilder {
        program(binaries, "view-syncd", &self.nodes.url(), &self.database)
            .env("JWT_SECRET", SECRET)
            .env("VIEW_SYNCD_ADMIN_LISTEN", "127.0.0.1:0")
    }

    /// view-ingest, as it is shipped.
    pub(crate) fn ingest(&self, binaries: &Path) -> DaemonBuilder {
        program(binaries, "view-ingest", &self.nodes.url(), &self.database)
            .env("JWT_SECRET", SECRET)
            .env("VIEW_INGEST_LISTEN", "127.0.0.1:0")
            .env("VIEW_INGEST_ADMIN_LISTEN", "127.0.0.1:0")
    }

    /// Returns how many viewers the sets of the posts have together.
    pub(crate) async fn members(&self, posts: &[String]) -> anyhow::Result<u64> {
        let keys = &self.nodes.keys;
        let mut members = 0;
        for chunk in posts.chunks(CHUNK) {
            let pipeline = self.redis.pipeline();
            for post in chunk {
                let () = pipeline.scard(keys.views(&PostId::parse(post)?)).await?;
            }
            members += pipeline.all::<Vec<u64>>().await?.iter().sum::<u64>();
        }
        Ok(members)
    }

    /// Puts pairs into the sets, as the peers would have done themselves.
    pub(crate) async fn add_members(&self, pairs: &[(&str, &str)]) -> anyhow::Result<()> {
        let keys = &self.nodes.keys;
        for chunk in pairs.chunks(CHUNK) {
            let pipeline = self.redis.pipeline();
            for (post, viewer) in chunk {
                let key = keys.views(&PostId::parse(post)?);
                let () = pipeline.sadd(&key, *viewer).await?;
                let () = pipeline.expire(&key, 86_400, None).await?;
            }
            let _: Vec<i64> = pipeline.all().await?;
        }
        Ok(())
    }

    /// Returns a section of Redis's own numbers.
    pub(crate) async fn info(&self, section: InfoKind) -> anyhow::Result<String> {
        Ok(self.redis.info(Some(section)).await?)
    }

    /// Returns the memory of all of Redis's data, in bytes.
    pub(crate) async fn redis_memory(&self) -> anyhow::Result<u64> {
        let info = self.info(InfoKind::Memory).await?;
        info_field(&info, "used_memory").context("Redis does not tell its memory")
    }

    /// Rows in the ledger, which must agree with the posts' counts.
    pub(crate) async fn stored(&self) -> anyhow::Result<u64> {
        let rows: i64 = self.sql.query_one(sql::LEDGER_ROWS, &[]).await?.get(0);
        let counted: i64 = self.sql.query_one(sql::SUM_OF_COUNTS, &[]).await?.get(0);
        ensure!(rows == counted, "the ledger has {rows} rows, and the posts count {counted} views");
        Ok(rows.try_into()?)
    }
}

/// Returns a database with the posts and an empty ledger.
pub(crate) async fn database(
    postgres: &PostgresServer,
    redis_url: &str,
    binaries: &Path,
    population: &Population,
) -> anyhow::Result<(Database, tokio_postgres::Client)> {
    let database = postgres.database().await;
    let sql = database.client().await;
    let table = PostsTable { count_type: "bigint".to_owned(), ..PostsTable::default() };
    table.create(&sql).await;
    insert(&sql, sql::INSERT_POSTS, &population.posts).await?;
    let migration = program(binaries, "view-syncd", redis_url, &database).arg("migrate").start();
    let exit = migration.wait_exit().await;
    ensure!(exit.success(), "view-syncd migrate: {}", migration.output().join("\n"));
    sql.batch_execute(sql::ANALYZE).await?;
    Ok((database, sql))
}

/// Returns the posts of the server that is written as the design's origin had it, without any viewers.
pub(crate) async fn nest_posts(sql: &tokio_postgres::Client, population: &Population) -> anyhow::Result<()> {
    sql.batch_execute(sql::EMPTY_NEST_POSTS).await?;
    insert(sql, sql::INSERT_NEST_POSTS, &population.posts).await
}

async fn insert(sql: &tokio_postgres::Client, statement: &str, posts: &[String]) -> anyhow::Result<()> {
    for chunk in posts.chunks(CHUNK) {
        sql.execute(statement, &[&chunk, &AUTHOR]).await?;
    }
    Ok(())
}

/// Waits until a view-syncd has finished so many full cycles.
pub(crate) async fn syncd_until_synced(daemon: &Daemon, cycles: usize) {
    eventually("view-syncd finishes its cycle", LONGEST_CYCLE, || async {
        assert!(daemon.is_running(), "view-syncd has ended");
        daemon.lines_with("Sync completed").len() >= cycles
    })
    .await;
}

fn program(binaries: &Path, name: &str, redis_url: &str, database: &Database) -> DaemonBuilder {
    Daemon::builder(binaries.join(name)).env("REDIS_URL", redis_url).env("DATABASE_URL", database.url())
}

/// Returns a number among the lines of `INFO`.
pub(crate) fn info_field(info: &str, name: &str) -> Option<u64> {
    info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::info_field;

    #[test]
    fn a_number_is_found_by_its_whole_name() {
        let info = "# Memory\r\nused_memory_rss:7\r\nused_memory:1024\r\nused_memory_human:1.00K\r\n";
        assert_eq!(info_field(info, "used_memory"), Some(1024));
        assert_eq!(info_field(info, "used_memory_human"), None);
        assert_eq!(info_field(info, "used"), None);
    }
}
