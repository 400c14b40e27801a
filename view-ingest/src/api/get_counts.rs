//! `GET /posts/<id>/views` and `GET /posts/views?ids=a,b,c` (also `ids=a&ids=b`): counts without a view.

use std::{borrow::Cow, fmt::Write};

use hyper::StatusCode;
use percent_encoding::percent_decode_str;
use smallvec::SmallVec;
use views_core::ids::{MAX_POST_ID, PostId};
use views_service::respond::{self, Answer};

use crate::{
    api::{
        app::{App, Caller},
        ids::{post_id, post_ids, too_many_ids, unavailable},
        messages,
    },
    http::phase_timer::PhaseTimer,
    record::request::Status,
};

/// What an id takes of a query at most, in bytes: every byte encoded, and a parameter of its own.
const BYTES_PER_ID: usize = 3 * MAX_POST_ID + "&ids=".len();
/// How many parameters a query may have beside one for each id.
const OTHER_PARAMETERS: usize = 16;

/// Returns the count of one post.
pub(super) async fn one(app: &App, timer: &PhaseTimer, id: &str) -> Result<Answer, Answer> {
    let id = percent_decode_str(id).decode_utf8_lossy();
    let post = post_id(&id)?;
    let _waits = timer.waits();
    let permit = app.read_permit(1).await.map_err(unavailable)?;
    let outcome = app.request_one(Caller::Reader(permit), post).await.map_err(unavailable)?;
    if outcome.status == Status::NotFound {
        return Err(respond::error(StatusCode::NOT_FOUND, messages::POST_NOT_FOUND));
    }
    Ok(respond::json(StatusCode::OK, format!(r#"{{"postId":"{post}","viewsCount":{}}}"#, outcome.views)))
}

/// The counts of those of the posts that exist.
pub(super) async fn many(app: &App, timer: &PhaseTimer, query: &str) -> Result<Answer, Answer> {
    let limit = app.limits.max_batch;
    if query.len() > limit * BYTES_PER_ID {
        return Err(too_many_ids(limit));
    }
    // Each id has one of these before it, however the list is written, but for the first one.
    let ids = 1 + query.bytes().filter(|byte| b",&%".contains(byte)).count();
    let _waits = timer.waits();
    let permit = app.read_permit(ids.min(limit)).await.map_err(unavailable)?;
    let posts = posts_of(query, limit)?;
    let outcomes = app.request(Caller::Reader(permit), &posts).await.map_err(unavailable)?;
    let mut views = String::new();
    for (post, outcome) in posts.iter().zip(&outcomes).filter(|(_, outcome)| outcome.status != Status::NotFound) {
        let comma = if views.is_empty() { "" } else { "," };
        let _ = write!(views, r#"{comma}"{post}":{}"#, outcome.views);
    }
    Ok(respond::json(StatusCode::OK, format!(r#"{{"views":{{{views}}}}}"#)))
}

/// Reads the posts of a query, and no more of it than so many can need.
fn posts_of(query: &str, limit: usize) -> Result<Vec<PostId>, Answer> {
    let mut lists: SmallVec<[Cow<'_, str>; 1]> = SmallVec::new();
    for (number, (name, list)) in form_urlencoded::parse(query.as_bytes()).enumerate() {
        if number >= limit + OTHER_PARAMETERS {
            return Err(too_many_ids(limit));
        }
        if name == "ids" {
            lists.push(list);
        }
    }
    if lists.is_empty() {
        return Err(respond::error(StatusCode::BAD_REQUEST, messages::POST_IDS_MISSING));
    }
    // A list of no ids would split into one empty id.
    let texts = lists.iter().filter(|list| !list.is_empty()).flat_map(|list| list.split(','));
    let texts: Vec<&str> = texts.take(limit + 1).collect();
    post_ids(texts.into_iter(), limit)
}
