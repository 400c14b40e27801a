//! Where the key of tokens comes from, and how it is changed.

use testkit::{
    redis::RedisServer,
    scratch::Scratch,
    tokens::{SECRET, SigningKey, Token, hs256},
};

use crate::support::{Ingest, on_free_ports};

const FIRST: &str = "the first one, of 32 bytes or more";
const SECOND: &str = "the second one, of 32 bytes or more";

/// The status of a view with a token.
async fn status(app: &Ingest, token: &str) -> u16 {
    app.http.post_json("/posts/view", Some(token), &serde_json::json!({ "postId": "p" })).await.status
}

#[tokio::test]
async fn a_secret_file_may_end_with_a_line_break() {
    let server = RedisServer::start().await;
    let scratch = Scratch::new();
    for (end, kept) in [("\n", ""), ("\r\n", ""), ("\r\n\n", ""), (" ", " ")] {
        let (contents, secret) = (format!(" {SECRET}{end}"), format!(" {SECRET}{kept}"));
        let file = scratch.write("secret", &contents);
        let app = Ingest::start(on_free_ports().env("REDIS_URL", server.url()).env("JWT_SECRET_FILE", &file)).await;
        assert_eq!(status(&app, &hs256(&secret, "ann")).await, 200, "{contents:?}");
        assert_eq!(status(&app, &hs256("other", "ann")).await, 401, "{contents:?}");
    }
}

#[tokio::test]
async fn the_three_kinds_of_public_keys_are_understood() {
    let server = RedisServer::start().await;
    let keys = [SigningKey::rs256(), SigningKey::es256(), SigningKey::eddsa()];
    for key in &keys {
        let app =
            Ingest::start(on_free_ports().env("REDIS_URL", server.url()).env("JWT_PUBLIC_KEY_FILE", key.public_key_file())).await;
        for other in &keys {
            let expected = if other.algorithm() == key.algorithm() { 200 } else { 401 };
            let token = Token::new("ann").sign(other);
            assert_eq!(status(&app, &token).await, expected, "{:?} against {:?}", other.algorithm(), key.algorithm());
        }
    }
}

#[tokio::test]
async fn sighup_takes_a_new_key_and_keeps_the_old_one_when_the_new_one_is_broken() {
    let server = RedisServer::start().await;
    let scratch = Scratch::new();
    let file = scratch.write("secret", FIRST);
    let app = Ingest::start(on_free_ports().env("REDIS_URL", server.url()).env("JWT_SECRET_FILE", &file)).await;
    let (first, second) = (hs256(FIRST, "ann"), hs256(SECOND, "ann"));
    scratch.write("secret", format!("{SECOND}\n"));
    assert_eq!((status(&app, &first).await, status(&app, &second).await), (200, 401), "a change alone changes nothing");

    app.daemon.signal("HUP");
    app.daemon.wait_for_line("the key of tokens was read anew").await;
    assert_eq!((status(&app, &first).await, status(&app, &second).await), (401, 200));

    scratch.write("secret", "\n");
    app.daemon.signal("HUP");
    app.daemon.wait_for_nth_line(1, "the old one stays").await;
    std::fs::remove_file(&file).unwrap();
    app.daemon.signal("HUP");
    app.daemon.wait_for_nth_line(2, "the old one stays").await;
    assert_eq!(status(&app, &second).await, 200);
    assert!(!app.daemon.output().join("\n").contains(SECOND), "{:?}", app.daemon.output());
}

#[tokio::test]
async fn sighup_takes_a_public_key_of_another_kind() {
    let server = RedisServer::start().await;
    let scratch = Scratch::new();
    let (old, new) = (SigningKey::rs256(), SigningKey::eddsa());
    let file = scratch.write("key.pem", old.public_key_pem());
    let app = Ingest::start(on_free_ports().env("REDIS_URL", server.url()).env("JWT_PUBLIC_KEY_FILE", &file)).await;
    scratch.write("key.pem", new.public_key_pem());
    app.daemon.signal("HUP");
    app.daemon.wait_for_line("the key of tokens was read anew").await;
    let (old, new) = (Token::new("ann").sign(&old), Token::new("ann").sign(&new));
    assert_eq!((status(&app, &old).await, status(&app, &new).await), (401, 200));
}
