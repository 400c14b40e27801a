//! A post that is not seen is not one that was deleted: no acknowledged view is dropped for that, and none is gone without a trace.

use std::collections::HashSet;

use fred::interfaces::{HashesInterface, SetsInterface, StreamsInterface};
use serde_json::json;
use testkit::{
    SOON, eventually,
    http::Client,
    posts::{ledger_count, ledger_viewers},
    process::{Daemon, DaemonBuilder},
    tokens,
};
use view_syncd::{
    drain::{Drained, Urgency},
    error::Failure,
};
use views_core::{ids::PostId, keys::Keys};

use crate::support::{SECRET, World, drain_deferred, ready};

/// A world, and the URL of a role that is neither owner nor superuser.
struct Guarded {
    world: World,
    role: String,
    url: String,
}

impl Guarded {
    async fn new() -> Self {
        let world = World::new().await;
        let role = format!("views_of_{}", world.database.name());
        world
            .sql
            .batch_execute(&format!(
                "create role {role} login; grant usage on schema public to {role};
                 grant select, update on posts to {role}; grant select, insert on post_views to {role}"
            ))
            .await
            .unwrap();
        let url = world.database.url().replace("postgres://postgres@", &format!("postgres://{role}@"));
        Self { world, role, url }
    }

    fn daemon(&self) -> DaemonBuilder {
        self.world.daemon().env("DATABASE_URL", &self.url).env("SYNC_LINGER", "10ms")
    }

    /// The daemon, started and done with its first cycle, and a client of its admin listener.
    async fn started(&self) -> (Daemon, Client) {
        let daemon = self.daemon().start();
        daemon.wait_for_line("Sync completed").await;
        let operators = Client::new(daemon.wait_for_listening("admin").await);
        (daemon, operators)
    }

    async fn ingest(&self) -> (Daemon, Client) {
        ready(self.world.ingest_program().env("DATABASE_URL", &self.url)).await
    }

    /// Waits until the daemon is not ready and says that it does not see rows; nothing is dropped by then, nor by a cycle.
    async fn keeps_everything(&self, daemon: &Daemon, operators: &Client, entries: i64) {
        let body = eventually("it is not ready", SOON, async || {
            let answer = operators.get("/readyz").await;
            (answer.status == 503 && answer.body.contains("row")).then_some(answer.body)
        })
        .await;
        assert!(body.contains("row level security") || body.contains("row-level security"), "{body}");
        assert!(body.contains("the oldest entry of the outbox is"), "{body}");
        let failed = daemon.lines_with("Sync failed").len();
        daemon.signal("HUP");
        daemon.wait_for_nth_line(failed + 1, "Sync failed").await;
        assert_eq!(self.world.outbox_length().await, entries);
        assert_eq!(self.world.dead().await.len(), 0);
    }

    async fn is_ready_again(&self, operators: &Client) {
        eventually("the outbox is empty", SOON, async || self.world.outbox_length().await == 0).await;
        eventually("it is ready", SOON, async || operators.get("/readyz").await.status == 200).await;
    }
}

async fn verdict(client: &Client, viewer: &str, post: &str) -> String {
    let token = tokens::hs256(SECRET, viewer);
    let answer = client.post_json("/posts/view", Some(&token), &json!({ "postId": post })).await;
    if answer.status != 200 {
        return answer.status.to_string();
    }
    let body = answer.json();
    format!("{} {}", body["status"].as_str().unwrap(), body["viewsCount"])
}

#[tokio::test]
async fn row_level_security_on_the_posts_drops_nothing() {
    let guarded = Guarded::new().await;
    let world = &guarded.world;
    for post in ["7", "8", "9"] {
        world.post(post).await;
    }
    let (daemon, operators) = guarded.started().await;
    let (ingest, client) = guarded.ingest().await;
    assert_eq!(verdict(&client, "1", "7").await, "counted 1");
    guarded.is_ready_again(&operators).await;

    world.sql.batch_execute("alter table posts enable row level security").await.unwrap();
    // To a post that Redis knows, and to one that nobody has looked up yet.
    for viewer in ["2", "3", "4"] {
        assert!(verdict(&client, viewer, "7").await.starts_with("counted"));
        assert!(verdict(&client, viewer, "8").await.starts_with("counted"), "a post that is not seen is not missing");
    }
    assert_eq!(client.get("/posts/9/views").await.status, 200);
    guarded.keeps_everything(&daemon, &operators, 6).await;
    assert!(world.exists("post:7:views".into()).await && world.exists("post:8:views".into()).await);
    assert_eq!(verdict(&client, "2", "7").await, "duplicate 4");
    assert_eq!(ingest.lines_with("panicked").len(), 0);

    world.sql.batch_execute("alter table posts disable row level security").await.unwrap();
    guarded.is_ready_again(&operators).await;
    world.assert_views("7", 4).await;
    assert_eq!(ledger_viewers(&world.sql, "8").await, ["2", "3", "4"]);
    daemon.signal("HUP");
    daemon.wait_for_line("Sync completed: 2 successful, 0 errors").await;
    world.assert_views("8", 3).await;
}

#[tokio::test]
async fn a_policy_that_hides_some_posts_only_drops_nothing() {
    let guarded = Guarded::new().await;
    let world = &guarded.world;
    for post in ["7", "8"] {
        world.post(post).await;
    }
    let (daemon, operators) = guarded.started().await;
    let policy = format!("create policy a_few on posts to {} using (id < 8) with check (true)", guarded.role);
    world.sql.batch_execute(&format!("{policy}; alter table posts enable row level security")).await.unwrap();
    world.record("7", &["1"]).await;
    world.record("8", &["1", "2"]).await;
    guarded.keeps_everything(&daemon, &operators, 2).await;
    // A policy that hides nothing would hide something with its next change.
    world.sql.batch_execute("alter policy a_few on posts using (true)").await.unwrap();
    guarded.keeps_everything(&daemon, &operators, 2).await;
    world.sql.batch_execute(&format!("alter role {} bypassrls", guarded.role)).await.unwrap();
    guarded.is_ready_again(&operators).await;
    world.assert_views("7", 1).await;
    world.assert_views("8", 2).await;
}

#[tokio::test]
async fn row_level_security_on_the_ledger_drops_nothing() {
    let guarded = Guarded::new().await;
    let world = &guarded.world;
    world.post("7").await;
    let (daemon, operators) = guarded.started().await;
    for policy in ["using (true) with check (true)", "using (true) with check (user_id < 2)", "using (user_id < 2)"] {
        let create = format!("create policy a_few on post_views to {} {policy}", guarded.role);
        world.sql.batch_execute(&format!("{create}; alter table post_views enable row level security")).await.unwrap();
        let before = world.posts.views_count(&world.sql, "7").await;
        let viewers = [before + 1, before + 2].map(|viewer| viewer.to_string());
        world.record("7", &[&viewers[0], &viewers[1]]).await;
        guarded.keeps_everything(&daemon, &operators, 1).await;
        world
            .sql
            .batch_execute("drop policy a_few on post_views; alter table post_views disable row level security")
            .await
            .unwrap();
        guarded.is_ready_again(&operators).await;
        world.assert_views("7", before + 2).await;
    }
}

#[tokio::test]
async fn forced_row_level_security_stops_an_owner_as_well() {
    let guarded = Guarded::new().await;
    let world = &guarded.world;
    for post in ["7", "8"] {
        world.post(post).await;
    }
    let role = &guarded.role;
    world.sql.batch_execute(&format!("alter table posts owner to {role}; alter table post_views owner to {role}")).await.unwrap();
    let (daemon, operators) = guarded.started().await;
    // An owner sees everything.
    world.sql.batch_execute("alter table posts enable row level security").await.unwrap();
    world.record("7", &["1"]).await;
    guarded.is_ready_again(&operators).await;
    world.assert_views("7", 1).await;
    for table in ["posts", "post_views"] {
        world
            .sql
            .batch_execute(&format!(
                "alter table {table} enable row level security; alter table {table} force row level security"
            ))
            .await
            .unwrap();
        world.record("8", &[if table == "posts" { "1" } else { "2" }]).await;
        guarded.keeps_everything(&daemon, &operators, 1).await;
        world.sql.batch_execute(&format!("alter table {table} no force row level security")).await.unwrap();
        guarded.is_ready_again(&operators).await;
    }
    world.assert_views("8", 2).await;
}

#[tokio::test]
async fn a_scan_under_row_level_security_removes_no_keys() {
    let guarded = Guarded::new().await;
    let world = &guarded.world;
    for post in ["7", "8"] {
        world.post(post).await;
        world.record(post, &["1", "2"]).await;
    }
    let (daemon, operators) = guarded.started().await;
    // The outbox is empty: only the scan meets these.
    guarded.is_ready_again(&operators).await;
    world.add_by_hand("8", &["3"]).await;
    world.sql.batch_execute("alter table posts enable row level security").await.unwrap();
    for _ in 0..2 {
        let failed = daemon.lines_with("Sync failed").len();
        daemon.signal("HUP");
        daemon.wait_for_nth_line(failed + 1, "Sync failed").await;
    }
    let body = eventually("it is not ready", SOON, async || {
        let answer = operators.get("/readyz").await;
        (answer.status == 503).then_some(answer.body)
    })
    .await;
    assert!(body.contains("row"), "{body}");
    for (post, members) in [("7", 2), ("8", 3)] {
        assert_eq!(world.redis.scard::<i64, _>(Keys::default().views(&PostId::parse(post).unwrap())).await.unwrap(), members);
    }
    world.sql.batch_execute("alter table posts disable row level security").await.unwrap();
    eventually("it is ready", SOON, async || operators.get("/readyz").await.status == 200).await;
    world.assert_views("7", 2).await;
    world.assert_views("8", 3).await;
}

#[tokio::test]
async fn views_of_an_empty_table_are_kept_and_come_in_with_a_retry() {
    let world = World::new().await;
    for post in ["7", "8"] {
        world.post(post).await;
    }
    // The same columns, and no row; the ledger is that of another schema.
    world
        .sql
        .batch_execute("create schema other; create table other.posts (like posts including all); create table other.post_views (like post_views including all)")
        .await
        .unwrap();
    world.record("7", &["1", "2"]).await;
    let first = world.add_entry(vec![("8", "1")]).await;
    let wrong = world.daemon().env("POSTS_TABLE", "other.posts").env("SYNC_LINGER", "10ms").start();
    eventually("the outbox is empty", SOON, async || world.outbox_length().await == 0).await;
    let gone = |post: &str, viewer: &str| [post.to_owned(), viewer.to_owned(), "no such post".to_owned()];
    let mut dead = world.dead().await;
    dead.sort();
    assert_eq!(dead, [gone("7", "1"), gone("7", "2"), gone("8", "1")]);
    eventually("the keys are removed", SOON, async || !world.exists("post:7:views".into()).await).await;
    assert!(!world.exists("{post:7:views}:meta".into()).await);
    let warnings = wrong.lines_with("no such post");
    assert!(!warnings.is_empty() && warnings.len() <= 2, "a line a batch: {warnings:?}");
    assert!(warnings.iter().all(|line| line.contains("WARN") && !line.contains("viewer=")), "{warnings:?}");
    wrong.signal("TERM");
    assert!(wrong.wait_exit().await.success());

    // The keys are the other table's by now, which is told with what to do.
    let refused = world.command("dead").arg("retry").start();
    assert_eq!(refused.wait_exit().await.code(), Some(78), "{:?}", refused.output());
    assert_eq!(refused.lines_with("view-syncd claim").len(), 1, "{:?}", refused.output());
    let claimed = world.command("claim").start();
    assert!(claimed.wait_exit().await.success(), "{:?}", claimed.output());
    let list = world.command("dead").arg("list").start();
    assert_eq!(list.wait_exit().await.code(), Some(1));
    assert_eq!(list.lines_with("no such post").len(), 3, "{:?}", list.output());
    let retry = world.command("dead").arg("retry").start();
    assert_eq!(retry.wait_exit().await.code(), Some(0), "{:?}", retry.output());
    assert_eq!(world.dead().await.len(), 0);
    assert_eq!(ledger_viewers(&world.sql, "7").await, ["1", "2"]);
    assert_eq!((world.stored("7").await, world.stored("8").await), (2, 1));
    let at = "select (extract(epoch from viewed_at) * 1000)::bigint from post_views where post_id = 8";
    let at: i64 = world.sql.query_one(at, &[]).await.unwrap().get(0);
    assert_eq!(at.to_string(), first.split('-').next().unwrap(), "the time of the view");
    // Nothing of it counts twice, whoever comes back.
    let (_ingest, client) = world.ingest().await;
    assert_eq!(verdict(&client, "1", "7").await, "duplicate 2");
}

#[tokio::test]
async fn a_daemon_with_an_empty_table_takes_nothing_from_one_with_the_right_one() {
    let world = World::new().await;
    world.post("7").await;
    world.record("7", &["1"]).await;
    let mut engine = world.engine(&[]).await;
    engine.cycle().await.unwrap();
    world.sql.batch_execute("create table empty_posts (like posts including all)").await.unwrap();
    world.record("7", &["2", "3"]).await;
    let wrong = world.daemon().env("POSTS_TABLE", "empty_posts").env("SYNC_LINGER", "10ms").start();
    assert_eq!(wrong.wait_exit().await.code(), Some(78), "{:?}", wrong.output());
    assert_eq!((world.outbox_length().await, world.dead().await.len()), (1, 0));
    assert!(world.exists("post:7:views".into()).await);
    engine.cycle().await.unwrap();
    world.assert_views("7", 3).await;
}

#[tokio::test]
async fn a_table_that_is_emptied_and_filled_again_loses_no_view() {
    let world = World::new().await;
    for post in ["7", "8"] {
        world.post(post).await;
        world.record(post, &["1"]).await;
    }
    let mut engine = world.engine(&[]).await;
    engine.cycle().await.unwrap();
    // As a dump is restored: gone for a moment, with everything that refers to them.
    world.sql.batch_execute("truncate posts cascade").await.unwrap();
    world.record("7", &["2"]).await;
    engine.cycle().await.unwrap();
    world.record("8", &["2"]).await;
    world
        .sql
        .batch_execute("insert into posts values (7, 999999, 1), (8, 999999, 1); insert into post_views values (7, 1), (8, 1)")
        .await
        .unwrap();
    engine.cycle().await.unwrap();
    let retry = world.command("dead").arg("retry").start();
    assert_eq!(retry.wait_exit().await.code(), Some(0), "{:?}", retry.output());
    let (_ingest, client) = world.ingest().await;
    for post in ["7", "8"] {
        assert_eq!(ledger_viewers(&world.sql, post).await, ["1", "2"]);
        assert_eq!(verdict(&client, "2", post).await, "duplicate 2");
        assert_eq!(verdict(&client, "1", post).await, "duplicate 2");
        world.assert_views(post, 2).await;
    }
}

#[tokio::test]
async fn a_post_that_is_being_deleted_or_gets_another_id_is_waited_for() {
    let world = World::new().await;
    for post in ["7", "8", "9"] {
        world.post(post).await;
    }
    let mut engine = world.engine(&[]).await;
    let application = world.database.client().await;
    application
        .batch_execute(
            "begin; delete from posts where id = 7; update posts set id = 18 where id = 8; delete from posts where id = 9",
        )
        .await
        .unwrap();
    for post in ["7", "8", "9"] {
        world.record(post, &["1", "2"]).await;
    }
    engine.drain(Urgency::AtOnce).await.unwrap();
    engine.cycle().await.unwrap();
    assert_eq!((world.outbox_length().await, world.dead().await.len()), (3, 0));
    assert!(world.exists("post:7:views".into()).await);
    application.batch_execute("rollback; begin; delete from posts where id = 9; commit").await.unwrap();
    drain_deferred(&mut engine).await;
    for post in ["7", "8"] {
        world.assert_views(post, 2).await;
    }
    assert_eq!(world.dead().await.len(), 2);
}

#[tokio::test]
async fn letters_of_posts_that_do_not_exist_are_bounded() {
    let world = World::new().await;
    world.post("7").await;
    let viewers: Vec<String> = (1..=1_000).map(|viewer| viewer.to_string()).collect();
    for post in 10_001..=10_101 {
        let post = post.to_string();
        world.add_entry(viewers.iter().map(|viewer| (post.as_str(), viewer.as_str())).collect()).await;
    }
    // None of these is dropped, however many there are.
    world.record("7", &["not-a-number", "1"]).await;
    world.add_entry(vec![("10001", "not-a-number")]).await;
    let daemon = world.daemon().env("SYNC_LINGER", "10ms").env("SYNC_BATCH_SIZE", "10000").env("LOG_LEVEL", "debug").start();
    daemon.wait_for_line("this view-syncd leads").await;
    eventually("the outbox is empty", 3 * SOON, async || world.outbox_length().await == 0).await;
    let length: i64 = world.redis.xlen("views:dead").await.unwrap();
    assert!((100_000..=100_002).contains(&length), "{length} letters");
    let dropped = daemon.lines_with("are dropped: ");
    assert!(!dropped.is_empty() && dropped.iter().all(|line| line.contains("WARN")), "{dropped:?}");
    let reasons: HashSet<String> = world.dead().await.into_iter().map(|[_, _, reason]| reason).collect();
    assert!(reasons.contains("the viewer's id does not fit the column's type"), "{reasons:?}");
    world.assert_views("7", 1).await;
    // The ids for those who look closely, and one line a batch for the others.
    let lines = daemon.lines_with("no such post");
    let (summaries, details): (Vec<&String>, Vec<&String>) = lines.iter().partition(|line| line.contains("WARN"));
    assert!(summaries.len() <= 15, "{summaries:?}");
    assert!(details.iter().all(|line| line.contains("DEBUG")));
}

#[tokio::test]
async fn ids_become_bigint_while_both_run() {
    let world = World::new().await;
    world.post("7").await;
    world
        .sql
        .batch_execute("alter table post_views alter post_id type integer; alter table posts alter id type integer")
        .await
        .unwrap();
    let daemon = world.daemon().env("SYNC_LINGER", "10ms").start();
    daemon.wait_for_line("Sync completed").await;
    let (_ingest, client) = world.ingest().await;
    assert_eq!(verdict(&client, "1", "7").await, "counted 1");
    // Nobody has a post of such an id, yet.
    assert_eq!(verdict(&client, "1", "3000000000").await, "404");
    let widen = "alter table post_views alter post_id type bigint; alter table posts alter id type bigint";
    world.sql.batch_execute(&format!("begin; {widen}; insert into posts values (3000000000, 999999, 0); commit")).await.unwrap();
    let counted = async || verdict(&client, "2", "3000000000").await == "counted 1";
    eventually("the new post is found", SOON, counted).await;
    assert_eq!(verdict(&client, "3", "3000000000").await, "counted 2");
    assert_eq!(verdict(&client, "2", "7").await, "counted 2");
    eventually("the outbox is empty", SOON, async || world.outbox_length().await == 0).await;
    assert_eq!(world.dead().await.len(), 0);
    world.assert_views("3000000000", 2).await;
    world.assert_views("7", 2).await;
    daemon.signal("HUP");
    daemon.wait_for_line("Sync completed: 2 successful, 0 errors").await;
    world.assert_views("3000000000", 2).await;
}

#[tokio::test]
async fn ids_become_bigint_and_only_view_ingest_is_started_anew() {
    let world = World::new().await;
    world
        .sql
        .batch_execute("alter table post_views alter post_id type integer; alter table posts alter id type integer")
        .await
        .unwrap();
    world.post("7").await;
    let daemon = world.daemon().env("SYNC_LINGER", "10ms").start();
    daemon.wait_for_line("Sync completed").await;
    world.record("7", &["1"]).await;
    eventually("the outbox is empty", SOON, async || world.outbox_length().await == 0).await;
    // One after the other, with views in between: the ledger is too narrow for a moment.
    world
        .sql
        .batch_execute("alter table posts alter id type bigint; insert into posts values (3000000000, 999999, 0)")
        .await
        .unwrap();
    world.record("3000000000", &["1"]).await;
    world.record("7", &["2"]).await;
    let operators = Client::new(daemon.wait_for_listening("admin").await);
    let body = eventually("it is not ready", SOON, async || {
        let answer = operators.get("/readyz").await;
        (answer.status == 503).then_some(answer.body)
    })
    .await;
    assert!(body.contains("ALTER post_id TYPE bigint"), "{body}");
    assert_eq!(world.dead().await.len(), 0);
    world.sql.batch_execute("alter table post_views alter post_id type bigint").await.unwrap();
    let (_ingest, client) = world.ingest().await;
    assert_eq!(verdict(&client, "2", "3000000000").await, "counted 2");
    eventually("the outbox is empty", SOON, async || world.outbox_length().await == 0).await;
    world.assert_views("3000000000", 2).await;
    world.assert_views("7", 2).await;
    assert_eq!(world.dead().await.len(), 0);
}

#[tokio::test]
async fn viewers_become_bigint_while_both_run() {
    let world = World::new().await;
    world.post("7").await;
    world
        .sql
        .batch_execute("alter table post_views alter user_id type integer; alter table posts alter author_id type integer")
        .await
        .unwrap();
    let daemon = world.daemon().env("SYNC_LINGER", "10ms").start();
    daemon.wait_for_line("Sync completed").await;
    let (_ingest, client) = world.ingest().await;
    assert_eq!(verdict(&client, "1", "7").await, "counted 1");
    assert_eq!(verdict(&client, "3000000000", "7").await, "401");
    world
        .sql
        .batch_execute("alter table post_views alter user_id type bigint; alter table posts alter author_id type bigint")
        .await
        .unwrap();
    eventually("the viewer is one", SOON, async || verdict(&client, "3000000000", "7").await == "counted 2").await;
    eventually("the outbox is empty", SOON, async || world.outbox_length().await == 0).await;
    assert_eq!(world.dead().await.len(), 0);
    world.assert_views("7", 2).await;
}

#[tokio::test]
async fn a_post_that_is_not_committed_yet_loses_no_view() {
    let world = World::new().await;
    let application = world.database.client().await;
    application.batch_execute("begin; insert into posts values (7, 999999, 0)").await.unwrap();
    // Without a database, view-ingest takes views of any post.
    let alone = testkit::process::Daemon::builder(testkit::process::sibling_binary("view-ingest"))
        .env("REDIS_URL", world.server.url())
        .env("JWT_SECRET", SECRET)
        .env("VIEW_INGEST_LISTEN", "127.0.0.1:0")
        .env("VIEW_INGEST_ADMIN_LISTEN", "127.0.0.1:0");
    let (_ingest, client) = ready(alone).await;
    assert_eq!(verdict(&client, "1", "7").await, "counted 1");
    assert_eq!(verdict(&client, "2", "7").await, "counted 2");
    let mut engine = world.engine(&[]).await;
    engine.cycle().await.unwrap();
    application.batch_execute("commit").await.unwrap();
    assert_eq!(verdict(&client, "3", "7").await.split(' ').next(), Some("counted"));
    engine.cycle().await.unwrap();
    engine.cycle().await.unwrap();
    let retry = world.command("dead").arg("retry").start();
    assert_eq!(retry.wait_exit().await.code(), Some(0), "{:?}", retry.output());
    assert_eq!(ledger_viewers(&world.sql, "7").await, ["1", "2", "3"]);
    engine.cycle().await.unwrap();
    world.assert_views("7", 3).await;
}

#[tokio::test]
async fn what_others_have_written_to_the_set_of_a_post_that_is_gone_is_kept() {
    let world = World::new().await;
    world.post("7").await;
    world.record("7", &["1"]).await;
    let mut engine = world.engine(&[]).await;
    engine.cycle().await.unwrap();
    let foreign: Vec<String> = (100..3_100).map(|viewer| viewer.to_string()).collect();
    world.add_by_hand("7", &foreign.iter().map(String::as_str).collect::<Vec<_>>()).await;
    // A set without a hash, as of a service that wrote nothing else; and one with something that is no viewer.
    world.add_by_hand("8", &["5", "two words"]).await;
    world.posts.delete_post(&world.sql, "7").await;
    engine.cycle().await.unwrap();
    for post in ["7", "8"] {
        assert!(!world.exists(format!("post:{post}:views")).await);
        assert!(!world.exists(format!("{{post:{post}:views}}:meta")).await);
    }
    let dead: HashSet<[String; 2]> = world.dead().await.into_iter().map(|[post, viewer, _]| [post, viewer]).collect();
    for viewer in &foreign {
        assert!(dead.contains(&["7".to_owned(), viewer.clone()]), "{viewer} is lost");
    }
    assert!(dead.contains(&["8".to_owned(), "5".to_owned()]));
    assert!(dead.contains(&["8".to_owned(), "two words".to_owned()]));
    // The next scan has nothing left to tell.
    engine.cycle().await.unwrap();
    assert_eq!(world.dead().await.len(), dead.len());
}

#[tokio::test]
async fn a_scan_believes_no_table_that_is_not_the_one_it_asks_for() {
    let world = World::new().await;
    world.post("7").await;
    world.record("7", &["1"]).await;
    let mut engine = world.engine(&[]).await;
    engine.cycle().await.unwrap();
    world.record("7", &["2"]).await;
    // Renamed for a moment, as tools that rewrite tables do; and without the right to read it.
    world.sql.batch_execute("alter table posts rename to posts_old").await.unwrap();
    assert!(matches!(engine.cycle().await.unwrap_err(), Failure::Database(_)));
    assert!(matches!(engine.drain(Urgency::AtOnce).await.unwrap_err(), Failure::Database(_)));
    world.sql.batch_execute("alter table posts_old rename to posts").await.unwrap();
    assert_eq!((world.outbox_length().await, world.dead().await.len()), (1, 0));
    assert!(world.exists("post:7:views".into()).await);
    assert!(matches!(engine.drain(Urgency::AtOnce).await.unwrap(), Drained::Stored { .. }));
    // Copied into a new one that takes its name in one transaction.
    world.record("7", &["3"]).await;
    world
        .sql
        .batch_execute(
            "begin; create table posts_new (like posts including all); insert into posts_new select * from posts;
             alter table post_views drop constraint post_views_post_id_fkey; drop table posts; alter table posts_new rename to posts;
             alter table post_views add foreign key (post_id) references posts on delete cascade; commit",
        )
        .await
        .unwrap();
    let stored = async {
        while !matches!(engine.drain(Urgency::AtOnce).await, Ok(Drained::Stored { .. })) {}
        engine.cycle().await
    };
    stored.await.unwrap();
    world.assert_views("7", 3).await;
    assert_eq!(ledger_count(&world.sql, "7").await, 3);
    let recorded: i64 = world.redis.hget("{post:7:views}:meta", "recorded").await.unwrap();
    assert_eq!(recorded, 3);
}
