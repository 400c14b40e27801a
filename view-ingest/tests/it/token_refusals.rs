//! Why a token was refused: what operators learn of it, and clients do not.

use serde_json::{Value, json};
use testkit::{
    postgres,
    posts::{IdType, PostsTable},
    redis::RedisServer,
    tokens::{self, SECRET, SigningKey, Token, hs256},
};

use crate::support::{Ingest, World};

async fn view(app: &Ingest, token: &str) -> u16 {
    app.http.post_json("/posts/view", Some(token), &json!({ "postId": "7" })).await.status
}

async fn refused(app: &Ingest, reason: &str) -> f64 {
    app.metric(&format!("view_ingest_tokens_refused_total{{reason=\"{reason}\"}}")).await
}

/// A token with a header of one's own, signed as it should be.
fn with_header(header: &Value) -> String {
    tokens::with_header(header, &json!({ "sub": "ann", "exp": 4_000_000_000_u64 }), SECRET)
}

#[tokio::test]
async fn each_reason_is_counted_and_told_without_the_token() {
    let world = World::redis_alone().await;
    let app = world
        .ingest_with(&[("JWT_ISSUER", "blog"), ("JWT_AUDIENCE", "views"), ("LOG_LEVEL", "debug"), ("VIEW_INGEST_WORKERS", "1")])
        .await;
    let good = || Token::new("ann").claim("iss", "blog").claim("aud", "views");
    assert_eq!(view(&app, &good().hs256(SECRET)).await, 200);
    let signed = |token: Token| token.hs256(SECRET);
    let cases = [
        ("malformed", "x.y.z".to_owned()),
        ("algorithm", good().sign(&SigningKey::rs256())),
        ("algorithm", good().unsigned()),
        ("signature", good().hs256("another secret of more than 32 bytes")),
        ("expired", signed(good().expires_in(-10))),
        ("not_yet", signed(good().not_before_in(3600))),
        ("no_expiry", signed(good().without("exp"))),
        ("no_expiry", signed(good().claim("exp", "tomorrow"))),
        ("issuer", signed(good().claim("iss", "x"))),
        ("issuer", signed(good().without("iss"))),
        ("audience", signed(good().claim("aud", "x"))),
        ("audience", signed(good().without("aud"))),
        ("no_viewer", signed(good().without("sub"))),
        ("no_viewer", signed(good().claim("sub", json!(null)))),
        ("bad_viewer", signed(good().claim("sub", "a nn"))),
        ("bad_viewer", signed(good().claim("sub", -7))),
        ("bad_viewer", signed(good().claim("sub", 1.5))),
        ("bad_viewer", signed(good().claim("sub", true))),
        ("bad_viewer", signed(good().claim("sub", json!([])))),
        ("bad_viewer", signed(good().claim("sub", json!(["ann"])))),
        ("bad_viewer", signed(good().claim("sub", json!({})))),
        ("malformed", signed(good().claim("nbf", json!(null)))),
        ("malformed", signed(good().claim("nbf", "x"))),
        ("malformed", signed(good().claim("nbf", -1))),
        ("crit", with_header(&json!({ "alg": "HS256", "crit": ["exp"], "exp": 1 }))),
    ];
    for (reason, token) in &cases {
        let before = refused(&app, reason).await;
        assert_eq!(view(&app, token).await, 401, "{reason}");
        assert_eq!(refused(&app, reason).await, before + 1.0, "{reason}");
    }
    let before = refused(&app, "missing").await;
    assert_eq!(app.http.post_json("/posts/view", None, &json!({ "postId": "7" })).await.status, 401);
    assert_eq!(refused(&app, "missing").await, before + 1.0);

    let lines = app.daemon.lines_with("a token was refused");
    assert_eq!(lines.len(), cases.len() + 1, "{lines:?}");
    for (reason, token) in &cases {
        assert!(lines.iter().any(|line| line.contains("DEBUG") && line.contains(reason)), "{reason}: {lines:?}");
        let claims = token.split('.').nth(1).unwrap();
        assert!(claims.len() < 10 || app.daemon.lines_with(claims).is_empty());
    }
    assert!(app.daemon.lines_with(SECRET).is_empty());
}

#[tokio::test]
async fn a_critical_header_is_refused_whatever_it_holds() {
    let world = World::redis_alone().await;
    let app = world.ingest().await;
    assert_eq!(view(&app, &with_header(&json!({ "alg": "HS256" }))).await, 200, "the test signs as it should");
    assert_eq!(view(&app, &with_header(&json!({ "alg": "HS256", "typ": "JWT", "x": 1 }))).await, 200);
    for crit in [json!(["b64"]), json!([]), json!(null), json!("b64"), json!({}), json!(false), json!(["exp"])] {
        assert_eq!(view(&app, &with_header(&json!({ "alg": "HS256", "crit": crit }))).await, 401, "{crit}");
    }
    assert_eq!(refused(&app, "crit").await, 7.0);
}

#[tokio::test]
async fn a_viewer_whom_the_ledger_cannot_hold_is_counted_too() {
    let database = postgres::shared().await.database().await;
    let world = World::with_stores(RedisServer::start().await, database, PostsTable::with_ids(IdType::Bigint)).await;
    world.posts.insert_post(world.sql(), "7", "999").await;
    let app = world.ingest().await;
    assert_eq!(app.verdict("1", "7").await, "counted 1");
    assert_eq!(view(&app, &hs256(SECRET, "auth0|5f7c")).await, 401);
    assert_eq!(refused(&app, "unfit_viewer").await, 1.0);
}
