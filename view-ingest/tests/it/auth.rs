//! Who is let in: 401 and its challenge.

use serde_json::json;
use testkit::{
    http::Response,
    redis::RedisServer,
    tokens::{Algorithm, EncodingKey, SigningKey, Token, hs256},
};

use crate::support::{Ingest, SECRET, World, assert_error, on_free_ports, token};

async fn view(app: &Ingest, authorization: &str) -> Response {
    let headers = [("authorization", authorization), ("content-type", "application/json")];
    app.http.request("POST", "/posts/view", &headers, r#"{"postId":"p"}"#).await
}

#[track_caller]
fn assert_invalid(response: &Response) {
    assert_error(response, 401, "Недействительный токен");
    assert_eq!(response.header("www-authenticate"), "Bearer error=\"invalid_token\"");
}

#[tokio::test]
async fn without_a_bearer_token_nobody_is_let_in() {
    let world = World::redis_alone().await;
    let app = world.ingest().await;
    let without = app.http.post_json("/posts/view", None, &json!({ "postId": "p" })).await;
    let basic = format!("Basic {}", token("ann"));
    let mut refused = vec![without];
    for authorization in ["", "Bearer", "Bearer ", "Basic YTpi", "Token x", &basic, &token("ann")] {
        refused.push(view(&app, authorization).await);
    }
    for response in refused {
        assert_error(&response, 401, "Требуется авторизация");
        assert_eq!(response.header("www-authenticate"), "Bearer");
    }
    assert!(world.outbox().await.is_empty());
}

#[tokio::test]
async fn an_expired_token_is_told_so() {
    let world = World::redis_alone().await;
    let app = world.ingest().await;
    for seconds in [-1, -3600] {
        let response = view(&app, &format!("Bearer {}", Token::new("ann").expires_in(seconds).hs256(SECRET))).await;
        assert_error(&response, 401, "Срок действия токена истек");
        assert_eq!(response.header("www-authenticate"), "Bearer error=\"invalid_token\"");
    }
}

#[tokio::test]
async fn a_token_that_says_too_little_or_the_wrong_thing_is_invalid() {
    let world = World::redis_alone().await;
    let app = world.ingest().await;
    let ann = || Token::new("ann");
    for (what, token) in [
        ("no exp", ann().without("exp")),
        ("exp in words", ann().claim("exp", "tomorrow")),
        ("exp null", ann().claim("exp", json!(null))),
        ("no sub", ann().without("sub")),
        ("sub null", ann().claim("sub", json!(null))),
        ("sub a number with a sign", ann().claim("sub", -7)),
        ("sub a number with a fraction", ann().claim("sub", 7.0)),
        ("sub empty", Token::new("")),
        ("sub with a space", Token::new("a nn")),
        ("sub with a line break", Token::new("ann\n")),
        ("sub not ASCII", Token::new("анна")),
        ("sub too long", Token::new(&"a".repeat(129))),
        ("not yet valid", ann().not_before_in(3600)),
    ] {
        let response = view(&app, &format!("Bearer {}", token.hs256(SECRET))).await;
        assert_eq!(response.status, 401, "{what}");
        assert_invalid(&response);
    }
    let longest = view(&app, &format!("Bearer {}", Token::new(&"a".repeat(128)).hs256(SECRET))).await;
    assert_eq!(longest.status, 200, "{longest:?}");
    let odd = view(&app, &format!("Bearer {}", Token::new("auth0|5f7c:{8}").hs256(SECRET))).await;
    assert_eq!(odd.status, 200, "{odd:?}");
}

#[tokio::test]
async fn a_token_that_the_key_did_not_sign_is_invalid() {
    let world = World::redis_alone().await;
    let app = world.ingest().await;
    let good = token("ann");
    let (head, tail) = good.split_once('.').unwrap();
    let claims_of_bob = token("bob").split('.').nth(1).unwrap().to_owned();
    let forged = format!("{head}.{claims_of_bob}.{}", good.rsplit('.').next().unwrap());
    for (what, token) in [
        ("wrong secret", hs256("another secret", "ann")),
        ("alg none", Token::new("ann").unsigned()),
        ("RS256 against a secret", Token::new("ann").sign(&SigningKey::rs256())),
        (
            "HS512 with the right secret",
            Token::new("ann").sign_with(Algorithm::HS512, &EncodingKey::from_secret(SECRET.as_bytes())),
        ),
        ("other claims", forged),
        ("no signature", format!("{head}.{}.", tail.split('.').next().unwrap())),
        ("two parts", good.rsplit_once('.').unwrap().0.to_owned()),
        ("no token", "x".to_owned()),
        ("dots", "..".to_owned()),
    ] {
        let response = view(&app, &format!("Bearer {token}")).await;
        assert_eq!(response.status, 401, "{what}");
        assert_invalid(&response);
    }
    assert_eq!(view(&app, &format!("Bearer {good}")).await.status, 200);
}

#[tokio::test]
async fn a_public_key_is_no_secret() {
    let server = RedisServer::start().await;
    let key = SigningKey::rs256();
    let program = on_free_ports().env("REDIS_URL", server.url()).env("JWT_PUBLIC_KEY_FILE", key.public_key_file());
    let app = Ingest::start(program).await;
    for secret in [key.public_key_pem(), key.public_key_pem().trim_end()] {
        assert_invalid(&view(&app, &format!("Bearer {}", hs256(secret, "ann"))).await);
    }
    assert_invalid(&view(&app, &format!("Bearer {}", Token::new("ann").unsigned())).await);
    assert_invalid(&view(&app, &format!("Bearer {}", Token::new("ann").sign(&SigningKey::rs256()))).await);
    assert_invalid(&view(&app, &format!("Bearer {}", Token::new("ann").sign(&SigningKey::es256()))).await);
    assert_eq!(view(&app, &format!("Bearer {}", Token::new("ann").sign(&key))).await.status, 200);
}

#[tokio::test]
async fn issuer_and_audience_can_be_demanded() {
    let world = World::redis_alone().await;
    let app = world.ingest_with(&[("JWT_ISSUER", "blog"), ("JWT_AUDIENCE", "views")]).await;
    let good = || Token::new("ann").claim("iss", "blog").claim("aud", "views");
    for token in
        [Token::new("ann"), good().without("iss"), good().without("aud"), good().claim("iss", "x"), good().claim("aud", "x")]
    {
        assert_invalid(&view(&app, &format!("Bearer {}", token.hs256(SECRET))).await);
    }
    for token in [good(), good().claim("aud", json!(["other", "views"]))] {
        assert_eq!(view(&app, &format!("Bearer {}", token.hs256(SECRET))).await.status, 200);
    }
}
