//! `POST /posts/views-batch`: one viewer's views of many posts, with a verdict on each.

use hyper::{Request, StatusCode};
use views_core::ids::{PostId, ViewerId};
use views_service::respond::{self, Answer};

use crate::{
    api::{app::App, input, messages},
    http::body::Upload,
    record::request::{Outcome, Status},
};

/// What a post takes of an answer, about.
const BYTES_PER_POST: usize = 128;

/// Records views and answers with their verdicts.
pub(super) async fn post(app: &App, viewer: ViewerId, request: &mut Request<&mut Upload<'_>>) -> Result<Answer, Answer> {
    let posts = input::viewed_posts(app, request).await?;
    let outcomes = app.view(viewer, &posts).await?;

    Ok(respond::json(StatusCode::OK, written(&posts, &outcomes)))
}

/// Returns the answer's body. Ids, statuses and numbers have no character that JSON would escape.
fn written(posts: &[PostId], outcomes: &[Outcome]) -> String {
    let counted = outcomes.iter().filter(|outcome| outcome.status == Status::Counted).count();
    let mut number = itoa::Buffer::new();
    let mut body = String::with_capacity(160 + posts.len() * BYTES_PER_POST);
    for part in [r#"{"message":""#, messages::BATCH_COUNTED, number.format(counted), r#"","processedCount":"#] {
        body.push_str(part);
    }
    body.push_str(number.format(counted));
    body.push_str(r#","postIds":["#);
    let mut comma = "";
    for (post, _) in posts.iter().zip(outcomes).filter(|(_, outcome)| outcome.status == Status::Counted) {
        for part in [comma, "\"", post.as_str(), "\""] {
            body.push_str(part);
        }
        comma = ",";
    }
    body.push_str(r#"],"results":["#);
    comma = "";
    for (post, outcome) in posts.iter().zip(outcomes) {
        let (status, views) = (outcome.status.as_str(), number.format(outcome.views));
        for part in [comma, r#"{"postId":""#, post.as_str(), r#"","status":""#, status, r#"","viewsCount":"#, views, "}"] {
            body.push_str(part);
        }
        comma = ",";
    }
    body.push_str("]}");
    body
}
