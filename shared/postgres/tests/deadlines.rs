//! What PostgreSQL is asked has an end, on the server too, whatever a pooler has made of the session's settings and
//! whatever the database's defaults are.

#![expect(clippy::unwrap_used, reason = "clippy knows tests, but not the functions that they share")]

use std::time::{Duration, Instant};

use clap::Parser;
use futures_util::future::join_all;
use testkit::{
    SOON, eventually, postgres,
    posts::{IdType, PostsTable, ledger_count},
};
use views_core::{
    ids::{PostId, ViewerId},
    settings::Problems,
    tls::Trust,
};
use views_postgres::{
    Database, DatabaseError,
    config::{DatabaseSettings, PostsArgs},
    insert::{Insert, Options, Outcome},
    ledger::{self, Pair},
};

const STATEMENT_TIMEOUT: Duration = Duration::from_secs(2);
/// Of a machine that does other things as well.
const A_MOMENT: Duration = Duration::from_millis(900);

struct World {
    application: postgres::Database,
    client: tokio_postgres::Client,
    database: Database,
}

impl World {
    /// Posts `p` and `q`. The sessions are given no settings at their start.
    async fn new() -> Self {
        Self::with_timeout(STATEMENT_TIMEOUT).await
    }

    async fn with_timeout(statement_timeout: Duration) -> Self {
        let application = postgres::shared().await.database().await;
        let client = application.client().await;
        let posts = PostsTable::with_ids(IdType::Text);
        posts.create(&client).await;
        for post in ["p", "q"] {
            posts.insert_post(&client, post, None).await;
        }
        let database = connect(&application, statement_timeout);
        database.migrate(false).await.unwrap();
        Self { application, client, database }
    }

    async fn run(&self, statement: &str) {
        self.client.batch_execute(statement).await.unwrap();
    }

    /// How many sessions of others are at work, or in a transaction.
    async fn busy(&self) -> i64 {
        let count = "select count(*) from pg_stat_activity
            where datname = current_database() and pid <> pg_backend_pid() and backend_type = 'client backend' and state <> 'idle'";
        self.client.query_one(count, &[]).await.unwrap().get(0)
    }
}

fn connect(application: &postgres::Database, statement_timeout: Duration) -> Database {
    #[derive(Parser)]
    struct Args {
        #[command(flatten)]
        posts: PostsArgs,
    }
    let posts = Args::parse_from(["test"]).posts.resolve(&mut Problems::default());
    let settings = DatabaseSettings { config: application.url().parse().unwrap(), trust: Trust::Anybody };
    Database::new(&settings, posts, 4, statement_timeout).unwrap()
}

fn post(id: &str) -> PostId {
    PostId::parse(id).unwrap()
}

fn pairs(post_id: &str, name: &str, number: usize) -> Vec<Pair> {
    let viewer = |number| ViewerId::parse(&format!("{name}-{number}")).unwrap();
    let mut pairs = (0..number).map(|number| Pair { post: post(post_id), viewer: viewer(number), at_ms: 0 }).collect();
    ledger::prepare(&mut pairs);
    pairs
}

async fn store(database: &Database, pairs: &Vec<Pair>) -> Result<Outcome, DatabaseError> {
    let mut insert = Insert::new(database, pairs, 0..pairs.len(), Options::default());
    insert.run(None, || ()).await.map(|_| insert.take_finished())
}

const SLOW: &str = "create function slow() returns trigger language plpgsql as $$ begin perform pg_sleep(60); return new; end $$;
    create trigger slow before insert on post_views for each row execute function slow()";

#[tokio::test]
async fn a_statement_ends_on_the_server_although_the_session_was_given_no_deadline() {
    let world = World::new().await;
    world.run(SLOW).await;
    let started = Instant::now();
    let stored = store(&world.database, &pairs("p", "viewer", 3)).await;
    assert!(matches!(stored, Err(DatabaseError::Unavailable(_))), "{stored:?}");
    assert!(started.elapsed() < STATEMENT_TIMEOUT + A_MOMENT, "{:?}", started.elapsed());
    assert_eq!(world.busy().await, 0);
}

#[tokio::test]
async fn a_statement_that_nobody_waits_for_any_more_is_cancelled() {
    // No deadline of its own ends it within the test.
    let world = World::with_timeout(Duration::from_secs(60)).await;
    world.run(SLOW).await;
    // Once on a new connection, whose statement is yet to be prepared, and once more.
    for _ in 0..2 {
        let three = pairs("p", "viewer", 3);
        let given_up = tokio::time::timeout(A_MOMENT, store(&world.database, &three)).await;
        assert!(given_up.is_err(), "{given_up:?}");
        eventually("the server has given up, too", SOON, || async { world.busy().await == 0 }).await;
    }
    world.run("drop trigger slow on post_views").await;
    let stored = store(&world.database, &pairs("p", "viewer", 3)).await.unwrap();
    assert_eq!((stored.stored[&post("p")].added, stored.stored[&post("p")].views), (3, 3), "nothing of it was stored");
}

#[tokio::test]
async fn a_connection_whose_work_was_given_up_is_not_used_again() {
    let world = World::with_timeout(Duration::from_secs(60)).await;
    let posts = [post("p")];
    let lock = world.application.client().await;
    lock.batch_execute("begin; lock table posts in access exclusive mode").await.unwrap();
    for _ in 0..20 {
        // In the middle of whatever it does.
        let given_up = tokio::time::timeout(Duration::from_millis(20), ledger::counts(&world.database, &posts)).await;
        assert!(given_up.is_err(), "{given_up:?}");
    }
    lock.batch_execute("commit").await.unwrap();
    eventually("no transaction is left open", SOON, || async { world.busy().await == 0 }).await;
    assert_eq!(ledger::counts(&world.database, &posts).await.unwrap()[&post("p")], 0);
    assert_eq!(world.busy().await, 0);
}

#[tokio::test]
async fn locks_are_waited_for_no_longer_than_for_a_moment() {
    let world = World::new().await;
    let users = "create table users (id text primary key); insert into users values ('viewer-0'), ('viewer-1');
        alter table post_views add foreign key (user_id) references users (id)";
    world.run(users).await;
    let two = pairs("p", "viewer", 2);
    for lock in [
        "select from users where id = 'viewer-1' for update",
        "insert into post_views (post_id, user_id) values ('p', 'viewer-1')",
        "select from posts where id = 'p' for update",
        "lock table posts in access exclusive mode",
        "lock table post_views in share mode",
    ] {
        world.run("delete from post_views; update posts set views_count = 0").await;
        let other = world.application.client().await;
        other.batch_execute(&format!("begin; {lock}")).await.unwrap();
        let started = Instant::now();
        // From a new session, which has to prepare the statement while the lock is there.
        let stored = store(&connect(&world.application, STATEMENT_TIMEOUT), &two).await;
        assert!(started.elapsed() < A_MOMENT, "{lock}: {:?}", started.elapsed());
        match stored {
            Ok(outcome) if lock.contains("post") && lock.contains("for update") => {
                assert_eq!((outcome.deferred.len(), outcome.stored.len()), (1, 0));
            }
            Ok(outcome) => {
                assert_eq!((outcome.refused.len(), outcome.stored[&post("p")].added), (1, 1), "{lock}");
                assert!(outcome.refused[0].refusal.is_lock());
            }
            Err(error) => assert!(matches!(error, DatabaseError::Locked(_)) && lock.starts_with("lock table"), "{lock}: {error}"),
        }
        other.batch_execute("rollback").await.unwrap();
        assert_eq!(world.busy().await, 0, "{lock}");
    }
}

#[tokio::test]
async fn a_databases_isolation_is_in_nobodys_way() {
    for isolation in ["serializable", "repeatable read"] {
        let world = World::new().await;
        let name = world.application.name();
        world.run(&format!("alter database {name} set default_transaction_isolation = '{isolation}'")).await;
        let databases: Vec<Database> = (0..6).map(|_| connect(&world.application, STATEMENT_TIMEOUT)).collect();
        let writers = databases.iter().enumerate().map(async |(number, database)| {
            for round in 0..20 {
                // Each is in the way of the others, and half of the viewers are the same.
                for (post, name) in [("p", format!("own-{number}-{round}")), ("q", format!("common-{round}"))] {
                    let mut wanted = pairs(post, &name, 5);
                    while !wanted.is_empty() {
                        let outcome = store(database, &wanted).await.unwrap();
                        assert!(outcome.refused.iter().all(|refused| refused.refusal.is_lock()), "{outcome:?}");
                        let refused: Vec<Pair> = outcome.refused.iter().map(|refused| wanted[refused.place]).collect();
                        wanted = if outcome.deferred.is_empty() { refused } else { wanted };
                    }
                }
            }
        });
        join_all(writers).await;
        let counts = ledger::counts(&world.database, &[post("p"), post("q")]).await.unwrap();
        assert_eq!((counts[&post("p")], counts[&post("q")]), (6 * 20 * 5, 20 * 5), "{isolation}");
        assert_eq!((ledger_count(&world.client, "p").await, ledger_count(&world.client, "q").await), (6 * 20 * 5, 20 * 5));
        assert!(world.database.refuses_all().await.unwrap().is_none());
    }
}

#[tokio::test]
async fn a_database_that_is_read_only_by_default_takes_nothing_and_is_read() {
    let world = World::new().await;
    store(&world.database, &pairs("p", "viewer", 1)).await.unwrap();
    world.run(&format!("alter database {} set default_transaction_read_only = on", world.application.name())).await;
    let database = connect(&world.application, STATEMENT_TIMEOUT);
    assert!(matches!(database.ping().await, Err(DatabaseError::Unavailable(_))));
    assert!(matches!(database.refuses_all().await, Err(DatabaseError::Unavailable(_))));
    let stored = store(&database, &pairs("p", "viewer", 2)).await;
    assert!(stored.as_ref().is_err_and(|error| !error.is_away() && error.to_string().contains("25006")), "{stored:?}");
    assert_eq!(ledger::counts(&database, &[post("p")]).await.unwrap()[&post("p")], 1);
}
