//! No answer's count is ever above the distinct viewers sent, nor below those acknowledged before it was asked.
//!
//! That is demanded of the posts of which the application changes nothing but locks, in the first part of a run (`counts_until`), while these go
//! on: view-syncd is killed at any point, stopped and cut off from either store; PostgreSQL is killed and stopped; view-ingest is cut off from
//! PostgreSQL and from its clients, and restarted by SIGTERM; and all that the application does. Not demanded is it
//!
//! * once view-ingest dies or sleeps between an entry and its increment, or does not hear what Redis has done of a batch. The batch is
//!   answered by PostgreSQL then (or by nobody), and may be in the outbox, too: until that is drained, its pairs may count twice or not at all;
//! * once Redis loses data: keys that are deleted take the numbers along that the outbox still has pairs of. (It loses nothing by being
//!   killed, but replies: see above.)
//! * of posts whose count or existence the application changes: then its count is the right one;
//! * from below, of authors, whose views may be acknowledged unseen while PostgreSQL is away, and do not count; and of viewers whom a trigger
//!   refuses, or whose view somebody else has locked: those wait in `views:dead`, where no count has them;
//! * from above, to the last view, while one viewer's view of the post is asked for twice at the same time, by two view-ingests: for the time of
//!   a round trip to Redis, until the one that was late has taken its increment back, both of them count (`raced.lua`).
//!
//! At the end of a run, when everything is settled, every live count is that of the database, whatever has happened.

use crate::{
    history::History,
    world::{Nature, World, may_be_refused},
};

/// What is known before posts are asked about.
pub(crate) struct Bounds<'a> {
    history: &'a History,
    until_ms: u128,
    /// For each post: what its count must not be below, and how many repeated requests have ended.
    asked: Vec<(&'a str, i64, i64)>,
}

/// Returns whether an acknowledged view has to be in all counts that are asked for afterwards.
pub(crate) fn is_counted(world: &World, post: &str, viewer: &str) -> bool {
    world.post(post).is_some_and(|post| post.nature == Nature::Kept && !post.may_be_by(viewer)) && !may_be_refused(viewer)
}

impl<'a> Bounds<'a> {
    /// Notes what the answers must not be below. Called before the question is sent.
    pub(crate) fn new(world: &World, history: &'a History, until_ms: u128, posts: &'a [String]) -> Self {
        let kept = posts.iter().filter(|id| world.post(id).is_some_and(|post| post.nature == Nature::Kept));
        let asked = kept.map(|id| (id.as_str(), history.counted(id), history.repetitions(id).1));
        Self { history, until_ms, asked: asked.collect() }
    }

    /// Looks at a count. Called when the answer is there.
    pub(crate) fn check(&self, post: &str, views: Option<i64>) -> Result<(), String> {
        let Some(views) = views else { return Err("an answer without a count".to_owned()) };
        let Some((_, least, ended)) = self.asked.iter().find(|(id, ..)| *id == post) else { return Ok(()) };
        if self.history.now_ms() >= self.until_ms {
            return Ok(());
        }
        self.history.checked();
        let most = self.history.sent(post);
        let repetitions = self.history.repetitions(post).0 - ended;
        if views > most + repetitions {
            return Err(format!(
                "TOO HIGH: {views} views of post {post}, and {most} distinct viewers were sent so far, {repetitions} of them twice at once"
            ));
        }
        if views < *least {
            return Err(format!("TOO LOW: {views} views of post {post}, and {least} were acknowledged before"));
        }
        Ok(())
    }
}
