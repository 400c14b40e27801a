//! Rows that a policy hides are not rows that are gone.

use fred::interfaces::SetsInterface;
use testkit::{
    SOON, eventually,
    http::Client,
    posts::ledger_viewers,
    process::{Daemon, DaemonBuilder},
};
use views_core::{ids::PostId, keys::Keys};

use super::verdict;
use crate::support::{World, ready};

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
