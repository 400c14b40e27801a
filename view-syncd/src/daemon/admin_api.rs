//! `POST /posts/sync-views`: an administrator asks for a cycle and waits for it.

use std::sync::Arc;

use hyper::{
    Method, StatusCode,
    header::{AUTHORIZATION, HeaderValue},
};
use serde::Serialize;
use views_auth::{AuthError, Verifier};
use views_service::{
    admin::{Route, RouteAnswer},
    respond::{self, Answer},
};

use super::{cycle::Synced, triggers::TriggerSender};

/// The path.
pub const PATH: &str = "/posts/sync-views";

const METHOD: &str = "Метод не поддерживается";
const TOKEN_MISSING: &str = "Требуется авторизация";
const TOKEN_INVALID: &str = "Недействительный токен";
const NO_ADMIN: &str = "Недостаточно прав";
const TOO_MANY: &str = "Слишком много ожидающих запросов, повторите позже";
const FAILED: &str = "Синхронизация не выполнена, повторите позже";

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Body {
    message: &'static str,
    synced_posts: u64,
}

/// Returns the route, for the admin listener.
#[must_use]
pub fn route(verifier: Arc<Verifier>, trigger_sender: TriggerSender) -> Route {
    Box::new(move |request| {
        if request.uri().path() != PATH {
            return None;
        }
        let refusal = if request.method() == Method::POST {
            let authorization = request.headers().get(AUTHORIZATION).map(HeaderValue::as_bytes);
            refusal(&verifier, authorization)
        } else {
            Some(respond::method_not_allowed(METHOD, "POST"))
        };
        Some(match refusal {
            Some(refusal) => RouteAnswer::Now(refusal),
            None => match trigger_sender.wait() {
                Some(cycle) => RouteAnswer::Later(Box::pin(async { answer(cycle.await) })),
                None => RouteAnswer::Now(respond::unavailable(TOO_MANY)),
            },
        })
    })
}

/// Returns the answer for everybody but administrators.
fn refusal(verifier: &Verifier, authorization: Option<&[u8]>) -> Option<Answer> {
    match verifier.identify(authorization) {
        Ok(identity) if identity.admin => None,
        Ok(_) => Some(respond::error(StatusCode::FORBIDDEN, NO_ADMIN)),
        Err(AuthError::Missing) => Some(respond::unauthorized(TOKEN_MISSING, false)),
        Err(AuthError::Expired | AuthError::Invalid) => Some(respond::unauthorized(TOKEN_INVALID, true)),
    }
}

fn answer(synced: Option<Synced>) -> Answer {
    let Some(synced) = synced else { return respond::unavailable(FAILED) };
    let body = Body { message: "Synchronization completed", synced_posts: synced.successful };
    // A struct of a string and a number always has a JSON form.
    respond::json(StatusCode::OK, serde_json::to_vec(&body).unwrap_or_default())
}
