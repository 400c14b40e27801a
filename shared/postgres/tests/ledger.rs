//! What the statements of the ledger do with ids that were found acceptable for other types than the columns have by now.

use std::time::Duration;

use clap::Parser;
use testkit::{
    postgres,
    posts::{PostsTable, ledger_count},
};
use views_core::{
    ids::{PostId, ViewerId},
    settings::Problems,
};
use views_postgres::{
    Database, DatabaseError,
    config::{PostgresArgs, PostsArgs},
    insert::{Insert, Options},
    ledger::Pair,
};

#[derive(Parser)]
struct Args {
    #[command(flatten)]
    postgres: PostgresArgs,
    #[command(flatten)]
    posts: PostsArgs,
}

const POST: &str = "0192e4a0-0000-7000-8000-000000000001";
const TIMEOUT: Duration = Duration::from_secs(10);

#[tokio::test]
async fn an_id_that_is_no_uuid_is_refused_and_not_stored_as_another() {
    let application = postgres::shared().await.database().await;
    let client = application.client().await;
    let posts = PostsTable::default();
    posts.create(&client).await;
    posts.insert_post(&client, POST, None).await;

    let args = Args::try_parse_from(["test", "--database-url", &application.url()]).unwrap();
    let mut problems = Problems::default();
    let settings = args.postgres.resolve(TIMEOUT, &mut problems).unwrap();
    let database = Database::new(&settings, args.posts.resolve(&mut problems), 1, TIMEOUT).unwrap();
    database.migrate(false).await.unwrap();

    for pair in [(POST, "42"), ("42", POST)] {
        let pairs = vec![Pair { post: PostId::parse(pair.0).unwrap(), viewer: ViewerId::parse(pair.1).unwrap(), at_ms: 0 }];
        let stored = Insert::new(&database, &pairs, 0..1, Options::default()).run(None, || ()).await;
        assert!(matches!(stored, Err(DatabaseError::Setup(_))), "{pair:?}");
    }
    assert_eq!((ledger_count(&client, POST).await, posts.views_count(&client, POST).await), (0, 0));
}
