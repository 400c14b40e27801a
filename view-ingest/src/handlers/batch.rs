//! `POST /posts/views-batch`: one viewer's views of many posts, with a verdict on each.

use std::{borrow::Cow, fmt::Write};

use hyper::{Request, StatusCode, body::Incoming};
use serde::Deserialize;
use shared::{
    ids::ViewerId,
    respond::{self, Answer},
};

use super::{post_ids, spelled, unavailable};
use crate::{app::App, body, messages, recorder::Status};

#[derive(Deserialize)]
struct Body<'a> {
    #[serde(rename = "postIds", borrow)]
    post_ids: Option<Vec<Text<'a>>>,
}

/// A text that is read where it stands, unless it has escapes.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

pub(crate) async fn post(app: &App, viewer: ViewerId, request: Request<Incoming>) -> Result<Answer, Answer> {
    let body = body::read_json(app, request).await?;
    let Body { post_ids: Some(ids) } = body::parse(&body)? else {
        return Err(respond::error(StatusCode::BAD_REQUEST, messages::POST_IDS_MISSING));
    };
    let posts = post_ids(ids.iter().map(|id| &*id.0), app.limits.max_batch)?;
    let outcomes = app.ask(Some(viewer), &posts).await.map_err(unavailable)?;

    let (mut counted, mut counted_ids, mut results) = (0_usize, String::new(), String::new());
    for (post, outcome) in posts.iter().zip(&outcomes) {
        if outcome.status == Status::Counted {
            let comma = if counted == 0 { "" } else { "," };
            let _ = write!(counted_ids, r#"{comma}"{post}""#);
            counted += 1;
        }
        let comma = if results.is_empty() { "" } else { "," };
        let (status, views) = (spelled(outcome.status), outcome.views);
        let _ = write!(results, r#"{comma}{{"postId":"{post}","status":"{status}","viewsCount":{views}}}"#);
    }
    // Ids, statuses and numbers have no character that JSON would escape, and writing to a string cannot fail.
    let message = messages::BATCH_COUNTED;
    let body = format!(
        r#"{{"message":"{message}{counted}","processedCount":{counted},"postIds":[{counted_ids}],"results":[{results}]}}"#
    );
    Ok(respond::json(StatusCode::OK, body))
}
