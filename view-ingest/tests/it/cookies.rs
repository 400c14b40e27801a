//! A token in a cookie: `--jwt-cookie`.

use testkit::{http::Response, tokens::Token};

use crate::support::{Ingest, SECRET, World, assert_error, token};

const SITE: &str = "https://site.example";
const TWO: &str = "Токен передан в двух разных cookie с одним именем";
const REFUSED: &str = "Запрос с этого сайта не разрешен";

async fn with_cookies(world: &World, origins: &str) -> Ingest {
    world.ingest_with(&[("JWT_COOKIE", "__Host-token"), ("VIEW_INGEST_CORS_ORIGIN", origins)]).await
}

/// A view as a page can send it without a preflight.
async fn view(app: &Ingest, post: &str, headers: &[(&str, &str)]) -> Response {
    let headers = [&[("content-type", "text/plain;charset=UTF-8")], headers].concat();
    app.http.request("POST", "/posts/view", &headers, format!(r#"{{"postId":"{post}"}}"#)).await
}

fn cookie(viewer: &str) -> String {
    format!("__Host-token={}", token(viewer))
}

#[tokio::test]
async fn a_cookie_is_as_good_as_a_token_from_pages_that_may_send_views() {
    let world = World::redis_alone().await;
    let app = with_cookies(&world, SITE).await;
    let own = format!("http://{}", app.address);
    // Whoever ends TLS before this process passes the host on, and not the scheme.
    let behind_tls = format!("https://{}", app.address);
    for (number, origin) in [SITE, &own, &behind_tls].into_iter().enumerate() {
        let answer = view(&app, "p", &[("origin", origin), ("cookie", &cookie(&format!("viewer-{number}")))]).await;
        assert_eq!(answer.json()["status"], "counted", "{origin}: {answer:?}");
    }
    let batch = [("origin", SITE), ("cookie", &cookie("ann")), ("content-type", "text/plain")];
    let answer = app.http.request("POST", "/posts/views-batch", &batch, r#"{"postIds":["p","q"]}"#).await;
    assert_eq!(answer.json()["processedCount"], 2);
    assert_eq!(answer.header("access-control-allow-credentials"), "true");
}

#[tokio::test]
async fn a_page_of_another_site_counts_nothing() {
    let world = World::redis_alone().await;
    let (named, any) = (with_cookies(&world, SITE).await, with_cookies(&world, "*").await);
    let port = named.address.port();
    let (localhost, longer) = (format!("http://localhost:{port}"), format!("http://{}0", named.address));
    let origins =
        ["https://evil.example", "http://site.example", "null", "", &localhost, &longer, "http://127.0.0.1", "https://"];
    for app in [&named, &any] {
        for origin in origins {
            let answer = view(app, "p", &[("origin", origin), ("cookie", &cookie("ann"))]).await;
            assert_error(&answer, 403, REFUSED);
        }
        for headers in [
            &[][..],
            &[("sec-fetch-site", "same-origin")],
            &[("origin", SITE), ("origin", SITE)],
            &[("origin", SITE), ("origin", "https://evil.example")],
            &[("referer", "https://site.example/page")],
        ] {
            let answer = view(app, "p", &[headers, &[("cookie", cookie("ann").as_str())]].concat()).await;
            assert_error(&answer, 403, REFUSED);
        }
    }
    assert!(world.outbox().await.is_empty());
    let refused = "view_ingest_tokens_refused_total{reason=\"origin\"}";
    assert_eq!(named.metric(refused).await, 13.0);
    // What anybody may read is read by pages of all sites, but without their cookies.
    let answer = view(&any, "p", &[("origin", SITE), ("cookie", &cookie("ann"))]).await;
    assert_error(&answer, 403, REFUSED);
    assert_eq!(answer.header("access-control-allow-origin"), "*");
    assert_eq!(answer.header("access-control-allow-credentials"), "");
}

#[tokio::test]
async fn authorization_goes_before_the_cookie_and_needs_no_origin() {
    let world = World::redis_alone().await;
    let app = with_cookies(&world, SITE).await;
    let (bob, ann) = (format!("Bearer {}", token("bob")), cookie("ann"));
    let answer = view(&app, "p", &[("authorization", &bob), ("cookie", &ann), ("origin", "https://evil.example")]).await;
    assert_eq!(answer.status, 200);
    assert_eq!(world.outbox().await, [("p".to_owned(), "bob".to_owned())]);
    for authorization in ["", "Basic YTpi", "Bearer rubbish", "Bearer"] {
        let answer = view(&app, "p", &[("authorization", authorization), ("cookie", &ann), ("origin", SITE)]).await;
        assert_eq!(answer.status, 401, "{authorization:?}");
    }
    assert_eq!(world.outbox().await.len(), 1);
}

#[tokio::test]
async fn a_cookie_that_holds_no_good_token_is_refused() {
    let world = World::redis_alone().await;
    let app = with_cookies(&world, SITE).await;
    let expired = format!("__Host-token={}", Token::new("ann").expires_in(-1).hs256(SECRET));
    let quoted = format!("a=1; __Host-token=\"{}\"; b=2", token("ann"));
    let twice = format!("{}; {0}", cookie("ann"));
    let (two, other) = (format!("{}; {}", cookie("ann"), cookie("bob")), cookie("ann").to_lowercase());
    for (cookie, status, message) in [
        (quoted.as_str(), 200, ""),
        (&twice, 200, ""),
        (&expired, 401, "Срок действия токена истек"),
        ("__Host-token=rubbish", 401, "Недействительный токен"),
        ("__Host-token=\u{1f36a}.\u{1f36a}.x", 401, "Недействительный токен"),
        ("__Host-token=", 401, "Требуется авторизация"),
        ("__Host-token", 401, "Требуется авторизация"),
        (&other, 401, "Требуется авторизация"),
        ("=;;; = ;\"", 401, "Требуется авторизация"),
        (&two, 400, TWO),
    ] {
        let answer = view(&app, "p", &[("origin", SITE), ("cookie", cookie)]).await;
        assert_eq!(answer.status, status, "{cookie}: {answer:?}");
        if status != 200 {
            assert_error(&answer, status, message);
        }
    }
    let lines = [("cookie", cookie("ann")), ("cookie", cookie("bob")), ("origin", SITE.to_owned())];
    let lines: Vec<(&str, &str)> = lines.iter().map(|(name, value)| (*name, value.as_str())).collect();
    assert_error(&view(&app, "p", &lines).await, 400, TWO);
}

#[tokio::test]
async fn what_only_reads_needs_no_origin_but_no_wrong_one() {
    let world = World::redis_alone().await;
    let settings = [("JWT_COOKIE", "token"), ("VIEW_INGEST_CORS_ORIGIN", SITE), ("VIEW_INGEST_READS_REQUIRE_TOKEN", "true")];
    let app = world.ingest_with(&settings).await;
    let cookie = format!("token={}", token("ann"));
    for path in ["/posts/p/views", "/posts/views?ids=p", "/posts/viewed?ids=p"] {
        for method in ["GET", "HEAD"] {
            let get = |headers: Vec<(&'static str, &'static str)>| {
                let headers = [headers, vec![("cookie", cookie.as_str())]].concat().into_boxed_slice();
                let app = &app;
                async move { app.http.request(method, path, &headers, "").await.status }
            };
            assert_eq!(get(vec![]).await, 200, "{method} {path}");
            assert_eq!(get(vec![("origin", SITE)]).await, 200, "{method} {path}");
            assert_eq!(get(vec![("origin", "https://evil.example")]).await, 403, "{method} {path}");
            assert_eq!(get(vec![("origin", "null")]).await, 403, "{method} {path}");
            for (site, status) in [("same-origin", 200), ("none", 200), ("same-site", 403), ("cross-site", 403)] {
                assert_eq!(get(vec![("sec-fetch-site", site)]).await, status, "{method} {path} {site}");
            }
            assert_eq!(get(vec![("origin", SITE), ("sec-fetch-site", "cross-site")]).await, 200, "{method} {path}");
        }
        assert_error(&app.http.get(path).await, 401, "Требуется авторизация");
    }
}

#[tokio::test]
async fn without_the_setting_a_cookie_is_nothing() {
    let world = World::redis_alone().await;
    let app = world.ingest_with(&[("VIEW_INGEST_CORS_ORIGIN", SITE)]).await;
    let answer = view(&app, "p", &[("origin", SITE), ("cookie", &cookie("ann"))]).await;
    assert_error(&answer, 401, "Требуется авторизация");
}
