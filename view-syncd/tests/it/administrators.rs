//! Who may ask for a synchronization, by the roles of known issuers.

use serde_json::{Value, json};
use testkit::{
    SOON, eventually,
    http::Client,
    issuer::Issuer,
    process::DaemonBuilder,
    tokens::{SigningKey, Token},
};

use crate::support::{SECRET, World};

async fn ask(client: &Client, token: &str) -> u16 {
    client.post_json("/posts/sync-views", Some(token), &json!({})).await.status
}

/// A token of user 7 with more claims.
fn token(claims: Value) -> Token {
    let Value::Object(claims) = claims else { panic!("{claims}") };
    claims.into_iter().fold(Token::new("7"), |token, (name, value)| token.claim(&name, value))
}

fn with(program: DaemonBuilder, settings: &[(&str, &str)]) -> DaemonBuilder {
    settings.iter().fold(program.env("SYNC_LINGER", "1h"), |program, (name, value)| program.env(name, value))
}

#[tokio::test]
async fn administrators_are_told_by_the_roles_of_their_issuer() {
    let world = World::new().await;
    let (key, new) = (SigningKey::rs256(), SigningKey::rs256());
    let issuer = Issuer::start(&[("a", &key)]).await;
    let settings = [
        ("JWT_JWKS_URL", issuer.url()),
        ("JWT_ADMIN_CLAIM", "realm_access.roles=admin,https://site.example/roles=admin, is_staff = true".to_owned()),
    ];
    let settings = settings.each_ref().map(|(name, value)| (*name, value.as_str()));
    let daemon = with(world.program(), &settings).start();
    let client = Client::new(daemon.wait_for_listening("admin").await);
    daemon.wait_for_line("Sync completed").await;
    for claims in [
        json!({ "realm_access": { "roles": ["offline_access", "admin"] } }),
        json!({ "https://site.example/roles": ["editor", "admin"] }),
        json!({ "https://site.example/roles": "admin" }),
        json!({ "is_staff": true }),
    ] {
        assert_eq!(ask(&client, &token(claims.clone()).key_id("a").sign(&key)).await, 200, "{claims}");
    }
    for claims in [
        json!({ "role": "ADMIN" }),
        json!({ "realm_access": { "roles": ["administrator"] } }),
        json!({ "realm_access": ["admin"], "is_staff": 1 }),
        json!({ "https://site": { "example/roles": "admins" } }),
        json!({}),
    ] {
        assert_eq!(ask(&client, &token(claims.clone()).key_id("a").sign(&key)).await, 403, "{claims}");
    }
    // A rotation that an operator tells of is waited for by who needs it.
    issuer.publish(&[("b", &new)]);
    issuer.delay(std::time::Duration::from_secs(1));
    daemon.signal("HUP");
    eventually("the issuer is asked", SOON, || async { issuer.asked() == 2 }).await;
    let admin = |id: &str, key: &SigningKey| token(json!({ "is_staff": true })).key_id(id).sign(key);
    assert_eq!(ask(&client, &admin("b", &new)).await, 200);
    assert_eq!(ask(&client, &admin("a", &key)).await, 401);
    let metrics = client.get("/metrics").await.body;
    assert!(metrics.contains("view_syncd_key_fetches_total{outcome=\"ok\"} 2\n"), "{metrics}");
}

#[tokio::test]
async fn administrators_of_issuers_without_roles_are_named() {
    let world = World::new().await;
    let settings = [("JWT_SECRET", SECRET), ("ADMIN_IDS", "3, 7,auth0|5f7c"), ("JWT_ADMIN_CLAIM", "app_metadata.roles=admin")];
    let daemon = with(world.program(), &settings).start();
    let client = Client::new(daemon.wait_for_listening("admin").await);
    daemon.wait_for_line("Sync completed").await;
    for (sub, status) in [
        (json!("7"), 200),
        (json!(3), 200),
        (json!("auth0|5f7c"), 200),
        (json!("70"), 403),
        (json!("8"), 403),
        (json!("admin"), 403),
    ] {
        assert_eq!(ask(&client, &token(json!({ "sub": sub })).hs256(SECRET)).await, status, "{sub}");
    }
    let supabase = json!({ "sub": "9", "role": "authenticated", "app_metadata": { "provider": "email", "roles": ["admin"] } });
    assert_eq!(ask(&client, &token(supabase).hs256(SECRET)).await, 200);
    let by_the_user = json!({ "sub": "9", "role": "ADMIN", "user_metadata": { "roles": ["admin"] } });
    assert_eq!(ask(&client, &token(by_the_user).hs256(SECRET)).await, 403);
}

#[tokio::test]
async fn while_the_issuer_was_always_away_the_daemon_works_and_nobody_is_told_that_a_token_is_bad() {
    let world = World::new().await;
    let daemon = with(world.program(), &[("JWT_JWKS_URL", "http://127.0.0.1:1/keys")]).start();
    let client = Client::new(daemon.wait_for_listening("admin").await);
    daemon.wait_for_line("Sync completed").await;
    let answer = client.post_json("/posts/sync-views", Some(&token(json!({})).sign(&SigningKey::es256())), &json!({})).await;
    assert_eq!((answer.status, answer.header("retry-after").is_empty()), (503, false), "{answer:?}");
    assert_eq!(client.get("/readyz").await.status, 200);
    assert_eq!(ask(&client, &token(json!({ "role": "ADMIN" })).hs256(SECRET)).await, 401);
}
