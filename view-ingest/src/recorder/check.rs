//! The check, one pipeline for the whole batch: who is in the sets already, and what the meta hashes say.

use views_core::keys::{Keys, field};
use views_redis::resp::{Commands, List, Reply};

use super::{
    Stores, Unavailable,
    batch::{Group, Meta, Standing},
    lane::Lane,
};

/// Fills in what Redis knows. A group whose replies are missing or are errors stays unavailable.
pub(super) async fn run(stores: &Stores, lane: &mut Lane, groups: &mut [Group]) {
    lane.commands.clear();
    for group in &*groups {
        queue(&mut lane.commands, &stores.keys, group);
    }
    if !lane.exchange(stores).await {
        return;
    }
    let mut replies = lane.replies.iter();
    for group in groups {
        let members = if group.viewers.is_empty() { None } else { Some(replies.next()) };
        let meta = replies.next();
        group.meta = read(group, members, meta).map_err(|error| {
            stores.health.complain("Redis did not check a post", &format_args!("{error}, post {}", group.post));
            Unavailable
        });
    }
}

fn queue(commands: &mut Commands, keys: &Keys, group: &Group) {
    if !group.viewers.is_empty() {
        commands.command("SMISMEMBER", 1 + group.viewers.len()).parts(&keys.views_parts(&group.post));
        for viewer in &group.viewers {
            commands.text(viewer.id.as_str());
        }
    }
    commands.command("HMGET", 6).parts(&keys.meta_parts(&group.post));
    commands.text(field::AUTHOR).text(field::PERSISTED).text(field::RECORDED).text(field::ACKED).text(field::LOADED);
}

fn read(group: &mut Group, members: Option<Option<Reply<'_>>>, meta: Option<Reply<'_>>) -> Result<Meta, String> {
    if let Some(members) = members {
        let members = list(members, group.viewers.len())?;
        for (viewer, member) in group.viewers.iter_mut().zip(members.iter()) {
            viewer.standing = if member == Reply::Integer(1) { Standing::Returning } else { Standing::New };
        }
    }
    let mut fields = list(meta, 5)?.iter();
    let author = fields.next().and_then(|value| if let Reply::Text(text) = value { Some(text) } else { None });
    for viewer in group.viewers.iter_mut().filter(|viewer| author == Some(viewer.id.as_str())) {
        viewer.standing = Standing::Author;
    }
    let mut number = || fields.next().and_then(|value| if let Reply::Text(text) = value { text.parse().ok() } else { None });
    let (persisted, recorded, acked) = (number(), number().unwrap_or(0), number().unwrap_or(0));
    Ok(Meta { touched: author.is_some(), loaded: number().is_some(), persisted, recorded, acked })
}

fn list(reply: Option<Reply<'_>>, length: usize) -> Result<List<'_>, String> {
    match reply {
        Some(Reply::List(list)) if list.len() == length => Ok(list),
        Some(Reply::Error(text)) => Err(text.to_owned()),
        _ => Err("as many values as asked for were expected".to_owned()),
    }
}
