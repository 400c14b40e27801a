use testkit::{
    postgres,
    posts::{IdType, PostsTable},
    process::Daemon,
    redis::RedisServer,
};

use crate::support::{PROGRAM, World};

/// The declared types of the ledger's ids, and what happens to views when their post is deleted.
async fn ledger(world: &World, table: &str) -> (String, String, String) {
    let statement = "select format_type(p.atttypid, p.atttypmod), format_type(u.atttypid, u.atttypmod), c.confdeltype::text
        from pg_attribute p join pg_attribute u on u.attrelid = p.attrelid and u.attname = 'user_id'
        join pg_constraint c on c.conrelid = p.attrelid and c.contype = 'f'
        where p.attname = 'post_id' and p.attrelid = to_regclass($1)";
    let row = world.sql.query_one(statement, &[&table]).await.unwrap();
    (row.get(0), row.get(1), row.get(2))
}

#[tokio::test]
async fn the_ledger_takes_its_types_from_the_posts_table() {
    for (id_type, declared) in
        [(IdType::Uuid, "uuid"), (IdType::Text, "text"), (IdType::Varchar, "character varying(64)"), (IdType::Bigint, "bigint")]
    {
        let database = postgres::shared().await.database().await;
        let world = World::with_stores(RedisServer::start().await, database, PostsTable::with_ids(id_type)).await;
        assert_eq!(ledger(&world, "post_views").await, (declared.to_owned(), declared.to_owned(), "c".to_owned()));

        let (post, author, viewer) = match id_type {
            IdType::Bigint => ("7", "8", "9"),
            _ => (
                "00000000-0000-4000-8000-000000000007",
                "00000000-0000-4000-8000-000000000008",
                "00000000-0000-4000-8000-000000000009",
            ),
        };
        world.posts.insert_post(&world.sql, post, author).await;
        world.record(post, &[viewer, author]).await;
        world.synchronizer(&[]).await.cycle().await.unwrap();
        assert_eq!(world.stored(post).await, 1, "{id_type:?}");
    }
}

#[tokio::test]
async fn names_that_need_quotes_and_a_schema_are_understood() {
    let database = postgres::shared().await.database().await;
    let posts = PostsTable {
        table: "blog.Post".to_owned(),
        author_column: "authorId".to_owned(),
        count_column: "viewsCount".to_owned(),
        ..PostsTable::default()
    };
    let world = World::with_stores(RedisServer::start().await, database, posts).await;
    assert_eq!(ledger(&world, "blog.post_views").await.0, "uuid");
    let post = "00000000-0000-4000-8000-000000000007";
    world.posts.insert_post(&world.sql, post, None).await;
    world.record(post, &["00000000-0000-4000-8000-000000000009"]).await;
    assert!(world.command("sync").start().wait_exit().await.success());
    assert_eq!(world.posts.views_count(&world.sql, post).await, 1);
}

#[tokio::test]
async fn a_second_migration_changes_nothing_and_says_so() {
    let world = World::new().await;
    let second = world.command("migrate").start();
    assert!(second.wait_exit().await.success());
    assert_eq!(second.lines_with("the ledger is there already").len(), 1, "{:?}", second.output());
}

/// As where each of a service's replicas migrates at its start.
#[tokio::test]
async fn many_migrations_at_once_are_one() {
    let database = postgres::shared().await.database().await;
    let sql = database.client().await;
    let posts = "create table posts (id bigint primary key, author_id bigint);
        insert into posts select id, 1 from generate_series(1, 5000) id";
    sql.batch_execute(posts).await.unwrap();
    let migrate = || {
        let program = Daemon::builder(PROGRAM).args(["migrate", "--add-count-column"]).env("DATABASE_URL", database.url());
        async { program.start().wait_exit().await }
    };
    let all = futures_util::future::join_all((0..4).map(|_| migrate())).await;
    assert!(all.iter().all(std::process::ExitStatus::success), "{all:?}");
    let keys =
        "select count(*), count(distinct conrelid) from pg_constraint where contype = 'f' and confrelid = 'posts'::regclass";
    let keys = sql.query_one(keys, &[]).await.unwrap();
    let bases = sql.query_one("select count(*) from post_views_base where base = 0", &[]).await.unwrap();
    assert_eq!((keys.get(0), keys.get(1), bases.get(0)), (2_i64, 2_i64, 5_000_i64));
}

#[tokio::test]
async fn a_database_without_posts_is_not_set_up() {
    let world = World::new().await;
    world.sql.batch_execute("drop table posts cascade").await.unwrap();
    for command in ["migrate", "sync"] {
        let program = world.command(command).start();
        assert_eq!(program.wait_exit().await.code(), Some(78), "{command}");
        assert_eq!(program.lines_with("there is no table \"posts\"").len(), 1, "{:?}", program.output());
    }
}

#[tokio::test]
async fn a_migration_without_postgresql_fails() {
    let world = World::new().await;
    let nobody = format!("postgres://nobody:hidden@127.0.0.1:{}/none", testkit::ports::free());
    let program = world.command("migrate").env("DATABASE_URL", nobody).start();
    assert_eq!(program.wait_exit().await.code(), Some(1));
    assert!(!program.output().join("\n").contains("hidden"), "{:?}", program.output());
}

/// Tables and flags, so that the first lock that is waited for is that of the ledger, of its foreign key, of the column of
/// counts, of the table of counts, and of the bases' foreign key.
#[tokio::test]
async fn nobody_waits_long_behind_a_migration_that_waits_for_a_lock() {
    let posts = "create table posts (id bigint primary key, author_id bigint, title text, views_count bigint);
        insert into posts (id) values (1);";
    let tables = |more: &str| format!("{posts} {more}");
    let ledger =
        "create table post_views (post_id bigint, user_id bigint, viewed_at timestamptz, primary key (post_id, user_id))";
    tokio::join!(
        nobody_waits_behind(tables(""), &["migrate"]),
        nobody_waits_behind(tables("alter table posts drop views_count"), &["migrate", "--add-count-column"]),
        nobody_waits_behind(tables(ledger), &["migrate", "--count-table", "counts"]),
        nobody_waits_behind(tables(ledger), &["migrate"]),
    );
}

async fn nobody_waits_behind(tables: String, args: &[&str]) {
    let database = testkit::postgres::shared().await.database().await;
    let (holder, site) = (database.client().await, database.client().await);
    holder.batch_execute(&tables).await.unwrap();
    holder.batch_execute("begin; update posts set title = 'held'").await.unwrap();
    let program = Daemon::builder(PROGRAM).args(args).env("DATABASE_URL", database.url()).start();
    program.wait_for_line("the posts are locked by others").await;
    for post in 2..=6 {
        // The site's own writes pass, at the latest when the migration steps back.
        let insert = format!("set statement_timeout = 2500; insert into posts (id) values ({post})");
        site.batch_execute(&insert).await.unwrap();
    }
    assert!(program.is_running(), "{:?}", program.output());
    holder.batch_execute("commit").await.unwrap();
    assert!(program.wait_exit().await.success(), "{:?}", program.output());
    let made = "select (select count(*) from post_views), (select count(*) from post_views_base)";
    let made = site.query_one(made, &[]).await.unwrap();
    assert_eq!(made.get::<_, i64>(0), 0);
    let bases: i64 = made.get(1);
    assert!((1..=6).contains(&bases), "{bases}: {:?}", program.output());
}

/// Everybody may do anything with new tables, as with some hosters.
#[tokio::test]
async fn what_hosters_give_to_everybody_is_taken_away() {
    let database = postgres::shared().await.database().await;
    let sql = database.client().await;
    // Roles belong to the server.
    for role in ["anon", "authenticated"] {
        let create = format!(
            "do $$ begin create role {role}; exception when duplicate_object or unique_violation then null; end $$;
             alter default privileges in schema public grant all on tables to {role}"
        );
        sql.batch_execute(&create).await.unwrap();
    }
    PostsTable::with_ids(IdType::Bigint).create(&sql).await;
    let program = || {
        let program = Daemon::builder(PROGRAM).arg("migrate").env("DATABASE_URL", database.url());
        program.env("COUNT_TABLE", "counts").env("LEDGER_TABLE", "seen").start()
    };
    let open = async || {
        let rights = "select count(*) from unnest('{seen,seen_base,counts}'::text[]) t, unnest('{anon,authenticated}'::text[]) r,
            unnest('{SELECT,INSERT,UPDATE,DELETE,TRUNCATE,REFERENCES,TRIGGER}'::text[]) p where has_table_privilege(r, t, p)";
        sql.query_one(rights, &[]).await.unwrap().get::<_, i64>(0)
    };
    let first = program();
    assert!(first.wait_exit().await.success(), "{:?}", first.output());
    let taken = first.lines_with("took all rights on");
    assert_eq!((taken.len(), open().await), (3, 0), "{taken:?}");
    assert!(taken.iter().all(|line| line.contains("away from anon, authenticated")), "{taken:?}");
    // What the application has for its own posts is its own.
    let posts = sql.query_one("select has_table_privilege('anon', 'posts', 'DELETE')", &[]).await.unwrap();
    assert!(posts.get::<_, bool>(0));
    let second = program();
    assert!(second.wait_exit().await.success());
    assert_eq!(second.lines_with("rights").len(), 0, "{:?}", second.output());

    sql.batch_execute("grant select (user_id) on seen to public; grant delete on counts to anon").await.unwrap();
    let third = program();
    assert!(third.wait_exit().await.success());
    assert_eq!(third.lines_with(r#"took all rights on "public"."seen" away from PUBLIC"#).len(), 1, "{:?}", third.output());
    assert_eq!(open().await, 0);
    let columns = sql.query_one("select has_any_column_privilege('anon', 'seen', 'SELECT')", &[]).await.unwrap();
    assert!(!columns.get::<_, bool>(0));

    // Whoever is not the owner says what the owner is to do.
    let role = format!("migrator_{}", database.name());
    sql.batch_execute(&format!("create role {role} login; grant select on seen to anon")).await.unwrap();
    let url = database.url().replace("postgres://postgres@", &format!("postgres://{role}@"));
    let fourth = Daemon::builder(PROGRAM).arg("migrate").env("DATABASE_URL", url).env("COUNT_TABLE", "counts");
    let fourth = fourth.env("LEDGER_TABLE", "seen").start();
    assert!(fourth.wait_exit().await.success(), "{:?}", fourth.output());
    let words = r#"have its owner run REVOKE ALL ON "public"."seen" FROM anon"#;
    assert_eq!(fourth.lines_with(words).len(), 1, "{:?}", fourth.output());
}

#[tokio::test]
async fn a_column_of_counts_is_added_to_tables_only() {
    let database = postgres::shared().await.database().await;
    let sql = database.client().await;
    let setup = "create table articles (id bigint primary key, author_id bigint); create view posts as select * from articles";
    sql.batch_execute(setup).await.unwrap();
    let refused = Daemon::builder(PROGRAM).args(["migrate", "--add-count-column"]).env("DATABASE_URL", database.url()).start();
    assert_eq!(refused.wait_exit().await.code(), Some(78), "{:?}", refused.output());
    let words = r#"no column can be added to "public"."posts", because that is no table of this database's own"#;
    assert_eq!(refused.lines_with(words).len(), 1, "{:?}", refused.output());
}
