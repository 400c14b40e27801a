use std::{
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    time::Duration,
};

use futures_util::future::join_all;
use serde_json::json;
use testkit::{
    SOON, eventually,
    http::Client,
    postgres::PostgresServer,
    posts::{IdType, PostsTable},
    redis::RedisServer,
    tokens::{self, Token},
};
use tokio::time::timeout;

use crate::support::{SECRET, World};

const PATH: &str = "/posts/sync-views";

#[tokio::test]
async fn only_an_administrator_may_ask_for_a_synchronization() {
    let world = World::new().await;
    let daemon = world.patient_daemon().await;
    let client = Client::new(daemon.wait_for_listening("admin").await);
    let expired = Token::new("1").claim("role", "ADMIN").expires_in(-10).hs256(SECRET);
    let unsigned = Token::new("1").claim("role", "ADMIN").unsigned();
    let cases: [(Option<String>, u16, &str, &str); 6] = [
        (None, 401, "Требуется авторизация", "Unauthorized"),
        (Some(tokens::admin("another secret", "1")), 401, "Недействительный токен", "Unauthorized"),
        (Some(expired), 401, "Недействительный токен", "Unauthorized"),
        (Some(unsigned), 401, "Недействительный токен", "Unauthorized"),
        (Some(tokens::hs256(SECRET, "1")), 403, "Недостаточно прав", "Forbidden"),
        (Some(Token::new("1").claim("role", "admin").hs256(SECRET)), 403, "Недостаточно прав", "Forbidden"),
    ];
    for (token, status, message, error) in cases {
        let answer = client.post_json(PATH, token.as_deref(), &json!({})).await;
        assert_eq!(answer.status, status, "{token:?}");
        assert_eq!(answer.json(), json!({ "statusCode": status, "message": message, "error": error }));
        assert_eq!(answer.header("www-authenticate").starts_with("Bearer"), status == 401);
    }
    assert_eq!(daemon.lines_with("Starting views synchronization").len(), 1, "{:?}", daemon.output());
}

#[tokio::test]
async fn an_administrator_gets_the_number_of_posts_once_all_are_synchronized() {
    let world = World::new().await;
    let daemon = world.patient_daemon().await;
    let client = Client::new(daemon.wait_for_listening("admin").await);
    for post in 1..=15 {
        world.post(&post.to_string()).await;
        world.record(&post.to_string(), &["1", "2"]).await;
    }
    let answer = client.post_json(PATH, Some(&tokens::admin(SECRET, "1")), &json!({})).await;
    assert_eq!((answer.status, answer.body.as_str()), (200, r#"{"message":"Synchronization completed","syncedPosts":15}"#));
    for post in 1..=15 {
        world.assert_views(&post.to_string(), 2).await;
    }
}

#[tokio::test]
async fn requests_during_a_cycle_share_the_next_one() {
    let world = World::new().await;
    world.post("7").await;
    let daemon = world.patient_daemon().await;
    let client = Client::new(daemon.wait_for_listening("admin").await);
    let blocker = world.database.client().await;
    blocker.batch_execute("begin; lock table posts in access exclusive mode").await.unwrap();
    world.record("7", &["1"]).await;
    daemon.signal("HUP");
    daemon.wait_for_nth_line(2, "Starting views synchronization").await;
    // Recorded after the running cycle has begun: only the next one is sure to have seen it.
    world.record("7", &["2"]).await;
    let token = tokens::admin(SECRET, "1");
    let body = json!({});
    let asking = async { tokio::join!(client.post_json(PATH, Some(&token), &body), client.post_json(PATH, Some(&token), &body)) };
    let release = async {
        // The next request is answered while these two wait.
        while client.get("/livez").await.status != 200 {}
        blocker.batch_execute("commit").await.unwrap();
    };
    let ((first, second), ()) = tokio::join!(asking, release);
    assert_eq!((first.status, second.status), (200, 200));
    world.assert_views("7", 2).await;
}

#[tokio::test]
async fn those_who_wait_are_bounded_and_keep_no_probe_out() {
    const CLIENTS: usize = 150;
    const MAY_WAIT: usize = 64;
    let postgres = PostgresServer::start().await;
    let posts = PostsTable::with_ids(IdType::Bigint);
    let world = World::with_stores(RedisServer::start().await, postgres.database().await, posts).await;
    let daemon = world.patient_daemon().await;
    let address = daemon.wait_for_listening("admin").await;
    postgres.pause();
    let token = tokens::admin(SECRET, "1");
    let (refused, body) = (AtomicUsize::new(0), json!({}));
    let asking = join_all((0..CLIENTS).map(|_| async {
        let answer = Client::without_keep_alive(address).post_json(PATH, Some(&token), &body).await;
        if answer.status == 503 {
            assert_eq!((answer.header("retry-after"), answer.body.contains("ожидающих")), ("1", true), "{answer:?}");
            refused.fetch_add(1, Relaxed);
        }
        answer.status
    }));
    let probing = async {
        eventually("all but those who may wait are refused", SOON, || async { refused.load(Relaxed) == CLIENTS - MAY_WAIT })
            .await;
        for path in ["/livez", "/metrics"] {
            let answer = timeout(Duration::from_secs(2), Client::without_keep_alive(address).get(path)).await;
            assert_eq!(answer.unwrap_or_else(|_| panic!("no answer to {path}")).status, 200);
        }
        // Refused is only who could wait.
        let stranger = Client::without_keep_alive(address).post_json(PATH, None, &body).await;
        assert_eq!(stranger.status, 401);
        postgres.resume();
    };
    let (statuses, ()) = tokio::join!(asking, probing);
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), MAY_WAIT, "{statuses:?}");
    // Their places are free again.
    assert_eq!(Client::new(address).post_json(PATH, Some(&token), &body).await.status, 200);
}

#[tokio::test]
async fn other_methods_and_paths_are_told_so() {
    let world = World::new().await;
    let daemon = world.patient_daemon().await;
    let client = Client::new(daemon.wait_for_listening("admin").await);
    for method in ["GET", "PUT", "DELETE"] {
        let answer = client.request(method, PATH, &[], "").await;
        assert_eq!((answer.status, answer.header("allow")), (405, "POST"), "{method}");
    }
    assert_eq!(client.get("/posts").await.status, 404);
    assert_eq!(client.get("/livez").await.status, 200);
    assert_eq!(client.get("/readyz").await.status, 200);
}

#[tokio::test]
async fn metrics_tell_what_was_done() {
    let world = World::new().await;
    world.posts.insert_post(&world.sql, "7", "50").await;
    let daemon = world.patient_daemon().await;
    let client = Client::new(daemon.wait_for_listening("admin").await);
    world.record("7", &["1", "2", "50", "not-a-number"]).await;
    world.add_entry(vec![("12345", "1")]).await;
    client.post_json(PATH, Some(&tokens::admin(SECRET, "1")), &json!({})).await;
    let metrics = client.get("/metrics").await;
    assert_eq!(metrics.status, 200);
    for line in [
        r#"view_syncd_pairs_total{outcome="new"} 2"#,
        r#"view_syncd_pairs_total{outcome="known_or_own"} 1"#,
        r#"view_syncd_pairs_total{outcome="unknown_post"} 1"#,
        r#"view_syncd_pairs_total{outcome="dead"} 1"#,
        "view_syncd_batches_total 1",
        "view_syncd_scans_total 2",
        "view_syncd_posts_scanned_total 1",
        "view_syncd_drain_failures_total 0",
        "view_syncd_outbox_entries 0",
        "view_syncd_dead_letters 2",
        "view_syncd_batch_pairs_sum 5",
        "view_syncd_cycle_seconds_count 2",
        r#"view_syncd_last_cycle_posts{result="successful"} 1"#,
        r#"view_syncd_last_cycle_posts{result="error"} 0"#,
        "view_syncd_cycle_interval_seconds 300",
        "view_syncd_ready 1",
        r#"view_syncd_store_up{store="redis"} 1"#,
        r#"view_syncd_store_up{store="postgresql"} 1"#,
        "view_syncd_build_info{version=",
        "view_syncd_last_sync_timestamp_seconds 1",
    ] {
        assert!(metrics.body.lines().any(|text| text.starts_with(line)), "{line} is missing in\n{}", metrics.body);
    }
}
