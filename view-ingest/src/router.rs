//! The routes of the public listener, on one screen.

use hyper::{HeaderMap, Method, Request, StatusCode, body::Incoming, header::AUTHORIZATION};
use views_auth::Identity;
use views_service::{
    admin, request,
    respond::{self, Answer},
};

use crate::{
    app::App,
    body::Upload,
    handlers::{batch, counts, view},
    messages,
    watch::Watch,
};

/// The largest head of a request that is answered in the API's own form, in bytes. Beyond twice as much, hyper answers.
pub(crate) const MAX_HEADERS: usize = 16 * 1024;

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

/// Answers a request, whatever it is. Where a part of its body is yet to come, no request can follow it.
pub(crate) async fn answer(app: &App, watch: &Watch, request: Request<Incoming>) -> Answer {
    let (head, body) = request.into_parts();
    let mut upload = Upload::new(body, watch);
    let answer = dispatch(app, Request::from_parts(head, &mut upload)).await.unwrap_or_else(|refusal| refusal);
    app.metrics.answered(answer.status().as_u16());
    if upload.is_whole().await { answer } else { respond::closing(answer) }
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
            let identity = identify(app, &request)?;
            app.admit(&identity.viewer).await?;
            view::post(app, identity.viewer, request).await
        }
        Route::Batch => {
            let identity = identify(app, &request)?;
            app.admit(&identity.viewer).await?;
            batch::post(app, identity.viewer, request).await
        }
        Route::Counts => {
            may_read(app, &request)?;
            counts::many(app, request.uri().query().unwrap_or_default()).await
        }
        Route::Count(id) => {
            may_read(app, &request)?;
            counts::one(app, id).await
        }
        Route::Live => Ok(admin::live()),
        Route::Ready => Ok(admin::ready(&app.readiness)),
    }
}

fn identify<B>(app: &App, request: &Request<B>) -> Result<Identity, Answer> {
    app.identify(request.headers().get(AUTHORIZATION).map(hyper::header::HeaderValue::as_bytes))
}

fn may_read<B>(app: &App, request: &Request<B>) -> Result<(), Answer> {
    if app.limits.reads_require_token { identify(app, request).map(|_| ()) } else { Ok(()) }
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
