//! Ids that the database spells otherwise: UUIDs in columns of texts, in upper case or without hyphens. A post is
//! found, a view travels all its ways, and an author is known, whichever store is away.

use fred::interfaces::ClientLike;
use serde_json::json;
use testkit::{
    SOON, eventually,
    http::{Client, Response},
    postgres,
    posts::{IdType, PostsTable, ledger_viewers},
    process::{Daemon, sibling_binary},
    proxy::Proxy,
    redis::RedisServer,
    tokens,
};

use crate::support::{SECRET, World};

const POSTS: [&str; 4] = [
    "550e8400-e29b-41d4-a716-44665544000a",
    "550e8400-e29b-41d4-a716-44665544000b",
    "550e8400-e29b-41d4-a716-44665544000c",
    "550e8400-e29b-41d4-a716-44665544000d",
];
const AUTHOR: &str = "6ba7b810-9dad-41d1-80b4-00c04fd430c8";
const ANN: &str = "7c9e6679-7425-40de-944b-e07fc1f90ae7";
const BOB: &str = "1c9e6679-7425-40de-944b-e07fc1f90aef";

/// All that an id may look like in the database.
const SPELLINGS: [fn(&str) -> String; 4] =
    [str::to_owned, str::to_ascii_uppercase, |id| id.replace('-', ""), |id| id.replace('-', "").to_ascii_uppercase()];

struct Site {
    world: World,
    syncd: Daemon,
    _ingest: Daemon,
    client: Client,
    /// Between view-ingest and PostgreSQL.
    proxy: Proxy,
}

impl Site {
    /// Each of the posts in another spelling, and their author likewise.
    async fn start(id_type: IdType) -> Self {
        let server = RedisServer::start_with(&[("appendonly", "yes"), ("appendfsync", "always")]).await;
        let database = postgres::shared().await.database().await;
        let world = World::with_stores(server, database, PostsTable::with_ids(id_type)).await;
        for (post, spell) in POSTS.iter().zip(SPELLINGS) {
            // The one of the post is not that of the author.
            let author = SPELLINGS[3 - SPELLINGS.iter().position(|other| other(post) == spell(post)).unwrap()](AUTHOR);
            world.posts.insert_post(&world.sql, &spell(post), author.as_str()).await;
        }
        let syncd = world.daemon().env("SYNC_LINGER", "10ms").start();
        let url = world.database.url();
        let port: u16 = url.rsplit_once(':').unwrap().1.split('/').next().unwrap().parse().unwrap();
        let proxy = Proxy::to_port(port).await;
        let ingest = Daemon::builder(sibling_binary("view-ingest"))
            .env("REDIS_URL", world.server.url())
            .env("DATABASE_URL", url.replace(&format!(":{port}/"), &format!(":{}/", proxy.port())))
            .env("JWT_SECRET", SECRET)
            .env("VIEW_INGEST_LISTEN", "127.0.0.1:0")
            .env("VIEW_INGEST_ADMIN_LISTEN", "127.0.0.1:0")
            .start();
        let client = Client::new(ingest.wait_for_listening("public").await);
        eventually("view-ingest is ready", SOON, || async { client.get("/readyz").await.status == 200 }).await;
        syncd.wait_for_line("Sync completed").await;
        Self { world, syncd, _ingest: ingest, client, proxy }
    }

    async fn view(&self, viewer: &str, post: &str) -> Response {
        self.client.post_json("/posts/view", Some(&tokens::hs256(SECRET, viewer)), &json!({ "postId": post })).await
    }

    async fn verdict(&self, viewer: &str, post: &str) -> String {
        let answer = self.view(viewer, post).await;
        if answer.status != 200 {
            return answer.status.to_string();
        }
        let body = answer.json();
        format!("{} {}", body["status"].as_str().unwrap(), body["viewsCount"])
    }

    /// Demands a verdict for each spelling that a client may use of either id.
    async fn assert_verdicts(&self, viewer: &str, post: &str, verdict: &str) {
        for spell in SPELLINGS {
            assert_eq!(self.verdict(&spell(viewer), &spell(post)).await, verdict, "{} {}", spell(viewer), spell(post));
        }
    }

    async fn assert_reads(&self, views: i64) {
        for spell in SPELLINGS {
            let ids: Vec<String> = POSTS.map(&spell).to_vec();
            let wanted: serde_json::Map<_, _> = POSTS.iter().map(|post| ((*post).to_owned(), views.into())).collect();
            let read = self.client.get(&format!("/posts/views?ids={}", ids.join(","))).await;
            assert_eq!(read.json()["views"], serde_json::Value::from(wanted));
        }
        let read = self.client.get(&format!("/posts/{}/views", POSTS[0].to_ascii_uppercase())).await;
        assert_eq!(read.json(), json!({"postId": POSTS[0], "viewsCount": views}));
    }

    /// Demands that all posts of the database have these viewers, in the database's spelling of the posts.
    async fn assert_stored(&self, viewers: &[&str]) {
        let mut viewers = viewers.to_vec();
        viewers.sort_unstable();
        for (post, spell) in POSTS.iter().zip(SPELLINGS) {
            eventually("the views are stored", SOON, || async {
                let stored = ledger_viewers(&self.world.sql, &spell(post)).await;
                if stored == viewers { Ok(()) } else { Err(stored) }
            })
            .await;
            assert_eq!(self.world.posts.views_count(&self.world.sql, &spell(post)).await, viewers.len() as i64);
        }
        let rows = self.world.sql.query_one("select count(*) from post_views", &[]).await.unwrap();
        assert_eq!(rows.get::<_, i64>(0), (POSTS.len() * viewers.len()) as i64);
    }

    async fn drained(&self) {
        eventually("the outbox is empty", SOON, || async { self.world.outbox_length().await == 0 }).await;
    }

    async fn scanned(&self) {
        let before = self.syncd.lines_with("Sync completed").len();
        self.syncd.signal("HUP");
        let line = self.syncd.wait_for_nth_line(before + 1, "Sync completed").await;
        assert!(line.contains(" 0 errors"), "{line}");
    }

    async fn batch(&self, viewer: &str) -> Vec<String> {
        let posts: Vec<String> = POSTS.iter().map(|post| post.to_ascii_uppercase()).collect();
        let token = tokens::hs256(SECRET, viewer);
        let body = self.client.post_json("/posts/views-batch", Some(&token), &json!({ "postIds": posts })).await.json();
        let results = body["results"].as_array().unwrap().iter();
        results.map(|result| format!("{} {}", result["status"].as_str().unwrap(), result["viewsCount"])).collect()
    }
}

#[tokio::test]
async fn a_post_is_found_and_viewed_and_its_author_known_however_they_are_spelled() {
    for id_type in [IdType::Text, IdType::Varchar] {
        let site = Site::start(id_type).await;
        assert_eq!(site.verdict(ANN, "550e8400-e29b-41d4-a716-44665544000e").await, "404");
        assert_eq!(site.batch(ANN).await, vec!["counted 1"; 4]);
        for post in POSTS {
            site.assert_verdicts(ANN, post, "duplicate 1").await;
            site.assert_verdicts(AUTHOR, post, "own 1").await;
        }
        site.assert_reads(1).await;
        site.drained().await;
        site.assert_stored(&[ANN]).await;
        for _ in 0..2 {
            site.scanned().await;
            site.assert_reads(1).await;
        }

        // Redis away, and back with what it had.
        site.world.server.kill().await;
        assert_eq!(site.batch(BOB).await, vec!["counted 2"; 4]);
        for post in POSTS {
            site.assert_verdicts(BOB, post, "duplicate 2").await;
            site.assert_verdicts(ANN, post, "duplicate 2").await;
            site.assert_verdicts(AUTHOR, post, "own 2").await;
        }
        site.assert_reads(2).await;
        site.assert_stored(&[ANN, BOB]).await;
        site.world.server.restart().await;
        eventually("the test's own client is back", SOON, || async { site.world.redis.is_connected() }).await;
        eventually("Redis takes views", SOON, || async {
            site.world.outbox_length().await == 0 && site.view("x", POSTS[0]).await.status == 200
        })
        .await;
        for post in &POSTS[1..] {
            site.assert_verdicts(BOB, post, "duplicate 2").await;
            site.assert_verdicts(AUTHOR, post, "own 2").await;
            assert_eq!(site.verdict("x", post).await, "counted 3");
        }
        site.drained().await;
        site.assert_stored(&[ANN, BOB, "x"]).await;
        site.scanned().await;
        site.assert_reads(3).await;
    }
}

#[tokio::test]
async fn an_authors_own_view_is_not_stored_although_nobody_could_look_the_post_up() {
    let site = Site::start(IdType::Text).await;
    site.proxy.break_networking().await;
    for post in POSTS {
        for viewer in [ANN, AUTHOR] {
            let verdict = site.verdict(viewer, post).await;
            assert!(verdict.starts_with("counted"), "{viewer}: {verdict}");
        }
    }
    site.proxy.restore().await;
    site.drained().await;
    site.assert_stored(&[ANN]).await;
    site.scanned().await;
    site.scanned().await;
    eventually("the post is looked up", SOON, || async { site.verdict(AUTHOR, POSTS[1]).await == "own 1" }).await;
    for post in POSTS {
        site.assert_verdicts(ANN, post, "duplicate 1").await;
        eventually("the post is looked up", SOON, || async { site.verdict(AUTHOR, post).await == "own 1" }).await;
        site.assert_verdicts(AUTHOR, post, "own 1").await;
    }
    site.assert_reads(1).await;
}
