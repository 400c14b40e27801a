//! Whether Redis takes writes.

use views_redis::{
    Code, RedisError,
    resp::{Commands, Replies, Reply},
    scripts::prove_writable,
};

use super::Look;

/// Why a write that changes nothing was refused.
pub(crate) enum Refusal {
    /// This account may not try it.
    Forbidden,
    /// Redis takes no writes: why, and what to do.
    NoWrites(String),
}

/// Tries a write that changes nothing. Returns why it was refused, where it was.
pub(crate) async fn refusal(look: &mut Look) -> Option<Refusal> {
    let (mut commands, mut replies) = (Commands::default(), Replies::default());
    prove_writable(&mut commands, &look.context.keys);
    let result = look.session.redis.exchange(&commands, &mut replies).await;
    let (code, text) = match (&result, replies.iter().next()) {
        (Err(RedisError::Server { code, text }), _) => (*code, text.clone()),
        (Err(error), _) => (Code::Other, error.to_string()),
        (Ok(()), Some(Reply::Error(error))) => (error.code, error.text.to_owned()),
        (Ok(()), _) => return None,
    };
    let advice = match code {
        // The key is looked at elsewhere.
        Code::WrongType => return None,
        Code::NoPermission => return Some(Refusal::Forbidden),
        Code::OutOfMemory => "Redis is full: raise maxmemory",
        Code::ReadOnly => "give the address of its primary with --redis-url (REDIS_URL)",
        Code::NoReplicas => "start its replicas, of which min-replicas-to-write demands some",
        Code::Misconfigured => "Redis cannot save its data: see to its disk, and to its log",
        Code::Loading => "wait until it has loaded its data",
        _ => "see the log of Redis",
    };
    Some(Refusal::NoWrites(format!("Redis takes no writes ({text}): {advice}")))
}
