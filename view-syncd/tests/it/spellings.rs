//! Posts and authors that the application spells otherwise than this project does: UUIDs in upper case or without
//! hyphens, in columns of text.

use fred::interfaces::{KeysInterface, SetsInterface};
use serde_json::json;
use testkit::{
    SOON, eventually,
    http::Client,
    postgres,
    posts::{IdType, PostsTable, ledger_viewers},
    redis::RedisServer,
    tokens,
};
use view_syncd::drain::{Drained, Urgency};

use crate::support::{SECRET, World, drain_deferred};

const POST: &str = "0000000a-0000-4000-8000-00000000000b";
const AUTHOR: &str = "0000000c-0000-4000-8000-00000000000d";
const VIEWERS: [&str; 3] = ["0000000e-0000-4000-8000-000000000001", "anna", "0000000e-0000-4000-8000-00000000000f"];

type Spelling = fn(&str) -> String;

const SPELLINGS: [Spelling; 4] =
    [|id| id.to_owned(), str::to_uppercase, |id| id.replace('-', ""), |id| id.replace('-', "").to_uppercase()];

/// A world whose ids are texts, with one post.
async fn world(spelling: Spelling, id_type: IdType) -> World {
    let database = postgres::shared().await.database().await;
    let world = World::with_stores(RedisServer::start().await, database, PostsTable::with_ids(id_type)).await;
    world.posts.insert_post(&world.sql, &spelling(POST), spelling(AUTHOR).as_str()).await;
    world.posts.insert_post(&world.sql, "other", None).await;
    world
}

async fn stored(world: &World, spelling: Spelling) -> i64 {
    world.stored(&spelling(POST)).await
}

#[tokio::test]
async fn a_post_is_found_and_its_authors_own_view_counts_nowhere() {
    for spelling in SPELLINGS {
        for id_type in [IdType::Text, IdType::Varchar] {
            let world = world(spelling, id_type).await;
            let mut synchronizer = world.synchronizer(&[]).await;
            world.record(POST, &VIEWERS).await;
            world.record(POST, &[AUTHOR]).await;
            world.record("other", &["anna"]).await;
            synchronizer.drain(Urgency::AtOnce).await.unwrap();
            assert_eq!((stored(&world, spelling).await, world.live(POST).await), (3, 3), "{}", spelling(POST));
            synchronizer.cycle().await.unwrap();
            assert_eq!(world.author(POST).await.as_deref(), Some(AUTHOR));
            assert_eq!((stored(&world, spelling).await, world.live(POST).await), (3, 3));
            // What others have written, the author among it.
            world.add_by_hand(POST, &["boris", AUTHOR]).await;
            synchronizer.cycle().await.unwrap();
            assert_eq!((stored(&world, spelling).await, world.live(POST).await), (4, 4));
            assert_eq!(world.dead().await.len(), 0);
            // A count and an author that the application has changed.
            let change = format!(
                "update posts set views_count = 9, author_id = '{}' where id = '{}'",
                spelling(VIEWERS[0]),
                spelling(POST)
            );
            world.sql.batch_execute(&change).await.unwrap();
            synchronizer.cycle().await.unwrap();
            assert_eq!((world.live(POST).await, world.author(POST).await.as_deref()), (9, Some(VIEWERS[0])));
            assert_eq!(world.redis.scard::<i64, _>(format!("post:{POST}:views")).await.unwrap(), 5, "nobody is taken for lost");
        }
    }
}

#[tokio::test]
async fn of_a_post_that_is_locked_or_gone_or_has_lost_its_ledger_nothing_is_lost() {
    for spelling in SPELLINGS {
        let world = world(spelling, IdType::Text).await;
        let mut synchronizer = world.synchronizer(&[]).await;
        let locker = world.database.client().await;
        let id = spelling(POST);
        locker.batch_execute(&format!("begin; select from posts where id = '{id}' for update")).await.unwrap();
        world.record(POST, &VIEWERS).await;
        world.record("other", &["anna"]).await;
        synchronizer.drain(Urgency::AtOnce).await.unwrap();
        assert_eq!((world.stored("other").await, world.live(POST).await), (1, 3));
        assert!(matches!(synchronizer.drain(Urgency::AtOnce).await.unwrap(), Drained::Deferred(_)));
        locker.batch_execute("commit").await.unwrap();
        drain_deferred(&mut synchronizer).await;
        assert_eq!((stored(&world, spelling).await, world.live(POST).await), (3, 3));

        synchronizer.cycle().await.unwrap();
        let restore = format!(
            "delete from post_views where user_id = 'anna' and post_id = '{id}'; update posts set views_count = 2 where id = '{id}'"
        );
        world.sql.batch_execute(&restore).await.unwrap();
        synchronizer.cycle().await.unwrap();
        let members: Vec<String> = world.redis.smembers(format!("post:{POST}:views")).await.unwrap();
        assert!(members.len() == 2 && !members.contains(&"anna".to_owned()), "{members:?}");
        assert_eq!((stored(&world, spelling).await, world.live(POST).await), (2, 2));

        world.record(POST, &["clara"]).await;
        world.sql.batch_execute(&format!("delete from posts where id = '{id}'")).await.unwrap();
        synchronizer.cycle().await.unwrap();
        assert_eq!(world.dead().await, [[POST.to_owned(), "clara".to_owned(), "no such post".to_owned()]]);
        assert!(!world.redis.exists::<bool, _>(format!("post:{POST}:views")).await.unwrap());
        world.posts.insert_post(&world.sql, &id, spelling(AUTHOR).as_str()).await;
        let retry = world.command("dead").arg("retry").start();
        assert_eq!(retry.wait_exit().await.code(), Some(0), "{:?}", retry.output());
        assert_eq!(ledger_viewers(&world.sql, &id).await, ["clara"]);
    }
}

#[tokio::test]
async fn both_programs_find_a_post_however_it_is_spelled() {
    for spelling in SPELLINGS {
        let world = world(spelling, IdType::Text).await;
        let _syncd = world.daemon().env("SYNC_LINGER", "10ms").start();
        let (_ingest, client) = world.ingest().await;
        let view = async |viewer: &str, post: &str| {
            let token = tokens::hs256(SECRET, viewer);
            let answer = Client::post_json(&client, "/posts/view", Some(&token), &json!({ "postId": post })).await;
            (answer.json()["status"].as_str().unwrap_or_default().to_owned(), answer.json()["viewsCount"].as_i64())
        };
        for (number, asked) in (1..).zip(SPELLINGS) {
            assert_eq!(view(&format!("viewer-{number}"), &asked(POST)).await, ("counted".to_owned(), Some(number)));
            assert_eq!(view(&asked(AUTHOR), &asked(POST)).await, ("own".to_owned(), Some(number)));
        }
        eventually("the outbox is empty", SOON, async || world.outbox_length().await == 0).await;
        assert_eq!((stored(&world, spelling).await, world.live(POST).await), (4, 4));
    }
}
