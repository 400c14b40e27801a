//! `GET /posts/<id>/views` and `GET /posts/views?ids=…`.

use crate::support::{World, assert_error, token};

#[tokio::test]
async fn the_count_of_a_post_is_read_without_a_token() {
    let world = World::new().await;
    world.post("p").await;
    let app = world.ingest().await;
    app.view("ann", "p").await;
    let response = app.http.get("/posts/p/views").await;
    assert_eq!((response.status, response.header("content-type")), (200, "application/json; charset=utf-8"));
    assert_eq!(response.body, r#"{"postId":"p","viewsCount":1}"#);
    assert_eq!(app.http.get("/posts/%70/views").await.body, response.body);
    assert_eq!(world.size("p").await, 1, "reading is no view");
}

#[tokio::test]
async fn the_count_of_a_post_that_nobody_has_viewed_through_redis_is_the_databases() {
    let world = World::new().await;
    world.post("p").await;
    world.sql().execute("update posts set views_count = 1234567890", &[]).await.unwrap();
    assert_eq!(world.ingest().await.count("p").await, 1_234_567_890);
}

#[tokio::test]
async fn an_unknown_post_has_no_count() {
    let world = World::new().await;
    let app = world.ingest().await;
    assert_error(&app.http.get("/posts/p/views").await, 404, "Пост не найден");
    for id in ["a%2Fb", "a:b", "a%20b", "%FF", "%D0%B9", "%", "a%00"] {
        assert_error(&app.http.get(&format!("/posts/{id}/views")).await, 400, "Некорректный идентификатор поста");
    }
}

#[tokio::test]
async fn counts_of_many_posts_are_read_together_without_those_that_do_not_exist() {
    let world = World::new().await;
    for post in ["a", "b", "c"] {
        world.post(post).await;
    }
    let app = world.ingest().await;
    app.view("ann", "b").await;
    let response = app.http.get("/posts/views?ids=c,b,unknown,a,b").await;
    assert_eq!((response.status, response.body.as_str()), (200, r#"{"views":{"c":0,"b":1,"a":0}}"#));
    assert_eq!(app.http.get("/posts/views?x=1&ids=a%2Cb").await.body, r#"{"views":{"a":0,"b":1}}"#);
    assert_eq!(app.http.get("/posts/views?ids=unknown").await.body, r#"{"views":{}}"#);
}

#[tokio::test]
async fn all_lists_of_ids_count_together() {
    let world = World::new().await;
    for post in ["a", "b", "c"] {
        world.post(post).await;
    }
    let app = world.ingest().await;
    app.view("ann", "b").await;
    for (query, views) in [
        ("ids=a&ids=b", r#"{"a":0,"b":1}"#),
        ("ids=b,a&x=1&ids=c&ids=a", r#"{"b":1,"a":0,"c":0}"#),
        ("ids=c&ids=unknown&ids=c,b&id=a", r#"{"c":0,"b":1}"#),
        // An empty list adds nothing.
        ("ids=&ids=a", r#"{"a":0}"#),
        ("ids=a&ids=&ids", r#"{"a":0}"#),
    ] {
        let response = app.http.get(&format!("/posts/views?{query}")).await;
        assert_eq!((response.status, response.body), (200, format!(r#"{{"views":{views}}}"#)), "{query}");
    }
    assert_error(&app.http.get("/posts/views?ids=&ids=").await, 400, "Список постов пуст");
    assert_error(&app.http.get("/posts/views?ids=a&ids=b,").await, 400, "Некорректный идентификатор поста");
    let lists = |number: usize| (0..number).map(|post| format!("ids=p{post},q{post}")).collect::<Vec<_>>().join("&");
    assert_eq!(app.http.get(&format!("/posts/views?{}", lists(50))).await.status, 200);
    let too_many = app.http.get(&format!("/posts/views?{}&ids=a", lists(50))).await;
    assert_error(&too_many, 400, "Слишком много постов в запросе, максимум: 100");
}

#[tokio::test]
async fn a_list_of_no_or_bad_or_too_many_ids_is_refused() {
    let world = World::redis_alone().await;
    let app = world.ingest().await;
    for query in ["", "?", "?id=a", "?ids%5B%5D=a"] {
        assert_error(&app.http.get(&format!("/posts/views{query}")).await, 400, "Не указан список постов");
    }
    assert_error(&app.http.get("/posts/views?ids=").await, 400, "Список постов пуст");
    for list in ["a,", ",a", "a,,b", "a+b", "a;b", "%FF", "a%2C%20b"] {
        assert_error(&app.http.get(&format!("/posts/views?ids={list}")).await, 400, "Некорректный идентификатор поста");
    }
    let list = |number: usize| (0..number).map(|post| format!("p{post}")).collect::<Vec<_>>().join(",");
    let too_many = app.http.get(&format!("/posts/views?ids={}", list(101))).await;
    assert_error(&too_many, 400, "Слишком много постов в запросе, максимум: 100");
    assert_eq!(app.http.get(&format!("/posts/views?ids={}", list(100))).await.status, 200);
    // The longest query that has as many ids as may be: every byte encoded, a parameter each.
    let encoded = |post: usize| format!("{post:064}").bytes().fold("ids=".to_owned(), |id, byte| format!("{id}%{byte:02x}"));
    let longest = (0..100).map(encoded).collect::<Vec<_>>().join("&");
    assert_eq!(app.http.get(&format!("/posts/views?{longest}")).await.status, 200);
    for rubbish in ["ids&".repeat(4_000), "ids=&".repeat(3_000), format!("{longest}&ids={}", "a".repeat(200))] {
        let answer = app.http.get(&format!("/posts/views?{rubbish}")).await;
        assert_error(&answer, 400, "Слишком много постов в запросе, максимум: 100");
    }
}

#[tokio::test]
async fn head_answers_like_get_without_the_body() {
    let world = World::new().await;
    world.post("p").await;
    let app = world.ingest().await;
    for (path, status) in [("/posts/p/views", 200), ("/posts/views?ids=p", 200), ("/posts/unknown/views", 404), ("/livez", 200)] {
        let get = app.http.get(path).await;
        let head = app.http.request("HEAD", path, &[], "").await;
        assert_eq!((head.status, get.status, head.body.as_str()), (status, status, ""), "{path}");
        assert_eq!(head.header("content-length"), get.body.len().to_string(), "{path}");
    }
}

#[tokio::test]
async fn reading_can_be_made_to_take_a_token() {
    let world = World::redis_alone().await;
    let app = world.ingest_with(&[("VIEW_INGEST_READS_REQUIRE_TOKEN", "true")]).await;
    let authorization = format!("Bearer {}", token("ann"));
    for path in ["/posts/p/views", "/posts/views?ids=p"] {
        let without = app.http.get(path).await;
        assert_error(&without, 401, "Требуется авторизация");
        assert_eq!(without.header("www-authenticate"), "Bearer");
        assert_eq!(app.http.request("GET", path, &[("authorization", &authorization)], "").await.status, 200);
    }
    assert_eq!(app.http.get("/livez").await.status, 200, "probes have no token");
}
