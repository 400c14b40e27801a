use testkit::process::Daemon;

use crate::support::PROGRAM;

#[tokio::test]
async fn everything_that_is_wrong_is_told_at_once_with_status_64() {
    let program = Daemon::builder(PROGRAM)
        .env("REDIS_URL", "http://:hidden@redis")
        .env("SYNC_INTERVAL", "soon")
        .env("SYNC_BATCH_SIZE", "0")
        .env("VIEW_SYNCD_ADMIN_LISTEN", "nowhere")
        .start();
    assert_eq!(program.wait_exit().await.code(), Some(64));
    let output = program.output().join("\n");
    for name in ["--redis-url", "--interval", "--batch-size", "--admin-listen", "--database-url", "--jwt-secret"] {
        assert!(output.contains(name), "{name} is missing in\n{output}");
    }
    assert!(!output.contains("hidden"), "{output}");
}

#[tokio::test]
async fn an_unknown_flag_is_a_wrong_setting_too() {
    let program = Daemon::builder(PROGRAM).arg("--no-such-flag").start();
    assert_eq!(program.wait_exit().await.code(), Some(64));
}

#[tokio::test]
async fn help_shows_no_secrets() {
    for command in ["--help", "sync"] {
        let program = Daemon::builder(PROGRAM)
            .args([command, "--help"])
            .env("JWT_SECRET", "hidden")
            .env("REDIS_PASSWORD", "hidden")
            .env("DATABASE_URL", "postgres://u:hidden@db/app")
            .start();
        assert!(program.wait_exit().await.success());
        let output = program.output().join("\n");
        assert!(output.contains("--database-url") && !output.contains("hidden"), "{output}");
    }
}
