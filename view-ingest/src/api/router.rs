//! The routes of the public listener, on one screen.

use std::time::Instant;

use hyper::{HeaderMap, Method, Request, StatusCode};
use views_core::ids::ViewerId;
use views_service::{
    admin,
    checks::Audience,
    cors, failed_request, request,
    respond::{self, Answer},
};

use crate::{
    api::{app::App, credentials, get_counts, get_viewed, messages, path_prefix::PathPrefix, post_view, post_views_batch},
    cli::Limits,
    http::{body::Upload, connection::Handler},
    metrics::{Metrics, Route},
};

/// The largest head of a request that is answered in the API's own form, in bytes. Beyond twice as much, hyper answers.
const MAX_HEADERS: usize = 16 * 1024;

/// What a post takes of a target, in bytes: the longest id, and a comma.
const BYTES_PER_POST: usize = 65;

fn route(prefix: &PathPrefix, path: &str) -> Route {
    match (path, prefix.strip(path)) {
        // A load balancer that asks for these knows nothing of the application's paths.
        ("/livez", _) | (_, Some("/livez")) => Route::Live,
        ("/readyz", _) | (_, Some("/readyz")) => Route::Ready,
        (_, Some("/posts/view")) => Route::View,
        (_, Some("/posts/views-batch")) => Route::Batch,
        (_, Some("/posts/views")) => Route::Counts,
        (_, Some("/posts/viewed")) => Route::Viewed,
        _ if id_of_count(prefix, path).is_some() => Route::Count,
        _ => Route::Unmatched,
    }
}

/// Returns the id in the path of one post's count.
fn id_of_count<'p>(prefix: &PathPrefix, path: &'p str) -> Option<&'p str> {
    prefix.strip(path)?.strip_prefix("/posts/")?.strip_suffix("/views").filter(|id| !id.contains('/'))
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

    async fn handle(&self, mut request: Request<&mut Upload<'_>>) -> Answer {
        let started = Instant::now();
        let route = route(&self.surface.path_prefix, request.uri().path());
        let mut answer = match dispatch(self, route, &mut request).await {
            Ok(answer) => answer,
            Err(mut refusal) => {
                failed_request::note(request.method(), route.path(), request.headers(), &mut refusal);
                refusal
            }
        };
        if let Some(cors) = &self.surface.cors {
            cors.grant(request.headers()).add_headers(answer.headers_mut());
        }
        self.metrics.worker.answered(route, answer.status().as_u16(), started.elapsed());
        answer
    }

    fn refusal(&self, status: StatusCode) -> Vec<u8> {
        let message = if status == StatusCode::REQUEST_TIMEOUT { messages::TOO_SLOW } else { messages::UNAVAILABLE };
        respond::error_body(status, message)
    }

    fn refusal_headers(&self) -> &str {
        self.surface.cors.as_ref().map_or("", |cors| cors.unasked_headers())
    }
}

/// Both sides are answers: the error is the refusal on which a handler gives up.
async fn dispatch(app: &App, route: Route, request: &mut Request<&mut Upload<'_>>) -> Result<Answer, Answer> {
    if size(request.headers()) > MAX_HEADERS {
        let status = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
        return Err(respond::closing(respond::error(status, messages::HEADERS_LARGE)));
    }
    if request::is_ambiguous(request) {
        return Err(respond::closing(respond::error(StatusCode::BAD_REQUEST, messages::AMBIGUOUS)));
    }
    if request::is_coded(request) {
        return Err(respond::closing(respond::error(StatusCode::UNSUPPORTED_MEDIA_TYPE, messages::ENCODING)));
    }
    let allowed = match route {
        Route::Unmatched => return Err(no_route()),
        Route::View | Route::Batch => "POST",
        Route::Live | Route::Ready => admin::METHODS,
        _ => "GET, HEAD",
    };
    if let Some(cors) = app.surface.cors.as_ref().filter(|_| cors::is_preflight(request)) {
        return Ok(cors.preflight(request.headers(), allowed));
    }
    if !allowed.split(", ").any(|method| method == request.method().as_str()) {
        return Err(respond::method_not_allowed(messages::METHOD, allowed));
    }
    match route {
        Route::View => {
            let viewer = viewer(app, request).await?;
            post_view::post(app, viewer, request).await
        }
        Route::Batch => {
            let viewer = viewer(app, request).await?;
            post_views_batch::post(app, viewer, request).await
        }
        Route::Counts => {
            may_read(app, request).await?;
            get_counts::many(app, request.body().timer(), request.uri().query().unwrap_or_default()).await
        }
        Route::Viewed => {
            let viewer = viewer(app, request).await?;
            let query = request.uri().query().unwrap_or_default();
            // In a box, so that the futures of the other routes are not as large: they are moved.
            Box::pin(get_viewed::many(app, request.body().timer(), viewer, query)).await
        }
        Route::Count => {
            may_read(app, request).await?;
            let id = id_of_count(&app.surface.path_prefix, request.uri().path()).unwrap_or_default();
            get_counts::one(app, request.body().timer(), id).await
        }
        Route::Live | Route::Ready if request.method() == Method::OPTIONS => Ok(admin::options()),
        Route::Live => Ok(admin::live()),
        Route::Ready => Ok(admin::ready(&app.readiness, request.uri().query(), Audience::Public)),
        Route::Unmatched => Err(no_route()),
    }
}

fn no_route() -> Answer {
    respond::error(StatusCode::NOT_FOUND, messages::NO_ROUTE)
}

async fn viewer(app: &App, request: &Request<&mut Upload<'_>>) -> Result<ViewerId, Answer> {
    let timer = request.body().timer();
    let viewer = app.viewer(token(app, request)?, timer).await?;
    timer.trust();
    Ok(viewer)
}

fn token<'r>(app: &App, request: &'r Request<&mut Upload<'_>>) -> Result<Option<&'r [u8]>, Answer> {
    credentials::token(&app.surface, &app.verifier, request)
}

async fn may_read(app: &App, request: &Request<&mut Upload<'_>>) -> Result<(), Answer> {
    if app.limits.reads_require_token {
        let timer = request.body().timer();
        app.identify(token(app, request)?, timer).await?;
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

    /// The id in a path that asks for the count of one post.
    fn id<'p>(prefix: &PathPrefix, path: &'p str) -> Option<&'p str> {
        id_of_count(prefix, path).filter(|_| route(prefix, path) == Route::Count)
    }

    #[test]
    fn a_post_may_be_called_like_a_route() {
        let none = PathPrefix::default();
        for name in ["view", "views", "viewed"] {
            assert_eq!(id(&none, &format!("/posts/{name}/views")), Some(name));
        }
        assert_eq!(route(&none, "/posts/views"), Route::Counts);
    }

    #[test]
    fn all_routes_but_the_probes_are_below_the_prefix_only() {
        let prefix = PathPrefix::parse("/posts").unwrap();
        assert_eq!(route(&prefix, "/posts/posts/view"), Route::View);
        assert_eq!(id(&prefix, "/posts/posts/p/views"), Some("p"));
        for path in ["/posts/view", "/posts/p/views", "/postsposts/view", "/posts", "/posts/", "/post/posts/view"] {
            assert_eq!(route(&prefix, path), Route::Unmatched, "{path}");
        }
        for path in ["/livez", "/posts/livez"] {
            assert_eq!(route(&prefix, path), Route::Live, "{path}");
        }
        let probe = PathPrefix::parse("/livez").unwrap();
        for path in ["/livez", "/livez/livez"] {
            assert_eq!(route(&probe, path), Route::Live, "{path}");
        }
        assert_eq!(route(&probe, "/livez/posts/view"), Route::View);
    }

    #[test]
    fn other_paths_have_no_route() {
        for path in ["/", "/posts", "/posts/", "/posts/view/", "/posts/a/b/views", "/posts/sync-views", "/metrics", "posts/view"]
        {
            assert_eq!(route(&PathPrefix::default(), path), Route::Unmatched, "{path}");
        }
    }
}
