//! What the tables and the role's rights must be: whatever is not, both `migrate` and the start end with 78 and say
//! what to do.

mod tables;

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use futures_util::{StreamExt, stream};
use testkit::{
    SOON, eventually,
    http::Client,
    postgres::{self, Database},
    posts::{IdType, PostsTable},
    process::{Daemon, DaemonBuilder},
    redis::RedisServer,
};
use views_core::keys::Keys;

use self::tables::{FIT, LEDGER, RIGHTS, UNFIT};
use crate::{
    doctor::checkup,
    support::{PROGRAM, SECRET, World},
};

/// How many databases are looked at side by side.
const AT_ONCE: usize = 4;
/// A database with a posts table `(id bigint primary key, author_id bigint, views_count integer)`.
struct Stage {
    database: Database,
    sql: tokio_postgres::Client,
    redis_url: String,
    /// Behind a prefix of its own: stages may share one Redis.
    keys: Keys,
    role: String,
}

impl Stage {
    /// `setup` makes the tables what they are to be. `%` stands for a role of the stage's own, without any right.
    async fn new(redis: &RedisServer, setup: &str) -> Self {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let database = postgres::shared().await.database().await;
        let sql = database.client().await;
        PostsTable::with_ids(IdType::Bigint).create(&sql).await;
        // Roles belong to the server, and tests run side by side.
        let role = format!("role {}", NUMBER.fetch_add(1, Relaxed));
        sql.batch_execute(&format!(r#"create role "{role}" login"#)).await.unwrap();
        let keys = Keys::with_prefix(&format!("{}:", database.name())).unwrap();
        let stage = Self { database, sql, redis_url: redis.url(), keys, role };
        stage.execute(setup).await;
        stage
    }

    async fn execute(&self, sql: &str) {
        let sql = sql.replace('%', &format!(r#""{}""#, self.role));
        self.sql.batch_execute(&sql).await.unwrap_or_else(|error| panic!("{error:?} in {sql}"));
    }

    /// The program, connected as the superuser who owns everything.
    fn program(&self, command: &[&str]) -> DaemonBuilder {
        Daemon::builder(PROGRAM)
            .args(command)
            .env("REDIS_URL", &self.redis_url)
            .env("REDIS_PREFIX", self.keys.prefix())
            .env("DATABASE_URL", self.database.url())
            .env("JWT_SECRET", SECRET)
            .env("VIEW_SYNCD_ADMIN_LISTEN", "127.0.0.1:0")
    }

    /// The same, connected as the role without rights.
    fn as_role(&self, command: &[&str]) -> DaemonBuilder {
        let role = self.role.replace(' ', "%20");
        let url = self.database.url().replace("postgres://postgres@", &format!("postgres://{role}@"));
        self.program(command).env("DATABASE_URL", url)
    }
}

/// Demands that a program ends with the status of a wrong set-up and one line that has all the words. Gives that line.
async fn assert_refused(program: DaemonBuilder, words: &[&str]) -> String {
    let daemon = program.start();
    assert_eq!(daemon.wait_exit().await.code(), Some(78), "{words:?}: {:?}", daemon.output());
    let errors = daemon.lines_with(" ERROR ");
    assert_eq!(errors.len(), 1, "{words:?}: {:?}", daemon.output());
    for word in words {
        assert!(errors[0].contains(word), "{word} is missing in {}", errors[0]);
    }
    errors[0].clone()
}

/// Demands that `doctor` says the same: it goes on behind it.
async fn assert_diagnosed(program: DaemonBuilder, words: &[&str]) {
    let found = checkup(program).await;
    assert_eq!(found.status, Some(78), "{words:?}: {:#?}", found.checks);
    for word in words {
        found.assert("tables", "fail", &[word]);
    }
}

async fn assert_succeeds(program: DaemonBuilder, what: &str) {
    let daemon = program.start();
    assert_eq!(daemon.wait_exit().await.code(), Some(0), "{what}: {:?}", daemon.output());
}

#[tokio::test]
async fn tables_that_are_not_as_they_are_needed_are_refused_with_what_to_do() {
    let redis = RedisServer::start().await;
    let refuse = async |(setup, words): (&str, &[&str])| {
        let stage = Stage::new(&redis, setup).await;
        assert_refused(stage.program(&["migrate"]), words).await;
        assert_refused(stage.program(&[]), words).await;
        assert_refused(stage.program(&["sync"]), words).await;
        assert_diagnosed(stage.program(&["doctor"]), words).await;
    };
    stream::iter(UNFIT).for_each_concurrent(AT_ONCE, refuse).await;
}

#[tokio::test]
async fn tables_of_the_applications_own_make_will_do() {
    let accept = async |setup: &str| {
        let redis = RedisServer::start().await;
        let stage = Stage::new(&redis, setup).await;
        stage.execute("insert into posts (id, author_id) values (1, 2)").await;
        let migrated = stage.program(&["migrate"]).start();
        migrated.wait_for_line("the ledger is there already").await;
        assert!(migrated.wait_exit().await.success(), "{setup}: {:?}", migrated.output());
        let entry = vec![("1", "7"), ("1", "7"), ("1", "2")];
        let client = redis.client().await;
        let () = fred::interfaces::StreamsInterface::xadd(&client, stage.keys.outbox(), false, None, "*", entry).await.unwrap();
        assert_succeeds(stage.program(&["sync"]), setup).await;
        let counts = "select views_count::int8, (select count(*) from post_views) from posts";
        let row = stage.sql.query_one(counts, &[]).await.unwrap();
        assert_eq!((row.get::<_, Option<i64>>(0), row.get::<_, i64>(1)), (Some(1), 1), "{setup}");
    };
    stream::iter(FIT).for_each_concurrent(AT_ONCE, accept).await;
}

#[tokio::test]
async fn a_right_that_is_missing_is_told_by_the_statement_that_grants_it() {
    let setup = "create schema shop; grant usage on schema shop to %;
        create table shop.posts (id bigint primary key, author_id bigint, views_count bigint, title text);
        create table shop.post_views (post_id bigint, user_id bigint, viewed_at timestamptz, number serial, primary key (post_id, user_id));
        grant select (id, author_id, views_count), update (views_count) on shop.posts to %;
        grant select (post_id, user_id), insert (post_id, user_id, viewed_at) on shop.post_views to %;
        grant usage on sequence shop.post_views_number_seq to %";
    let redis = RedisServer::start().await;
    let stage = Stage::new(&redis, setup).await;
    let program = |command: &[&str]| stage.as_role(command).env("POSTS_TABLE", "shop.posts");
    assert_succeeds(program(&["sync"]), "with all rights").await;
    for (revoke, grant) in RIGHTS {
        stage.execute(revoke).await;
        let grant = grant.replace('%', &format!(r#""{}""#, stage.role));
        let lacks = format!(r#"the role "{}" lacks a right: {grant}"#, stage.role);
        assert_refused(program(&["sync"]), &[&lacks]).await;
        assert_diagnosed(program(&["doctor"]), &[&lacks]).await;
        // A migration that finds the ledger as it has to be needs no rights on it.
        assert_succeeds(program(&["migrate"]), revoke).await;
        stage.sql.batch_execute(&grant).await.unwrap();
        assert_succeeds(program(&["sync"]), &grant).await;
    }
    stage.execute("alter role % set search_path = shop; revoke usage on schema shop from %").await;
    let words = [r#"without which it does not find the table "posts": GRANT USAGE ON SCHEMA "shop" TO"#];
    assert_refused(stage.as_role(&["sync"]), &words).await;
}

#[tokio::test]
async fn rows_that_the_role_may_not_see_are_no_rows_that_are_gone() {
    let redis = RedisServer::start().await;
    for table in ["posts", "post_views"] {
        let stage = Stage::new(&redis, LEDGER).await;
        stage.execute("grant all on posts, post_views to %").await;
        assert_succeeds(stage.as_role(&["sync"]), table).await;
        let name = format!(r#""public"."{table}""#);
        stage.execute(&format!("alter table {table} enable row level security")).await;
        let role = format!(r#""{}""#, stage.role);
        let hidden = format!(r#"row level security hides rows of {name} from the role {role}: run ALTER ROLE {role} BYPASSRLS"#);
        let ways = [hidden.as_str(), "make it the owner", &format!("ALTER TABLE {name} DISABLE ROW LEVEL SECURITY")];
        assert_refused(stage.as_role(&[]), &ways).await;
        assert_refused(stage.as_role(&["migrate"]), &ways).await;
        assert_diagnosed(stage.as_role(&["doctor"]), &ways).await;
        stage.execute("alter role % bypassrls").await;
        assert_succeeds(stage.as_role(&["sync"]), "BYPASSRLS").await;
        stage.execute(&format!("alter role % nobypassrls; alter table {table} owner to %")).await;
        assert_succeeds(stage.as_role(&["sync"]), "the owner").await;
        stage.execute(&format!("alter table {table} force row level security")).await;
        assert_refused(stage.as_role(&["sync"]), &ways).await;
    }
}

#[tokio::test]
async fn a_migration_says_which_rights_it_lacks_and_needs_no_more() {
    let redis = RedisServer::start().await;
    let stage = Stage::new(&redis, "").await;
    let role = format!(r#""{}""#, stage.role);
    let grants = [
        format!(r#"GRANT CREATE ON SCHEMA "public" TO {role}"#),
        format!(r#"GRANT REFERENCES ("id") ON "public"."posts" TO {role}"#),
    ];
    assert_refused(stage.as_role(&["migrate"]), &[&grants[0], &grants[1], "; the role"]).await;
    for grant in grants {
        stage.sql.batch_execute(&grant).await.unwrap();
    }
    assert_succeeds(stage.as_role(&["migrate"]), "with its rights").await;
    // It is the owner of what it has created. The rights on the posts are another matter.
    let missing =
        format!(r#"GRANT SELECT ("id", "author_id", "views_count"), UPDATE ("views_count") ON "public"."posts" TO {role}"#);
    let line = assert_refused(stage.as_role(&["sync"]), &[&missing]).await;
    assert!(!line.contains("post_views"), "{line}");
    stage.sql.batch_execute(&missing).await.unwrap();
    assert_succeeds(stage.as_role(&["sync"]), &missing).await;
}

/// Ids that nothing keeps unique are looked through with the rights that the documents grant.
#[tokio::test]
async fn a_role_of_the_least_rights_works_without_an_index_of_ids() {
    let redis = RedisServer::start().await;
    let stage = Stage::new(&redis, "alter table posts drop constraint posts_pkey; insert into posts (id) values (1), (2)").await;
    assert_succeeds(stage.program(&["migrate"]), "as the owner").await;
    let grants = "grant select (id, author_id, views_count), update (views_count) on posts to %;
        grant select (post_id, user_id), insert (post_id, user_id, viewed_at) on post_views to %";
    stage.execute(grants).await;
    assert_succeeds(stage.as_role(&["sync"]), "with the grants").await;
    stage.execute("insert into posts (id) values (2)").await;
    assert_refused(stage.as_role(&["sync"]), &[r#"has more than one row with the "id" "2""#]).await;
}

#[tokio::test]
async fn a_migration_creates_nothing_beside_posts_that_will_not_do() {
    let redis = RedisServer::start().await;
    for (setup, word) in [
        ("alter table posts drop constraint posts_pkey; insert into posts (id) values (1), (1)", "more than one row with the"),
        (
            "alter table posts drop views_count",
            "with `view-syncd migrate --add-count-column`, or keep the counts in a table of their own",
        ),
        ("alter table posts drop views_count, add views_count bigint generated always as (id) stored", "is generated"),
        ("alter table posts drop author_id", "has no column author_id: name it with --author-column (AUTHOR_COLUMN)"),
    ] {
        let stage = Stage::new(&redis, setup).await;
        assert_refused(stage.program(&["migrate"]), &[word]).await;
        let ledger = stage.sql.query_one("select to_regclass('post_views') is null", &[]).await.unwrap();
        assert!(ledger.get::<_, bool>(0), "{setup}");
    }
}

#[tokio::test]
async fn all_that_is_wrong_is_told_in_one_line() {
    let redis = RedisServer::start().await;
    let setup = "alter table posts drop constraint posts_pkey; alter table posts drop author_id;
        create table post_views (post_id bigint, viewed_at timestamptz)";
    let stage = Stage::new(&redis, setup).await;
    let line = assert_refused(stage.program(&["migrate"]), &["has no column author_id", "has no column user_id"]).await;
    assert_eq!(line.matches("; the table").count(), 1, "{line}");
}

#[tokio::test]
async fn what_is_wrong_with_postgresql_is_told_although_redis_is_away() {
    let redis = RedisServer::start().await;
    let stage = Stage::new(&redis, "").await;
    redis.stop().await;
    let daemon = stage.program(&[]).start();
    assert_eq!(daemon.wait_exit().await.code(), Some(78), "{:?}", daemon.output());
    assert_eq!(daemon.lines_with("run `view-syncd migrate`").len(), 1, "{:?}", daemon.output());
}

/// Ends all connections to the database but the test's own.
async fn disconnect(sql: &tokio_postgres::Client) {
    let others =
        "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()";
    sql.query(others, &[]).await.unwrap();
}

#[tokio::test]
async fn each_new_connection_finds_out_what_has_become_of_the_tables() {
    let world = World::new().await;
    world.post("1").await;
    let daemon = world.daemon().env("SYNC_LINGER", "10ms").start();
    let admin = Client::new(daemon.wait_for_listening("admin").await);
    daemon.wait_for_line("Sync completed").await;
    world.record("1", &["7"]).await;
    eventually("the outbox is empty", SOON, async || world.outbox_length().await == 0).await;

    world.sql.batch_execute("alter table post_views drop constraint post_views_pkey").await.unwrap();
    disconnect(&world.sql).await;
    world.record("1", &["7"]).await;
    daemon.wait_for_line("has no unique index on exactly (post_id, user_id)").await;
    eventually("it is not ready", SOON, async || admin.get("/readyz").await.status == 503).await;
    assert_eq!(world.outbox_length().await, 1, "{:?}", daemon.output());
    assert_eq!(world.stored("1").await, 1);

    world.sql.batch_execute("alter table post_views add primary key (user_id, post_id)").await.unwrap();
    eventually("the outbox is empty", SOON, async || world.outbox_length().await == 0).await;
    eventually("it is ready", SOON, async || admin.get("/readyz").await.status == 200).await;
    assert_eq!(world.stored("1").await, 1);
}

#[tokio::test]
async fn nobody_is_told_to_remove_rows_from_a_table_of_the_applications_own() {
    let redis = RedisServer::start().await;
    let own = "create table post_views (id bigint primary key, post_id bigint, ip text, seen_at timestamptz);
               insert into post_views values (1, 1, '::1', now()), (2, 1, '::1', now())";
    let stage = Stage::new(&redis, own).await;
    let migrated = stage.program(&["migrate"]).start();
    assert_eq!(migrated.wait_exit().await.code(), Some(78));
    let output = migrated.output().join("\n");
    assert!(output.contains("has no column user_id: rename this table") && output.contains("--ledger-table"), "{output}");
    assert!(!output.contains("remove") && !output.contains("CREATE UNIQUE INDEX"), "{output}");
}
