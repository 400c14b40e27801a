//! The service that counted before runs on beside the programs and an adoption: it reads arrays, appends, writes them
//! back, and sets the sets in Redis, as it always did.

use std::{collections::BTreeSet, sync::Arc};

use fred::interfaces::{KeysInterface, SetsInterface};
use testkit::posts::ledger_viewers;
use views_core::{ids::PostId, keys::Keys};

use super::{adopt, counted, origin, view};
use crate::support::World;

const ARRAY: [&str; 2] = ["--from-array", "views"];
const POSTS: usize = 12;
/// Views that each side takes of each post.
const VIEWS: usize = 10;

/// What the older service does with a view.
struct OldWriter {
    redis: fred::clients::Client,
    sql: tokio_postgres::Client,
}

impl OldWriter {
    async fn of(world: &World) -> Self {
        Self { redis: world.server.client().await, sql: world.database.client().await }
    }

    /// Reads the array, appends, sets the set, and writes the array back: what others have written since is lost, as it
    /// always was.
    async fn view(&self, post: &str, viewer: &str) {
        let row = self.sql.query_one(r#"select views from "Post" where id = $1"#, &[&post]).await.unwrap();
        let mut viewers: Vec<String> = row.get::<_, Option<Vec<String>>>(0).unwrap_or_default();
        viewers.push(viewer.to_owned());
        let set = Keys::default().views(&PostId::parse(post).unwrap());
        let () = self.redis.sadd(&set, viewers.clone()).await.unwrap();
        let () = self.redis.expire(&set, 86_400, None).await.unwrap();
        self.sql.execute(r#"update "Post" set views = $2 where id = $1"#, &[&post, &viewers]).await.unwrap();
    }

    /// Writes what the sets hold into the arrays, as its job does every few minutes.
    async fn rewrite(&self, post: &str) {
        let set = Keys::default().views(&PostId::parse(post).unwrap());
        let mut viewers: Vec<String> = self.redis.smembers(&set).await.unwrap();
        viewers.sort();
        self.sql.execute(r#"update "Post" set views = $2 where id = $1"#, &[&post, &viewers]).await.unwrap();
    }
}

#[tokio::test]
async fn an_older_service_writes_on_beside_both_programs_and_an_adoption() {
    let world = origin().await;
    let posts = format!(
        r#"insert into "Post" (id, "authorId", views, views_count) select 'p' || n, 'ann', '{{boris,clara}}', 0
            from generate_series(1, {POSTS}) n"#
    );
    world.sql.batch_execute(&posts).await.unwrap();
    let told =
        format!("posts {POSTS} · pairs {0} · new {0} · author's own 0 · no viewer 0 · unknown post 0 · do not fit 0", 2 * POSTS);
    assert_eq!(adopt(&world, &ARRAY).await, (Some(0), told));
    let (_ingest, client) = world.ingest().await;
    let daemon = world.daemon().env("SYNC_LINGER", "20ms").env("SYNC_INTERVAL", "1s").start();
    daemon.wait_for_line("Sync completed").await;
    let names: Vec<String> = (1..=POSTS).map(|post| format!("p{post}")).collect();
    let old = Arc::new(OldWriter::of(&world).await);
    let writing = tokio::spawn({
        let (old, names) = (Arc::clone(&old), names.clone());
        async move {
            for view in 0..VIEWS {
                for post in &names {
                    old.view(post, &format!("old-{view}")).await;
                    if view % 4 == 3 {
                        old.rewrite(post).await;
                    }
                }
            }
        }
    });
    let ours = async {
        for n in 0..VIEWS {
            for post in &names {
                assert_eq!(view(&client, post, &format!("new-{n}")).await.0, "counted", "{post}");
                assert_eq!(view(&client, post, ["boris", "clara"][n % 2]).await.0, "duplicate", "{post}");
                assert_eq!(view(&client, post, "ann").await.0, "own", "{post}");
            }
        }
    };
    let adopting = async {
        while !writing.is_finished() {
            let (status, told) = adopt(&world, &ARRAY).await;
            assert!(status == Some(0) && told.starts_with(&format!("posts {POSTS} ")), "{told}");
        }
    };
    tokio::join!(ours, adopting);
    writing.await.unwrap();
    // It is switched off: whom it has seen is known, also those whom it has lost from its arrays.
    for post in &names {
        for n in 0..VIEWS {
            for viewer in [format!("old-{n}"), format!("new-{n}")] {
                assert_eq!(view(&client, post, &viewer).await.0, "duplicate", "{post} {viewer}");
            }
        }
    }
    assert_eq!(adopt(&world, &ARRAY).await.0, Some(0));
    daemon.signal("TERM");
    assert!(daemon.wait_exit().await.success(), "{:?}", daemon.output());
    assert!(world.command("sync").start().wait_exit().await.success());
    let all: BTreeSet<String> = (0..VIEWS).flat_map(|n| [format!("old-{n}"), format!("new-{n}")]).collect();
    let all: Vec<String> = all.into_iter().chain(["boris".to_owned(), "clara".to_owned()]).collect();
    let all: BTreeSet<&String> = all.iter().collect();
    for post in &names {
        let viewers = ledger_viewers(&world.sql, post).await;
        assert_eq!(viewers.iter().collect::<BTreeSet<_>>(), all, "{post}");
        let views = i64::try_from(all.len()).unwrap();
        assert_eq!((counted(&world, post).await, world.live(post).await), ([views, 0, views], views), "{post}");
    }
}
