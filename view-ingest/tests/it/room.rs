//! When all places are taken, the connection that has been idle or incomplete longest gives way; and what a connection
//! costs.

use futures_util::future::join_all;
use testkit::{SOON, eventually, http};
use tokio::{io::AsyncWriteExt, net::TcpStream};

use crate::{
    support::{Ingest, World, token},
    wire::Wire,
};

const WHOLE: &str = "GET /livez HTTP/1.1\r\nhost: x\r\n\r\n";
const LAST: &str = "GET /livez HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
const UNAVAILABLE: &str = r#"{"statusCode":503,"message":"Сервис временно недоступен","error":"Service Unavailable"}"#;

/// A program with so many places.
async fn with_places(places: usize) -> (World, Ingest) {
    let world = World::redis_alone().await;
    let app = world.ingest_with(&[("VIEW_INGEST_MAX_CONNECTIONS", &places.to_string())]).await;
    (world, app)
}

async fn connections(app: &Ingest, number: usize) {
    eventually("they are let in", SOON, || async { app.metric("view_ingest_connections").await == number as f64 }).await;
}

async fn evicted(app: &Ingest) -> f64 {
    app.metric("view_ingest_connections_evicted_total").await
}

#[tokio::test]
async fn honest_views_are_answered_beside_as_many_silent_connections_as_there_are_places() {
    const PLACES: usize = 200;
    for beginning in ["", "POST /posts/view HTTP/1.1\r\nhost: x\r\n"] {
        let (_world, app) = with_places(PLACES).await;
        let mut silent = Vec::new();
        for _ in 0..PLACES {
            let mut wire = Wire::connect(app.address).await;
            wire.send(beginning).await;
            silent.push(wire);
        }
        connections(&app, PLACES).await;
        let token = token("ann");
        for view in 0..40 {
            let body = format!(r#"{{"postId":"p{view}"}}"#);
            let request = format!(
                "POST /posts/view HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\ncontent-type: application/json\r\n\
                 connection: close\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            );
            let answer = http::raw(app.address, request).await;
            assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{view}: {answer}");
        }
        let evicted = evicted(&app).await;
        assert!((1.0..=40.0).contains(&evicted), "{evicted}");
        assert_eq!(app.metric("view_ingest_turned_away_total").await, 0.0);
    }
}

#[tokio::test]
async fn whoever_is_waited_for_longest_gives_way() {
    let (_world, app) = with_places(2).await;
    let address = app.address;
    for kind in 0..5 {
        let mut first = match kind {
            2 => Wire::view_without_body(address, "ann", 60_000).await,
            3 => Wire::admitted(address).await,
            _ => Wire::connect(address).await,
        };
        match kind {
            1 => first.send("GET /livez HTTP/1.1\r\nhost: te").await,
            2 => first.send("{\"postId\":").await,
            4 => first.send(&format!("{WHOLE}GET /li")).await,
            _ => {}
        }
        connections(&app, 1).await;
        // A request brings the clock on, so what comes now is later.
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        let mut second = Wire::admitted(address).await;
        let third = Wire::admitted(address).await;
        first.read_to_end().await;
        assert_eq!(evicted(&app).await, f64::from(kind + 1));
        second.send(WHOLE).await;
        second.read_answers(2).await;
        // The third one has waited for longer than the second one by now.
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        second.send(WHOLE).await;
        second.read_answers(3).await;
        drop((second, third));
        connections(&app, 0).await;
    }
}

#[tokio::test]
async fn whoever_is_being_answered_keeps_the_connection_and_the_next_one_gets_503() {
    let (world, app) = with_places(2).await;
    let mut wires = Vec::new();
    for _ in 0..2 {
        wires.push(Wire::view_without_body(app.address, "ann", 14).await);
    }
    world.server.pause();
    for wire in &mut wires {
        wire.send("{\"postId\":\"p\"}").await;
    }
    // Until it is read, a body is waited for, and its connection may give way; what comes in between is answered all
    // the same.
    connections(&app, 2).await;
    let answer = http::raw(app.address, LAST).await;
    world.server.resume();
    let turned_away =
        answer.starts_with("HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\n") && answer.ends_with(UNAVAILABLE);
    let evicted = evicted(&app).await;
    assert!(turned_away && evicted == 0.0 || answer.starts_with("HTTP/1.1 200") && evicted == 1.0, "{evicted}: {answer}");
    let mut answered = 0;
    for wire in wires {
        answered += usize::from(wire.read_to_end_of_answer().await.starts_with("HTTP/1.1 "));
    }
    assert!(answered >= 2 - evicted as usize, "{answered}");
}

#[tokio::test]
async fn a_place_is_free_again_when_its_connection_ends() {
    let (_world, app) = with_places(2).await;
    for _ in 0..50 {
        assert!(http::raw(app.address, LAST).await.starts_with("HTTP/1.1 200 "));
        connections(&app, 0).await;
    }
    assert_eq!(evicted(&app).await, 0.0);
}

/// What the program takes of memory, in KiB.
fn resident(app: &Ingest) -> i64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", app.daemon.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[tokio::test]
async fn a_connection_takes_little_memory_while_it_is_waited_for() {
    const CONNECTIONS: usize = 400;
    let world = World::redis_alone().await;
    let token = token("ann");
    let ids: Vec<String> = (0..100).map(|id| format!("{id:064}")).collect();
    let body = serde_json::json!({ "postIds": ids, "fill": " ".repeat(50_000) }).to_string();
    let post = format!(
        "POST /posts/views-batch HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    );
    let large_head = format!("GET /livez HTTP/1.1\r\nhost: x\r\nx-fill: {}\r\n\r\n", "x".repeat(15_000));
    let half_head = format!("GET /livez HTTP/1.1\r\nhost: x\r\nx-fill: {}", "x".repeat(31_000));
    for (what, request, answers) in [
        ("silent", "", false),
        ("a batch", &*post, true),
        ("a large head", &*large_head, true),
        ("half a head", &*half_head, false),
    ] {
        // Long, so that the memory is given back sooner than anything is overdue.
        let app = world.ingest_with(&[("VIEW_INGEST_HEADER_TIMEOUT", "1h")]).await;
        // What all connections share is there already.
        assert!(http::raw(app.address, post.replace("host: x", "host: x\r\nconnection: close")).await.contains(" 200 OK"));
        let before = resident(&app);
        let streams = join_all((0..CONNECTIONS).map(|_| async {
            let mut stream = TcpStream::connect(app.address).await.unwrap();
            stream.write_all(request.as_bytes()).await.unwrap();
            stream
        }))
        .await;
        connections(&app, CONNECTIONS).await;
        if answers {
            let answered = || async { app.metric("view_ingest_http_responses_total{class=\"2xx\"}").await > CONNECTIONS as f64 };
            eventually("all are answered", SOON, answered).await;
        }
        let each = || (resident(&app) - before) / CONNECTIONS as i64;
        let is_small = || async { each() < 40 };
        eventually(&format!("{what}: the memory is given back"), SOON, is_small).await;
        drop(streams);
    }
}

#[tokio::test]
async fn half_a_head_is_refused_before_it_takes_much() {
    let world = World::redis_alone().await;
    let app = world.ingest_with(&[("VIEW_INGEST_HEADER_TIMEOUT", "1h")]).await;
    let half_head = format!("GET /livez HTTP/1.1\r\nhost: x\r\nx-fill: {}", "x".repeat(60_000));
    assert!(http::raw(app.address, half_head).await.starts_with("HTTP/1.1 431 "));
}

#[tokio::test]
async fn a_view_finds_a_place_beside_readers_who_wait() {
    const PLACES: usize = 20;
    let server = testkit::postgres::PostgresServer::start().await;
    let posts = testkit::posts::PostsTable::with_ids(testkit::posts::IdType::Text);
    let world = World::with_stores(testkit::redis::RedisServer::start().await, server.database().await, posts).await;
    world.post("known").await;
    let app = world.ingest_with(&[("VIEW_INGEST_MAX_CONNECTIONS", &PLACES.to_string())]).await;
    assert_eq!(app.verdict("bob", "known").await, "counted 1");
    server.pause();
    let mut readers = Vec::new();
    for reader in 0..PLACES {
        let mut wire = Wire::connect(app.address).await;
        wire.send(&format!("GET /posts/views?ids=cold-{reader} HTTP/1.1\r\nhost: x\r\n\r\n")).await;
        readers.push(wire);
    }
    connections(&app, PLACES).await;
    let waiting = || async { app.metric("view_ingest_connections").await == PLACES as f64 };
    eventually("all places are taken", SOON, waiting).await;
    let body = r#"{"postId":"known"}"#;
    for viewer in ["ann", "zoe"] {
        let request = format!(
            "POST /posts/view HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\n\
             connection: close\r\ncontent-length: {}\r\n\r\n{body}",
            token(viewer),
            body.len()
        );
        let answer = http::raw(app.address, request).await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    }
    assert!(evicted(&app).await >= 1.0);
    // Those who have given way are told so.
    let mut told = 0;
    for reader in readers {
        let answer = reader.read_to_end_of_answer().await;
        let gave_way = answer.starts_with("HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\nconnection: close\r\n");
        assert!(gave_way || answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        told += usize::from(gave_way && answer.ends_with(UNAVAILABLE));
    }
    assert!(told >= 1);
    server.resume();
}

#[tokio::test]
async fn who_closes_the_writing_side_is_answered() {
    let (_world, app) = with_places(2).await;
    let mut stream = TcpStream::connect(app.address).await.unwrap();
    stream.write_all(WHOLE.as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut answer = String::new();
    tokio::io::AsyncReadExt::read_to_string(&mut stream, &mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
}
