//! The Redis server.

use fred::prelude::{ClientLike, KeysInterface};
use testkit::redis::RedisServer;
use testkit::tls::Certificates;
use testkit::{SOON, eventually};

#[tokio::test]
async fn servers_are_separate_and_keep_nothing_by_default() {
    let (one, two) = tokio::join!(RedisServer::start(), RedisServer::start());
    let (client, other) = (one.client().await, two.client().await);
    let () = client.set("key", "value", None, None, false).await.unwrap();
    assert_eq!(client.get::<Option<String>, _>("key").await.unwrap().as_deref(), Some("value"));
    assert_eq!(other.get::<Option<String>, _>("key").await.unwrap(), None);

    one.restart().await;
    eventually("the key is forgotten", SOON, async || {
        client.get::<Option<String>, _>("key").await.is_ok_and(|value| value.is_none())
    })
    .await;
}

#[tokio::test]
async fn with_an_append_only_file_data_survives_sigterm_and_sigkill() {
    let server = RedisServer::start_with(&[("appendonly", "yes"), ("appendfsync", "always")]).await;
    let client = server.client().await;
    let () = client.set("key", "value", None, None, false).await.unwrap();
    let port = server.port();

    assert!(server.is_running());
    server.stop().await;
    assert_eq!(server.pid(), None);
    assert!(!server.is_running());
    server.restart().await;
    server.kill().await;
    server.restart().await;

    assert_eq!(server.port(), port);
    let value: String = server.client().await.get("key").await.unwrap();
    assert_eq!(value, "value");
}

#[tokio::test]
async fn a_paused_server_answers_only_after_it_is_resumed() {
    let server = RedisServer::start().await;
    let client = server.client().await;
    server.pause();
    let waiting = tokio::spawn(async move { client.get::<Option<String>, _>("key").await });
    let mut connection = tokio::net::TcpStream::connect(("127.0.0.1", server.port())).await.unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut connection, b"PING\r\n").await.unwrap();
    let state = std::fs::read_to_string(format!("/proc/{}/status", server.pid().unwrap())).unwrap();
    assert!(state.contains("State:\tT"), "{state}");
    assert!(!waiting.is_finished());

    server.resume();
    assert_eq!(waiting.await.unwrap().unwrap(), None);
}

#[tokio::test]
async fn a_password_and_tls_are_in_the_url() {
    let certificates = Certificates::new();
    let server = RedisServer::builder().password("sesame").tls(&certificates).start().await;
    assert!(server.url().starts_with("rediss://default:sesame@localhost:"), "{}", server.url());
    let info: String = server.client().await.info(None).await.unwrap();
    assert!(info.contains("redis_version"));

    let mut cli = std::process::Command::new("redis-cli");
    cli.args(["-u", &server.url(), "--cacert"]).arg(certificates.ca_file()).arg("ping");
    let output = cli.output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "PONG", "{output:?}");
}

#[tokio::test]
#[should_panic(expected = "no-such-setting")]
async fn a_server_that_cannot_start_tells_why() {
    RedisServer::start_with(&[("no-such-setting", "1")]).await;
}
