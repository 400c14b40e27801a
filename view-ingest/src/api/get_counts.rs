//! `GET /posts/<id>/views` and `GET /posts/views?ids=a,b,c` (also `ids=a&ids=b`): counts without a view.

use std::fmt::Write;

use hyper::StatusCode;
use percent_encoding::percent_decode_str;
use views_service::respond::{self, Answer};

use crate::{
    api::{
        app::{App, Caller, unavailable},
        input, messages,
    },
    http::phase_timer::PhaseTimer,
    record::request::Status,
};

/// Returns the count of one post.
pub(super) async fn one(app: &App, timer: &PhaseTimer, id: &str) -> Result<Answer, Answer> {
    let id = percent_decode_str(id).decode_utf8_lossy();
    let post = input::post_id(&id)?;
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
    let weight = input::weight(query, limit)?;
    let _waits = timer.waits();
    let permit = app.read_permit(weight).await.map_err(unavailable)?;
    let posts = input::queried_posts(query, limit)?;
    let outcomes = app.request(Caller::Reader(permit), &posts).await.map_err(unavailable)?;
    let mut views = String::new();
    for (post, outcome) in posts.iter().zip(&outcomes).filter(|(_, outcome)| outcome.status != Status::NotFound) {
        let comma = if views.is_empty() { "" } else { "," };
        let _ = write!(views, r#"{comma}"{post}":{}"#, outcome.views);
    }
    Ok(respond::json(StatusCode::OK, format!(r#"{{"views":{{{views}}}}}"#)))
}
