//! `view-syncd doctor`: says of each misconfiguration that the documents warn of what to do, and changes nothing.

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use fred::{
    interfaces::{ClientLike, KeysInterface},
    types::{ClusterHash, CustomCommand},
};
use serde_json::{Value, json};
use testkit::{
    SOON, eventually, pooler, postgres,
    posts::{IdType, PostsTable},
    process::DaemonBuilder,
    proxy::Proxy,
    redis::RedisServer,
    tokens::{self, Token},
};

use crate::support::{SECRET, World};

/// The document that names the checks.
const DOCUMENT: &str = include_str!("../../../docs/commands.md");

/// A checkup: the exit status, and of each check its name, its verdict and its text.
pub(crate) struct Checkup {
    pub(crate) status: Option<i32>,
    pub(crate) checks: Vec<[String; 3]>,
}

/// Runs a command `doctor` that is built so far.
pub(crate) async fn checkup(doctor: DaemonBuilder) -> Checkup {
    let doctor = doctor.arg("--json").start();
    let status = doctor.wait_exit().await.code();
    let lines = doctor.lines_with("\"checks\"");
    let report: Value =
        lines.first().and_then(|line| serde_json::from_str(line).ok()).unwrap_or_else(|| panic!("{:?}", doctor.output()));
    let text = |check: &Value, name: &str| check[name].as_str().unwrap().to_owned();
    let checks = report["checks"].as_array().unwrap().iter();
    let checks: Vec<[String; 3]> = checks.map(|check| ["name", "verdict", "text"].map(|name| text(check, name))).collect();
    let gravest = ["fail", "warn", "ok"].into_iter().find(|verdict| checks.iter().any(|[_, own, _]| own == verdict));
    assert_eq!(report["verdict"].as_str(), gravest);
    for [name, ..] in &checks {
        assert!(DOCUMENT.contains(&format!("`{name}`")), "the check {name} is not in docs/commands.md");
    }
    Checkup { status, checks }
}

impl Checkup {
    /// Demands that a check came out like this, with all the words.
    #[track_caller]
    pub(crate) fn assert(&self, name: &str, verdict: &str, words: &[&str]) {
        let is_it = |[own, of, text]: &[String; 3]| own == name && of == verdict && words.iter().all(|word| text.contains(word));
        assert!(self.checks.iter().any(is_it), "no {verdict} of {name} with {words:?} in {:#?}", self.checks);
    }

    /// Returns the names of the checks that came out like this.
    fn names(&self, verdict: &str) -> Vec<&str> {
        self.checks.iter().filter(|[_, own, _]| own == verdict).map(|[name, ..]| name.as_str()).collect()
    }
}

/// Sends Redis a command.
async fn send(redis: &fred::clients::Client, command: &'static str) {
    let mut words = command.split(' ');
    let name = CustomCommand::new_static(words.next().unwrap(), ClusterHash::FirstKey, false);
    let _: fred::types::Value = redis.custom(name, words.collect::<Vec<_>>()).await.unwrap();
}

#[tokio::test]
async fn all_is_well_with_a_daemon_that_works_and_nothing_is_written_without_one() {
    let server = RedisServer::start_with(&[("appendonly", "yes")]).await;
    let world = World::with_redis(server).await;
    world.post("7").await;
    let before = checkup(world.command("doctor").env("JWT_SECRET", SECRET)).await;
    assert_eq!(
        (before.status, before.names("fail"), before.names("warn")),
        (Some(0), vec![], vec!["leader"]),
        "{:#?}",
        before.checks
    );
    before.assert("owner", "ok", &["nobody's"]);
    for command in [vec!["status"], vec!["explain", "7", "1"]] {
        let command = world.program().args(command).start();
        assert_eq!(command.wait_exit().await.code(), Some(1), "{:?}", command.output());
    }
    assert!(!world.exists(world.keys.owner().to_owned()).await, "a look has made the keys somebody's");

    let _daemon = world.patient_daemon().await;
    let after = checkup(world.command("doctor").env("JWT_SECRET", SECRET)).await;
    assert_eq!((after.status, after.names("warn")), (Some(0), vec![]), "{:#?}", after.checks);
    after.assert("leader", "ok", &["backend", "0 standbys"]);
    after.assert("owner", "ok", &["this database's"]);

    // As people read it.
    let text = world.command("doctor").env("JWT_SECRET", SECRET).start();
    assert!(text.wait_exit().await.success());
    let lines = text.output();
    assert!(lines.iter().all(|line| line.chars().count() <= 100), "{lines:#?}");
    assert!(lines.last().unwrap().ends_with(" ok · 0 warn · 0 fail"), "{lines:#?}");
    assert!(lines[0].starts_with("ok  settings "), "{lines:#?}");
}

/// What is planted with a command, and undone with another one; the exit status; the check, its verdict and its words.
type RedisCase = (&'static str, &'static str, i32, &'static str, &'static str, &'static [&'static str]);

const REDIS: [RedisCase; 13] = [
    (
        "CONFIG SET maxmemory-policy allkeys-lru",
        "CONFIG SET maxmemory-policy noeviction",
        78,
        "redis-eviction",
        "fail",
        &["maxmemory-policy allkeys-lru", "set it to noeviction", "--allow-eviction"],
    ),
    ("CONFIG SET maxmemory 1", "CONFIG SET maxmemory 0", 1, "redis-writes", "fail", &["OOM", "raise maxmemory"]),
    ("CONFIG SET maxmemory 1", "CONFIG SET maxmemory 0", 1, "redis-memory", "warn", &["all of maxmemory", "raise maxmemory"]),
    (
        "CONFIG SET min-replicas-to-write 1",
        "CONFIG SET min-replicas-to-write 0",
        1,
        "redis-replicas",
        "fail",
        &["0 replicas", "min-replicas-to-write demands 1", "Start them"],
    ),
    ("CONFIG SET min-replicas-to-write 1", "CONFIG SET min-replicas-to-write 0", 1, "redis-writes", "fail", &["NOREPLICAS"]),
    (
        "CONFIG SET appendonly no",
        "CONFIG SET appendonly yes",
        0,
        "redis-persistence",
        "warn",
        &["keeps nothing on disk", "Set appendonly yes"],
    ),
    ("REPLICAOF 127.0.0.1 1", "REPLICAOF NO ONE", 1, "redis", "fail", &["it is a replica", "give the address of its primary"]),
    ("REPLICAOF 127.0.0.1 1", "REPLICAOF NO ONE", 1, "redis-writes", "fail", &["READONLY", "give the address of its primary"]),
    (
        "SET views:outbox x",
        "DEL views:outbox",
        1,
        "redis-keys",
        "fail",
        &["views:outbox holds something of another program's", "--redis-prefix"],
    ),
    (
        "SADD post:no.id:views x",
        "DEL post:no.id:views",
        0,
        "redis-prefix",
        "warn",
        &["post:*:views", "passed over", "--redis-prefix"],
    ),
    ("SET shop:views:owner x", "DEL shop:views:owner", 0, "redis-prefix", "ok", &["no prefix", "other installations", "shop:"]),
    ("HSET {post:7:views}:meta author 1", "DEL {post:7:views}:meta", 0, "view-ttl", "ok", &["are kept for 1day"]),
    ("XADD views:outbox 1000-0 7 1", "DEL views:outbox", 1, "outbox", "fail", &["1 entry, the oldest", "/readyz"]),
];

#[tokio::test]
async fn what_is_wrong_with_redis_is_told_with_what_to_do() {
    let users = "limited on >secret ~* &* +@all -scan -xdel -publish";
    let mute = "mute on >secret ~* &* +@all -eval";
    let server = RedisServer::start_with(&[("appendonly", "yes"), ("user", users), ("user", mute)]).await;
    let world = World::with_redis(server).await;
    let doctor = || world.command("doctor");
    for (plant, undo, status, name, verdict, words) in REDIS {
        send(&world.redis, plant).await;
        let found = checkup(doctor()).await;
        found.assert(name, verdict, words);
        assert_eq!(found.status, Some(status), "{plant}: {:#?}", found.checks);
        send(&world.redis, undo).await;
    }
    send(&world.redis, "HSET {post:7:views}:meta author 1").await;
    send(&world.redis, "EXPIRE {post:7:views}:meta 7150").await;
    let short = checkup(doctor().env("VIEW_TTL", "1h")).await;
    short.assert("view-ttl", "warn", &["kept for 1h 59m", "keeps it for 1h", "--view-ttl (VIEW_TTL)"]);
    send(&world.redis, "CONFIG SET maxmemory-policy allkeys-lru").await;
    let allowed = checkup(doctor().arg("--allow-eviction")).await;
    allowed.assert("redis-eviction", "warn", &["--allow-eviction puts up with", "set maxmemory-policy noeviction"]);
    assert_eq!(allowed.status, Some(0), "{:#?}", allowed.checks);
    send(&world.redis, "CONFIG SET maxmemory-policy noeviction").await;

    let url = world.server.url().replace("redis://", "redis://limited:secret@");
    let limited = checkup(doctor().env("REDIS_URL", &url)).await;
    limited.assert("redis-rights", "fail", &["SCAN, XDEL, PUBLISH:", "deploy/redis-users.conf"]);
    let mute = checkup(doctor().env("REDIS_URL", url.replace("limited", "mute"))).await;
    mute.assert("redis-rights", "fail", &["forbids this account EVAL", "deploy/redis-users.conf"]);
    assert_eq!(limited.status, Some(1), "{:#?}", limited.checks);
    let wrong = checkup(doctor().env("REDIS_URL", url.replace("secret", "hidden"))).await;
    wrong.assert("redis", "fail", &["cannot be reached", "WRONGPASS", "--redis-url (REDIS_URL)"]);
    assert!(!format!("{:?}", wrong.checks).contains("hidden"), "{:#?}", wrong.checks);

    let proxy = Proxy::to_port(world.server.port()).await;
    let info: String = world.redis.info(None).await.unwrap();
    let field = |name: &str| info.lines().find(|line| line.starts_with(name)).unwrap().trim().to_owned();
    let behind_proxy = || doctor().env("REDIS_URL", format!("redis://{}", proxy.address()));
    let version = field("redis_version:");
    proxy.disguise(version.clone().leak(), "redis_version:5.0.999999"[..version.len()].to_owned().leak());
    let old = checkup(behind_proxy()).await;
    old.assert("redis-version", "fail", &["is too old: 7.0 or later is needed", "Upgrade the server"]);
    assert_eq!(old.status, Some(78), "{:#?}", old.checks);
    // As much as a hundred million seconds ago.
    let clock = field("server_time_usec:");
    let digit: usize = "server_time_usec:1".len();
    let other = format!("{}{}", &clock[..digit], if &clock[digit..=digit] == "0" { "1" } else { "0" });
    proxy.disguise(clock[..=digit].to_owned().leak(), other.leak());
    let skewed = checkup(behind_proxy()).await;
    skewed.assert("clocks", "fail", &["the clock of Redis is", "behind this machine's", "(NTP)"]);
    assert_eq!(skewed.status, Some(1), "{:#?}", skewed.checks);

    let () = world.redis.set(world.keys.owner(), "another one", None, None, false).await.unwrap();
    let foreign = checkup(doctor()).await;
    foreign.assert("owner", "fail", &["another one", "run `view-syncd claim`"]);
    assert_eq!(foreign.status, Some(78), "{:#?}", foreign.checks);
    let () = world.redis.del(world.keys.owner()).await.unwrap();
    send(&world.redis, "XADD views:dead * post 7 viewer 1 reason full retry 1 at 5").await;
    let dead = checkup(doctor()).await;
    dead.assert("dead-letters", "warn", &["1 view could not be stored (full)", "`view-syncd dead list`"]);
    assert_eq!(dead.status, Some(0), "{:#?}", dead.checks);
}

#[tokio::test]
async fn a_store_that_is_away_in_cluster_mode_or_behind_a_pooler_stops_no_other_check() {
    let world = World::with_redis(RedisServer::start_with(&[("cluster-enabled", "yes")]).await).await;
    let clustered = checkup(world.command("doctor")).await;
    clustered.assert("redis-mode", "fail", &["Redis is in cluster mode", "give the address of a server without it"]);
    clustered.assert("tables", "ok", &[]);
    assert_eq!(clustered.status, Some(78), "{:#?}", clustered.checks);
    let begin = Instant::now();
    let away = checkup(world.command("doctor").env("REDIS_URL", "redis://127.0.0.1:1")).await;
    away.assert("redis", "fail", &["redis://127.0.0.1:1/0 cannot be reached", "start it, or mend --redis-url (REDIS_URL)"]);
    away.assert("tables", "ok", &[]);
    let away = checkup(world.command("doctor").env("DATABASE_URL", "postgres://postgres@127.0.0.1:1/x")).await;
    away.assert("postgresql", "fail", &["start it, or mend --database-url (DATABASE_URL)"]);
    away.assert("redis-mode", "fail", &[]);
    assert_eq!(away.status, Some(78), "{:#?}", away.checks);
    assert!(begin.elapsed() < Duration::from_secs(15), "{:?}", begin.elapsed());
    let server = postgres::shared().await;
    let pooler = pooler::start(server.port(), "postgres", world.database.name()).await;
    let pooled = world.database.url().replace(&format!(":{}/", server.port()), &format!(":{}/", pooler.port()));
    let found = checkup(world.command("doctor").env("DATABASE_URL", &pooled)).await;
    found.assert("pooler", "fail", &["a pooler in transaction mode", "directly, or through a pooler in session mode"]);
    // The session has the statements of the client before.
    let shared = world.command("migrate").env("DATABASE_URL", pooled).start();
    assert_eq!(shared.wait_exit().await.code(), Some(78), "{:?}", shared.output());
    assert_eq!(shared.lines_with("set its max_prepared_statements, or connect directly").len(), 1, "{:?}", shared.output());
    let nowhere = world.database.url().replace(world.database.name(), "nowhere");
    let nowhere = checkup(world.command("doctor").env("DATABASE_URL", nowhere)).await;
    nowhere.assert("postgresql", "fail", &["does not exist", "mend --database-url (DATABASE_URL)"]);
}

/// What is planted in a database with the tables; the exit status; the check, its verdict and its words.
type DatabaseCase = (&'static str, i32, &'static str, &'static str, &'static [&'static str]);

const DATABASE: [DatabaseCase; 8] = [
    ("drop table post_views_base", 0, "bases", "warn", &["`recount` cannot run", "run `view-syncd migrate`"]),
    ("grant select on post_views to public", 0, "access", "warn", &["PUBLIC may use", "REVOKE ALL"]),
    (
        "create function touch() returns trigger language plpgsql as $$ begin return new; end $$;
         create trigger touched before update on posts for each row execute function touch()",
        0,
        "triggers",
        "warn",
        &["touched on posts", "--count-table (COUNT_TABLE)"],
    ),
    (
        "alter table post_views drop constraint post_views_post_id_fkey; alter table post_views_base drop constraint post_views_base_post_id_fkey;
         alter table posts drop constraint posts_pkey",
        0,
        "foreign-key",
        "warn",
        &["has no foreign key to the posts", "DELETE FROM"],
    ),
    (
        "alter table post_views drop constraint post_views_post_id_fkey; alter table post_views_base drop constraint post_views_base_post_id_fkey;
         alter table posts drop constraint posts_pkey",
        0,
        "ids",
        "warn",
        &["nothing keeps the column \"id\"", "CREATE INDEX"],
    ),
    (
        "do $$ begin execute format('alter database %I set default_transaction_read_only = on', current_database()); end $$",
        1,
        "postgresql",
        "fail",
        &["takes no writes: it was made read-only", "target_session_attrs=read-write"],
    ),
    ("drop table post_views cascade", 78, "tables", "fail", &["there is no ledger table", "run `view-syncd migrate`"]),
    (
        "alter table post_views drop constraint post_views_pkey; alter table posts drop author_id cascade",
        78,
        "tables",
        "fail",
        &["has no column author_id", "--author-column (AUTHOR_COLUMN)"],
    ),
];

#[tokio::test]
async fn what_is_wrong_with_postgresql_is_told_with_what_to_do() {
    let redis = Arc::new(RedisServer::start_with(&[("appendonly", "yes")]).await);
    for (plant, status, name, verdict, words) in DATABASE {
        let posts = PostsTable::with_ids(IdType::Bigint);
        let world = World::with_stores(Arc::clone(&redis), postgres::shared().await.database().await, posts).await;
        world.sql.batch_execute(plant).await.unwrap_or_else(|error| panic!("{plant}: {error:?}"));
        let found = checkup(world.command("doctor")).await;
        found.assert(name, verdict, words);
        assert_eq!(found.status, Some(status), "{plant}: {:#?}", found.checks);
    }
}

#[tokio::test]
async fn sessions_that_hold_locks_or_leave_transactions_open_are_named_with_how_to_end_them() {
    let world = World::new().await;
    world.post("7").await;
    let [rows, table, idle] = [world.database.client().await, world.database.client().await, world.database.client().await];
    let mut backends = [0; 3];
    for (backend, session) in backends.iter_mut().zip([&rows, &table, &idle]) {
        *backend = session.query_one("select pg_backend_pid()", &[]).await.unwrap().get::<_, i32>(0);
    }
    rows.batch_execute("begin; select from posts where id = 7 for update").await.unwrap();
    table.batch_execute("begin; lock table post_views in share mode").await.unwrap();
    idle.batch_execute("set application_name = 'editor\u{1b}[31m'; begin; select 1").await.unwrap();
    // What applications hold for a moment is no finding.
    let at_once = checkup(world.command("doctor")).await;
    at_once.assert("locks", "ok", &[]);
    let is_long = "select now() - xact_start > '6 s' from pg_stat_activity where pid = $1";
    eventually("they have been open for long", SOON, async || -> bool {
        world.sql.query_one(is_long, &[&backends[2]]).await.unwrap().get(0)
    })
    .await;
    let found = checkup(world.command("doctor")).await;
    for (backend, verdict, words) in [
        (backends[0], "warn", ["may have locked rows", "RowShareLock on posts"]),
        (backends[1], "fail", ["has kept all writers out", "ShareLock on post_views"]),
        (backends[2], "warn", ["has done nothing in an open transaction", "editor"]),
    ] {
        let end = format!("SELECT pg_terminate_backend({backend})");
        found.assert("locks", verdict, &[words[0], words[1], &end]);
    }
    assert_eq!(found.status, Some(1), "{:#?}", found.checks);
    assert!(!format!("{:?}", found.checks).contains('\u{1b}'));
    // A role that may not see since when they are there: they stay, and that is a finding.
    let role = format!("blind_{}", world.database.name());
    let rights = format!("create role {role} login; grant all on all tables in schema public to {role}");
    world.sql.batch_execute(&rights).await.unwrap();
    let url = world.database.url().replace("postgres://postgres@", &format!("postgres://{role}@"));
    let blind = checkup(world.command("doctor").env("DATABASE_URL", url)).await;
    let end = format!("SELECT pg_terminate_backend({})", backends[0]);
    blind.assert("locks", "warn", &["for a second at least (RowShareLock on posts)", &end, "pg_monitor"]);
}

#[tokio::test]
async fn a_sample_token_is_judged_and_never_shown() {
    let world = World::new().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    let judge = async |token: &str, more: &[(&str, &str)]| {
        std::fs::write(&file, token).unwrap();
        let doctor = world.command("doctor").env("JWT_SECRET", SECRET).arg("--token-file").arg(Path::new(&file));
        let found = checkup(more.iter().fold(doctor, |doctor, (name, value)| doctor.env(name, value))).await;
        let signature = token.trim().rsplit('.').next().unwrap().to_owned();
        assert!(signature.len() < 8 || !format!("{:?}", found.checks).contains(&signature), "{:#?}", found.checks);
        found
    };
    let good = judge(&format!("{}\n", tokens::admin(SECRET, "42")), &[]).await;
    good.assert("token", "ok", &["is accepted: viewer 42, an administrator, until 2", "(in 59m"]);
    assert_eq!(good.status, Some(0), "{:#?}", good.checks);
    judge(&tokens::hs256(SECRET, "42"), &[]).await.assert("token", "ok", &["viewer 42, no administrator"]);
    let key = tokens::SigningKey::rs256();
    for (token, more, words) in [
        (Token::new("42").expires_in(-60).hs256(SECRET), &[][..], ["(expired)", "--jwt-leeway (JWT_LEEWAY)"]),
        (Token::new("42").not_before_in(600).hs256(SECRET), &[], ["(not_yet)", "--jwt-leeway (JWT_LEEWAY)"]),
        (Token::new("42").without("exp").hs256(SECRET), &[], ["(no_expiry)", "exp"]),
        (Token::new("42").hs256("another secret of thirty-two bytes"), &[], ["(signature)", "--jwt-secret-encoding base64"]),
        (Token::new("42").sign(&key), &[], ["(algorithm)", "--jwt-algorithms (JWT_ALGORITHMS)"]),
        (Token::new("42").hs256(SECRET), &[("JWT_ISSUER", "x")], ["(issuer)", "--jwt-issuer (JWT_ISSUER)"]),
        (Token::new("42").hs256(SECRET), &[("JWT_AUDIENCE", "x")], ["(audience)", "--jwt-audience (JWT_AUDIENCE)"]),
        (Token::new("42").without("sub").hs256(SECRET), &[], ["(no_viewer)", "--jwt-viewer-claim (JWT_VIEWER_CLAIM)"]),
        (Token::new("42").claim("sub", json!([7])).hs256(SECRET), &[], ["(bad_viewer)", "--jwt-viewer-claim"]),
        (Token::new("auth0|5f7c").hs256(SECRET), &[], ["(unfit_viewer)", "--jwt-viewer-claim (JWT_VIEWER_CLAIM)"]),
        ("no token".to_owned(), &[], ["(malformed)", "three parts"]),
    ] {
        let found = judge(&token, more).await;
        found.assert("token", "fail", &words);
        assert_eq!(found.status, Some(1), "{:#?}", found.checks);
    }
    let url = [("JWT_SECRET", ""), ("JWT_JWKS_URL", "http://127.0.0.1:1/keys")];
    let fetched = judge("x", &url).await;
    fetched.assert("token", "fail", &["--jwt-jwks-url", "see that this machine reaches"]);
    fetched.assert("settings", "warn", &["set --jwt-audience or --jwt-issuer"]);

    let keyless = checkup(world.command("doctor")).await;
    keyless.assert("token", "warn", &["set JWT_SECRET_FILE"]);
    for arguments in [
        vec!["--token-file", "/nonexistent"],
        vec!["--token-file", "/nonexistent", "--jwt-secret", SECRET],
        vec!["--interval", "soon"],
    ] {
        let wrong = world.command("doctor").args(&arguments).start();
        assert_eq!(wrong.wait_exit().await.code(), Some(64), "{arguments:?}: {:?}", wrong.output());
    }
}
