//! Telling Redis of viewers that PostgreSQL has got past it, from an older system: of posts that Redis knows, whoever
//! was adopted is told `duplicate` at once, and the live count is right.

use std::collections::HashSet;

use views_core::{
    ids::{PostId, ViewerId},
    log_names,
};
use views_redis::{
    resp::{Commands, Replies, Reply},
    scripts,
};

use super::{live_count::write_live_counts, reconciler::Reconciler};
use crate::error::{Failure, refusal};

/// Viewers in one script, which takes Redis a fraction of a millisecond.
const SCRIPT_VIEWERS: usize = 500;
/// Posts in one exchange that only asks whether they are there.
const EXCHANGE_POSTS: usize = 100;
/// Scripts in one exchange.
const EXCHANGE_SCRIPTS: usize = 4;

/// Returns those of the posts that Redis knows.
pub(crate) async fn known(reconciler: &mut Reconciler, posts: &[PostId]) -> Result<HashSet<PostId>, Failure> {
    let mut known = HashSet::new();
    let (mut commands, mut replies) = (Commands::default(), Replies::default());
    for chunk in posts.chunks(EXCHANGE_POSTS) {
        commands.clear();
        for post in chunk {
            commands.command("EXISTS", 1).parts(&reconciler.context().keys.meta_parts(post));
        }
        reconciler.session.exchange_owned(&commands, &mut replies).await?;
        demand_all(reconciler, &replies)?;
        let is_there = |reply: Reply<'_>| reply.number().is_some_and(|number| number > 0);
        known.extend(chunk.iter().zip(replies.iter()).filter(|(_, reply)| is_there(*reply)).map(|(post, _)| *post));
    }
    Ok(known)
}

/// Tells Redis of viewers that are stored by now, in the order of their posts. Repeating it changes nothing.
pub(crate) async fn tell(reconciler: &mut Reconciler, viewers: &[(PostId, ViewerId)]) -> Result<(), Failure> {
    let mut posts = Vec::new();
    let (mut commands, mut replies) = (Commands::default(), Replies::default());
    let mut sent: Vec<PostId> = Vec::with_capacity(EXCHANGE_SCRIPTS);
    for of_post in viewers.chunk_by(|one, next| one.0 == next.0) {
        let post = of_post[0].0;
        posts.push(post);
        for part in of_post.chunks(SCRIPT_VIEWERS) {
            let part: Vec<ViewerId> = part.iter().map(|(_, viewer)| *viewer).collect();
            scripts::adopt(&mut commands, &reconciler.context().keys, &post, &part);
            sent.push(post);
            if sent.len() >= EXCHANGE_SCRIPTS {
                send(reconciler, &mut commands, &mut replies, &mut sent).await?;
            }
        }
    }
    if !sent.is_empty() {
        send(reconciler, &mut commands, &mut replies, &mut sent).await?;
    }
    write_live_counts(reconciler, posts).await
}

/// Demands that all nodes of a cluster have answered: what one has not is told again.
pub(crate) fn demand_all(reconciler: &Reconciler, replies: &Replies) -> Result<(), Failure> {
    let is_away = |reply: &Reply<'_>| reply.error().is_some_and(|error| reconciler.context().is_of_some_nodes(error.code));
    replies.iter().find(is_away).map_or(Ok(()), |reply| Err(refusal(Some(reply)).into()))
}

async fn send(
    reconciler: &mut Reconciler,
    commands: &mut Commands,
    replies: &mut Replies,
    sent: &mut Vec<PostId>,
) -> Result<(), Failure> {
    reconciler.session.exchange_owned(commands, replies).await?;
    demand_all(reconciler, replies)?;
    for (post, reply) in sent.iter().zip(replies.iter()) {
        if matches!(reply, Reply::Error(_)) {
            // What the keys hold is the error of the post, which every scan tells.
            tracing::warn!(name: log_names::EXAMPLE, %post, error = %refusal(Some(reply)), "Redis cannot be told of a post's viewers");
        }
    }
    commands.clear();
    sent.clear();
    reconciler.context().progress.made();
    Ok(())
}
