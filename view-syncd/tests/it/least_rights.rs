//! Both programs with the rights that the documents grant, and no other: a view travels all its ways, and nothing is
//! ever forbidden.

use fred::{
    clients::Client as Redis,
    interfaces::{ClientLike, EventInterface, HashesInterface, KeysInterface, PubsubInterface, SetsInterface, StreamsInterface},
    types::{ClusterHash, CustomCommand, InfoKind, Value},
};
use serde_json::json;
use testkit::{
    SOON, eventually,
    http::{Client, Response},
    postgres::{self, Database},
    posts::{IdType, PostsTable, ledger_viewers},
    process::{Daemon, DaemonBuilder},
    redis::RedisServer,
    tokens,
};
use views_core::{ids::PostId, keys::Keys};

use crate::{
    site,
    support::{PROGRAM, SECRET},
};

/// Granted commands that none of the ways below needs.
const NOT_MET: [&str; 1] = [
    // Of sets that PostgreSQL has fewer viewers of.
    "srem",
];

/// The document with the grants.
const GRANTED: &str = include_str!("../../../docs/adopt.md");
/// The sample of Redis's users.
const USERS: &str = include_str!("../../../deploy/redis-users.conf");

/// The document's grants for what its comment names, to a role that takes the place of the document's.
fn grants(comment: &str, role: &str) -> String {
    let mut blocks = GRANTED.split("```sql\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    let block = blocks.find(|block| block.starts_with(&format!("-- {comment}\n"))).unwrap();
    let grantee = block.trim_end().trim_end_matches(';').rsplit(' ').next().unwrap().to_owned();
    block.replace(&format!(" TO {grantee};"), &format!(" TO {role};"))
}

/// The sample's users of Redis, by their names, with what follows the name.
fn users() -> [(&'static str, String); 2] {
    ["view-ingest", "view-syncd"].map(|name| {
        let rules = USERS.lines().find_map(|line| line.strip_prefix(&format!("user {name} "))).unwrap();
        (name, rules.replace(">PASSWORD", ">secret"))
    })
}

/// The scripts that a program sends.
fn scripts(user: &str) -> Vec<String> {
    let names: &[&str] = match user {
        "view-ingest" => &["hydrate", "raced"],
        _ => &["hydrate", "settle", "adjust", "take_out", "adopt", "forget"],
    };
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/redis/src/scripts");
    names.iter().map(|name| std::fs::read_to_string(format!("{folder}/{name}.lua")).unwrap()).collect()
}

#[test]
fn each_command_of_a_script_is_granted_to_whoever_runs_it() {
    for (user, rules) in users() {
        let granted: Vec<_> = rules.split(' ').filter_map(|rule| rule.strip_prefix('+')).collect();
        for script in scripts(user) {
            let commands: Vec<_> = script.split("call('").skip(1).map(|rest| rest.split('\'').next().unwrap()).collect();
            assert!(!commands.is_empty());
            for command in commands {
                assert!(granted.contains(&command.to_ascii_lowercase().as_str()), "{user} lacks {command}");
            }
        }
    }
}

/// Both programs under users of their own, and the test as the superuser of both stores.
struct World {
    server: RedisServer,
    redis: Redis,
    keys: Keys,
    sql: tokio_postgres::Client,
    posts: PostsTable,
    syncd: Daemon,
    _ingest: Daemon,
    client: Client,
    operators: Client,
    /// view-syncd's role.
    role: String,
    /// Both stores, for view-syncd's users.
    urls: [String; 2],
    _database: Database,
}

impl World {
    async fn new() -> Self {
        let users = users().map(|(name, rules)| format!("{name} {rules}"));
        let server = RedisServer::start_with(&[("user", &users[0]), ("user", &users[1]), ("appendonly", "yes")]).await;
        let database = postgres::shared().await.database().await;
        let (sql, posts) = (database.client().await, PostsTable::with_ids(IdType::Bigint));
        posts.create(&sql).await;
        // What a schema gives to everybody is no grant of the document's.
        sql.batch_execute("revoke all on schema public from public").await.unwrap();
        let roles = ["owner", "views"].map(|role| format!("{role}_of_{}", database.name()));
        for role in &roles {
            sql.batch_execute(&format!("create role {role} login")).await.unwrap();
        }
        let url_of = |role: &String| database.url().replace("postgres://postgres@", &format!("postgres://{role}@"));
        let redis_of = |user: &str| server.url().replace("redis://", &format!("redis://{user}:secret@"));

        sql.batch_execute(&grants("before view-syncd migrate", &roles[0])).await.unwrap();
        let migrate = Daemon::builder(PROGRAM).arg("migrate").env("DATABASE_URL", url_of(&roles[0])).start();
        assert!(migrate.wait_exit().await.success(), "{:?}", migrate.output());
        let revoked =
            format!("revoke create on schema public from {0}; revoke all (id, views_count) on posts from {0}", roles[0]);
        sql.batch_execute(&revoked).await.unwrap();
        sql.batch_execute(&grants("after it, for view-ingest and view-syncd", &roles[1])).await.unwrap();

        let syncd = site::view_syncd(&redis_of("view-syncd"), &database)
            .env("DATABASE_URL", url_of(&roles[1]))
            .env("SYNC_LINGER", "10ms")
            .start();
        syncd.wait_for_line("Sync completed").await;
        let ingest = site::view_ingest(&redis_of("view-ingest")).env("DATABASE_URL", url_of(&roles[1])).start();
        let client = Client::new(ingest.wait_for_listening("public").await);
        let operators = Client::new(ingest.wait_for_listening("admin").await);
        ingest.wait_for_nth_line(site::INGEST_WORKERS, "Redis connected").await;
        ingest.wait_for_line("view-ingest started").await;
        let (redis, keys) = (server.client().await, Keys::default());
        let urls = [redis_of("view-syncd"), url_of(&roles[1])];
        let [_, role] = roles;
        Self { server, redis, keys, sql, posts, syncd, _ingest: ingest, client, operators, role, urls, _database: database }
    }

    async fn view(&self, viewer: &str, post: &str) -> Response {
        self.client.post_json("/posts/view", Some(&tokens::hs256(SECRET, viewer)), &json!({ "postId": post })).await
    }

    /// The verdict on a view, with the count.
    async fn verdict(&self, viewer: &str, post: &str) -> String {
        let body = self.view(viewer, post).await.json();
        format!("{} {}", body["status"].as_str().unwrap_or_else(|| panic!("{body}")), body["viewsCount"])
    }

    async fn outbox_is_empty(&self) {
        let empty = async || self.redis.xlen::<i64, _>(self.keys.outbox()).await.unwrap() == 0;
        eventually("the outbox is empty", SOON, empty).await;
    }

    async fn cycle(&self) {
        // One that is under way now does not count: it may have been where the change is already.
        let before = self.syncd.lines_with("Starting views synchronization").len() - self.syncd.lines_with("Sync failed").len();
        self.syncd.signal("HUP");
        self.syncd.wait_for_nth_line(before + 1, "Sync completed").await;
    }

    /// Runs a command that lacks a right, which it says, and again with what the document grants for it.
    async fn command(&self, args: &[&str], comment: &str, grant: &str) {
        let run = || self.looker(args).start();
        let refused = run();
        assert_eq!(refused.wait_exit().await.code(), Some(78), "{args:?}: {:?}", refused.output());
        assert_eq!(refused.lines_with(grant).len(), 1, "{args:?}: {:?}", refused.output());
        self.sql.batch_execute(&grants(comment, &self.role)).await.unwrap();
        let done = run();
        assert_eq!(done.wait_exit().await.code(), Some(0), "{args:?}: {:?}", done.output());
    }

    fn key(&self, post: &str) -> String {
        self.keys.views(&PostId::parse(post).unwrap())
    }

    /// Demands that the ledger and the count of a post have these viewers.
    async fn assert_stored(&self, post: &str, viewers: &[&str]) {
        assert_eq!(ledger_viewers(&self.sql, post).await, viewers);
        assert_eq!(self.posts.views_count(&self.sql, post).await, viewers.len() as i64);
    }

    async fn custom<T: fred::types::FromValue>(&self, words: &[&'static str]) -> T {
        let command = CustomCommand::new_static(words[0], ClusterHash::FirstKey, false);
        self.redis.custom(command, words[1..].to_vec()).await.unwrap()
    }

    /// A command of view-syncd under the daemon's users.
    fn looker(&self, command: &[&str]) -> DaemonBuilder {
        let [redis, database] = &self.urls;
        Daemon::builder(PROGRAM).args(command).env("REDIS_URL", redis).env("DATABASE_URL", database)
    }

    /// Demands that Redis has forbidden nothing since its start.
    async fn assert_nothing_was_forbidden(&self) {
        let log: Vec<Value> = self.custom(&["ACL", "LOG"]).await;
        assert!(log.is_empty(), "{log:?}");
    }

    /// Which commands Redis has been sent since its start, by anybody, or by a script.
    async fn commands(&self) -> Vec<String> {
        let info: String = self.redis.info(Some(InfoKind::CommandStats)).await.unwrap();
        let names = info.lines().filter_map(|line| line.strip_prefix("cmdstat_")?.split(':').next());
        names.map(str::to_owned).collect()
    }
}

#[tokio::test]
async fn a_view_travels_all_its_ways_with_the_documented_rights() {
    let world = World::new().await;
    for post in ["1", "2", "3", "4", "5", "6"] {
        world.posts.insert_post(&world.sql, post, "99").await;
    }
    let known = "insert into post_views (post_id, user_id) values (1, 5); update posts set views_count = 1 where id = 1";
    world.sql.batch_execute(known).await.unwrap();
    let subscriber = world.server.client().await;
    let mut messages = subscriber.message_rx();
    let () = subscriber.subscribe(world.keys.updates()).await.unwrap();

    // Reads of posts that nobody has viewed, the second time from Redis, and of one that is not there.
    for _ in 0..2 {
        assert_eq!(world.client.get("/posts/5/views").await.json(), json!({ "postId": "5", "viewsCount": 0 }));
        assert_eq!(world.client.get("/posts/views?ids=5,6,77").await.json(), json!({ "views": { "5": 0, "6": 0 } }));
    }
    for post in ["5", "6"] {
        let meta = world.keys.meta(&PostId::parse(post).unwrap());
        assert_eq!(world.redis.exists::<i64, _>(meta).await.unwrap(), 1, "post {post} is in Redis");
    }
    world.assert_nothing_was_forbidden().await;

    // First touch, and the drain.
    assert_eq!(world.verdict("5", "1").await, "duplicate 1", "the ledger's viewers are known");
    assert_eq!(world.verdict("6", "1").await, "counted 2");
    assert_eq!(world.verdict("6", "1").await, "duplicate 2");
    assert_eq!(world.verdict("99", "1").await, "own 2");
    assert_eq!(world.view("6", "77").await.status, 404);
    world.outbox_is_empty().await;
    world.assert_stored("1", &["5", "6"]).await;
    let message = tokio::time::timeout(SOON, messages.recv()).await.unwrap().unwrap();
    assert_eq!(message.value.as_string().unwrap(), r#"{"postId":"1","viewsCount":2}"#);
    subscriber.quit().await.unwrap();

    // What only the scan sees: a set that others have written, without a time to live; a count that PostgreSQL has
    // otherwise; a post that is gone; a drift.
    assert_eq!(world.verdict("6", "3").await, "counted 1");
    world.outbox_is_empty().await;
    let () = world.redis.sadd(world.key("2"), vec!["7", "8"]).await.unwrap();
    let () = world.redis.sadd(world.key("78"), vec!["7"]).await.unwrap();
    let meta = world.keys.meta(&PostId::parse("3").unwrap());
    let () = world.redis.hincrby(&meta, "recorded", 1).await.unwrap();
    world.sql.batch_execute("insert into post_views (post_id, user_id) values (1, 7)").await.unwrap();
    world.sql.batch_execute("update posts set views_count = 3 where id = 1").await.unwrap();
    world.cycle().await;
    world.cycle().await;
    world.assert_stored("2", &["7", "8"]).await;
    assert!(world.redis.ttl::<i64, _>(world.key("2")).await.unwrap() > 0);
    assert_eq!(world.redis.exists::<i64, _>(world.key("78")).await.unwrap(), 0);
    assert_eq!(world.client.get("/posts/views?ids=1,2,3").await.json(), json!({ "views": { "1": 3, "2": 2, "3": 1 } }));
    let lines = world.syncd.lines_with("repaired a count that had drifted");
    assert_eq!(lines.len(), 1, "{:?}", world.syncd.output());

    // What cannot be stored.
    world.sql.batch_execute("alter table post_views add constraint no_robots check (user_id <> 66)").await.unwrap();
    assert_eq!(world.verdict("66", "4").await, "counted 1");
    world.outbox_is_empty().await;
    // This view, and the member of the post that is gone.
    assert_eq!(world.redis.xlen::<i64, _>(world.keys.dead()).await.unwrap(), 2);
    world.assert_nothing_was_forbidden().await;
    let mut met = world.commands().await;

    // A look at all that.
    for (command, status) in [(&["status"][..], 1), (&["doctor"], 0), (&["explain", "1", "6"], 0)] {
        let looked = world.looker(command).start();
        assert_eq!(looked.wait_exit().await.code(), Some(status), "{command:?}: {:?}", looked.output());
    }
    world.assert_nothing_was_forbidden().await;
    met.extend(world.commands().await);

    // Past Redis, and back.
    world.server.stop().await;
    assert_eq!(world.verdict("10", "1").await, "counted 4");
    assert_eq!(world.verdict("10", "1").await, "duplicate 4");
    world.assert_stored("1", &["10", "5", "6", "7"]).await;
    world.server.restart().await;
    let metrics = async || world.operators.get("/metrics").await.body;
    let back = async || metrics().await.lines().any(|line| line == "view_ingest_recorders_in_fallback 0");
    eventually("Redis takes the views again", SOON, back).await;
    assert_eq!(world.verdict("10", "1").await, "duplicate 4");
    assert_eq!(world.verdict("11", "1").await, "counted 5");
    eventually("the test's own client is back", SOON, async || world.redis.is_connected()).await;
    world.outbox_is_empty().await;
    world.command(&["reconcile", "--repair"], "for view-syncd recount", r#"GRANT SELECT ("post_id", "base") ON"#).await;
    world.command(&["forget", "4711"], "for view-syncd forget", r#"GRANT DELETE ON "public"."post_views" TO"#).await;
    world.assert_nothing_was_forbidden().await;
    world.syncd.signal("TERM");
    assert!(world.syncd.wait_exit().await.success(), "{:?}", world.syncd.output());
    world.assert_stored("1", &["10", "11", "5", "6", "7"]).await;
    // The application deletes a post, and PostgreSQL its views.
    world.posts.delete_post(&world.sql, "1").await;
    assert_eq!(ledger_viewers(&world.sql, "1").await, [] as [&str; 0]);

    met.extend(world.commands().await);
    let unmet: Vec<_> = users()
        .iter()
        .flat_map(|(_, rules)| rules.split(' ').filter_map(|rule| rule.strip_prefix('+')).map(str::to_owned).collect::<Vec<_>>())
        .filter(|command| !met.contains(command) && !NOT_MET.contains(&command.as_str()))
        .collect();
    assert!(unmet.is_empty(), "what nobody needs is granted: {unmet:?}");
}
