//! What a ledger is called: another name for every other one, and the same name for as long as it is the same.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed, and says where")]

use std::time::Duration;

use clap::Parser;
use testkit::{
    SOON, eventually,
    postgres::{self, PostgresServer},
    posts::PostsTable,
    proxy::Proxy,
};
use views_core::settings::Problems;
use views_postgres::{
    Database, DatabaseError,
    config::{PostgresArgs, PostsArgs},
};

#[derive(Parser)]
struct Args {
    #[command(flatten)]
    postgres: PostgresArgs,
    #[command(flatten)]
    posts: PostsArgs,
}

const TIMEOUT: Duration = Duration::from_secs(10);

fn database(url: &str, table: &str) -> Database {
    let args = Args::try_parse_from(["test", "--database-url", url, "--posts-table", table]).unwrap();
    let mut problems = Problems::default();
    let settings = args.postgres.resolve(TIMEOUT, &mut problems).unwrap();
    Database::new(&settings, args.posts.resolve(&mut problems), 2, TIMEOUT).unwrap()
}

async fn owner(url: &str) -> String {
    database(url, "posts").owner().await.unwrap().to_string()
}

/// A database with a posts table and a ledger.
async fn installed(server: &PostgresServer) -> testkit::postgres::Database {
    let installed = server.database().await;
    PostsTable::default().create(&installed.client().await).await;
    database(&installed.url(), "posts").migrate(false).await.unwrap();
    installed
}

async fn value(client: &tokio_postgres::Client, query: &str) -> String {
    client.query_one(query, &[]).await.unwrap().get(0)
}

#[tokio::test]
async fn databases_of_one_server_differ_even_a_copy_from_its_template() {
    let server = postgres::shared().await;
    let (one, other) = (installed(server).await, installed(server).await);
    let copy = server.copy(&one).await;
    let client = copy.client().await;
    let identifier = value(&client, "select system_identifier::text from pg_control_system()").await;
    let oid = value(&client, "select oid::text from pg_database where datname = current_database()").await;
    assert_eq!(owner(&copy.url()).await, format!("{identifier}/{oid}/public.posts/public.post_views"));
    let owners = [owner(&one.url()).await, owner(&other.url()).await, owner(&copy.url()).await];
    assert!(owners[0] != owners[1] && owners[1] != owners[2] && owners[0] != owners[2], "{owners:?}");
    assert!(owners.iter().all(|owner| owner.starts_with(&format!("{identifier}/"))), "{owners:?}");
}

#[tokio::test]
async fn a_failover_to_a_standby_changes_nothing() {
    let primary = PostgresServer::start().await;
    PostsTable::default().create(&primary.client().await).await;
    database(&primary.url(), "posts").migrate(false).await.unwrap();
    let own = owner(&primary.url()).await;
    let standby = primary.standby().await;
    assert_eq!(owner(&standby.url()).await, own);
    primary.kill().await;
    standby.client().await.execute("select pg_promote()", &[]).await.unwrap();
    assert_eq!(owner(&standby.url()).await, own);
}

#[tokio::test]
async fn where_the_system_identifier_is_not_to_be_had_other_names_do() {
    let server = postgres::shared().await;
    let original = installed(server).await;
    let client = original.client().await;
    let role = format!("limited_{}", original.name());
    let statements = format!(
        "create role {role} login; grant select, update on posts to {role}; grant select, insert on post_views to {role}; \
         revoke execute on function pg_control_system() from public"
    );
    client.batch_execute(&statements).await.unwrap();
    let table = value(&client, "select 'posts'::regclass::oid::text").await;
    let oid = value(&client, "select oid::text from pg_database where datname = current_database()").await;
    let limited = |database: &testkit::postgres::Database| database.url().replace("postgres@", &format!("{role}@"));
    let (own, name) = (owner(&limited(&original)).await, original.name());
    assert_eq!(own, format!("{name}:{table}/{oid}/public.posts/public.post_views"));
    assert_eq!(owner(&limited(&original)).await, own);
    let copy = server.copy(&original).await;
    assert_ne!(owner(&limited(&copy)).await, own);
}

#[tokio::test]
async fn it_is_asked_for_once_and_again_after_each_new_connection() {
    let server = postgres::shared().await;
    let installed = installed(server).await;
    installed.log_statements().await;
    let proxy = Proxy::to_port(server.port()).await;
    let database = database(&format!("postgres://postgres@{}/{}", proxy.address(), installed.name()), "posts");
    assert_eq!(database.known_owner(), None);
    let own = database.owner().await.unwrap();
    for _ in 0..3 {
        assert_eq!(database.owner().await.unwrap(), own);
    }
    let asked = || installed.statements().iter().filter(|statement| statement.starts_with("-- server\n")).count();
    assert_eq!(asked(), 1);

    // Nobody is there: what is known stays known.
    proxy.break_networking().await;
    let away = database.ping().await;
    assert!(matches!(away, Err(DatabaseError::Unavailable(_))), "{away:?}");
    assert_eq!(database.known_owner(), Some(own.clone()));
    proxy.restore().await;
    eventually("PostgreSQL is back", SOON, || database.ping()).await;
    assert_eq!(database.owner().await.unwrap(), own);
    assert_eq!(asked(), 2);
}

#[tokio::test]
async fn an_address_that_leads_to_another_server_is_noticed() {
    let (one, other) = tokio::join!(PostgresServer::start(), PostgresServer::start());
    for server in [&one, &other] {
        PostsTable::default().create(&server.client().await).await;
        database(&server.url(), "posts").migrate(false).await.unwrap();
    }
    let proxy = Proxy::to_port(one.port()).await;
    let database = database(&format!("postgres://postgres@{}/postgres", proxy.address()), "posts");
    assert_eq!(database.owner().await.unwrap().as_str(), owner(&one.url()).await);
    proxy.break_networking().await;
    proxy.redirect(other.port());
    proxy.restore().await;
    eventually("the other server answers", SOON, || database.ping()).await;
    assert_eq!(database.owner().await.unwrap().as_str(), owner(&other.url()).await);
    assert_ne!(owner(&one.url()).await, owner(&other.url()).await);
}
