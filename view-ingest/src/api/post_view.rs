//! `POST /posts/view`: one view of one post.

use hyper::{Request, StatusCode};
use views_core::ids::ViewerId;
use views_service::respond::{self, Answer};

use crate::{
    api::{app::App, input, messages},
    http::body::Upload,
    record::request::Status,
};

/// Records a view and answers with its verdict.
pub(super) async fn post(app: &App, viewer: ViewerId, request: &mut Request<&mut Upload<'_>>) -> Result<Answer, Answer> {
    let post = input::viewed_post(app, request).await?;
    let outcome = app.view_one(viewer, post).await?;
    let message = match outcome.status {
        Status::Counted | Status::Read => messages::COUNTED,
        Status::Duplicate => messages::DUPLICATE,
        Status::Own => messages::OWN,
        Status::NotFound => return Err(respond::error(StatusCode::NOT_FOUND, messages::POST_NOT_FOUND)),
    };
    let mut number = itoa::Buffer::new();
    let views = number.format(outcome.views);
    // None of the parts has a character that JSON would escape.
    let parts = [r#"{"message":""#, message, r#"","viewsCount":"#, views, r#","status":""#, outcome.status.as_str(), r#""}"#];
    Ok(respond::json(StatusCode::OK, parts.concat()))
}
