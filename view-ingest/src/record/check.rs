//! The check, one pipeline for the whole batch: who is in the sets already, what the meta hashes say, and what follows
//! from that.

use views_core::ids::ViewerId;
use views_redis::{
    Code, Pipeline, RedisError,
    post_meta::{self, Field, PostMeta},
    resp::{List, Reply},
    scripts::Depth,
};

use crate::record::{
    context::Context,
    group::{Group, LookupResult, Membership},
};

const FIELDS: [Field; 5] = [Field::Author, Field::Persisted, Field::Recorded, Field::Acked, Field::Loaded];

/// A group of which Redis has told what it knows.
#[derive(Debug)]
pub(super) struct Checked<'b> {
    pub(super) group: &'b mut Group,
    pub(super) known: Known,
}

/// What Redis knows of a post: the fields of its meta hash.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Known {
    /// Whether the author is known, so that somebody has looked the post up.
    pub(super) has_author: bool,
    /// Whether the set has the viewers that the ledger has, as far as they were few enough.
    pub(super) is_loaded: bool,
    /// The count in PostgreSQL, where it is known.
    pub(super) persisted: Option<i64>,
    pub(super) recorded: i64,
    pub(super) acked: i64,
}

/// What is to be done with a group next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// It can be written as it is.
    Write,
    /// It can be written where there is room for posts that nobody could look up: this one would take memory that Redis
    /// does not spend on it yet.
    WriteUnverified,
    /// Its post has to be looked up.
    LookUp,
    /// Redis did not take what PostgreSQL knows of the post, so it cannot be written.
    Refuse,
}

impl Checked<'_> {
    /// Returns what is to be done with the group. `has_missed` says that the post has been viewed past Redis: then
    /// somebody has to look it up, whatever Redis knows. Without a database nobody can.
    pub(super) fn next(&self, has_missed: bool, has_database: bool) -> Next {
        let is_stale = has_missed && !self.was_looked_up(Depth::View);
        if self.has_lookup(LookupResult::Refused) {
            Next::Refuse
        } else if has_database && (is_stale || self.needs_lookup()) {
            Next::LookUp
        } else if self.is_unverified() {
            Next::WriteUnverified
        } else {
            Next::Write
        }
    }

    /// Returns how many viewers the set does not have yet.
    pub(super) fn new_count(&self) -> usize {
        self.group.viewers.iter().filter(|viewer| viewer.membership == Membership::New).count()
    }

    /// Returns the viewers that the set does not have yet.
    pub(super) fn new_viewers(&self) -> impl Iterator<Item = &ViewerId> {
        self.group.viewers.iter().filter(|viewer| viewer.membership == Membership::New).map(|viewer| &viewer.id)
    }

    /// Returns whether Redis does not know of the post what the items need, and PostgreSQL has not been asked for it
    /// this moment. Whoever only reads needs no viewers, nor does one whom the set has, or the author.
    pub(super) fn needs_lookup(&self) -> bool {
        let Known { has_author, is_loaded, .. } = self.known;
        let lacks_viewers = !is_loaded && self.new_count() > 0;
        (!has_author || lacks_viewers) && !self.was_looked_up(self.group.depth())
    }

    /// Returns whether the post, which could not be looked up, would take memory that Redis does not spend on it yet.
    fn is_unverified(&self) -> bool {
        let Known { has_author, recorded, .. } = self.known;
        self.has_lookup(LookupResult::Unavailable) && !has_author && recorded == 0 && self.new_count() > 0
    }

    /// Returns whether an item has been looked up with that result.
    fn has_lookup(&self, result: LookupResult) -> bool {
        self.group.items.iter().any(|item| item.lookup.is_some_and(|lookup| lookup.result == result))
    }

    /// Returns whether the post has been looked up a moment ago as deep as that, or deeper. What a reader has had
    /// looked up does not excuse a view.
    fn was_looked_up(&self, depth: Depth) -> bool {
        self.group.items.iter().any(|item| item.lookup.is_some_and(|lookup| lookup.depth >= depth))
    }
}

/// Asks Redis for what it knows of the groups. Returns those of which it has told, the others, and of how many of these
/// only the posts' own keys are to blame.
pub(super) async fn run<'b>(
    context: &Context,
    pipeline: &mut Pipeline,
    groups: &'b mut [Group],
) -> (Vec<Checked<'b>>, Vec<&'b mut Group>, usize) {
    pipeline.commands.clear();
    for group in &*groups {
        ask(context, pipeline, group);
    }
    if pipeline.exchange().await.is_err() {
        return (Vec::new(), groups.iter_mut().collect(), 0);
    }
    let (mut checked, mut unavailable, mut own_faults) = (Vec::with_capacity(groups.len()), Vec::new(), 0);
    let mut replies = pipeline.replies.iter();
    for group in groups {
        let members = if group.viewers.is_empty() { None } else { Some(replies.next()) };
        match read(group, members, replies.next()) {
            Ok(known) => checked.push(Checked { group, known }),
            Err(error) => {
                // Of a node that is away, the circuit breaker tells.
                if !error.is_away() {
                    tracing::warn!(%error, post = %group.post, "Redis did not check a post");
                }
                if error.code() == Some(Code::ClusterDown) {
                    context.breaker.inspect_again();
                }
                own_faults += usize::from(error.code().is_some_and(Code::is_about_the_key));
                unavailable.push(group);
            }
        }
    }
    (checked, unavailable, own_faults)
}

fn ask(context: &Context, pipeline: &mut Pipeline, group: &Group) {
    let commands = &mut pipeline.commands;
    if !group.viewers.is_empty() {
        commands.command("SMISMEMBER", 1 + group.viewers.len()).parts(&context.keys.views_parts(&group.post));
        for viewer in &group.viewers {
            commands.text(viewer.id.as_str());
        }
    }
    post_meta::ask(commands, &context.keys, &group.post, &FIELDS);
}

/// Reads the replies about a group, and notes which of its viewers the set has.
fn read(group: &mut Group, members: Option<Option<Reply<'_>>>, meta: Option<Reply<'_>>) -> Result<Known, RedisError> {
    if let Some(members) = members {
        let members = list(members, group.viewers.len())?;
        for (viewer, member) in group.viewers.iter_mut().zip(members.iter()) {
            viewer.membership = if member == Reply::Integer(1) { Membership::Member } else { Membership::New };
        }
    }
    let meta = PostMeta::read(meta.ok_or(RedisError::NoReply)?, &FIELDS)?;
    for viewer in group.viewers.iter_mut().filter(|viewer| meta.author == Some(viewer.id.as_str())) {
        viewer.membership = Membership::Author;
    }
    let PostMeta { author, is_loaded, persisted, recorded, acked, .. } = meta;
    Ok(Known { has_author: author.is_some(), is_loaded, persisted, recorded, acked })
}

fn list(reply: Option<Reply<'_>>, length: usize) -> Result<List<'_>, RedisError> {
    match reply {
        Some(Reply::List(list)) if list.len() == length => Ok(list),
        Some(Reply::Error(error)) => Err(error.into()),
        Some(_) => Err(RedisError::UnexpectedReply),
        None => Err(RedisError::NoReply),
    }
}
