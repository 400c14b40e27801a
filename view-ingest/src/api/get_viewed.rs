//! `GET /posts/viewed?ids=a,b,c`: which of the posts the token's user has seen.

use hyper::{
    StatusCode,
    header::{CACHE_CONTROL, HeaderValue},
};
use views_core::ids::ViewerId;
use views_service::respond::{self, Answer};

use crate::{
    api::{
        app::{App, unavailable},
        input,
    },
    http::phase_timer::PhaseTimer,
};

/// Returns whether the viewer has seen each of those of the posts that exist.
pub(super) async fn many(app: &App, timer: &PhaseTimer, viewer: ViewerId, query: &str) -> Result<Answer, Answer> {
    let limit = app.limits.max_batch;
    let weight = input::weight(query, limit)?;
    let _waits = timer.waits();
    let permit = app.read_permit(weight).await.map_err(unavailable)?;
    let posts = input::queried_posts(query, limit)?;
    let seen = app.viewed(viewer, &posts, permit).await.map_err(unavailable)?;
    let known = posts.iter().zip(seen).filter_map(|(post, seen)| Some(format!(r#""{post}":{}"#, seen?)));
    let viewed = known.collect::<Vec<_>>().join(",");
    let mut answer = respond::json(StatusCode::OK, format!(r#"{{"viewed":{{{viewed}}}}}"#));
    // A cache that knows nothing of the cookie would show it to everybody.
    answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(answer)
}
