//! `POST /posts/sync-views`: an administrator asks for a cycle and waits for it.

use std::sync::Arc;

use hyper::{
    Method, StatusCode,
    header::{AUTHORIZATION, HeaderValue},
};
use serde::Serialize;
use views_auth::{AuthError, Identity, Verifier};
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
const NO_KEYS: &str = "Ключи для проверки токенов пока недоступны, повторите позже";
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
        if request.method() != Method::POST {
            return Some(RouteAnswer::Now(respond::method_not_allowed(METHOD, "POST")));
        }
        let token = request.headers().get(AUTHORIZATION).map(HeaderValue::as_bytes).and_then(views_auth::bearer);
        let identified = verifier.identify_token(token);
        Some(if identified == Err(AuthError::Pending) {
            let (verifier, token, trigger_sender) = (Arc::clone(&verifier), token.map(<[u8]>::to_vec), trigger_sender.clone());
            RouteAnswer::Later(Box::pin(async move {
                let identified = verifier.identify_later(token.as_deref()).await;
                match synchronize(identified, &trigger_sender) {
                    RouteAnswer::Now(answer) => answer,
                    RouteAnswer::Later(answering) => answering.await,
                }
            }))
        } else {
            synchronize(identified, &trigger_sender)
        })
    })
}

/// Has administrators wait for a cycle, and refuses everybody else.
fn synchronize(identified: Result<Identity, AuthError>, trigger_sender: &TriggerSender) -> RouteAnswer {
    RouteAnswer::Now(match identified {
        Ok(identity) if identity.admin => match trigger_sender.wait() {
            Some(cycle) => return RouteAnswer::Later(Box::pin(async { answer(cycle.await) })),
            None => respond::unavailable(TOO_MANY),
        },
        Ok(_) => respond::error(StatusCode::FORBIDDEN, NO_ADMIN),
        Err(AuthError::Missing) => respond::unauthorized(TOKEN_MISSING, false),
        Err(AuthError::Expired | AuthError::Invalid) => respond::unauthorized(TOKEN_INVALID, true),
        Err(AuthError::Pending | AuthError::Unavailable) => respond::unavailable(NO_KEYS),
    })
}

fn answer(synced: Option<Synced>) -> Answer {
    let Some(synced) = synced else { return respond::unavailable(FAILED) };
    let body = Body { message: "Synchronization completed", synced_posts: synced.successful };
    // A struct of a string and a number always has a JSON form.
    respond::json(StatusCode::OK, serde_json::to_vec(&body).unwrap_or_default())
}
