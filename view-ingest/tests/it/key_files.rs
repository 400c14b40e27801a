//! Keys that are refused, at the start and at a reload, and keys that stand beside each other.

use std::{
    fs::{Permissions, set_permissions},
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::json;
use testkit::{
    redis::RedisServer,
    scratch::Scratch,
    tls::Certificates,
    tokens::{Algorithm, EncodingKey, SECRET, SigningKey, Token, hs256},
};

use crate::support::{Ingest, on_free_ports};

/// Of 20 bytes, as some applications have.
const SHORT: &str = "r4nd0m-but-too-short";

async fn status(app: &Ingest, token: &str) -> u16 {
    app.http.post_json("/posts/view", Some(token), &json!({ "postId": "p" })).await.status
}

/// What openssl writes to a file.
fn openssl(scratch: &Scratch, name: &str, arguments: &str) -> String {
    let file = scratch.path().join(name);
    let arguments = arguments.split(' ').map(|word| word.replace("OUT", file.to_str().unwrap()));
    let output = Command::new("openssl").args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    std::fs::read_to_string(file).unwrap()
}

/// Files that are no public keys to verify with, and what is said of them.
fn unfit_keys(scratch: &Scratch) -> Vec<(String, &'static str)> {
    let rsa = openssl(scratch, "rsa", "genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out OUT");
    let in_file = |name: &str| scratch.path().join(name).to_str().unwrap().to_owned();
    let small = |bits: u32| {
        openssl(scratch, "small", &format!("genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:{bits} -out OUT"));
        openssl(scratch, "small.pub", &format!("pkey -in {} -pubout -out OUT", in_file("small")))
    };
    vec![
        (rsa, "is a private key"),
        (openssl(scratch, "rsa1", &format!("rsa -in {} -traditional -out OUT", in_file("rsa"))), "is a private key"),
        (
            openssl(scratch, "locked", &format!("pkcs8 -topk8 -in {} -passout pass:x -out OUT", in_file("rsa"))),
            "is a private key",
        ),
        (openssl(scratch, "ec", "ecparam -name prime256v1 -genkey -noout -out OUT"), "is a private key"),
        (openssl(scratch, "ed", "genpkey -algorithm ed25519 -out OUT"), "is a private key"),
        (small(1024), "is an RSA key of 1024 bits"),
        (small(2047), "is an RSA key of 2047 bits"),
        (
            openssl(
                scratch,
                "ec.pub",
                &format!("pkey -in {} -pubout -out OUT", {
                    openssl(scratch, "p384", "ecparam -name secp384r1 -genkey -noout -out OUT");
                    in_file("p384")
                }),
            ),
            "is no RSA, P-256 or Ed25519 public key",
        ),
        (format!("{}{}", SigningKey::eddsa().public_key_pem(), small(1024)), "block 2 (line 4) is an RSA key of 1024 bits"),
        ("# nothing here yet\n".to_owned(), "holds no RSA, P-256 or Ed25519 public key"),
    ]
}

#[tokio::test]
async fn a_key_that_could_not_verify_is_refused_at_the_start_and_at_a_reload() {
    let server = RedisServer::start().await;
    let scratch = Scratch::new();
    let good = SigningKey::rs256();
    let file = scratch.write("key.pem", good.public_key_pem());
    let program = || on_free_ports().env("REDIS_URL", server.url()).env("JWT_PUBLIC_KEY_FILE", &file);
    let app = Ingest::start(program()).await;
    let token = || Token::new("ann").sign(&good);
    assert_eq!(status(&app, &token()).await, 200);
    for (number, (unfit, why)) in unfit_keys(&scratch).into_iter().enumerate() {
        scratch.write("key.pem", &unfit);
        app.daemon.signal("HUP");
        app.daemon.wait_for_nth_line(number + 1, "the old one stays").await;
        assert_eq!(app.daemon.lines_with("the old one stays")[number].matches(why).count(), 1, "{:?}", app.daemon.output());
        assert_eq!(status(&app, &Token::new("ann").claim("again", number).sign(&good)).await, 200, "{unfit}");

        let refused = program().start();
        assert_eq!(refused.wait_exit().await.code(), Some(64), "{unfit}");
        assert_eq!(refused.lines_with(why).len(), 1, "{why}: {:?}", refused.output());
        let body = unfit.lines().find(|line| line.len() > 60).unwrap_or("-----");
        for program in [&refused, &app.daemon] {
            assert!(program.lines_with(body).is_empty(), "{:?}", program.output());
        }
    }
}

#[tokio::test]
async fn all_keys_of_a_file_verify_and_a_rotation_overlaps() {
    let server = RedisServer::start().await;
    let scratch = Scratch::new();
    let keys = [SigningKey::rs256(), SigningKey::rs256(), SigningKey::es256(), SigningKey::eddsa(), SigningKey::es256()];
    let text =
        |keys: &[SigningKey]| keys.iter().map(|key| format!("the next one:\r\n{}\n", key.public_key_pem())).collect::<String>();
    let file = scratch.write("keys.pem", text(&keys));
    let app = Ingest::start(on_free_ports().env("REDIS_URL", server.url()).env("JWT_PUBLIC_KEY_FILE", &file)).await;
    let token = |key: &SigningKey| Token::new("ann").sign(key);
    for key in &keys {
        assert_eq!(status(&app, &token(key)).await, 200, "{:?}", key.algorithm());
    }
    for stranger in [SigningKey::rs256(), SigningKey::es256(), SigningKey::eddsa()] {
        assert_eq!(status(&app, &token(&stranger)).await, 401);
    }
    assert_eq!(status(&app, &hs256(keys[0].public_key_pem(), "ann")).await, 401);

    scratch.write("keys.pem", text(&keys[1..]));
    app.daemon.signal("HUP");
    app.daemon.wait_for_line("the key of tokens was read anew").await;
    assert_eq!((status(&app, &token(&keys[0])).await, status(&app, &token(&keys[1])).await), (401, 200));
}

#[tokio::test]
async fn a_certificate_serves_as_its_public_key() {
    let server = RedisServer::start().await;
    let certificates = Certificates::new();
    let program = on_free_ports().env("REDIS_URL", server.url()).env("JWT_PUBLIC_KEY_FILE", certificates.certificate_file());
    let app = Ingest::start(program).await;
    let key = EncodingKey::from_ec_pem(&std::fs::read(certificates.key_file()).unwrap()).unwrap();
    assert_eq!(status(&app, &Token::new("ann").sign_with(Algorithm::ES256, &key)).await, 200);
    assert_eq!(status(&app, &Token::new("ann").sign(&SigningKey::es256())).await, 401);
}

/// Starts the program with a secret, in the environment and as a file, and demands that it is refused.
async fn assert_refused(scratch: &Scratch, secret: &str, flags: &[&str], why: &str) {
    let file = scratch.write("refused", secret);
    for (name, value) in [("JWT_SECRET", secret), ("JWT_SECRET_FILE", file.to_str().unwrap())] {
        let program = on_free_ports().env(name, value).args(flags).start();
        assert_eq!(program.wait_exit().await.code(), Some(64), "{name} {secret}");
        let output = program.output().join("\n");
        assert!(output.contains(why) && !output.contains(secret.trim()), "{secret}: {output}");
    }
}

#[tokio::test]
async fn a_secret_that_can_be_guessed_takes_an_operators_word() {
    let server = RedisServer::start().await;
    let scratch = Scratch::new();
    for short in ["~", SHORT, &SECRET[..31], &"0123456".repeat(8)] {
        assert_refused(&scratch, short, &[], "must have 32 or more").await;
    }
    for settings in [[("JWT_SECRET", SHORT.to_owned())], [("JWT_SECRET_FILE", scratch.write("s", SHORT).display().to_string())]] {
        let program = settings.iter().fold(on_free_ports(), |program, (name, value)| program.env(name, value));
        let app = Ingest::start(program.env("REDIS_URL", server.url()).env("JWT_ALLOW_WEAK_SECRET", "true")).await;
        assert_eq!(status(&app, &hs256(SHORT, "ann")).await, 200);
        assert_eq!(app.daemon.lines_with("has 20 bytes only").len(), 1, "{:?}", app.daemon.output());
        assert!(app.daemon.lines_with(SHORT).is_empty());
    }
}

#[tokio::test]
async fn what_is_no_secret_is_refused_whatever_the_flag() {
    let scratch = Scratch::new();
    for sample in ["change-me", "Change_Me", "change-me-to-what-the-application-signs-with", "secret-secret-secret-secret-1234"] {
        for flags in [&[][..], &["--jwt-allow-weak-secret"]] {
            assert_refused(&scratch, sample, flags, "is the one of a sample").await;
        }
    }
    let key = SigningKey::rs256();
    let pem = key.public_key_pem();
    for pem in [pem, &format!("\n  {pem}"), &format!("\u{feff}{}", pem.replace('\n', "\r\n"))] {
        assert_refused(&scratch, pem, &["--jwt-allow-weak-secret"], "is a key of a pair or a certificate").await;
    }
}

#[tokio::test]
async fn a_reload_refuses_what_a_start_refuses() {
    let server = RedisServer::start().await;
    let scratch = Scratch::new();
    let file = scratch.write("secret", SECRET);
    let app = Ingest::start(on_free_ports().env("REDIS_URL", server.url()).env("JWT_SECRET_FILE", &file)).await;
    let key = SigningKey::es256();
    for (number, unfit) in [SHORT, "change-me", key.public_key_pem(), ""].into_iter().enumerate() {
        scratch.write("secret", unfit);
        app.daemon.signal("HUP");
        app.daemon.wait_for_nth_line(number + 1, "the old one stays").await;
        assert_eq!(status(&app, &hs256(SECRET, &format!("viewer{number}"))).await, 200, "{unfit}");
        assert_eq!(status(&app, &hs256(unfit, "ann")).await, 401, "{unfit}");
    }
}

#[tokio::test]
async fn a_reload_waits_for_no_file_and_nobody_for_a_reload() {
    let server = RedisServer::start().await;
    let scratch = Scratch::new();
    let file = scratch.write("secret", SECRET);
    let app = Ingest::start(on_free_ports().env("REDIS_URL", server.url()).env("JWT_SECRET_FILE", &file)).await;
    let pipe = fifo(&scratch, "pipe");
    let large = scratch.write("large", "x".repeat(1024 * 1024 + 1));
    for (number, (target, why)) in [
        (pipe.as_path(), "it is a pipe"),
        (Path::new("/dev/zero"), "it is a device"),
        (scratch.path(), "it is a directory"),
        (&large, "it has more than 1 MiB"),
    ]
    .into_iter()
    .enumerate()
    {
        link_to(&file, target);
        app.daemon.signal("HUP");
        assert_eq!(app.admin.get("/livez").await.status, 200);
        app.daemon.wait_for_nth_line(number + 1, "the old one stays").await;
        assert!(app.daemon.lines_with("the old one stays")[number].contains(why), "{:?}", app.daemon.output());
        assert_eq!(status(&app, &hs256(SECRET, &format!("viewer{number}"))).await, 200);
    }
    // As Kubernetes changes a secret.
    link_to(&file, &scratch.write("next", "a new one that is long enough, as it must be\n"));
    app.daemon.signal("HUP");
    app.daemon.wait_for_line("the key of tokens was read anew").await;
    assert!(app.daemon.lines_with("was read anew")[0].contains(file.to_str().unwrap()), "{:?}", app.daemon.output());
    assert_eq!(status(&app, &hs256("a new one that is long enough, as it must be", "ann")).await, 200);
    app.daemon.signal("TERM");
    assert!(app.daemon.wait_exit().await.success());
}

/// Has a name lead elsewhere, in one step.
fn link_to(name: &Path, target: &Path) {
    let new = name.with_extension("new");
    symlink(target, &new).unwrap();
    std::fs::rename(new, name).unwrap();
}

fn fifo(scratch: &Scratch, name: &str) -> PathBuf {
    let path = scratch.path().join(name);
    assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
    path
}

#[tokio::test]
async fn a_pipe_will_do_at_the_start_and_is_not_waited_for_for_ever() {
    let server = RedisServer::start().await;
    let scratch = Scratch::new();
    let (pipe, silent) = (fifo(&scratch, "pipe"), fifo(&scratch, "silent"));
    let writer = pipe.clone();
    let writing = std::thread::spawn(move || std::fs::write(writer, SECRET).unwrap());
    let app = Ingest::start(on_free_ports().env("REDIS_URL", server.url()).env("JWT_SECRET_FILE", &pipe)).await;
    writing.join().unwrap();
    assert_eq!(status(&app, &hs256(SECRET, "ann")).await, 200);

    let names = ["JWT_SECRET_FILE", "REDIS_URL_FILE", "DATABASE_URL_FILE", "JWT_PUBLIC_KEY_FILE"];
    let programs = names.map(|name| {
        on_free_ports().env("JWT_SECRET", if name.starts_with("JWT") { "" } else { SECRET }).env(name, &silent).start()
    });
    for program in programs {
        assert_eq!(program.wait_exit().await.code(), Some(64));
        assert_eq!(program.lines_with("it could not be read in time").len(), 1, "{:?}", program.output());
    }
}

#[tokio::test]
async fn what_is_not_read_anew_is_not_said_to_be_and_nothing_is_told_twice() {
    let server = RedisServer::start().await;
    let app = Ingest::start(on_free_ports().env("REDIS_URL", server.url()).env("JWT_SECRET", SECRET)).await;
    app.daemon.signal("HUP");
    app.daemon.wait_for_line("the secret comes from JWT_SECRET and changes with a restart only").await;
    assert!(app.daemon.lines_with("read anew").is_empty(), "{:?}", app.daemon.output());

    let scratch = Scratch::new();
    let file = scratch.write("secret", SHORT);
    let program = on_free_ports().env("REDIS_URL", server.url()).env("JWT_SECRET_FILE", &file).env("JWT_ALLOW_WEAK_SECRET", "1");
    let app = Ingest::start(program).await;
    for (number, (secret, told)) in
        [(SHORT, 1), (SHORT, 1), ("sh0rter-by-far", 2), ("sh0rter-by-far", 2), (SHORT, 3)].into_iter().enumerate()
    {
        scratch.write("secret", secret);
        app.daemon.signal("HUP");
        app.daemon.wait_for_nth_line(number + 1, "was read anew").await;
        // The warnings come before the line that was waited for.
        assert_eq!(app.daemon.lines_with("bytes only").len(), told, "{:?}", app.daemon.output());
    }
}

#[tokio::test]
async fn a_byte_order_mark_belongs_to_no_secret_and_no_url() {
    let server = RedisServer::start().await;
    let scratch = Scratch::new();
    let secret = scratch.write("secret", format!("\u{feff}{SECRET}\r\n"));
    let url = scratch.write("url", format!("\u{feff}{}\n", server.url()));
    let app = Ingest::start(on_free_ports().env("REDIS_URL_FILE", &url).env("JWT_SECRET_FILE", &secret)).await;
    assert_eq!(status(&app, &hs256(SECRET, "ann")).await, 200);
}

#[tokio::test]
async fn a_secret_that_everybody_may_read_is_told() {
    let server = RedisServer::start().await;
    let scratch = Scratch::new();
    let file = scratch.write("secret", SECRET);
    let url = scratch.write("redis", server.url());
    let set = |path: &Path, mode| set_permissions(path, Permissions::from_mode(mode)).unwrap();
    for (mode, told) in [(0o600, 0), (0o640, 0), (0o644, 1), (0o602, 1)] {
        set(&file, mode);
        set(&url, mode);
        let app = Ingest::start(on_free_ports().env("REDIS_URL_FILE", &url).env("JWT_SECRET_FILE", &file)).await;
        for path in [&file, &url] {
            let warning = format!("in {} (mode {mode:04o})", path.display());
            let lines = app.daemon.lines_with(&warning);
            assert_eq!(lines.len(), told, "{:?}", app.daemon.output());
            assert!(lines.iter().all(|line| line.contains("WARN") && line.contains("chmod o-rwx")), "{lines:?}");
        }
        assert!(app.daemon.lines_with(SECRET).is_empty());
    }
}
