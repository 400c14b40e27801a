//! Counts in a table of their own: the posts table is only read, and nobody waits for anybody.

use std::time::{Duration, Instant};

use serde_json::json;
use testkit::{
    SOON, eventually,
    http::Client,
    postgres::{self, Database},
    posts::{IdType, PostsTable},
    process::{Daemon, DaemonBuilder},
    redis::RedisServer,
    tokens,
};
use views_core::keys::Keys;

use crate::support::{PROGRAM, SECRET, World, ready};

/// What is stored although others hold locks is stored within this time.
const SECONDS: Duration = Duration::from_secs(15);

struct Site {
    world: World,
    /// A role that may only read the posts.
    role: String,
}

impl Site {
    /// With posts 1 to 200, and a role of the least rights.
    async fn new() -> Self {
        let database = postgres::shared().await.database().await;
        let sql = database.client().await;
        let role = format!("reader_{}", database.name());
        let setup = format!(
            "create table posts (id bigint primary key, author_id bigint); insert into posts select id, 99 from generate_series(1, 200) id;
             create role {role} login"
        );
        sql.batch_execute(&setup).await.unwrap();
        let server = RedisServer::start().await;
        let migrate = Daemon::builder(PROGRAM)
            .arg("migrate")
            .env("DATABASE_URL", database.url())
            .env("COUNT_TABLE", "counts")
            .env("REDIS_URL", server.url())
            .start();
        assert!(migrate.wait_exit().await.success(), "{:?}", migrate.output());
        let grants = format!(
            "grant select (id, author_id) on posts to {role}; grant select, insert, update (views) on counts to {role};
             grant select (post_id, user_id), insert (post_id, user_id, viewed_at) on post_views to {role}"
        );
        sql.batch_execute(&grants).await.unwrap();
        let posts = PostsTable::with_ids(IdType::Bigint);
        let redis = server.client().await;
        let world = World { redis, keys: Keys::default(), server: server.into(), sql, posts, database };
        Self { world, role }
    }

    fn reader_url(&self, database: &Database) -> String {
        database.url().replace("postgres://postgres@", &format!("postgres://{}@", self.role))
    }

    /// The daemon, as the reader or as the owner of everything.
    fn daemon(&self, is_reader: bool) -> DaemonBuilder {
        let database = &self.world.database;
        let url = if is_reader { self.reader_url(database) } else { database.url() };
        Daemon::builder(PROGRAM)
            .env("REDIS_URL", self.world.server.url())
            .env("DATABASE_URL", url)
            .env("COUNT_TABLE", "counts")
            .env("JWT_SECRET", SECRET)
            .env("SYNC_LINGER", "20ms")
            .env("VIEW_SYNCD_ADMIN_LISTEN", "127.0.0.1:0")
    }

    /// Waits until a post has so many views.
    async fn stored(&self, post: i64, views: i64) {
        let statement = "select coalesce((select views from counts where post_id = $1), 0), (select count(*) from post_views where post_id = $1)";
        let is_stored = async || {
            let row = self.world.sql.query_one(statement, &[&post]).await.unwrap();
            (row.get::<_, i64>(0), row.get::<_, i64>(1)) == (views, views)
        };
        eventually("a view is stored", SECONDS, is_stored).await;
    }

    /// A view-ingest that does not reach Redis.
    async fn past_redis(&self, is_reader: bool) -> (Daemon, Client) {
        let database = &self.world.database;
        let url = if is_reader { self.reader_url(database) } else { database.url() };
        let nowhere = format!("redis://127.0.0.1:{}", testkit::ports::free());
        let program = self.world.ingest_program().env("REDIS_URL", nowhere).env("COUNT_TABLE", "counts");
        ready(program.env("DATABASE_URL", url)).await
    }

    async fn begins(&self, statement: &str) -> tokio_postgres::Client {
        let application = self.world.database.client().await;
        application.batch_execute(&format!("begin; {statement}")).await.unwrap();
        application
    }
}

#[tokio::test]
async fn posts_that_somebody_has_locked_cost_only_themselves() {
    for is_reader in [true, false] {
        let site = Site::new().await;
        let world = &site.world;
        let daemon = site.daemon(is_reader).start();
        daemon.wait_for_line("Sync completed").await;
        // An ordinary change of a post is in nobody's way.
        let editor = site.begins("update posts set author_id = 98 where id = 3").await;
        world.record("3", &["1"]).await;
        site.stored(3, 1).await;
        editor.batch_execute("rollback").await.unwrap();

        // Post 1 has no row yet, post 2 has one, and post 3's is locked itself.
        world.record("2", &["1"]).await;
        site.stored(2, 1).await;
        let application = site
            .begins("select from posts where id in (1, 2) for update; update counts set views = views where post_id = 3")
            .await;
        let began = Instant::now();
        for post in 1..=100 {
            world.record(&post.to_string(), &["5", "6"]).await;
        }
        for post in 4..=100 {
            site.stored(post, 2).await;
        }
        assert!(began.elapsed() < SECONDS, "{:?}", began.elapsed());
        // Whoever has locked them goes on as if nobody else were there.
        for _ in 0..20 {
            let since = Instant::now();
            application.batch_execute("update posts set author_id = 98 where id in (1, 2)").await.unwrap();
            assert!(since.elapsed() < Duration::from_millis(400), "{:?}", since.elapsed());
        }
        application.batch_execute("commit").await.unwrap();
        site.stored(1, 2).await;
        site.stored(2, 3).await;
        site.stored(3, 3).await;
        eventually("nothing waits", SECONDS, async || world.outbox_length().await == 0).await;
        assert_eq!(world.dead().await.len(), 0, "{:?}", daemon.output());
    }
}

#[tokio::test]
async fn a_post_that_is_deleted_takes_its_count_and_views_along() {
    let site = Site::new().await;
    let world = &site.world;
    let daemon = site.daemon(true).start();
    daemon.wait_for_line("Sync completed").await;
    for post in ["1", "2"] {
        world.record(post, &["5"]).await;
    }
    site.stored(1, 1).await;
    site.stored(2, 1).await;
    let application = site.begins("delete from posts where id = 1").await;
    world.record("1", &["6"]).await;
    world.record("2", &["6"]).await;
    site.stored(2, 2).await;
    application.batch_execute("commit").await.unwrap();
    eventually("the views of a post that is gone are dead letters", SECONDS, async || world.dead().await.len() == 1).await;
    eventually("nothing waits", SOON, async || world.outbox_length().await == 0).await;
    site.stored(1, 0).await;
    let row = world.sql.query_one("select count(*) from counts", &[]).await.unwrap();
    assert_eq!(row.get::<_, i64>(0), 1);
}

/// Many posts get their first views from several sides at once.
#[tokio::test]
async fn rows_are_made_once_whoever_comes_first() {
    let site = Site::new().await;
    let world = &site.world;
    let daemon = site.daemon(true).start();
    daemon.wait_for_line("Sync completed").await;
    // Two that do not reach Redis, and the outbox.
    let ((_first, first), (_second, second)) = tokio::join!(site.past_redis(true), site.past_redis(true));
    let adder = site.begins("insert into counts (post_id, views) select id, 0 from posts where id between 50 and 60").await;
    let everything: Vec<String> = (1..=100).map(|post| post.to_string()).collect();
    world.add_entry(everything.iter().map(|post| (post.as_str(), "5")).collect()).await;
    let batch = async |client: &Client, viewer: &str| {
        let body = json!({ "postIds": everything });
        let answer = client.post_json("/posts/views-batch", Some(&tokens::hs256(SECRET, viewer)), &body).await;
        // What somebody else is making at this moment is told to come again, and with it the whole batch.
        assert!([200, 503].contains(&answer.status), "{}", answer.body);
        answer.status == 200 && answer.json()["processedCount"] == 0
    };
    tokio::join!(batch(&first, "6"), batch(&second, "7"));
    for post in (1..50).chain(61..=100) {
        site.stored(post, 3).await;
    }
    adder.batch_execute("commit").await.unwrap();
    eventually("all are stored", SECONDS, async || batch(&first, "6").await && batch(&second, "7").await).await;
    for post in 1..=100 {
        site.stored(post, 3).await;
    }
    eventually("nothing waits", SECONDS, async || world.outbox_length().await == 0).await;
    assert_eq!(world.dead().await.len(), 0);
}

/// An application that locks, deletes and creates posts, and views by all ways at once.
#[tokio::test]
async fn counts_agree_with_the_ledger_whatever_the_application_does() {
    let site = Site::new().await;
    let world = &site.world;
    let daemon = site.daemon(true).start();
    daemon.wait_for_line("Sync completed").await;
    let ((_first, first), (_second, second)) = tokio::join!(site.past_redis(true), site.past_redis(false));
    let posts: Vec<String> = (1..=30).map(|post| post.to_string()).collect();
    let until = Instant::now() + Duration::from_secs(4);
    let application = async || {
        let sql = world.database.client().await;
        for turn in (0..).take_while(|_| Instant::now() < until) {
            let (one, other) = (1 + turn * 7 % 30, 1 + turn * 11 % 30);
            let change = match turn % 3 {
                0 => format!("select from posts where id in ({one}, {other}) order by id for update; select pg_sleep(0.07)"),
                1 => format!("delete from posts where id = {one}; select pg_sleep(0.03); insert into posts values ({one}, 99)"),
                _ => format!("update posts set author_id = 98 where id = {other}; select pg_sleep(0.07)"),
            };
            sql.batch_execute(&format!("begin; {change}; commit")).await.unwrap();
        }
    };
    let clients = async |client: &Client, first_viewer: i64| {
        for viewer in (first_viewer..).take_while(|_| Instant::now() < until) {
            let token = tokens::hs256(SECRET, &viewer.to_string());
            let answer = client.post_json("/posts/views-batch", Some(&token), &json!({ "postIds": posts })).await;
            assert!([200, 503].contains(&answer.status), "{}", answer.body);
        }
    };
    let outbox = async || {
        for viewer in (500_000..).take_while(|_| Instant::now() < until) {
            let viewer = viewer.to_string();
            world.add_entry(posts.iter().map(|post| (post.as_str(), viewer.as_str())).collect()).await;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::join!(application(), clients(&first, 1_000), clients(&second, 200_000), outbox());
    eventually("nothing waits", SECONDS, async || world.outbox_length().await == 0).await;
    let wrong = "select count(*) from posts p left join counts c on c.post_id = p.id
        where coalesce(c.views, 0) <> (select count(*) from post_views v where v.post_id = p.id)";
    let sums = format!(
        "select ({wrong}), (select count(*) from post_views), (select deadlocks from pg_stat_database where datname = current_database())"
    );
    let row = world.sql.query_one(&sums, &[]).await.unwrap();
    let [wrong, stored, deadlocks] = [0, 1, 2].map(|column| row.get::<_, i64>(column));
    assert_eq!((wrong, deadlocks), (0, 0), "{stored} views: {:?}", daemon.output());
    assert!(stored > 1_000, "{stored}");
    // All posts are there, or were for a moment not: nothing else is a reason.
    let reasons = world.dead().await.into_iter().filter(|letter| !letter[2].contains("no such post"));
    assert_eq!(reasons.count(), 0, "{:?}", world.dead().await.first());
}

/// What the table of counts refuses, for a post or for all of them, is no fault of the pairs.
#[tokio::test]
async fn what_the_table_of_counts_refuses_waits() {
    let site = Site::new().await;
    let world = &site.world;
    let daemon = site.daemon(true).start();
    daemon.wait_for_line("Sync completed").await;
    let fault = "create function refuse() returns trigger language plpgsql as
          $$ begin if new.post_id <= tg_argv[0]::int then raise exception 'closed'; end if; return new; end $$;
        create trigger makes before insert on counts for each row execute function refuse(2)";
    world.sql.batch_execute(fault).await.unwrap();
    for post in 1..=20 {
        world.record(&post.to_string(), &["5", "6"]).await;
    }
    for post in 3..=20 {
        site.stored(post, 2).await;
    }
    site.stored(1, 0).await;
    daemon.wait_for_line("the table of counts takes no row of a post, whose views wait").await;
    let all = "drop trigger makes on counts; insert into counts values (1, 0), (2, 0);
        create trigger counts before update on counts for each row execute function refuse(1000)";
    world.sql.batch_execute(all).await.unwrap();
    for post in 3..=20 {
        world.record(&post.to_string(), &["7"]).await;
    }
    daemon.wait_for_line("the outbox cannot be drained: PostgreSQL refuses: closed").await;
    assert_eq!(world.dead().await.len(), 0, "{:?}", daemon.output());
    world.sql.batch_execute("drop trigger counts on counts").await.unwrap();
    daemon.signal("HUP");
    for post in 1..=20 {
        site.stored(post, if post < 3 { 2 } else { 3 }).await;
    }
    eventually("nothing waits", SECONDS, async || world.outbox_length().await == 0).await;
    assert_eq!(world.dead().await.len(), 0, "{:?}", daemon.output());
    // Such a post is tried four times a second.
    assert_eq!(daemon.lines_with("the table of counts takes no row").len(), 1, "{:?}", daemon.output());
}

#[tokio::test]
async fn rights_and_tables_that_are_missing_are_told() {
    let site = Site::new().await;
    let role = &site.role;
    for (setup, words) in [
        (
            format!("revoke update (views) on counts from {role}"),
            format!(r#"GRANT UPDATE ("views") ON "public"."counts" TO "{role}""#),
        ),
        (format!("revoke insert on counts from {role}"), r#"INSERT ("post_id", "views")"#.to_owned()),
        (
            format!("revoke select (author_id) on posts from {role}"),
            r#"GRANT SELECT ("author_id") ON "public"."posts""#.to_owned(),
        ),
        ("alter table counts drop constraint counts_pkey".to_owned(), "has no unique index on exactly (post_id)".to_owned()),
        ("drop table counts".to_owned(), r#"there is no table of counts "public"."counts": run `view-syncd migrate`"#.to_owned()),
        ("create table counts (post_id bigint)".to_owned(), "has no column views".to_owned()),
    ] {
        site.world.sql.batch_execute(&setup).await.unwrap();
        let daemon = site.daemon(true).start();
        assert_eq!(daemon.wait_exit().await.code(), Some(78), "{setup}: {:?}", daemon.output());
        assert_eq!(daemon.lines_with(&words).len(), 1, "{words}: {:?}", daemon.output());
    }
    let both = site.daemon(false).args(["migrate", "--add-count-column"]).start();
    assert_eq!(both.wait_exit().await.code(), Some(64), "{:?}", both.output());
}
