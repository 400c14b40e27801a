//! The PostgreSQL server and its databases.

use testkit::postgres::{PostgresServer, program, shared};
use testkit::posts::{IdType, PostsTable};
use testkit::tls::Certificates;
use testkit::{SOON, eventually};
use tokio_postgres::NoTls;

#[tokio::test]
async fn each_test_has_its_own_database_in_the_shared_server() {
    let (one, two) = tokio::join!(shared().await.database(), shared().await.database());
    assert_ne!(one.name(), two.name());
    PostsTable::default().create(&one.client().await).await;
    PostsTable::default().create(&two.client().await).await;
}

#[tokio::test]
async fn a_database_may_have_a_name_for_people_and_the_servers_programs_reach_it() {
    let server = PostgresServer::builder().password("secret").start().await;
    let database = server.database_named("demo").await;
    assert!(server.is_running());
    assert!(database.url().ends_with("/demo"), "{}", database.url());
    let dump = std::process::Command::new(program("pg_dump")).arg(database.url()).output().unwrap();
    assert!(dump.status.success(), "{dump:?}");
}

#[test]
fn the_shared_server_outlives_the_runtime_that_started_it() {
    for _ in 0..2 {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let database = shared().await.database().await;
            database.client().await.execute("select 1", &[]).await.unwrap();
        });
    }
}

#[tokio::test]
async fn posts_have_any_id_type_and_any_names() {
    let database = shared().await.database().await;
    let client = database.client().await;
    for id_type in IdType::ALL {
        let posts = PostsTable {
            table: format!("{id_type:?}.My \"Posts\""),
            id_column: "postId".to_owned(),
            author_column: "authorId".to_owned(),
            count_column: "viewsCount".to_owned(),
            id_type,
            ..PostsTable::default()
        };
        posts.create(&client).await;
        let (id, author) = match id_type {
            IdType::Uuid => ("f3b7c2de-0000-4000-8000-000000000001", "f3b7c2de-0000-4000-8000-000000000002"),
            _ => ("1", "2"),
        };
        posts.insert_post(&client, id, author).await;
        assert_eq!(posts.views_count(&client, id).await, 0);
        posts.delete_post(&client, id).await;
        posts.insert_post(&client, id, None).await;
    }
}

#[tokio::test]
async fn statements_can_be_counted_per_database() {
    let (database, other) = tokio::join!(shared().await.database(), shared().await.database());
    database.log_statements().await;
    other.log_statements().await;
    other.client().await.execute("select 'noise'", &[]).await.unwrap();
    let client = database.client().await;
    client.query("-- named\nselect $1::text", &[&"value"]).await.unwrap();
    client.batch_execute("select 2").await.unwrap();
    assert_eq!(database.statements(), ["-- named\nselect $1::text", "select 2"]);
}

#[tokio::test]
async fn a_server_comes_back_with_its_data_after_stop_and_kill() {
    let server = PostgresServer::start().await;
    let database = server.database().await;
    let client = database.client().await;
    client.batch_execute("create table t (i int); insert into t values (1)").await.unwrap();
    let url = database.url();

    server.stop().await;
    eventually("the connection is lost", SOON, async || client.is_closed()).await;
    server.restart().await;
    server.kill().await;
    server.restart().await;

    assert_eq!(database.url(), url);
    let row = database.client().await.query_one("select i from t", &[]).await.unwrap();
    assert_eq!(row.get::<_, i32>(0), 1);
}

#[tokio::test]
async fn a_paused_server_freezes_open_connections_too() {
    let server = PostgresServer::start().await;
    let client = server.client().await;
    let backend: i32 = client.query_one("select pg_backend_pid()", &[]).await.unwrap().get(0);
    let status = || std::fs::read_to_string(format!("/proc/{backend}/status")).unwrap();
    server.pause();
    eventually("the backend is frozen", SOON, async || status().contains("State:\tT")).await;
    let waiting = tokio::spawn(async move { client.query_one("select 1", &[]).await });
    server.resume();
    waiting.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_password_and_tls_are_demanded_over_tcp() {
    let certificates = Certificates::new();
    let server = PostgresServer::builder().password("sesame").tls(&certificates).start().await;
    let database = server.database().await;
    assert!(database.url().contains(":sesame@localhost:"), "{}", database.url());
    let without_tls = database.url().replace("sslmode=require", "sslmode=disable");
    let error = tokio_postgres::connect(&without_tls, NoTls).await.err().expect("TLS is demanded");
    assert!(format!("{error:?}").contains("no encryption"), "{error:?}");

    let url = database.url().replace("sslmode=require", "sslmode=verify-full");
    let mut psql = std::process::Command::new("psql");
    psql.env("PGSSLROOTCERT", certificates.ca_file()).args([
        &url,
        "-Atc",
        "select ssl from pg_stat_ssl where pid = pg_backend_pid()",
    ]);
    let output = psql.output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "t", "{output:?}");
}

#[tokio::test]
#[should_panic(expected = "no_such_setting")]
async fn a_server_that_cannot_start_tells_why() {
    PostgresServer::start_with(&[("no_such_setting", "1")]).await;
}

#[tokio::test]
async fn a_standby_follows_and_can_only_be_read() {
    let primary = PostgresServer::start().await;
    primary.client().await.batch_execute("create table a (b int); insert into a values (7)").await.unwrap();
    let standby = primary.standby().await;
    let client = standby.client().await;
    eventually("the row has arrived", SOON, || async { client.query_one("select b from a", &[]).await.is_ok() }).await;
    let refused = client.batch_execute("insert into a values (8)").await.unwrap_err();
    assert_eq!(refused.code(), Some(&tokio_postgres::error::SqlState::READ_ONLY_SQL_TRANSACTION));
}
