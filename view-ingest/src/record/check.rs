//! The check, one pipeline for the whole batch: who is in the sets already, and what the meta hashes say.

use views_redis::{
    Pipeline, RedisError,
    post_meta::{self, Field, PostMeta},
    resp::{List, Reply},
};

use crate::record::{
    context::Context,
    group::{Checked, Group, Known, Membership},
};

const FIELDS: [Field; 5] = [Field::Author, Field::Persisted, Field::Recorded, Field::Acked, Field::Loaded];

/// Asks Redis for what it knows of the groups. Returns those of which it has told, and the others.
pub(super) async fn run<'b>(
    context: &Context,
    pipeline: &mut Pipeline,
    groups: &'b mut [Group],
) -> (Vec<Checked<'b>>, Vec<&'b mut Group>) {
    pipeline.commands.clear();
    for group in &*groups {
        ask(context, pipeline, group);
    }
    if pipeline.exchange().await.is_err() {
        return (Vec::new(), groups.iter_mut().collect());
    }
    let (mut checked, mut unavailable) = (Vec::with_capacity(groups.len()), Vec::new());
    let mut replies = pipeline.replies.iter();
    for group in groups {
        let members = if group.viewers.is_empty() { None } else { Some(replies.next()) };
        match read(group, members, replies.next()) {
            Ok(known) => checked.push(Checked { group, known }),
            Err(error) => {
                context.reporter.report("Redis did not check a post", &format_args!("{error}, post {}", group.post));
                unavailable.push(group);
            }
        }
    }
    (checked, unavailable)
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
