//! Telling Redis of viewers that PostgreSQL has got past it, from an older system: of posts that Redis knows, whoever
//! was adopted is told `duplicate` at once, and the live count is right.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use views_core::{
    failpoints,
    ids::{PostId, ViewerId},
};
use views_postgres::ledger;
use views_redis::{
    resp::{Commands, Replies, Reply},
    scripts::{self, Adjustment, AdoptedViewers, Adoption},
};

use super::{adjust::adjust, post_state::read_states, reconciler::Reconciler, report::ScanReport};
use crate::error::{Failure, refusal};

/// Viewers in one script, which takes Redis a fraction of a millisecond.
const SCRIPT_VIEWERS: usize = 500;
/// Viewers, and posts, in one exchange.
const EXCHANGE_VIEWERS: usize = 1_000;
const EXCHANGE_POSTS: usize = 20;
/// How long a count is waited for that others change meanwhile. After that, the scan writes it.
const COUNT_PATIENCE: Duration = Duration::from_secs(3);
/// The pause in between.
const COUNT_PAUSE: Duration = Duration::from_millis(50);

/// The counts that Redis has of the posts that it knows.
pub(crate) type Seen = HashMap<PostId, Option<i64>>;

/// Returns which of the posts Redis knows, and their counts. To be asked before their viewers are stored.
pub(crate) async fn see(reconciler: &mut Reconciler, posts: &[PostId]) -> Result<Seen, Failure> {
    let states = read_states(&mut reconciler.session, posts, &mut ScanReport::default()).await?;
    Ok(states.into_iter().filter(|(_, state)| state.has_meta).map(|(post, state)| (post, state.persisted)).collect())
}

/// Tells Redis of viewers that are stored by now, in the order of their posts, and by how much each post's count has
/// changed with them since it was seen. Repeating it changes nothing.
pub(crate) async fn tell(
    reconciler: &mut Reconciler,
    viewers: &[(PostId, ViewerId)],
    changes: &HashMap<PostId, i64>,
    seen: &Seen,
) -> Result<(), Failure> {
    let mut uncounted = Vec::new();
    let of_posts: Vec<(PostId, Vec<ViewerId>)> = viewers
        .chunk_by(|one, next| one.0 == next.0)
        .map(|chunk| (chunk[0].0, chunk.iter().map(|(_, viewer)| *viewer).collect()))
        .collect();
    let adoption = |post| Adoption {
        post,
        seen: seen.get(post).copied().flatten(),
        change: Some(changes.get(post).copied().unwrap_or(0)),
        heard: 0,
        viewers: &[],
    };
    let mut few: Vec<Adoption<'_>> = Vec::new();
    for (post, viewers) in &of_posts {
        if viewers.len() > SCRIPT_VIEWERS {
            send_many(reconciler, adoption(post), viewers, &mut uncounted).await?;
            continue;
        }
        few.push(Adoption { viewers, ..adoption(post) });
        if few.len() >= EXCHANGE_POSTS || few.iter().map(|few| few.viewers.len()).sum::<usize>() >= EXCHANGE_VIEWERS {
            send(reconciler, &std::mem::take(&mut few), &mut uncounted).await?;
        }
    }
    send(reconciler, &few, &mut uncounted).await?;
    failpoints::at("adopt::told");
    write_counts(reconciler, uncounted).await
}

/// Sends the viewers of a post in several steps. The count moves with the last.
async fn send_many(
    reconciler: &mut Reconciler,
    whole: Adoption<'_>,
    viewers: &[ViewerId],
    uncounted: &mut Vec<PostId>,
) -> Result<(), Failure> {
    let mut heard = 0;
    let last = viewers.chunks(SCRIPT_VIEWERS).count().saturating_sub(1);
    for (place, chunk) in viewers.chunks(SCRIPT_VIEWERS).enumerate() {
        let change = whole.change.filter(|_| place == last);
        let part = Adoption { change, heard, viewers: chunk, ..whole };
        let Some(told) = send(reconciler, &[part], uncounted).await?.pop().flatten() else { return Ok(()) };
        heard += i64::try_from(chunk.len()).unwrap_or(i64::MAX) - told.added;
        reconciler.context().progress.made();
    }
    Ok(())
}

/// Sends viewers of some posts. Notes the posts whose counts could not be moved.
async fn send(
    reconciler: &mut Reconciler,
    adoptions: &[Adoption<'_>],
    uncounted: &mut Vec<PostId>,
) -> Result<Vec<Option<AdoptedViewers>>, Failure> {
    if adoptions.is_empty() {
        return Ok(Vec::new());
    }
    let (mut commands, mut replies) = (Commands::default(), Replies::default());
    for adoption in adoptions {
        scripts::adopt(&mut commands, &reconciler.context().keys, adoption);
    }
    reconciler.session.exchange_owned(&commands, &mut replies).await?;
    let mut all = Vec::with_capacity(adoptions.len());
    for (adoption, reply) in adoptions.iter().zip(replies.iter()) {
        if matches!(reply, Reply::Error(_)) {
            // What the key holds is the error of the post, which every scan tells.
            tracing::warn!(post = %adoption.post, error = %refusal(Some(reply)), "Redis cannot be told of a post's viewers");
        }
        let told = scripts::adopted(reply);
        if told.is_some_and(|told| !told.is_counted) {
            uncounted.push(*adoption.post);
        }
        all.push(told);
    }
    Ok(all)
}

/// Writes the counts of posts whose counts have changed in Redis since they were seen, by a drain or by a scan: a count
/// that holds all of it already must not be raised again. Where views are pending all the time, the next scan does it.
async fn write_counts(reconciler: &mut Reconciler, mut posts: Vec<PostId>) -> Result<(), Failure> {
    let until = Instant::now() + COUNT_PATIENCE;
    while !posts.is_empty() {
        // What Redis has before PostgreSQL is asked: nothing that is younger is written over.
        let states = read_states(&mut reconciler.session, &posts, &mut ScanReport::default()).await?;
        let counts = ledger::counts(&reconciler.context().database, &posts).await?;
        let differs = |post: &PostId| {
            let (views, known) = (counts.get(post).copied()?, states.get(post).filter(|state| state.has_meta)?.persisted);
            (known != Some(views)).then(|| Adjustment { known, views: Some(views), is_quiet: true, ..Adjustment::of(*post) })
        };
        let adjustments: Vec<Adjustment> = posts.iter().filter_map(differs).collect();
        adjust(&mut reconciler.session, &adjustments, &mut ScanReport::default()).await?;
        if adjustments.is_empty() || Instant::now() >= until {
            break;
        }
        posts = adjustments.iter().map(|adjustment| adjustment.post).collect();
        tokio::time::sleep(COUNT_PAUSE).await;
    }
    Ok(())
}
