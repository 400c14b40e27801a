//! The keys in Redis: whether this account may use them and write, whether they are what they have to be, and what waits
//! in them.

use std::time::Duration;

use views_core::{ids::PostId, keys::Keys};
use views_redis::{
    Code, RedisError, ServerError,
    resp::{Commands, Replies, Reply},
    scripts::prove_writable,
};

use super::check::Checks;
use crate::{
    commands::{
        look::{Look, dead, keyspace},
        output,
    },
    drain::outbox,
};

/// An entry that waits for longer than this, and the linger, is behind.
const LONGEST_LAG: Duration = Duration::from_secs(60);
/// The post whose keys are asked for, to see whether they may be: it need not be there.
const ANY_POST: &str = "0";

pub(super) async fn check(look: &mut Look, linger: Duration, checks: &mut Checks) {
    let keys = look.context.keys.clone();
    match ask(look, &keys).await {
        Ok(answers) => judge(&keys, &answers, checks),
        Err(error) => return checks.fail("redis-rights", format!("Redis does not answer: {error}")),
    }
    check_writes(look, checks).await;
    check_others(look, checks).await;
    check_outbox(look, linger, checks).await;
    match dead::count(&mut look.session).await {
        Ok(dead) if dead.entries == 0 => checks.ok("dead-letters", "none"),
        Ok(dead) => {
            let reasons: Vec<&str> = dead.reasons.iter().map(|reason| reason.reason.as_str()).take(3).collect();
            let views = output::counted(dead.entries, "view", "views");
            checks.warn(
                "dead-letters",
                format!(
                    "{views} could not be stored ({}): see `view-syncd dead list`, then `dead retry` or `dead drop`",
                    reasons.join("; ")
                ),
            );
        }
        // What is wrong is told above.
        Err(_) => {}
    }
}

/// An answer: the command, the key, and the error.
type Answer = (&'static str, String, Option<(Code, String)>);

/// Sends one of each kind of command that reads, and a script that does nothing.
async fn ask(look: &mut Look, keys: &Keys) -> Result<Vec<Answer>, RedisError> {
    let (mut commands, mut replies) = (Commands::default(), Replies::default());
    let mut asked = Vec::new();
    let mut ask = |name: &'static str, key: &str, more: &[&str]| {
        commands.command(name, 1 + more.len()).text(key);
        for argument in more {
            commands.text(argument);
        }
        asked.push((name, key.to_owned()));
    };
    ask("GET", keys.owner(), &[]);
    for stream in [keys.outbox(), keys.dead()] {
        ask("XLEN", stream, &[]);
        ask("XRANGE", stream, &["-", "+", "COUNT", "1"]);
    }
    if let Ok(post) = PostId::parse(ANY_POST) {
        let (set, hash) = (keys.views(&post), keys.meta(&post));
        ask("SCARD", &set, &[]);
        ask("SSCAN", &set, &["0", "COUNT", "1"]);
        ask("TTL", &hash, &[]);
        ask("HMGET", &hash, &["persisted"]);
        ask("EXISTS", &hash, &[]);
    }
    ask("EVAL", "return 1", &["0"]);
    ask("SCAN", "0", &["COUNT", "1"]);
    look.session.redis.exchange(&commands, &mut replies).await?;
    let errors = replies.iter().map(|reply| reply.error().map(|ServerError { code, text }| (code, text.to_owned())));
    Ok(asked.into_iter().zip(errors).map(|((name, key), error)| (name, key, error)).collect())
}

fn judge(keys: &Keys, answers: &[Answer], checks: &mut Checks) {
    let mut forbidden: Vec<&str> = Vec::new();
    let mut misused: Vec<&str> = Vec::new();
    for (name, key, error) in answers {
        match error {
            Some((Code::NoPermission, _)) if !forbidden.contains(name) => forbidden.push(name),
            Some((Code::WrongType, _)) if !misused.contains(&key.as_str()) => misused.push(key),
            Some((Code::NoPermission | Code::WrongType, _)) | None => {}
            Some((_, text)) => checks.fail("redis-rights", format!("Redis refuses {name} {key}: {text}")),
        }
    }
    if forbidden.is_empty() {
        checks.ok("redis-rights", "this account may read all keys");
    } else {
        let prefix = if keys.prefix().is_empty() { "" } else { ", with the prefix behind each ~ and &" };
        let text = format!(
            "Redis forbids this account {}: give it what deploy/redis-users.conf grants view-syncd{prefix}",
            forbidden.join(", ")
        );
        checks.fail("redis-rights", text);
    }
    if misused.is_empty() {
        checks.ok("redis-keys", "are of their types");
    } else {
        let text = format!(
            "{} holds something of another program's: rename that, or give this installation a --redis-prefix (REDIS_PREFIX)",
            misused.join(", ")
        );
        checks.fail("redis-keys", text);
    }
}

/// Looks whether Redis takes writes, by one that changes nothing.
async fn check_writes(look: &mut Look, checks: &mut Checks) {
    let (mut commands, mut replies) = (Commands::default(), Replies::default());
    prove_writable(&mut commands, &look.context.keys);
    let result = look.session.redis.exchange(&commands, &mut replies).await;
    let (code, text) = match (&result, replies.iter().next()) {
        (Err(RedisError::Server { code, text }), _) => (*code, text.clone()),
        (Err(error), _) => (Code::Other, error.to_string()),
        (Ok(()), Some(Reply::Error(error))) => (error.code, error.text.to_owned()),
        (Ok(()), _) => return checks.ok("redis-writes", "takes writes"),
    };
    let advice = match code {
        // The key is looked at elsewhere.
        Code::WrongType => return checks.ok("redis-writes", "takes writes"),
        Code::NoPermission => return checks.warn("redis-writes", "cannot be tried: allow SETRANGE of views:owner"),
        Code::OutOfMemory => "Redis is full: raise maxmemory",
        Code::ReadOnly => "give the address of its primary with --redis-url (REDIS_URL)",
        Code::NoReplicas => "start its replicas, of which min-replicas-to-write demands some",
        Code::Misconfigured => "Redis cannot save its data: see to its disk, and to its log",
        Code::Loading => "wait until it has loaded its data",
        _ => "see the log of Redis",
    };
    checks.fail("redis-writes", format!("Redis takes no writes ({text}): {advice}"));
}

/// Looks at what else there is among the keys.
async fn check_others(look: &mut Look, checks: &mut Checks) {
    let Ok(sample) = keyspace::sample(&mut look.session).await else { return };
    let keys = &look.context.keys;
    for (pattern, number) in &sample.misnamed {
        let text = format!(
            "{} like {}{pattern} {} not hold the id of a post, and {} passed over: give this installation a --redis-prefix (REDIS_PREFIX) \
             where they are another program's",
            output::counted(*number, "key", "keys"),
            keys.prefix(),
            if *number == 1 { "does" } else { "do" },
            if *number == 1 { "is" } else { "are" },
        );
        checks.warn("redis-prefix", text);
    }
    let own = if keys.prefix().is_empty() { "no prefix".to_owned() } else { format!("the prefix {}", keys.prefix()) };
    if sample.others.is_empty() {
        checks.ok("redis-prefix", own);
    } else {
        let name = |other: &String| if other.is_empty() { "none".to_owned() } else { other.clone() };
        let others: Vec<String> = sample.others.iter().map(name).collect();
        checks.ok("redis-prefix", format!("{own}; other installations are here with {}", others.join(", ")));
    }
}

async fn check_outbox(look: &mut Look, linger: Duration, checks: &mut Checks) {
    let Ok((entries, oldest)) = outbox::measure(&mut look.session).await else { return };
    let age = oldest.map(|oldest| look.age(oldest)).unwrap_or_default();
    let text = format!("{}, the oldest {} old", output::counted(entries.unsigned_abs(), "entry", "entries"), output::age(age));
    if age > LONGEST_LAG + linger {
        checks.fail("outbox", format!("{text}: views do not reach PostgreSQL; /readyz of the view-syncd that leads says why"));
    } else if oldest.is_none() {
        checks.ok("outbox", "empty");
    } else {
        checks.ok("outbox", text);
    }
}
