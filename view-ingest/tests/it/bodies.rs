//! Bodies as browsers send them: JSON that is called plain text, and ids that are numbers.

use serde_json::json;
use testkit::posts::{IdType, PostsTable};

use crate::support::{World, assert_error, token};

#[tokio::test]
async fn json_may_be_called_plain_text() {
    let world = World::redis_alone().await;
    let app = world.ingest().await;
    let authorization = format!("Bearer {}", token("ann"));
    for (number, kind) in
        ["text/plain", "text/plain;charset=UTF-8", "Text/Plain ; charset=utf-8", "application/json", "application/vnd.api+json"]
            .into_iter()
            .enumerate()
    {
        let headers = [("authorization", authorization.as_str()), ("content-type", kind)];
        let answer = app.http.request("POST", "/posts/view", &headers, format!(r#"{{"postId":"p{number}"}}"#)).await;
        assert_eq!(answer.json()["status"], "counted", "{kind}");
        let answer = app.http.request("POST", "/posts/views-batch", &headers, format!(r#"{{"postIds":["b{number}"]}}"#)).await;
        assert_eq!(answer.json()["processedCount"], 1, "{kind}");
    }
    let headers = [("authorization", authorization.as_str()), ("content-type", "text/plain")];
    for body in ["", "postId=p", "{'postId':'p'}", "\"p\""] {
        assert_error(&app.http.request("POST", "/posts/view", &headers, body).await, 400, "Некорректный JSON");
    }
    for kind in ["text/html", "text/plainx", "text/", "text/plain, application/xml", "multipart/form-data"] {
        let headers = [("authorization", authorization.as_str()), ("content-type", kind)];
        let answer = app.http.request("POST", "/posts/view", &headers, r#"{"postId":"p"}"#).await;
        assert_error(&answer, 415, "Ожидается Content-Type: application/json");
    }
}

#[tokio::test]
async fn an_id_may_be_a_whole_number_and_is_its_digits() {
    let world = World::with_posts(PostsTable::with_ids(IdType::Bigint)).await;
    world.post_of("42", "7").await;
    world.post_of("0", "7").await;
    world.post_of("9007199254740993", "7").await;
    let app = world.ingest().await;
    let one = |body: &'static str| {
        let (app, authorization) = (&app, format!("Bearer {}", token("1")));
        async move {
            let headers = [("authorization", authorization.as_str()), ("content-type", "application/json")];
            let path = if body.contains("postIds") { "/posts/views-batch" } else { "/posts/view" };
            app.http.request("POST", path, &headers, body).await
        }
    };
    assert_eq!(one(r#"{"postId":42}"#).await.json()["status"], "counted");
    assert_eq!(one(r#"{"postId":"42"}"#).await.json()["status"], "duplicate");
    // Beyond what a double holds, digit by digit.
    let batch = one(r#"{"postIds":[ 42,"42",0, 9007199254740993,18446744073709551615]}"#).await.json();
    assert_eq!(batch["postIds"], json!(["0", "9007199254740993"]), "{batch}");
    let statuses: Vec<_> = batch["results"].as_array().unwrap().iter().map(|result| result["status"].clone()).collect();
    assert_eq!(statuses, ["duplicate", "counted", "counted", "not_found"]);
    for number in ["-1", "-0", "1.0", "0.5", "1e3", "1E0", "18446744073709551616", "1e400", "-9223372036854775809"] {
        for body in [format!(r#"{{"postId":{number}}}"#), format!(r#"{{"postIds":[42,{number}]}}"#)] {
            let answer = one(Box::leak(body.into_boxed_str())).await;
            let message = answer.json()["message"].clone();
            assert_eq!(answer.status, 400, "{number}");
            // One of them is larger than any number that the library reads.
            assert!(message == "Некорректный идентификатор поста" || number == "1e400", "{number}: {message}");
        }
    }
    for body in [
        r#"{"postId":01}"#,
        r#"{"postId":+1}"#,
        r#"{"postId":0x1}"#,
        r#"{"postId":1_0}"#,
        r#"{"postId":NaN}"#,
        r#"{"postId":[1]}"#,
        r#"{"postId":true}"#,
    ] {
        assert_error(&one(body).await, 400, "Некорректный JSON");
    }
    assert_eq!(world.outbox().await.len(), 3);
}
