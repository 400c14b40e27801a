//! Bases, which `migrate` remembers, and `recount`, which needs them.

use std::time::{Duration, Instant};

use fred::interfaces::HashesInterface;
use testkit::{
    postgres,
    posts::{IdType, PostsTable},
    process::Daemon,
    redis::RedisServer,
};
use views_core::ids::PostId;

use crate::support::{PROGRAM, World};

/// With posts that have counts before anything of ours is there.
async fn world(posts: &str) -> World {
    let database = postgres::shared().await.database().await;
    let table = PostsTable { count_type: "bigint".to_owned(), ..PostsTable::with_ids(IdType::Bigint) };
    table.create(&database.client().await).await;
    database.client().await.batch_execute(posts).await.unwrap();
    World::over(RedisServer::start().await, database, table).await
}

impl World {
    async fn number(&self, statement: &str) -> i64 {
        self.sql.query_one(statement, &[]).await.unwrap().get(0)
    }

    async fn base(&self, post: i64) -> Option<i64> {
        let row = self.sql.query_opt("select base from post_views_base where post_id = $1", &[&post]).await.unwrap();
        row.map(|row| row.get(0))
    }

    async fn count(&self, post: &str) -> i64 {
        self.posts.views_count(&self.sql, post).await
    }

    /// Runs `recount`, and demands its status and what it says.
    async fn recount(&self, args: &[&str], status: i32, says: &str) {
        let recount = self.command("recount").args(args).start();
        assert_eq!(recount.wait_exit().await.code(), Some(status), "{:?}", recount.output());
        assert_eq!(recount.lines_with(says).len(), 1, "{says}: {:?}", recount.output());
    }

    async fn drain(&self) {
        let sync = self.command("sync").start();
        assert!(sync.wait_exit().await.success(), "{:?}", sync.output());
    }
}

#[tokio::test]
async fn what_no_view_explains_is_remembered_once_and_counts_are_made_from_it_again() {
    let world = world("insert into posts values (1, 99, 12345), (2, 99, 0), (3, 99, 0)").await;
    assert_eq!([world.base(1).await, world.base(2).await], [Some(12_345), Some(0)]);
    world.record("1", &["5", "6"]).await;
    world.record("2", &["5"]).await;
    world.drain().await;
    assert_eq!((world.count("1").await, world.live("1").await), (12_347, 12_347));

    // Somebody writes an old value back, and somebody else moves a count.
    world
        .sql
        .batch_execute("update posts set views_count = 12345 where id = 1; update posts set views_count = 11 where id = 2")
        .await
        .unwrap();
    let migrated = world.command("migrate").start();
    assert!(migrated.wait_exit().await.success());
    assert_eq!([world.base(1).await, world.base(2).await], [Some(12_345), Some(0)], "a base is remembered once");
    world.recount(&["--post", "1"], 0, "posts 1 · changed 1 · locked 0").await;
    assert_eq!((world.count("1").await, world.live("1").await), (12_347, 12_347));
    world.recount(&["--json"], 0, r#"{"posts":3,"changed":1,"locked":0,"refused":0}"#).await;
    assert_eq!((world.count("2").await, world.live("2").await), (1, 1));
    world.recount(&[], 0, "posts 3 · changed 0 · locked 0").await;

    // Counts come along to a table of their own.
    for command in ["migrate", "recount"] {
        let moved = world.command(command).args(["--count-table", "counts"]).start();
        assert!(moved.wait_exit().await.success(), "{:?}", moved.output());
    }
    let counts = "select sum(views)::int8 from counts where (post_id, views) in ((1, 12347), (2, 1))";
    assert_eq!(world.number(counts).await, 12_348);

    // A post that is there since: what it had when it was first met is its base; until then, nothing is taken from it.
    world.sql.batch_execute("insert into posts values (4, 99, 40)").await.unwrap();
    world.recount(&[], 0, "posts 4 · changed 0 · locked 0").await;
    world.record("4", &["5"]).await;
    world.drain().await;
    world.sql.batch_execute("update posts set views_count = 0 where id = 4").await.unwrap();
    world.recount(&[], 0, "posts 4 · changed 1 · locked 0").await;
    assert_eq!(world.count("4").await, 1, "what was never remembered is lost where somebody overwrites it");
    assert!(world.command("migrate").start().wait_exit().await.success());
    assert_eq!(world.base(4).await, Some(0));

    world.recount(&["--post", "77"], 1, "there is no such post").await;
    world.recount(&["--post", "a b"], 64, "--post: ").await;
    world.sql.batch_execute("delete from posts where id = 1").await.unwrap();
    assert_eq!(world.base(1).await, None, "a base goes with its post");
    world.sql.batch_execute("drop table post_views_base").await.unwrap();
    world.recount(&[], 78, "run `view-syncd migrate`").await;
    world.drain().await;

    // A table of the application's own in its place is not touched.
    world.sql.batch_execute("create table post_views_base (day date); grant all on post_views_base to public").await.unwrap();
    for command in ["migrate", "recount"] {
        let refused = world.command(command).start();
        assert_eq!(refused.wait_exit().await.code(), Some(78), "{command}: {:?}", refused.output());
        let words = "rename this table, which is in the way of the one of bases, or name another ledger with --ledger-table";
        assert_eq!(refused.lines_with(words).len(), 1, "{:?}", refused.output());
    }
    assert_eq!(world.number("select count(*) from pg_class where relname = 'post_views_base' and relacl is not null").await, 1);
    world.drain().await;
}

/// Something of it is mostly on its way, and what is drained counts on top of the old value.
#[tokio::test]
async fn the_live_count_of_a_post_that_is_being_viewed_is_counted_anew_too() {
    let world = world("insert into posts values (1, 99, 12345)").await;
    world.record("1", &["5", "6"]).await;
    world.drain().await;
    world.record("1", &["7"]).await;
    world.sql.batch_execute("update posts set views_count = 12345 where id = 1").await.unwrap();
    let () = world.redis.hset(world.keys.meta(&PostId::parse("1").unwrap()), ("persisted", "12345")).await.unwrap();
    world.recount(&["--post", "1"], 0, "posts 1 · changed 1 · locked 0").await;
    assert_eq!((world.count("1").await, world.live("1").await), (12_347, 12_348));
    world.drain().await;
    assert_eq!((world.count("1").await, world.live("1").await), (12_348, 12_348));
}

#[tokio::test]
async fn posts_that_somebody_has_locked_are_told_and_the_others_are_counted() {
    let world = world("insert into posts select id, 99, 7 from generate_series(1, 2500) id").await;
    assert_eq!(world.number("select count(*) from post_views_base where base = 7").await, 2_500);
    world.sql.batch_execute("update posts set views_count = 6 where id % 100 = 0").await.unwrap();
    let application = world.database.client().await;
    application.batch_execute("begin; select from posts where id in (100, 2400) for update").await.unwrap();
    world.recount(&[], 1, "posts 2500 · changed 23 · locked 2").await;
    assert_eq!(world.number("select count(*) from posts where views_count = 6").await, 2);
    application.batch_execute("commit").await.unwrap();
    world.recount(&[], 0, "posts 2500 · changed 2 · locked 0").await;

    // Bases of new posts, one of which is locked: a later run takes it.
    world.sql.batch_execute("insert into posts select id, 99, 5 from generate_series(2501, 2600) id").await.unwrap();
    application.batch_execute("begin; select from posts where id = 2550 for update").await.unwrap();
    for (bases, end) in [(99, "commit"), (100, "")] {
        let since = Instant::now();
        let migrated = world.command("migrate").start();
        assert!(migrated.wait_exit().await.success(), "{:?}", migrated.output());
        assert!(since.elapsed() < Duration::from_secs(10), "{:?}", since.elapsed());
        assert_eq!(world.number("select count(*) from post_views_base where base = 5").await, bases);
        application.batch_execute(end).await.unwrap();
    }
}

#[tokio::test]
async fn bases_are_taken_and_counts_are_made_beside_views_that_are_stored() {
    let world = world("insert into posts select id, 99, 7 from generate_series(1, 3000) id").await;
    world.sql.batch_execute("drop table post_views_base").await.unwrap();
    // What the drain does, as fast as it can, and a post that is deleted in between.
    let store = "with known as (select id from posts where id = 1 + ($1 * 7919) % 3000 for no key update),
        added as (insert into post_views (post_id, user_id) select id, $1 from known returning post_id)
        update posts set views_count = views_count + 1 from added where id = post_id";
    let writer = world.database.client().await;
    let statement = writer.prepare_typed(store, &[tokio_postgres::types::Type::INT8]).await.unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let writes = tokio::spawn(async move {
        let mut stopped = stopped;
        let mut viewer: i64 = 0;
        while stopped.try_recv().is_err() {
            viewer += 1;
            writer.execute(&statement, &[&viewer]).await.unwrap();
            if viewer == 50 {
                writer.batch_execute("delete from posts where id = 2999").await.unwrap();
            }
        }
        viewer
    });
    let migrated = world.command("migrate").start();
    assert!(migrated.wait_exit().await.success(), "{:?}", migrated.output());
    world.recount(&[], 0, " · changed 0 · locked 0").await;
    // As one leaves it that was killed in between: a key that is not proven, and a base of a post that is gone.
    let broken =
        "alter table post_views_base drop constraint post_views_base_post_id_fkey; insert into post_views_base values (9999, 1);
        alter table post_views_base add foreign key (post_id) references posts on delete cascade not valid";
    world.sql.batch_execute(broken).await.unwrap();
    assert!(world.command("migrate").start().wait_exit().await.success());
    assert_eq!(world.number("select count(*) from pg_constraint where not convalidated").await, 0);
    stop.send(()).unwrap();
    assert!(writes.await.unwrap() > 50);
    assert_eq!(
        world
            .number("select count(*) from post_views_base b where base <> 7 or not exists (select from posts where id = post_id)")
            .await,
        0
    );
    let wrong = "select count(*) from posts where views_count <> 7 + (select count(*) from post_views where post_id = id)";
    assert_eq!(world.number(wrong).await, 0);
}

#[tokio::test]
async fn what_the_programs_do_without_is_no_reason_not_to_migrate() {
    let world = world("insert into posts values (1, 99, 3)").await;
    let role = format!("poor_{}", world.database.name());
    let rights = format!(
        "drop table post_views_base; create role {role} login; grant create, usage on schema public to {role};
         grant references (id) on posts to {role}; grant select (post_id, user_id) on post_views to {role}"
    );
    world.sql.batch_execute(&rights).await.unwrap();
    let url = world.database.url().replace("postgres://postgres@", &format!("postgres://{role}@"));
    let migrate = || Daemon::builder(PROGRAM).arg("migrate").env("DATABASE_URL", &url).start();
    let told = migrate();
    assert!(told.wait_exit().await.success(), "{:?}", told.output());
    assert_eq!(told.lines_with("is not remembered, without which counts cannot be made anew").len(), 1, "{:?}", told.output());
    world.sql.batch_execute(&format!("grant select (id, views_count) on posts to {role}")).await.unwrap();
    let done = migrate();
    assert!(done.wait_exit().await.success(), "{:?}", done.output());
    assert_eq!(world.base(1).await, Some(3), "{:?}", done.output());

    // A role that may not lock posts waits for who has, for a while.
    world.sql.batch_execute("insert into posts values (2, 99, 4)").await.unwrap();
    let application = world.database.client().await;
    application.batch_execute("begin; select from posts where id = 2 for update").await.unwrap();
    let left = migrate();
    assert_eq!(left.wait_exit().await.code(), Some(1), "{:?}", left.output());
    assert_eq!(left.lines_with("is not remembered of all of them").len(), 1, "{:?}", left.output());
    application.batch_execute("rollback").await.unwrap();
    assert!(migrate().wait_exit().await.success());
    assert_eq!(world.base(2).await, Some(4));

    // The role of the programs, which has not made the table of bases.
    let reader = format!("reader_{}", world.database.name());
    let rights = format!(
        "create role {reader} login; grant select, update (views_count) on posts to {reader};
         grant select, insert on post_views to {reader}"
    );
    world.sql.batch_execute(&rights).await.unwrap();
    let as_reader = world.database.url().replace("postgres://postgres@", &format!("postgres://{reader}@"));
    let recount = || world.command("recount").env("DATABASE_URL", &as_reader).start();
    let grant = format!(r#"GRANT SELECT ("post_id", "base") ON "public"."post_views_base" TO "{reader}""#);
    let refused = recount();
    assert_eq!(refused.wait_exit().await.code(), Some(78), "{:?}", refused.output());
    assert_eq!(refused.lines_with(&grant).len(), 1, "{:?}", refused.output());
    world.sql.batch_execute(&grant).await.unwrap();
    assert!(recount().wait_exit().await.success());
}
