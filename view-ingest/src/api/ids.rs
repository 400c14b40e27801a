//! Post ids as clients send them, and what several routes answer.

use std::collections::HashSet;

use foldhash::fast::RandomState;
use hyper::StatusCode;
use views_core::ids::PostId;
use views_service::respond::{self, Answer};

use crate::{
    api::messages,
    record::request::{Status, Unavailable},
};

/// Reads a post id that a client has sent.
pub(super) fn post_id(text: &str) -> Result<PostId, Answer> {
    PostId::parse(text).map_err(|_| respond::error(StatusCode::BAD_REQUEST, messages::POST_ID_BAD))
}

/// Reads a list of post ids: at least one, at most `limit`, each kept once, in the order of their first appearance.
pub(super) fn post_ids<'a>(texts: impl ExactSizeIterator<Item = &'a str>, limit: usize) -> Result<Vec<PostId>, Answer> {
    let bad = |message: &str| Err(respond::error(StatusCode::BAD_REQUEST, message));
    match texts.len() {
        0 => return bad(messages::BATCH_EMPTY),
        number if number > limit => return Err(too_many_ids(limit)),
        _ => {}
    }
    let mut seen = HashSet::with_capacity_and_hasher(texts.len(), RandomState::default());
    let mut posts = Vec::with_capacity(texts.len());
    for text in texts {
        let post = post_id(text)?;
        if seen.insert(post) {
            posts.push(post);
        }
    }
    Ok(posts)
}

/// Refuses a list of more than `limit` ids.
pub(super) fn too_many_ids(limit: usize) -> Answer {
    respond::error(StatusCode::BAD_REQUEST, &format!("{}{limit}", messages::BATCH_LONG))
}

pub(super) fn unavailable(_: Unavailable) -> Answer {
    respond::unavailable(messages::UNAVAILABLE)
}

/// Returns a status as the API spells it.
pub(super) fn spelled(status: Status) -> &'static str {
    match status {
        Status::Counted => "counted",
        Status::Duplicate => "duplicate",
        Status::Own => "own",
        Status::NotFound => "not_found",
        Status::Read => "read",
    }
}
