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

#[tokio::test]
async fn nobody_waits_long_behind_a_migration_that_waits_for_a_lock() {
    let database = testkit::postgres::shared().await.database().await;
    let (holder, site) = (database.client().await, database.client().await);
    let posts = PostsTable::with_ids(IdType::Bigint);
    posts.create(&holder).await;
    posts.insert_post(&holder, "1", "9").await;
    holder.batch_execute("begin; update posts set views_count = 5").await.unwrap();
    let program = Daemon::builder(PROGRAM).arg("migrate").env("DATABASE_URL", database.url()).start();
    program.wait_for_line("the posts are locked by others").await;
    for post in 2..=6 {
        // The site's own writes pass, at the latest when the migration steps back.
        let insert = format!("set statement_timeout = 3000; insert into posts (id) values ({post})");
        site.batch_execute(&insert).await.unwrap();
    }
    assert!(program.is_running(), "{:?}", program.output());
    holder.batch_execute("commit").await.unwrap();
    assert!(program.wait_exit().await.success(), "{:?}", program.output());
    let ledger = site.query_one("select count(*) from post_views", &[]).await.unwrap();
    assert_eq!(ledger.get::<_, i64>(0), 0);
}
