//! Tokens in the shapes of known issuers, each with the settings that docs/tokens.md names for it.

use serde_json::{Value, json};
use testkit::{
    issuer::{Issuer, key_set},
    scratch::Scratch,
    tokens::{Algorithm, EncodingKey, SECRET, SigningKey, Token, base64url},
};

use crate::support::{Ingest, World, on_free_ports};

const UUID: &str = "550e8400-e29b-41d4-a716-446655440000";

/// Starts the program with these settings of tokens, demands of each token that its viewer is counted as the one that
/// is expected, and gives back the program.
async fn accepts(world: &World, settings: &[(&str, &str)], tokens: &[(&str, String)]) -> Ingest {
    let program = on_free_ports().env("REDIS_URL", world.server.url());
    let app = Ingest::start(settings.iter().fold(program, |program, (name, value)| program.env(name, value))).await;
    for (viewer, token) in tokens {
        let before = world.outbox().await.len();
        let post = format!("p{before}");
        let answer = app.http.post_json("/posts/view", Some(token), &json!({ "postId": post })).await;
        assert_eq!(answer.status, 200, "{viewer} with {settings:?}: {answer:?}, {:?}", app.daemon.output());
        assert_eq!(world.outbox().await.pop(), Some((post, (*viewer).to_owned())));
    }
    app
}

/// Demands that a token is refused for a reason.
async fn refuses(app: &Ingest, reason: &str, token: &str) {
    let name = format!("view_ingest_tokens_refused_total{{reason=\"{reason}\"}}");
    let before = app.metric(&name).await;
    let answer = app.http.post_json("/posts/view", Some(token), &json!({ "postId": "p" })).await;
    assert_eq!((answer.status, app.metric(&name).await), (401, before + 1.0), "{reason}: {answer:?}");
}

/// A token with these claims beside `exp` and `iat`.
fn token(claims: Value) -> Token {
    let Value::Object(claims) = claims else { panic!("{claims}") };
    claims.into_iter().fold(Token::new("").without("sub"), |token, (name, value)| token.claim(&name, value))
}

fn hs256(claims: Value) -> String {
    token(claims).hs256(SECRET)
}

fn hs512(secret: &[u8], claims: Value) -> String {
    token(claims).sign_with(Algorithm::HS512, &EncodingKey::from_secret(secret))
}

#[tokio::test]
async fn a_secrets_tokens_say_who_they_are_in_many_ways() {
    let world = World::redis_alone().await;
    // NestJS, Laravel (tymon/jwt-auth) and Supabase.
    let laravel = |sub: Value| {
        hs256(
            json!({ "iss": "https://site.example/api/login", "nbf": 1, "jti": "Zk2", "sub": sub, "prv": "23bd5c8949f600adb39e701c400872db7a5976f7" }),
        )
    };
    let nest = json!({ "sub": 42, "username": "ann", "email": "ann@site.example" });
    let app = accepts(
        &world,
        &[("JWT_SECRET", SECRET)],
        &[
            ("42", hs256(nest)),
            ("7", laravel(json!("7"))),
            ("8", laravel(json!(8))),
            ("auth0|5f7c8ec7c33c6c004bbafe82", hs256(json!({ "sub": "auth0|5f7c8ec7c33c6c004bbafe82" }))),
        ],
    )
    .await;
    refuses(&app, "bad_viewer", &hs256(json!({ "sub": -1 }))).await;
    refuses(&app, "bad_viewer", &hs256(json!({ "sub": 7.5 }))).await;
    refuses(&app, "no_viewer", &hs256(json!({ "userId": 7 }))).await;
    refuses(&app, "algorithm", &hs512(SECRET.as_bytes(), json!({ "sub": "7" }))).await;

    let settings = [("JWT_SECRET", SECRET), ("JWT_AUDIENCE", "authenticated"), ("JWT_ISSUER", "https://ref.supabase.co/auth/v1")];
    let supabase = |aud: &str| {
        hs256(json!({
            "aal": "aal1", "amr": [{ "method": "password", "timestamp": 1_700_000_000 }], "app_metadata": { "provider": "email", "roles": ["admin"] },
            "aud": aud, "email": "ann@site.example", "is_anonymous": false, "iss": "https://ref.supabase.co/auth/v1", "phone": "",
            "role": "authenticated", "session_id": UUID, "sub": UUID, "user_metadata": { "sub": "x" }
        }))
    };
    let app = accepts(&world, &settings, &[(UUID, supabase("authenticated"))]).await;
    refuses(&app, "audience", &supabase("anon")).await;

    // NestJS with `userId`, Django (simplejwt), nested claims, and an object as the subject (flask-jwt-extended).
    let django = |id: Value| hs256(json!({ "token_type": "access", "jti": "a1", "user_id": id }));
    accepts(
        &world,
        &[("JWT_SECRET", SECRET), ("JWT_VIEWER_CLAIM", "user_id")],
        &[("7", django(json!(7))), ("8", django(json!("8")))],
    )
    .await;
    accepts(
        &world,
        &[("JWT_SECRET", SECRET), ("JWT_VIEWER_CLAIM", "userId")],
        &[("7", hs256(json!({ "userId": 7, "sub": "x" })))],
    )
    .await;
    accepts(
        &world,
        &[("JWT_SECRET", SECRET), ("JWT_VIEWER_CLAIM", "user.id")],
        &[("9", hs256(json!({ "user": { "id": "9" } })))],
    )
    .await;
    accepts(&world, &[("JWT_SECRET", SECRET), ("JWT_VIEWER_CLAIM", "sub.id")], &[("10", hs256(json!({ "sub": { "id": 10 } })))])
        .await;

    let hasura = json!({ "sub": "x", "https://hasura.io/jwt/claims": { "x-hasura-default-role": "user", "x-hasura-allowed-roles": ["user"], "x-hasura-user-id": "11" } });
    let settings = [
        ("JWT_SECRET", SECRET),
        ("JWT_ALGORITHMS", "HS512"),
        ("JWT_VIEWER_CLAIM", "https://hasura.io/jwt/claims.x-hasura-user-id"),
    ];
    accepts(&world, &settings, &[("11", hs256(hasura.clone())), ("11", hs512(SECRET.as_bytes(), hasura))]).await;
}

#[tokio::test]
async fn springs_secrets_are_decoded_before_they_sign() {
    let world = World::redis_alone().await;
    let secret: Vec<u8> = (0..64_u8).map(|number| number.wrapping_mul(37) ^ 0xfb).collect();
    let claims = || json!({ "sub": "ann", "authorities": ["ROLE_USER"] });
    let settings = |text| [("JWT_SECRET", text), ("JWT_SECRET_ENCODING", "base64"), ("JWT_ALGORITHMS", "HS384,HS512")];
    let url_safe = base64url(&secret);
    let standard = format!("{}==", url_safe.replace('-', "+").replace('_', "/"));
    for text in [&url_safe, &standard] {
        let app = accepts(&world, &settings(text), &[("ann", hs512(&secret, claims()))]).await;
        refuses(&app, "signature", &hs512(text.as_bytes(), claims())).await;
    }
    for (text, why) in [("not base64 at all, but of more than 32 bytes!", "is no base64"), (&standard[..40], "has 30 bytes only")]
    {
        let program = settings(text).iter().fold(on_free_ports(), |program, (name, value)| program.env(name, value)).start();
        assert_eq!(program.wait_exit().await.code(), Some(64));
        let output = program.output().join("\n");
        assert!(output.contains(why) && !output.contains(text), "{output}");
    }
}

#[tokio::test]
async fn issuers_with_a_set_of_keys_are_told_apart_by_their_ids() {
    let world = World::redis_alone().await;
    let (first, second, ec) = (SigningKey::rs256(), SigningKey::rs256(), SigningKey::es256());
    let issuer =
        Issuer::start(&[("FJ86GcF3jTbNLOco4NvZkUCIUmfYCqoqtOQeMfbhNlE", &first), ("second", &second), ("ec", &ec)]).await;
    let url = issuer.url();
    let keycloak = token(json!({
        "jti": "b2", "iss": "https://sso.example/realms/site", "aud": "account", "sub": UUID, "typ": "Bearer", "azp": "web",
        "realm_access": { "roles": ["offline_access", "admin"] }, "resource_access": { "account": { "roles": ["view-profile"] } }, "scope": "email"
    }));
    let auth0 = token(json!({
        "iss": "https://site.eu.auth0.com/", "sub": "auth0|5f7c8ec7c33c6c004bbafe82", "aud": ["https://site.example/api", "https://site.eu.auth0.com/userinfo"],
        "azp": "k9", "scope": "openid", "https://site.example/roles": ["admin"]
    }));
    let clerk = token(
        json!({ "azp": "https://site.example", "fva": [0, -1], "iss": "https://clerk.site.example", "nbf": 1, "sid": "sess_2a", "sub": "user_2NNEqL2nrIRdJ194ndJqAHwEfxC" }),
    );
    let firebase = token(json!({
        "iss": "https://securetoken.google.com/site", "aud": "site", "auth_time": 1_700_000_000, "user_id": "abc123XYZ", "sub": "abc123XYZ",
        "firebase": { "identities": {}, "sign_in_provider": "google.com" }
    }));
    let own_site = token(json!({ "sub": "7" }));
    let app = accepts(
        &world,
        &[("JWT_JWKS_URL", &url)],
        &[
            (UUID, keycloak.clone().key_id("FJ86GcF3jTbNLOco4NvZkUCIUmfYCqoqtOQeMfbhNlE").sign(&first)),
            ("user_2NNEqL2nrIRdJ194ndJqAHwEfxC", clerk.clone().key_id("second").sign(&second)),
            ("7", own_site.clone().key_id("ec").sign(&ec)),
            // Without an id, all keys are tried.
            ("7", own_site.sign(&second)),
        ],
    )
    .await;
    refuses(&app, "signature", &own_site.clone().key_id("second").sign(&first)).await;
    refuses(&app, "algorithm", &own_site.clone().key_id("second").sign(&ec)).await;
    refuses(&app, "algorithm", &own_site.clone().key_id("second").hs256(first.public_key_pem())).await;
    refuses(&app, "algorithm", &own_site.clone().key_id("second").sign_as(Algorithm::RS512, &second)).await;
    refuses(&app, "unknown_key", &own_site.clone().key_id("third").sign(&first)).await;
    assert_eq!(app.metric("view_ingest_key_fetches_total{outcome=\"ok\"}").await, 1.0);

    let auth0_settings = [
        ("JWT_JWKS_URL", url.as_str()),
        ("JWT_AUDIENCE", "https://site.example/api"),
        ("JWT_ISSUER", "https://site.eu.auth0.com/"),
    ];
    let viewer = "auth0|5f7c8ec7c33c6c004bbafe82";
    let app = accepts(&world, &auth0_settings, &[(viewer, auth0.clone().key_id("second").sign(&second))]).await;
    refuses(&app, "audience", &auth0.claim("aud", "https://site.eu.auth0.com/userinfo").key_id("second").sign(&second)).await;

    let firebase_settings =
        [("JWT_JWKS_URL", url.as_str()), ("JWT_AUDIENCE", "site"), ("JWT_ISSUER", "https://securetoken.google.com/site")];
    let app = accepts(&world, &firebase_settings, &[("abc123XYZ", firebase.clone().key_id("second").sign(&second))]).await;
    refuses(&app, "issuer", &firebase.claim("iss", "https://securetoken.google.com/other").key_id("second").sign(&second)).await;
}

#[tokio::test]
async fn more_algorithms_are_accepted_where_that_is_said_by_pem_and_by_set() {
    let world = World::redis_alone().await;
    let scratch = Scratch::new();
    let (rsa, p256, p384, ed) = (SigningKey::rs256(), SigningKey::es256(), SigningKey::es384(), SigningKey::eddsa());
    let pem = scratch.write("keys.pem", [&rsa, &p256, &p384, &ed].map(SigningKey::public_key_pem).concat());
    let set = scratch.write("keys.json", key_set(&[("r", &rsa), ("e", &p256), ("f", &p384), ("d", &ed)]).to_string());
    let ann = || Token::new("ann");
    for (name, file) in [("JWT_PUBLIC_KEY_FILE", &pem), ("JWT_JWKS_FILE", &set)] {
        let settings = [(name, file.to_str().unwrap()), ("JWT_ALGORITHMS", "RS512,PS256,ES384")];
        let tokens =
            [Algorithm::RS256, Algorithm::RS512, Algorithm::PS256].map(|algorithm| ("ann", ann().sign_as(algorithm, &rsa)));
        let others = [&p256, &p384, &ed].map(|key| ("ann", ann().sign(key)));
        let app = accepts(&world, &settings, &[&tokens[..], &others].concat()).await;
        refuses(&app, "algorithm", &ann().sign_as(Algorithm::RS384, &rsa)).await;
        refuses(&app, "algorithm", &ann().sign_as(Algorithm::PS512, &rsa)).await;
        for secret in [rsa.public_key_pem(), p256.public_key_pem()] {
            refuses(&app, "algorithm", &ann().hs256(secret)).await;
        }
    }
}

#[tokio::test]
async fn an_encrypted_session_is_told_what_it_is() {
    let world = World::redis_alone().await;
    let app = world.ingest_with(&[("LOG_LEVEL", "debug")]).await;
    let part = |bytes: &[u8]| base64url(bytes);
    for header in [json!({ "alg": "dir", "enc": "A256GCM" }), json!({ "alg": "dir", "enc": "A256CBC-HS512", "kid": "x" })] {
        let session =
            format!("{}..{}.{}.{}", part(header.to_string().as_bytes()), part(&[1; 12]), part(&[2; 300]), part(&[3; 16]));
        refuses(&app, "encrypted", &session).await;
    }
    assert_eq!(app.daemon.lines_with("let the site's own server issue a signed one").len(), 2, "{:?}", app.daemon.output());
}
