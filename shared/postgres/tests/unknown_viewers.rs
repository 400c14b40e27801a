//! Viewers whom a foreign key of the ledger's does not find.

#![expect(clippy::unwrap_used, reason = "clippy knows tests, but not the functions that they share")]

use std::{collections::HashSet, time::Duration};

use clap::Parser;
use testkit::{
    postgres,
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

/// Users of the application, and as many others.
const USERS: usize = 300;

struct World {
    application: postgres::Database,
    client: tokio_postgres::Client,
    posts: PostsTable,
    database: Database,
}

impl World {
    async fn new(id_type: IdType, may_read_users: bool) -> Self {
        let application = postgres::shared().await.database().await;
        let client = application.client().await;
        let posts = PostsTable::with_ids(id_type);
        posts.create(&client).await;
        for post in [1, 2] {
            posts.insert_post(&client, &id(id_type, post), None).await;
        }
        connect(&application, "postgres").migrate(false).await.unwrap();
        let role = format!("views_of_{}", application.name());
        let rights = format!(
            "create table users (id {id_type} primary key);
            alter table post_views add constraint known foreign key (user_id) references users (id);
            create role {role} login; grant select, update on posts to {role}; grant select, insert on post_views to {role};",
            id_type = id_type.sql()
        );
        client.batch_execute(&rights).await.unwrap();
        if may_read_users {
            client.batch_execute(&format!("grant select (id) on users to {role}")).await.unwrap();
        }
        application.log_statements().await;
        let database = connect(&application, &role);
        Self { application, client, posts, database }
    }

    async fn add_users(&self, users: impl IntoIterator<Item = usize>) {
        let users: Vec<String> = users.into_iter().map(|user| id(self.posts.id_type, user)).collect();
        let insert = format!("insert into users select unnest($1::text[])::{}", self.posts.id_type.sql());
        self.client.execute(&insert, &[&users]).await.unwrap();
    }

    fn pairs(&self, viewers: impl IntoIterator<Item = usize>) -> Vec<Pair> {
        let viewers = viewers.into_iter().map(|viewer| id(self.posts.id_type, viewer));
        let post = |place| PostId::parse(&id(self.posts.id_type, 1 + place % 2)).unwrap();
        let mut pairs: Vec<Pair> = viewers
            .enumerate()
            .map(|(place, viewer)| Pair { post: post(place), viewer: ViewerId::parse(&viewer).unwrap(), at_ms: 0 })
            .collect();
        ledger::prepare(&mut pairs);
        pairs
    }

    /// How many statements of a name were sent.
    fn statements(&self, name: &str) -> usize {
        let comment = format!("-- {name}\n");
        self.application.statements().iter().filter(|statement| statement.starts_with(&comment)).count()
    }
}

fn connect(application: &postgres::Database, role: &str) -> Database {
    #[derive(Parser)]
    struct Args {
        #[command(flatten)]
        posts: PostsArgs,
    }
    let posts = Args::parse_from(["test"]).posts.resolve(&mut Problems::default());
    let url = application.url().replace("postgres@", &format!("{role}@"));
    Database::new(&DatabaseSettings { config: url.parse().unwrap(), trust: Trust::Anybody }, posts, 2, Duration::from_secs(10))
        .unwrap()
}

/// An id of a type.
fn id(id_type: IdType, number: usize) -> String {
    match id_type {
        IdType::Uuid => format!("550e8400-e29b-41d4-a716-{number:012}"),
        IdType::Bigint => number.to_string(),
        IdType::Text | IdType::Varchar => format!("id-{number}"),
    }
}

async fn store(database: &Database, pairs: &Vec<Pair>) -> Result<Outcome, DatabaseError> {
    let mut insert = Insert::new(database, pairs, 0..pairs.len(), Options::default());
    insert.run(None, || ()).await.map(|_| insert.take_finished())
}

fn refused(pairs: &[Pair], outcome: &Outcome) -> HashSet<Pair> {
    outcome.refused.iter().map(|refused| pairs[refused.place]).collect()
}

#[tokio::test]
async fn they_are_found_with_one_query_and_without_the_right_to_it_by_halves() {
    for (id_type, may_read_users) in IdType::ALL.map(|id_type| (id_type, true)).into_iter().chain([(IdType::Bigint, false)]) {
        let world = World::new(id_type, may_read_users).await;
        // Every other one: no half of them is without.
        world.add_users((0..2 * USERS).step_by(2)).await;
        let pairs = world.pairs(0..2 * USERS);
        let outcome = store(&world.database, &pairs).await.unwrap();
        let unknown_viewers: HashSet<Pair> = world.pairs(0..2 * USERS).into_iter().filter(is_odd).collect();
        assert_eq!(refused(&pairs, &outcome), unknown_viewers, "{id_type:?}");
        assert_eq!(outcome.refused.len(), USERS);
        assert!(outcome.refused.iter().all(|refused| refused.refusal.constraint.as_deref() == Some("known")));
        let stored: i64 = outcome.stored.values().map(|stored| stored.added).sum();
        assert_eq!((stored, outcome.deferred.len(), outcome.missing.len()), (USERS as i64, 0, 0));
        for post in [1, 2] {
            let post = id(id_type, post);
            assert_eq!(ledger_count(&world.client, &post).await, world.posts.views_count(&world.client, &post).await);
        }
        let statements = (world.statements("unknown_viewers"), world.statements("insert"));
        if may_read_users {
            assert_eq!(statements, (1, 2), "{id_type:?}");
        } else {
            assert!(statements.0 == 0 && statements.1 < 4 * USERS, "{statements:?}");
        }
    }
}

fn is_odd(pair: &Pair) -> bool {
    let number = pair.viewer.as_str().rsplit('-').next().unwrap();
    number.parse::<usize>().unwrap() % 2 == 1
}

/// The application is about to fill its table of users again.
#[tokio::test]
async fn where_nobody_is_found_it_is_no_fault_of_theirs() {
    for may_read_users in [true, false] {
        let world = World::new(IdType::Bigint, may_read_users).await;
        let pairs = world.pairs(0..50);
        let stored = store(&world.database, &pairs).await;
        assert!(matches!(stored, Err(DatabaseError::Refused(_))), "{stored:?}");
        assert!(world.database.refuses_all().await.unwrap().is_some());
        world.add_users(0..50).await;
        assert!(store(&world.database, &pairs).await.unwrap().refused.is_empty());
    }
}

/// With nobody in the ledger, and no author among the users, nothing but the users themselves tells that the table
/// takes anybody.
#[tokio::test]
async fn a_stranger_alone_does_not_make_the_table_look_broken() {
    let world = World::new(IdType::Bigint, true).await;
    world.add_users([1]).await;
    let pairs = world.pairs([7]);
    assert_eq!(store(&world.database, &pairs).await.unwrap().refused.len(), 1);
    assert!(world.database.refuses_all().await.unwrap().is_none());
}

/// No id is zero in most tables, and many say so. The viewer that is made up where the ledger has none must not break
/// such a rule.
#[tokio::test]
async fn a_ledger_that_is_empty_and_wants_positive_ids_does_not_look_broken() {
    let world = World::new(IdType::Bigint, true).await;
    let rule = "alter table post_views drop constraint known; alter table post_views add constraint positive check (user_id > 0)";
    world.client.batch_execute(rule).await.unwrap();
    assert!(world.database.refuses_all().await.unwrap().is_none());
}
