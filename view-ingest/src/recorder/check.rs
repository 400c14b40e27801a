//! The check, one pipeline for the whole batch: who is in the sets already, and what the meta hashes say.

use fred::{
    clients::Client,
    interfaces::{HashesInterface, SetsInterface},
    types::Value,
};
use shared::keys::{self, field};

use super::{
    Stores, Unavailable,
    batch::{Group, Meta},
};

/// Fills in what Redis knows. A group whose replies are missing or are errors stays unavailable.
pub(super) async fn run(stores: &Stores, groups: &mut [Group]) {
    let (redis, health) = (&stores.redis, &stores.health);
    // Commands would only be queued until their deadline, or answered by a server that is not the one to ask.
    if !stores.gate.is_open() {
        return;
    }
    let pipeline = redis.pipeline();
    for group in &*groups {
        if let Err(error) = queue(&pipeline, group).await {
            health.complain("cannot queue a check", &error);
            return;
        }
    }
    let mut replies = pipeline.try_all::<Value>().await.into_iter();
    for group in groups {
        let members = if group.viewers.is_empty() { None } else { Some(replies.next()) };
        let meta = replies.next();
        group.meta = read(group, members, meta).map_err(|error| {
            health.complain("Redis did not check a post", &format_args!("{error}, post {}", group.post));
            Unavailable
        });
    }
}

async fn queue(pipeline: &fred::clients::Pipeline<Client>, group: &Group) -> Result<(), fred::error::Error> {
    if !group.viewers.is_empty() {
        let viewers: Vec<&str> = group.viewers.iter().map(|(viewer, _)| viewer.as_str()).collect();
        let () = pipeline.smismember(keys::views(&group.post), viewers).await?;
    }
    let fields = vec![field::AUTHOR, field::PERSISTED, field::RECORDED, field::ACKED];
    pipeline.hmget(keys::meta(&group.post), fields).await
}

type Reply = Result<Value, fred::error::Error>;

fn read(group: &mut Group, members: Option<Option<Reply>>, meta: Option<Reply>) -> Result<Meta, String> {
    let reply = |reply: Option<Reply>| reply.ok_or("no reply")?.map_err(|error| error.to_string());
    if let Some(members) = members {
        let members = reply(members)?.into_array();
        if members.len() != group.viewers.len() {
            return Err("as many members as asked for were expected".to_owned());
        }
        for (viewer, member) in group.viewers.iter_mut().zip(members) {
            viewer.1 = member.as_i64() == Some(1);
        }
    }
    let mut fields = reply(meta)?.into_array().into_iter();
    let author = fields.next().and_then(Value::into_string);
    let mut number = || fields.next().and_then(|value| value.as_i64());
    Ok(Meta { author, persisted: number(), recorded: number().unwrap_or(0), acked: number().unwrap_or(0) })
}
