//! `POST /posts/view`: one view of one post.

use std::borrow::Cow;

use hyper::{Request, StatusCode};
use serde::Deserialize;
use views_core::ids::ViewerId;
use views_service::respond::{self, Answer};

use crate::{
    api::{
        app::App,
        ids::{post_id, spelled},
        json, messages,
    },
    http::body::Upload,
    record::request::Status,
};

#[derive(Deserialize)]
struct Body<'a> {
    // An id without escapes is read where it stands.
    #[serde(rename = "postId", borrow)]
    post_id: Option<Cow<'a, str>>,
}

pub(crate) async fn post(app: &App, viewer: ViewerId, request: Request<&mut Upload<'_>>) -> Result<Answer, Answer> {
    let body = json::read(app, request).await?;
    let Body { post_id: Some(id) } = json::parse(&body)? else {
        return Err(respond::error(StatusCode::BAD_REQUEST, messages::POST_ID_MISSING));
    };
    let post = post_id(&id)?;
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
    let parts = [r#"{"message":""#, message, r#"","viewsCount":"#, views, r#","status":""#, spelled(outcome.status), r#""}"#];
    Ok(respond::json(StatusCode::OK, parts.concat()))
}
