//! `GET /posts/<id>/views` and `GET /posts/views?ids=a,b,c` (also `ids=a&ids=b`): counts without a view.

use std::{borrow::Cow, fmt::Write};

use hyper::StatusCode;
use percent_encoding::percent_decode_str;
use smallvec::SmallVec;
use views_service::respond::{self, Answer};

use crate::api::ids::{post_id, post_ids, unavailable};
use crate::{
    api::{
        app::{App, Caller},
        messages,
    },
    record::request::Status,
};

/// The count of one post.
pub(crate) async fn one(app: &App, id: &str) -> Result<Answer, Answer> {
    let id = percent_decode_str(id).decode_utf8_lossy();
    let post = post_id(&id)?;
    let permit = app.read_permit(1).await.map_err(unavailable)?;
    let outcome = app.request_one(Caller::Reader(permit), post).await.map_err(unavailable)?;
    if outcome.status == Status::NotFound {
        return Err(respond::error(StatusCode::NOT_FOUND, messages::POST_NOT_FOUND));
    }
    Ok(respond::json(StatusCode::OK, format!(r#"{{"postId":"{post}","viewsCount":{}}}"#, outcome.views)))
}

/// The counts of those of the posts that exist.
pub(crate) async fn many(app: &App, query: &str) -> Result<Answer, Answer> {
    // Each id has one of these before it, however the list is written, but for the first one.
    let ids = 1 + query.bytes().filter(|byte| b",&%".contains(byte)).count();
    let permit = app.read_permit(ids.min(app.limits.max_batch)).await.map_err(unavailable)?;
    let parameters = form_urlencoded::parse(query.as_bytes()).filter(|(name, _)| name == "ids");
    let lists: SmallVec<[Cow<'_, str>; 1]> = parameters.map(|(_, list)| list).collect();
    if lists.is_empty() {
        return Err(respond::error(StatusCode::BAD_REQUEST, messages::POST_IDS_MISSING));
    }
    // A list of no ids would split into one empty id.
    let texts: Vec<&str> = lists.iter().filter(|list| !list.is_empty()).flat_map(|list| list.split(',')).collect();
    let posts = post_ids(texts.into_iter(), app.limits.max_batch)?;
    let outcomes = app.request(Caller::Reader(permit), &posts).await.map_err(unavailable)?;
    let mut views = String::new();
    for (post, outcome) in posts.iter().zip(&outcomes).filter(|(_, outcome)| outcome.status != Status::NotFound) {
        let comma = if views.is_empty() { "" } else { "," };
        let _ = write!(views, r#"{comma}"{post}":{}"#, outcome.views);
    }
    Ok(respond::json(StatusCode::OK, format!(r#"{{"views":{{{views}}}}}"#)))
}
