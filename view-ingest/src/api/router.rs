//! The routes of the public listener, on one screen.

use hyper::{
    HeaderMap, Method, Request, StatusCode,
    header::{AUTHORIZATION, HeaderValue},
};
use views_core::ids::ViewerId;
use views_service::{
    admin, request,
    respond::{self, Answer},
};

use crate::{
    api::{app::App, get_counts, messages, post_view, post_views_batch},
    cli::Limits,
    http::{body::Upload, connection::Handler},
    metrics::Metrics,
};

/// The largest head of a request that is answered in the API's own form, in bytes. Beyond twice as much, hyper answers.
const MAX_HEADERS: usize = 16 * 1024;

/// What a post takes of a target, in bytes: the longest id, and a comma.
const BYTES_PER_POST: usize = 65;

enum Route<'a> {
    View,
    Batch,
    Counts,
    Count(&'a str),
    Live,
    Ready,
}

fn route(path: &str) -> Option<Route<'_>> {
    Some(match path {
        "/posts/view" => Route::View,
        "/posts/views-batch" => Route::Batch,
        "/posts/views" => Route::Counts,
        "/livez" => Route::Live,
        "/readyz" => Route::Ready,
        other => Route::Count(other.strip_prefix("/posts/")?.strip_suffix("/views").filter(|id| !id.contains('/'))?),
    })
}

impl Handler for App {
    fn limits(&self) -> &Limits {
        &self.limits
    }

    fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    fn longest_head(&self) -> usize {
        self.limits.max_batch * BYTES_PER_POST + MAX_HEADERS
    }

    async fn handle(&self, request: Request<&mut Upload<'_>>) -> Answer {
        dispatch(self, request).await.unwrap_or_else(|refusal| refusal)
    }

    fn refusal(&self, status: StatusCode) -> Vec<u8> {
        let message = if status == StatusCode::REQUEST_TIMEOUT { messages::TOO_SLOW } else { messages::UNAVAILABLE };
        respond::error_body(status, message)
    }
}

/// Both sides are answers: the error is the refusal on which a handler gives up.
async fn dispatch(app: &App, request: Request<&mut Upload<'_>>) -> Result<Answer, Answer> {
    if size(request.headers()) > MAX_HEADERS {
        let status = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
        return Err(respond::closing(respond::error(status, messages::HEADERS_LARGE)));
    }
    if request::is_ambiguous(&request) {
        return Err(respond::closing(respond::error(StatusCode::BAD_REQUEST, messages::AMBIGUOUS)));
    }
    if request::is_coded(&request) {
        return Err(respond::closing(respond::error(StatusCode::UNSUPPORTED_MEDIA_TYPE, messages::ENCODING)));
    }
    let Some(route) = route(request.uri().path()) else {
        return Err(respond::error(StatusCode::NOT_FOUND, messages::NO_ROUTE));
    };
    let allowed = match route {
        Route::View | Route::Batch => "POST",
        Route::Live | Route::Ready if request.method() == Method::OPTIONS => return Ok(admin::options()),
        Route::Live | Route::Ready => admin::METHODS,
        _ => "GET, HEAD",
    };
    if !allowed.split(", ").any(|method| method == request.method().as_str()) {
        return Err(respond::method_not_allowed(messages::METHOD, allowed));
    }
    match route {
        Route::View => {
            let viewer = viewer(app, &request).await?;
            post_view::post(app, viewer, request).await
        }
        Route::Batch => {
            let viewer = viewer(app, &request).await?;
            post_views_batch::post(app, viewer, request).await
        }
        Route::Counts => {
            may_read(app, &request).await?;
            get_counts::many(app, request.body().timer(), request.uri().query().unwrap_or_default()).await
        }
        Route::Count(id) => {
            may_read(app, &request).await?;
            get_counts::one(app, request.body().timer(), id).await
        }
        Route::Live => Ok(admin::live()),
        Route::Ready => Ok(admin::ready(&app.readiness)),
    }
}

async fn viewer(app: &App, request: &Request<&mut Upload<'_>>) -> Result<ViewerId, Answer> {
    let timer = request.body().timer();
    let viewer = app.viewer(authorization(request), timer).await?;
    timer.trust();
    Ok(viewer)
}

fn authorization<'r>(request: &'r Request<&mut Upload<'_>>) -> Option<&'r [u8]> {
    request.headers().get(AUTHORIZATION).map(HeaderValue::as_bytes)
}

async fn may_read(app: &App, request: &Request<&mut Upload<'_>>) -> Result<(), Answer> {
    if app.limits.reads_require_token {
        let timer = request.body().timer();
        app.identify(authorization(request), timer).await?;
        timer.trust();
    }
    Ok(())
}

fn size(headers: &HeaderMap) -> usize {
    headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_post_may_be_called_like_a_route() {
        assert!(matches!(route("/posts/view/views"), Some(Route::Count("view"))));
        assert!(matches!(route("/posts/views/views"), Some(Route::Count("views"))));
        assert!(matches!(route("/posts/views"), Some(Route::Counts)));
    }

    #[test]
    fn other_paths_have_no_route() {
        for path in ["/", "/posts", "/posts/", "/posts/view/", "/posts/a/b/views", "/posts/sync-views", "/metrics", "posts/view"]
        {
            assert!(route(path).is_none(), "{path}");
        }
    }
}
