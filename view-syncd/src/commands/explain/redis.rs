//! What Redis has of a post and a viewer.

use std::time::Duration;

use serde::Serialize;
use views_core::ids::{PostId, ViewerId};
use views_redis::{
    Code, RedisError,
    post_meta::{self, Field, PostMeta},
    resp::{Commands, Replies, Reply},
};

use crate::{
    commands::{look::Look, output},
    entry_id::EntryId,
    error::{Failure, refusal},
    reconcile::snapshot::drifts,
};

/// What is asked of a hash.
const FIELDS: [Field; 5] = [Field::Author, Field::Persisted, Field::Recorded, Field::Acked, Field::Settled];

/// What Redis has. What is not known is null.
#[derive(Debug, Default, Serialize)]
pub(super) struct PostInRedis {
    /// Whether Redis knows the post.
    pub(super) known: bool,
    /// Whether the set has the viewer.
    pub(super) member: Option<bool>,
    /// How many viewers the set has.
    pub(super) members: i64,
    /// For how long Redis keeps the post if nobody views it.
    ttl_seconds: Option<i64>,
    pub(super) author: Option<String>,
    /// The count that clients are told.
    live: i64,
    persisted: Option<i64>,
    pub(super) recorded: i64,
    acked: i64,
    /// By how much recorded - acked differs from what the outbox has of the post.
    drift: Option<i64>,
    /// The entry up to which the post's pairs are acknowledged.
    #[serde(skip)]
    pub(super) settled: Option<EntryId>,
}

pub(super) async fn look(look: &mut Look, post: &PostId, viewer: &ViewerId) -> Result<PostInRedis, Failure> {
    let (mut commands, mut replies) = (Commands::default(), Replies::default());
    let keys = &look.context.keys;
    let set = keys.views_parts(post);
    commands.command("SISMEMBER", 2).parts(&set).text(viewer.as_str());
    commands.command("SCARD", 1).parts(&set);
    post_meta::ask(&mut commands, keys, post, &FIELDS);
    commands.command("TTL", 1).parts(&keys.meta_parts(post));
    look.session.redis.exchange(&commands, &mut replies).await?;
    let mut found = PostInRedis::default();
    let mut replies = replies.iter();
    found.member = match replies.next() {
        Some(Reply::Integer(is)) => Some(is == 1),
        // An account may do without this right.
        Some(Reply::Error(error)) if error.code == Code::NoPermission => None,
        other => return Err(refusal(other).into()),
    };
    found.members = match replies.next() {
        Some(Reply::Integer(members)) => members,
        other => return Err(refusal(other).into()),
    };
    let meta = PostMeta::read(replies.next().ok_or(RedisError::NoReply)?, &FIELDS)?;
    found.known = meta.exists || found.members > 0;
    found.author = meta.author.map(str::to_owned);
    (found.persisted, found.recorded, found.acked, found.live) = (meta.persisted, meta.recorded, meta.acked, meta.live());
    found.settled = meta.settled.and_then(|id| id.parse().ok());
    found.ttl_seconds = replies.next().and_then(Reply::number).filter(|seconds| *seconds >= 0);
    // Only a short outbox can be compared at one moment.
    found.drift = drifts(&mut look.session, &[*post]).await?.get(post).copied();
    Ok(found)
}

impl PostInRedis {
    pub(super) fn set_text(&self) -> String {
        if !self.known {
            return "Redis does not know the post".to_owned();
        }
        let member = match self.member {
            Some(true) => "has the viewer",
            Some(false) => "does not have the viewer",
            None => "cannot be asked for the viewer (allow SISMEMBER)",
        };
        let ttl = match self.ttl_seconds {
            Some(seconds) => {
                let left = output::age(Duration::from_secs(seconds.unsigned_abs()));
                format!(", kept for {left}")
            }
            None => String::new(),
        };
        format!("{member}, and {} in all{ttl}", self.members)
    }

    /// Tells the live count, beside the count in PostgreSQL where that is known.
    pub(super) fn count_text(&self, stored: Option<i64>) -> String {
        if !self.known {
            return "none in Redis".to_owned();
        }
        let persisted = self.persisted.map_or_else(|| "?".to_owned(), |persisted| persisted.to_string());
        let parts = format!("{} = persisted {persisted} + recorded {} - acked {}", self.live, self.recorded, self.acked);
        match self.drift {
            Some(0) => match stored.filter(|stored| self.persisted.is_some_and(|persisted| persisted != *stored)) {
                Some(stored) => {
                    format!("{parts}: agrees with the outbox, but PostgreSQL has {stored}, which the next cycle brings here")
                }
                None => format!("{parts}: agrees with the outbox"),
            },
            Some(drift) => format!("{parts}: {drift:+} against the outbox, which the next cycle mends"),
            None => format!("{parts} (the outbox is too long to be compared at one moment)"),
        }
    }
}
