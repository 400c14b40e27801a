//! Posts are loaded into Redis before anybody asks: by the command, and at the start of the daemon that leads.

use std::sync::Arc;

use fred::{
    interfaces::{ClientLike, HashesInterface, KeysInterface, SetsInterface},
    types::{ClusterHash, CustomCommand},
};
use testkit::{
    SOON, eventually, postgres,
    posts::{IdType, PostsTable},
    process::DaemonBuilder,
    redis::RedisServer,
};
use views_core::ids::PostId;

use crate::support::World;

/// What the command tells in JSON: posts, loaded, known, failed, left out.
async fn warmed(program: DaemonBuilder, status: i32) -> [u64; 5] {
    let command = program.arg("--json").start();
    assert_eq!(command.wait_exit().await.code(), Some(status), "{:?}", command.output());
    let line = &command.lines_with("{\"posts\"")[0];
    let told: serde_json::Value = serde_json::from_str(line).unwrap();
    ["posts", "loaded", "known", "failed", "left_out"].map(|name| told[name].as_u64().unwrap())
}

/// The log of a command that ends with a status.
async fn refused(program: DaemonBuilder, status: i32) -> String {
    let command = program.start();
    assert_eq!(command.wait_exit().await.code(), Some(status), "{:?}", command.output());
    command.output().join("\n")
}

impl World {
    fn warm(&self, top: &str) -> DaemonBuilder {
        self.command("warm").args(["--top", top])
    }

    /// Makes posts from 1 on, each with an author and with as many views as its number, all by users of their own.
    async fn posts_with_views(&self, number: i64) {
        let statement = format!(
            "insert into posts select n, 999999, n from generate_series(1, {number}) n;
             insert into post_views select n, 1000 + v from generate_series(1, {number}) n, generate_series(1, n) v"
        );
        self.sql.batch_execute(&statement).await.unwrap();
    }

    async fn is_loaded(&self, post: &str) -> bool {
        self.redis.hexists(self.keys.meta(&PostId::parse(post).unwrap()), "loaded").await.unwrap()
    }

    /// Forgets everything but whose the keys are.
    async fn forget(&self) {
        let owner: String = self.redis.get(self.keys.owner()).await.unwrap();
        let () = self.redis.flushall(false).await.unwrap();
        let () = self.redis.set(self.keys.owner(), owner, None, None, false).await.unwrap();
    }
}

#[tokio::test]
async fn the_posts_that_are_asked_for_most_are_loaded_as_first_views_would() {
    let world = World::new().await;
    world.posts_with_views(150).await;
    // More viewers than come along.
    world.sql.batch_execute("insert into post_views select 149, 2000 + v from generate_series(1, 900) v").await.unwrap();
    world.sql.batch_execute("update posts set views_count = 1049 where id = 149").await.unwrap();
    // What Redis knows of a post is more than PostgreSQL has.
    world.record("148", &["1", "2"]).await;
    let (set, meta) = (world.keys.views(&PostId::parse("150").unwrap()), world.keys.meta(&PostId::parse("150").unwrap()));

    assert_eq!(warmed(world.warm("100"), 0).await, [100, 100, 0, 0, 0]);
    assert!(world.is_loaded("51").await && !world.exists(world.keys.meta(&PostId::parse("50").unwrap())).await);
    assert_eq!((world.meta("150").await, world.author("150").await.as_deref()), ([150, 150, 150], Some("999999")));
    let mut members: Vec<i64> = world.redis.smembers(&set).await.unwrap();
    members.sort_unstable();
    assert_eq!(members, (1_001..=1_150).collect::<Vec<_>>());
    for key in [&set, &meta] {
        let ttl: i64 = world.redis.ttl(key).await.unwrap();
        assert!((86_300..=86_400).contains(&ttl), "{key}: {ttl} s");
    }
    assert_eq!(
        (world.live("149").await, world.redis.scard::<i64, _>(world.keys.views(&PostId::parse("149").unwrap())).await.unwrap()),
        (1_049, 0)
    );
    // Two views wait for the drain, and nothing was written over them.
    assert_eq!((world.meta("148").await, world.live("148").await), ([0, 150, 148], 2));

    // Once more, nothing is to be done, and what is there stays as it is.
    let () = world.redis.hset(&meta, ("persisted", 7)).await.unwrap();
    assert_eq!(warmed(world.warm("120"), 0).await, [120, 20, 100, 0, 0]);
    assert_eq!(world.meta("150").await, [7, 150, 150]);

    // Those with the most views, and both; a key of somebody else's fails by itself.
    world.forget().await;
    world.sql.batch_execute("update posts set views_count = 5000 + id where id <= 3").await.unwrap();
    let other = PostId::parse("3").unwrap();
    let () = world.redis.set(world.keys.meta(&other), "somebody's", None, None, false).await.unwrap();
    assert_eq!(warmed(world.warm("2").args(["--by", "views"]), 1).await, [2, 1, 0, 1, 0]);
    assert!(world.is_loaded("2").await && !world.exists(world.keys.meta(&PostId::parse("1").unwrap())).await);
    assert_eq!(warmed(world.warm("2").args(["--by", "newest,views"]), 1).await, [4, 2, 1, 1, 0]);
    let told = world.warm("1").start();
    assert!(told.wait_exit().await.success());
    assert!(
        told.output().contains(&"posts 1 · loaded 0 · there already 1 · failed 0 · left out 0".to_owned()),
        "{:?}",
        told.output()
    );

    // A Redis that is nearly full is left its room for views.
    let config = CustomCommand::new_static("CONFIG", ClusterHash::FirstKey, false);
    let () = world.redis.custom(config.clone(), vec!["SET", "maxmemory", "1mb"]).await.unwrap();
    assert_eq!(warmed(world.warm("5"), 1).await, [5, 0, 0, 0, 5]);
    let () = world.redis.custom(config, vec!["SET", "maxmemory", "0"]).await.unwrap();
}

#[tokio::test]
async fn the_newest_posts_are_found_by_the_time_of_their_creation() {
    let world = World::new().await;
    world.posts_with_views(5).await;
    let created = "alter table posts add \"createdAt\" timestamptz; alter table posts add shown date; \
                   update posts set \"createdAt\" = now() - id * interval '1 day', shown = '2026-01-01'::date + abs(id::int - 3)";
    world.sql.batch_execute(created).await.unwrap();
    assert_eq!(warmed(world.warm("1"), 0).await, [1, 1, 0, 0, 0]);
    assert!(world.is_loaded("1").await, "the column has an usual name");
    world.forget().await;
    assert_eq!(warmed(world.warm("2").args(["--created-column", "shown"]), 0).await, [2, 2, 0, 0, 0]);
    assert!(world.is_loaded("1").await && world.is_loaded("5").await && !world.is_loaded("3").await);
    let told = refused(world.warm("1").args(["--created-column", "born"]), 78).await;
    assert!(told.contains("has no column born"), "{told}");

    // A role that may read no more than it has to.
    world.forget().await;
    let role = format!("warmer_of_{}", world.database.name());
    let grants = format!(
        "create role {role} login; grant select (id, author_id, views_count), update (views_count) on posts to {role};
         grant select (post_id, user_id), insert (post_id, user_id, viewed_at) on post_views to {role}"
    );
    world.sql.batch_execute(&grants).await.unwrap();
    let url = world.database.url().replace("postgres://postgres@", &format!("postgres://{role}@"));
    assert_eq!(warmed(world.warm("1").env("DATABASE_URL", &url), 0).await, [1, 1, 0, 0, 0]);
    assert!(world.is_loaded("5").await, "by the id");
    let told = refused(world.warm("1").env("DATABASE_URL", &url).args(["--created-column", "createdAt"]), 78).await;
    assert!(told.contains("GRANT SELECT (\"createdAt\")"), "{told}");

    // Wrong settings; another database's keys; ids that say nothing of a post's age.
    for args in [&["--top", "0"][..], &["--top", "1000001"], &["--top", "many"], &["--top", "1", "--by", "age"], &[]] {
        refused(world.command("warm").args(args), 64).await;
    }
    let database = postgres::shared().await.database().await;
    let uuids = PostsTable::with_ids(IdType::Uuid);
    uuids.create(&database.client().await).await;
    let program = |command: &str| world.command(command).env("DATABASE_URL", database.url());
    assert!(program("migrate").start().wait_exit().await.success());
    let told = refused(program("warm").args(["--top", "1"]), 78).await;
    assert!(told.contains("belong to another database"), "{told}");
    let told = refused(program("warm").args(["--top", "1", "--redis-prefix", "other:"]), 78).await;
    assert!(told.contains("--created-column"), "{told}");
    assert_eq!(warmed(program("warm").args(["--top", "1", "--redis-prefix", "other:", "--by", "views"]), 0).await, [0; 5]);
}

#[tokio::test]
async fn the_daemon_that_leads_loads_the_newest_posts_beside_its_drain() {
    let server = Arc::new(RedisServer::start().await);
    let database = postgres::shared().await.database().await;
    let world = World::with_stores(server, database, PostsTable::with_ids(IdType::Bigint)).await;
    world.posts_with_views(100).await;
    let leader = world.daemon().start();
    leader.wait_for_line("Sync completed").await;
    let standby = world.daemon().env("WARM_TOP", "70").env("SYNC_LINGER", "10ms").start();
    standby.wait_for_line("another view-syncd leads").await;
    assert!(!world.is_loaded("100").await, "that is the leader's to do");
    leader.signal("TERM");
    assert!(leader.wait_exit().await.success());
    standby.wait_for_line("the newest posts are in Redis").await;
    assert!(world.is_loaded("31").await && !world.is_loaded("30").await);
    // Views of what was loaded are new or known, as after a first view.
    world.record("100", &["7"]).await;
    eventually("the view is stored", SOON, async || world.outbox_length().await == 0).await;
    world.assert_views("100", 101).await;
}
