//! Sets of keys at a URL: what an issuer does wrong neither locks anybody out nor lets anybody in.

use std::time::Duration;

use futures_util::{StreamExt, future::join_all, stream};
use serde_json::json;
use testkit::{
    eventually,
    issuer::{Issuer, key_set},
    ports,
    process::{Daemon, DaemonBuilder},
    proxy::Proxy,
    redis::RedisServer,
    scratch::Scratch,
    tls::Certificates,
    tokens::{SigningKey, Token, base64url},
};
use tokio::time::Instant;

use crate::support::{Ingest, on_free_ports};

/// How long the program leaves an issuer alone.
const PAUSE: Duration = Duration::from_secs(30);

fn program(server: &RedisServer, url: &str) -> DaemonBuilder {
    on_free_ports().env("REDIS_URL", server.url()).env("JWT_JWKS_URL", url)
}

fn token(id: &str, key: &SigningKey) -> String {
    Token::new("ann").key_id(id).sign(key)
}

async fn status(app: &Ingest, token: &str) -> u16 {
    app.http.post_json("/posts/view", Some(token), &json!({ "postId": "p" })).await.status
}

#[tokio::test]
async fn a_thousand_unknown_keys_ask_nobody_and_a_rotation_is_found_within_half_a_minute() {
    let server = RedisServer::start().await;
    let (old, new) = (SigningKey::es256(), SigningKey::es256());
    let issuer = Issuer::start(&[("old", &old)]).await;
    let begin = Instant::now();
    let app = Ingest::start(program(&server, &issuer.url())).await;
    issuer.publish(&[("old", &old), ("new", &new)]);
    let (old_token, new_token) = (token("old", &old), token("new", &new));

    let refused = stream::iter(0..1_000)
        .map(|number| {
            let token = token(&format!("made-up-{number}"), &new);
            let app = &app;
            async move { status(app, &token).await }
        })
        .buffer_unordered(16)
        .filter(|status| std::future::ready(*status == 401))
        .count();
    assert_eq!(refused.await, 1_000);
    assert_eq!((status(&app, &old_token).await, status(&app, &new_token).await), (200, 401));
    assert_eq!(issuer.asked(), 1, "the start's alone");

    tokio::time::sleep_until(begin + PAUSE - Duration::from_secs(2)).await;
    assert_eq!((status(&app, &new_token).await, issuer.asked()), (401, 1));
    eventually("the new key is there", PAUSE, || async {
        assert_eq!(status(&app, &old_token).await, 200);
        status(&app, &new_token).await == 200
    })
    .await;
    assert_eq!(issuer.asked(), 2);

    // What the issuer withdraws goes away, also where its tokens have been seen.
    issuer.publish(&[("new", &new)]);
    assert_eq!(status(&app, &old_token).await, 200);
    app.daemon.signal("HUP");
    eventually("the old key is gone", PAUSE, || async { status(&app, &old_token).await == 401 }).await;
    assert_eq!((status(&app, &new_token).await, issuer.asked()), (200, 3));
}

#[tokio::test]
async fn while_the_issuer_was_always_away_nobody_is_told_that_a_token_is_bad() {
    let server = RedisServer::start().await;
    let key = SigningKey::rs256();
    let issuer = Issuer::start(&[("a", &key)]).await;
    let proxy = Proxy::start(issuer.address()).await;
    proxy.break_networking().await;
    let app = Ingest::start(program(&server, &format!("http://{}/keys?apikey=hidden", proxy.address()))).await;
    let line = app.daemon.wait_for_line("there is no key of tokens yet").await;
    assert!(line.contains("Connection refused") && !line.contains("hidden"), "{line}");
    for path in ["/livez", "/readyz"] {
        assert_eq!(app.http.get(path).await.status, 200, "{path}");
    }
    assert_eq!(app.http.get("/posts/p/views").await.status, 200, "reads take no token");
    let good = token("a", &key);
    let answer = app.http.post_json("/posts/view", Some(&good), &json!({ "postId": "p" })).await;
    assert_eq!((answer.status, answer.header("retry-after").is_empty()), (503, false), "{answer:?}");
    assert_eq!(app.metric("view_ingest_tokens_refused_total{reason=\"no_keys\"}").await, 1.0);
    // No key of the issuer's could ever let these in.
    for bad in [Token::new("ann").hs256(key.public_key_pem()), Token::new("ann").unsigned(), "x".to_owned()] {
        assert_eq!(status(&app, &bad).await, 401, "{bad}");
    }
    proxy.restore().await;
    assert_eq!((status(&app, &good).await, issuer.asked()), (503, 0), "it is left alone for a while");
    app.daemon.signal("HUP");
    eventually("the keys are there", PAUSE, || async { status(&app, &good).await == 200 }).await;
}

#[tokio::test]
async fn a_bad_answer_leaves_the_keys_that_there_are() {
    let server = RedisServer::start().await;
    let (key, foreign) = (SigningKey::es256(), SigningKey::es256());
    let issuer = Issuer::start(&[("a", &key)]).await;
    let app = Ingest::start(program(&server, &issuer.url())).await;
    let good = token("a", &key);
    let url = issuer.url();
    let body = key_set(&[("b", &foreign)]).to_string();
    let huge = format!("{}{body}", " ".repeat(1024 * 1024));
    let many = json!({ "keys": vec![key.jwk(); 101] }).to_string();
    let answers: [(&str, &dyn Fn()); 12] = [
        ("it answered 500", &|| issuer.answer(500, &[], &body)),
        ("it answered 404", &|| issuer.answer(404, &[], &body)),
        ("it answered 304", &|| issuer.answer(304, &[], "")),
        ("more than 1 MiB", &|| issuer.answer(200, &[], &huge)),
        ("is no JSON Web Key Set", &|| issuer.answer(200, &[("content-type", "text/html")], "<html>")),
        ("is no JSON Web Key Set", &|| issuer.answer(200, &[], r#"{"a":"-----BEGIN CERTIFICATE-----"}"#)),
        ("has no key that verifies", &|| issuer.answer(200, &[], r#"{"keys":[]}"#)),
        ("has more than 100 keys", &|| issuer.answer(200, &[], &many)),
        ("redirects more than 3 times", &|| issuer.answer(302, &[("location", &url)], "")),
        ("redirects to what is no URL", &|| issuer.answer(301, &[("location", "file:///etc/passwd")], "")),
        ("or broke off", &|| issuer.answer_raw(format!("HTTP/1.1 200 OK\r\ncontent-length: 9999\r\n\r\n{body}"))),
        ("invalid HTTP", &|| issuer.answer_raw("SSH-2.0-OpenSSH_9.2\r\n")),
    ];
    for (number, (why, answer)) in answers.iter().enumerate() {
        answer();
        app.daemon.signal("HUP");
        let line = app.daemon.wait_for_nth_line(number + 1, "the old one stays").await;
        assert!(line.contains(why), "{why}: {line}");
        assert_eq!((status(&app, &good).await, status(&app, &token("b", &foreign)).await), (200, 401), "{why}");
    }
    let failed = app.metric("view_ingest_key_fetches_total{outcome=\"failed\"}").await;
    assert_eq!(failed, answers.len() as f64);

    let target = Issuer::start(&[("b", &foreign)]).await;
    issuer.answer(307, &[("location", &target.url())], "");
    app.daemon.signal("HUP");
    eventually("the other keys are there", PAUSE, || async { status(&app, &token("b", &foreign)).await == 200 }).await;
    assert_eq!(status(&app, &good).await, 401);
}

#[tokio::test]
async fn a_slow_issuer_is_waited_for_by_those_alone_who_need_its_keys() {
    let server = RedisServer::start().await;
    let (old, new) = (SigningKey::es256(), SigningKey::es256());
    let issuer = Issuer::start(&[("old", &old)]).await;
    let app = Ingest::start(program(&server, &issuer.url())).await;

    // Who comes while the keys are under way gets them.
    issuer.publish(&[("old", &old), ("new", &new)]);
    issuer.delay(Duration::from_secs(1));
    app.daemon.signal("HUP");
    eventually("the issuer is asked", PAUSE, || async { issuer.asked() == 2 }).await;
    let waiting = join_all((0..20).map(|_| status_of(&app, token("new", &new))));
    let known = async {
        let begin = Instant::now();
        assert_eq!(status(&app, &token("old", &old)).await, 200);
        begin.elapsed()
    };
    let (waited, known) = tokio::join!(waiting, known);
    assert_eq!(waited, [200; 20]);
    assert!(known < Duration::from_millis(900), "{known:?}");
    assert_eq!(issuer.asked(), 2, "by one request");

    // But not for longer than two seconds.
    issuer.delay(Duration::from_secs(60));
    app.daemon.signal("HUP");
    eventually("the issuer is asked again", PAUSE, || async { issuer.asked() == 3 }).await;
    let begin = Instant::now();
    assert_eq!(status(&app, &token("unheard", &new)).await, 401);
    let waited = begin.elapsed();
    assert!((Duration::from_millis(1_500)..Duration::from_secs(4)).contains(&waited), "{waited:?}");
    let line = app.daemon.wait_for_line("the old one stays").await;
    assert!(line.contains("did not answer in time"), "{line}");
    assert_eq!(status(&app, &token("new", &new)).await, 200);
}

async fn status_of(app: &Ingest, token: String) -> u16 {
    status(app, &token).await
}

#[tokio::test]
async fn what_must_not_be_in_a_set_lets_nobody_in_and_locks_nobody_out() {
    let server = RedisServer::start().await;
    let (good, leaked) = (SigningKey::es256(), SigningKey::es256());
    let secret = "0123456789abcdef0123456789abcdef";
    let mut set = key_set(&[("good", &good), ("leaked", &leaked), ("enc", &leaked), ("odd", &leaked)]);
    set["keys"][1]["d"] = json!("AAAA");
    set["keys"][2]["use"] = json!("enc");
    set["keys"][3]["crv"] = json!("secp256k1");
    set["keys"].as_array_mut().unwrap().push(json!({ "kty": "oct", "kid": "secret", "k": base64url(secret.as_bytes()) }));
    let issuer = Issuer::start(&[]).await;
    issuer.answer(200, &[], set.to_string());
    let app = Ingest::start(program(&server, &issuer.url())).await;
    assert_eq!(status(&app, &token("good", &good)).await, 200);
    for id in ["leaked", "enc", "odd"] {
        assert_eq!(status(&app, &token(id, &leaked)).await, 401, "{id}");
    }
    assert_eq!(status(&app, &Token::new("ann").key_id("secret").hs256(secret)).await, 401);
    for told in [r#"the key "leaked" is a private key"#, r#"the key "secret" is a secret"#, r#"the key "odd" is of another kind"#]
    {
        assert_eq!(app.daemon.lines_with(told).len(), 1, "{told}: {:?}", app.daemon.output());
    }
    assert!(app.daemon.lines_with("\"enc\"").is_empty());

    // A file can be mended, and is refused as a whole.
    let scratch = Scratch::new();
    let file = scratch.write("keys.json", set.to_string());
    let refused = on_free_ports().env("JWT_JWKS_FILE", &file).start();
    assert_eq!(refused.wait_exit().await.code(), Some(64));
    assert_eq!(refused.lines_with("is a private key").len(), 1, "{:?}", refused.output());
    scratch.write("keys.json", key_set(&[("good", &good)]).to_string());
    let app = Ingest::start(on_free_ports().env("REDIS_URL", server.url()).env("JWT_JWKS_FILE", &file)).await;
    scratch.write("keys.json", set.to_string());
    app.daemon.signal("HUP");
    app.daemon.wait_for_line("the old one stays").await;
    assert_eq!(status(&app, &token("good", &good)).await, 200);
    scratch.write("keys.json", format!("\u{feff}{}\n", key_set(&[("leaked", &leaked)])));
    app.daemon.signal("HUP");
    app.daemon.wait_for_line("was read anew").await;
    assert_eq!((status(&app, &token("good", &good)).await, status(&app, &token("leaked", &leaked)).await), (401, 200));
    // Of several keys with one id, each may have signed.
    scratch.write("keys.json", key_set(&[("same", &good), ("same", &leaked)]).to_string());
    app.daemon.signal("HUP");
    app.daemon.wait_for_nth_line(2, "was read anew").await;
    assert_eq!((status(&app, &token("same", &good)).await, status(&app, &token("same", &leaked)).await), (200, 200));
}

#[tokio::test]
async fn an_issuers_certificate_is_checked() {
    let server = RedisServer::start().await;
    let key = SigningKey::es256();
    let (certificates, scratch) = (Certificates::new(), Scratch::new());
    let set = key_set(&[("a", &key)]).to_string();
    scratch.write("keys", format!("HTTP/1.0 200 OK\r\nContent-Length: {}\r\n\r\n{set}", set.len()));
    let port = ports::free().to_string();
    let issuer = Daemon::builder("sh")
        .args(["-c", r#"cd "$0" && exec openssl s_server -HTTP -accept "$1" -cert "$2" -key "$3""#])
        .args([scratch.path(), port.as_ref(), certificates.certificate_file(), certificates.key_file()])
        .start();
    issuer.wait_for_line("ACCEPT").await;
    let url = format!("https://localhost:{port}/keys");
    let app = Ingest::start(program(&server, &url).env("SSL_CERT_FILE", certificates.ca_file())).await;
    assert_eq!(status(&app, &token("a", &key)).await, 200, "{:?}", app.daemon.output());
    let distrustful = Ingest::start(program(&server, &url).env("SSL_CERT_FILE", Certificates::new().ca_file())).await;
    let line = distrustful.daemon.wait_for_line("there is no key of tokens yet").await;
    assert!(line.contains("invalid peer certificate"), "{line}");
    assert_eq!(status(&distrustful, &token("a", &key)).await, 503);
}

#[tokio::test]
async fn urls_that_are_none_or_not_safe_are_told() {
    for (url, why) in [
        ("issuer.example/keys", "is not a URL"),
        ("file:///etc/keys.json", "must begin with https://"),
        ("https://user:hidden@issuer.example/keys", "takes no user and no password"),
    ] {
        let program = on_free_ports().env("JWT_JWKS_URL", url).start();
        assert_eq!(program.wait_exit().await.code(), Some(64));
        let output = program.output().join("\n");
        assert!(output.contains("--jwt-jwks-url: ") && output.contains(why) && !output.contains("hidden"), "{output}");
    }
    let server = RedisServer::start().await;
    let app = Ingest::start(program(&server, "http://keycloak.invalid:8080/keys")).await;
    assert_eq!(app.daemon.lines_with("between here and keycloak.invalid can put in keys").len(), 1, "{:?}", app.daemon.output());
}
