//! `view-syncd migrate --viewer-index`: the index of a viewer's history and erasure.

use testkit::{
    postgres,
    posts::{IdType, PostsTable},
    process::Daemon,
};

use crate::support::PROGRAM;

/// Runs the migration, and demands its status and what it says.
async fn migrate(url: &str, ledger: &str, status: i32, says: &str) {
    let migrate =
        Daemon::builder(PROGRAM).args(["migrate", "--viewer-index", "--ledger-table", ledger]).env("DATABASE_URL", url).start();
    assert_eq!(migrate.wait_exit().await.code(), Some(status), "{:?}", migrate.output());
    assert_eq!(migrate.lines_with(says).len(), 1, "{says}: {:?}", migrate.output());
}

#[tokio::test]
async fn the_index_is_made_once_also_after_an_attempt_that_failed_and_of_partitions() {
    let database = postgres::shared().await.database().await;
    let sql = database.client().await;
    PostsTable::with_ids(IdType::Bigint).create(&sql).await;
    let valid = async |name: String| -> Vec<bool> {
        let rows = sql.query("select indisvalid from pg_index where indexrelid::regclass::text = $1", &[&name]).await.unwrap();
        rows.iter().map(|row| row.get(0)).collect()
    };
    let (made, there) = ("made the index by which a viewer's views are found", "a viewer's views are found is there already");
    migrate(&database.url(), "post_views", 0, made).await;
    assert_eq!(valid("post_views_viewer_idx".to_owned()).await, [true]);
    migrate(&database.url(), "post_views", 0, there).await;
    // As one leaves it that was interrupted.
    let spoil = "update pg_index set indisvalid = false where indexrelid = 'post_views_viewer_idx'::regclass";
    sql.batch_execute(spoil).await.unwrap();
    migrate(&database.url(), "post_views", 0, "dropped what an earlier attempt had left unfinished").await;
    assert_eq!(valid("post_views_viewer_idx".to_owned()).await, [true]);
    let plan = "explain select post_id from post_views where user_id = 5 order by viewed_at desc limit 10";
    let rows = "insert into posts select g, 0, 0 from generate_series(1, 2000) g; insert into post_views select g, g from generate_series(1, 2000) g";
    sql.batch_execute(rows).await.unwrap();
    sql.batch_execute("analyze post_views").await.unwrap();
    let plan: Vec<String> = sql.query(plan, &[]).await.unwrap().iter().map(|row| row.get(0)).collect();
    assert!(plan.join("\n").contains("post_views_viewer_idx"), "{plan:?}");

    // Partitions of partitions, and a name that is as long as it may be; two at once.
    let long = "l".repeat(58);
    let partitioned = format!(
        "create table {long} (post_id bigint not null, user_id bigint not null, viewed_at timestamptz not null default now(),
           primary key (post_id, user_id)) partition by hash (post_id);
         create table {long}_0 partition of {long} for values with (modulus 2, remainder 0) partition by hash (user_id);
         create table {long}_1 partition of {long} for values with (modulus 2, remainder 1);
         create table {long}_00 partition of {long}_0 for values with (modulus 1, remainder 0)"
    );
    sql.batch_execute(&partitioned).await.unwrap();
    let start = || {
        Daemon::builder(PROGRAM)
            .args(["migrate", "--viewer-index", "--ledger-table", &long])
            .env("DATABASE_URL", database.url())
            .start()
    };
    let (one, other) = (start(), start());
    for migrate in [one, other] {
        assert!(migrate.wait_exit().await.success(), "{:?}", migrate.output());
    }
    let indexes = "select count(*), bool_and(indisvalid) from pg_index join pg_class c on c.oid = indrelid
        where c.relname like 'lll%' and not indisunique";
    let row = sql.query_one(indexes, &[]).await.unwrap();
    assert_eq!((row.get::<_, i64>(0), row.get::<_, bool>(1)), (4, true));
    migrate(&database.url(), &long, 0, there).await;

    // Another one's ledger.
    let role = format!("reader_{}", database.name());
    let rights = format!(
        "create role {role} login; grant select, update (views_count), references on posts to {role}; grant select, insert on post_views, post_views_base to {role};
         drop index post_views_viewer_idx"
    );
    sql.batch_execute(&rights).await.unwrap();
    let url = database.url().replace("postgres://postgres@", &format!("postgres://{role}@"));
    migrate(&url, "post_views", 78, "must be owner of table post_views").await;
}
