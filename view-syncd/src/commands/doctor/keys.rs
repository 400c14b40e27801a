//! The keys in Redis: whether this account may use them and write, whether they are what they have to be, and what waits
//! in them.

use std::time::Duration;

use views_core::ids::PostId;
use views_redis::{
    Code,
    resp::{Commands, Replies, Reply},
};

use super::check::Checks;
use crate::commands::{
    look::{
        Look, dead, keyspace, outboxes,
        writes::{self, Refusal},
    },
    output,
};

/// An entry that waits for longer than this, and the linger, is behind.
const LONGEST_LAG: Duration = Duration::from_secs(60);
/// Posts of the sample whose times to live are looked at.
const TTL_POSTS: usize = 50;

pub(super) async fn check(look: &mut Look, linger: Duration, checks: &mut Checks) {
    check_types(look, checks).await;
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

/// Looks whether the keys are of their types.
async fn check_types(look: &mut Look, checks: &mut Checks) {
    let keys = &look.context.keys;
    let mut asked: Vec<(&str, String)> = keys.owners().map(|owner| ("GET", owner.to_owned())).collect();
    asked.extend(keys.drained_partitions().map(|partition| ("XLEN", keys.outbox_of(partition).to_owned())));
    asked.push(("XLEN", keys.dead().to_owned()));
    let (mut commands, mut replies) = (Commands::default(), Replies::default());
    for (name, key) in &asked {
        commands.command(name, 1).text(key);
    }
    if let Err(error) = look.session.exchange(&commands, &mut replies).await {
        return checks.fail("redis-keys", format!("Redis does not answer: {error}"));
    }
    let is_misused = |reply: Reply<'_>| reply.error().is_some_and(|error| error.code == Code::WrongType);
    let misused = asked.iter().zip(replies.iter()).filter(|(_, reply)| is_misused(*reply));
    let misused: Vec<&str> = misused.map(|((_, key), _)| key.as_str()).collect();
    if misused.is_empty() {
        return checks.ok("redis-keys", "are of their types");
    }
    let text = format!(
        "{} holds something of another program's: rename that, or give this installation a --redis-prefix (REDIS_PREFIX)",
        misused.join(", ")
    );
    checks.fail("redis-keys", text);
}

/// Looks whether Redis takes writes.
async fn check_writes(look: &mut Look, checks: &mut Checks) {
    match writes::refusal(look).await {
        None => checks.ok("redis-writes", "takes writes"),
        Some(Refusal::Forbidden) => checks.warn("redis-writes", "cannot be tried: allow SETRANGE of views:owner"),
        Some(Refusal::NoWrites(text)) => checks.fail("redis-writes", text),
    }
}

/// Looks at what else there is among the keys.
async fn check_others(look: &mut Look, checks: &mut Checks) {
    let Ok(sample) = keyspace::sample(&mut look.session).await else { return };
    check_ttl(look, sample.some_posts(TTL_POSTS), checks).await;
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

/// Looks whether another process keeps posts for longer than this one would: both programs set the time to live.
async fn check_ttl(look: &mut Look, posts: Vec<PostId>, checks: &mut Checks) {
    let (mut commands, mut replies) = (Commands::default(), Replies::default());
    let keys = &look.context.keys;
    for post in &posts {
        commands.command("TTL", 1).parts(&keys.meta_parts(post));
    }
    if look.session.exchange(&commands, &mut replies).await.is_err() {
        return;
    }
    let own = keys.ttl().seconds();
    let longest = replies.iter().filter_map(Reply::number).max().unwrap_or(0);
    let [own_text, longest_text] = [own, longest].map(|seconds| output::age(Duration::from_secs(seconds.unsigned_abs())));
    let differs = format!(
        "a post is kept for {longest_text}, and this setting keeps it for {own_text}: give both programs the same --view-ttl (VIEW_TTL)"
    );
    checks.warn_or("view-ttl", (longest > own).then_some(differs), format!("posts that nobody views are kept for {own_text}"));
}

async fn check_outbox(look: &mut Look, linger: Duration, checks: &mut Checks) {
    let Ok(seen) = outboxes::measure(look).await else { return };
    if let Some((number, error)) = &seen.unread {
        checks.fail("outbox", format!("the outboxes of {number} partitions cannot be read: {error}"));
    }
    let (age, oldest) = (seen.age(look), seen.oldest());
    let text = format!("{}, the oldest {} old", output::counted(seen.entries(), "entry", "entries"), output::age(age));
    if age > LONGEST_LAG + linger {
        checks.fail("outbox", format!("{text}: views do not reach PostgreSQL; /readyz of the view-syncd that leads says why"));
    } else if oldest.is_none() {
        checks.ok("outbox", "empty");
    } else {
        checks.ok("outbox", text);
    }
}
