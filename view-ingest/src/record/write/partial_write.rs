//! Writing cut short, and writing done wrong: only for proofs (see [`views_core::failpoints`]).

use views_core::failpoints;
use views_redis::{Pipeline, Session};

use super::{
    outbox::{self, EntryIds, Parts},
    send_posts,
};
use crate::record::{breaker::REDIS_TIMEOUT, check::Checked, context::Context};

/// Dies on the way, or sends things in the wrong order, if either is wanted. Returns nothing where all is to be as it
/// should.
pub(super) async fn exchange(
    context: &Context,
    pipeline: &mut Pipeline,
    groups: &[Checked<'_>],
    parts: &mut Parts,
) -> Option<bool> {
    if failpoints::is_broken(failpoints::SET_BEFORE_OUTBOX) {
        let sent = send_posts(context, pipeline, groups, parts).await;
        failpoints::at("record::between");
        // The replies of the sets are what is read, so the outbox has a pipeline of its own.
        let mut own = Pipeline::new(Session::new(&context.redis, REDIS_TIMEOUT, context.breaker.epoch()));
        return Some(sent && send_outbox(context, &mut own, groups, parts).await);
    }
    if failpoints::hit("record::between") {
        send_outbox(context, pipeline, groups, parts).await;
        failpoints::abort("record::between");
    }
    if failpoints::hit("record::before_count") {
        if !send_outbox(context, pipeline, groups, parts).await {
            return Some(false);
        }
        pipeline.commands.clear();
        for checked in groups {
            let views = context.keys.views_parts(&checked.group.post);
            for viewer in checked.new_viewers() {
                pipeline.commands.command("SADD", 2).parts(&views).text(viewer.as_str());
            }
        }
        let _ = pipeline.exchange().await;
        failpoints::abort("record::before_count");
    }
    None
}

/// Returns whether all outboxes have taken their parts.
async fn send_outbox(context: &Context, pipeline: &mut Pipeline, groups: &[Checked<'_>], parts: &mut Parts) -> bool {
    outbox::send(context, pipeline, groups, parts, &mut EntryIds::new()).await;
    parts.iter().all(|part| part.is_taken)
}
