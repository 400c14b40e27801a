//! Tables as they may and may not be, beside the posts table of the tests, and rights that are needed.

/// The ledger as `migrate` makes it for numbers as ids.
pub(super) const LEDGER: &str = "create table post_views (
    post_id bigint not null references posts on delete cascade, user_id bigint not null,
    viewed_at timestamptz not null default now(), primary key (post_id, user_id))";
const CREATE_UNIQUE: &str = r#"run CREATE UNIQUE INDEX ON "public"."post_views" (post_id, user_id)"#;
const NOT_ONCE: &str = r#"the ledger "public"."post_views" has no unique index on exactly (post_id, user_id)"#;

/// Tables as they may not be, and what is said of them.
pub(super) const UNFIT: [(&str, &[&str]); 27] = [
    // One viewer would count three times.
    ("create table post_views (post_id bigint, user_id bigint, viewed_at timestamptz)", &[NOT_ONCE, CREATE_UNIQUE]),
    (
        "create table post_views (post_id bigint, user_id bigint, viewed_at timestamptz, primary key (post_id, user_id, viewed_at))",
        &[NOT_ONCE, CREATE_UNIQUE],
    ),
    ("create table post_views (post_id bigint primary key, user_id bigint, viewed_at timestamptz)", &[NOT_ONCE, "keeps viewers out"]),
    (
        "create table post_views (post_id bigint, user_id bigint, viewed_at timestamptz);
         create unique index partly on post_views (post_id, user_id) where user_id > 0",
        &[NOT_ONCE, "(partly is partial)", CREATE_UNIQUE],
    ),
    (
        "create table post_views (post_id bigint, user_id bigint, viewed_at timestamptz);
         create unique index on post_views (post_id, abs(user_id))",
        &[NOT_ONCE, CREATE_UNIQUE],
    ),
    (
        "create table post_views (post_id bigint, user_id bigint, viewed_at timestamptz,
           constraint late unique (post_id, user_id) deferrable initially deferred)",
        &[NOT_ONCE, "(late is deferrable)", CREATE_UNIQUE],
    ),
    (
        "create table post_views (post_id bigint, user_id bigint, viewed_at timestamptz);
         create unique index broken on post_views (post_id, user_id);
         update pg_index set indisvalid = false where indexrelid = 'broken'::regclass",
        &[NOT_ONCE, "(broken is not valid: REINDEX it)"],
    ),
    (
        "create table post_views (post_id bigint, user_id bigint, viewed_at timestamptz) partition by list (post_id);
         create table post_views_1 partition of post_views (unique (post_id, user_id)) for values in (1)",
        &[NOT_ONCE, CREATE_UNIQUE],
    ),
    // Other viewers would be taken for repetitions, or every view would fail.
    (
        "create table post_views (post_id bigint, user_id bigint, viewed_at timestamptz, primary key (post_id, user_id),
           constraint one_a_moment unique (post_id, viewed_at))",
        &["the index one_a_moment keeps viewers out of the ledger", "DROP INDEX one_a_moment"],
    ),
    (
        "create table post_views (id bigserial, post_id bigint, user_id bigint, viewed_at timestamptz, primary key (post_id, user_id),
           constraint late unique (id) deferrable)",
        &["the constraint of the index late on the ledger", "is deferrable"],
    ),
    (
        "create table post_views (post_id bigint, user_id bigint, viewed_at timestamptz, source text not null, primary key (post_id, user_id))",
        &[r#"the column "source" of the ledger"#, r#"ALTER TABLE "public"."post_views" ALTER "source" SET DEFAULT"#],
    ),
    (
        "create domain word as text not null;
         create table post_views (post_id bigint, user_id bigint, viewed_at timestamptz, source word, primary key (post_id, user_id))",
        &[r#"the column "source" of the ledger"#],
    ),
    (
        "create table post_views (post_id bigint, user_id bigint, viewed_at timestamptz generated always as (null) stored,
           primary key (post_id, user_id))",
        &["the column viewed_at of", "is generated"],
    ),
    // A foreign key that leads elsewhere refuses every post.
    (
        "create table articles (id bigint primary key);
         create table post_views (post_id bigint constraint elsewhere references articles, user_id bigint, viewed_at timestamptz,
           primary key (post_id, user_id))",
        &[
            r#"the foreign key "elsewhere" of the ledger "public"."post_views" (post_id) leads to "public"."articles" ("id")"#,
            r#"and not to "public"."posts" ("id"): run ALTER TABLE "public"."post_views" DROP CONSTRAINT "elsewhere""#,
        ],
    ),
    (
        "alter table posts add number bigint unique;
         create table post_views (post_id bigint references posts (number), user_id bigint, viewed_at timestamptz,
           primary key (post_id, user_id))",
        &[r#"leads to "public"."posts" ("number"), and not to "public"."posts" ("id")"#],
    ),
    // Columns that are missing, or of types that do not fit.
    (
        "create table post_views (post bigint, user_id bigint, viewed_at timestamptz)",
        &["has no column post_id: rename this table, which is in the ledger's way, and run `view-syncd migrate`, or name another one with --ledger-table"],
    ),
    (
        "create table post_views (post_id integer, user_id bigint, viewed_at timestamptz, primary key (post_id, user_id))",
        &["the column post_id of", "is of type integer", r#"ALTER TABLE "public"."post_views" ALTER post_id TYPE bigint"#],
    ),
    (
        "create table post_views (post_id bigint, user_id jsonb, viewed_at timestamptz, primary key (post_id, user_id))",
        &["the column user_id of", "is of type jsonb"],
    ),
    (
        "create table post_views (post_id bigint, user_id bigint, viewed_at bigint, primary key (post_id, user_id))",
        &["the column viewed_at of", "is of type bigint, where timestamptz or timestamp is needed"],
    ),
    ("create view post_views as select id as post_id, id as user_id, now() as viewed_at from posts", &[NOT_ONCE]),
    // The posts.
    // Two tenants' posts.
    (
        "alter table posts drop constraint posts_pkey, add tenant int not null default 1, add primary key (id, tenant);
         insert into posts (tenant, id) values (1, 1), (1, 2), (2, 2);
         create table post_views (post_id bigint, user_id bigint, viewed_at timestamptz, primary key (post_id, user_id))",
        &[r#""public"."posts" has more than one row with the "id" "2""#, "--post-id-column (POST_ID_COLUMN)"],
    ),
    (
        "alter table posts drop views_count, add views_count bigint generated always as (id) stored",
        &["the column views_count of", "is generated", "--count-column (COUNT_COLUMN)"],
    ),
    (
        "alter table posts drop views_count, add views_count text",
        &["the column views_count of", "is of type text", "name another one with --count-column (COUNT_COLUMN)"],
    ),
    (
        "alter table posts rename to articles; create view posts as select distinct * from articles",
        &["the column views_count of", "cannot be updated there", "--posts-table (POSTS_TABLE)", "--count-table (COUNT_TABLE)"],
    ),
    (
        "drop table posts; create foreign data wrapper nowhere; create server nowhere foreign data wrapper nowhere;
         create foreign table posts (id bigint, author_id bigint, views_count bigint) server nowhere",
        &["the column views_count of", "cannot be updated there", "--count-table (COUNT_TABLE)"],
    ),
    (
        "alter table posts drop views_count",
        &["has no column views_count", "--count-column (COUNT_COLUMN)", "`view-syncd migrate --add-count-column`", "--count-table (COUNT_TABLE)"],
    ),
    ("alter table posts rename to articles", &[r#"there is no table "posts": create it, or name"#]),
];

/// Tables as the application may have made them.
pub(super) const FIT: [&str; 10] = [
    LEDGER,
    "create table post_views (post_id bigint, user_id bigint, viewed_at timestamp);
     create unique index on post_views (user_id, post_id) include (viewed_at)",
    "create table users (id bigint primary key); insert into users values (7);
     create table post_views (id bigserial primary key, post_id bigint references posts, user_id bigint references users,
       viewed_at timestamptz, source text not null default 'web', unique (post_id, user_id), unique (id, post_id))",
    "create table post_views (post_id bigint, user_id bigint, viewed_at timestamptz, primary key (post_id, user_id))
       partition by range (post_id);
     create table post_views_1 partition of post_views for values from (0) to (1000)",
    "create table post_views (post_id bigint references posts, user_id bigint, viewed_at timestamptz, primary key (post_id, user_id))
       partition by hash (post_id);
     create table post_views_1 partition of post_views for values with (modulus 1, remainder 0)",
    "create table post_views (post_id bigint, user_id text, viewed_at date, note serial, primary key (post_id, user_id));
     create index on post_views (user_id)",
    "alter table posts drop constraint posts_pkey, add unique (id) deferrable;
     create table post_views (post_id bigint, user_id bigint, viewed_at timestamptz, primary key (post_id, user_id))",
    "drop table posts;
     create table posts (id bigint primary key, author_id bigint, views_count smallint) partition by range (id);
     create table posts_1 partition of posts for values from (0) to (1000);
     create table post_views (post_id bigint references posts, user_id bigint, viewed_at timestamptz, primary key (post_id, user_id))",
    "alter table posts alter views_count drop default, alter views_count drop not null; alter table posts enable row level security;
     create table post_views (post_id bigint, user_id bigint, viewed_at timestamptz, primary key (post_id, user_id))",
    "create schema other; create table other.posts (id text);
     create table other.post_views (post_id text);
     create table post_views (post_id bigint, user_id bigint, viewed_at timestamptz, primary key (post_id, user_id))",
];

/// Rights that both programs need, and the statement that gives each.
pub(super) const RIGHTS: [(&str, &str); 9] = [
    ("revoke usage on schema shop from public, %", r#"GRANT USAGE ON SCHEMA "shop" TO %"#),
    ("revoke select (id) on shop.posts from %", r#"GRANT SELECT ("id") ON "shop"."posts" TO %"#),
    ("revoke select (author_id) on shop.posts from %", r#"GRANT SELECT ("author_id") ON "shop"."posts" TO %"#),
    ("revoke select (views_count) on shop.posts from %", r#"GRANT SELECT ("views_count") ON "shop"."posts" TO %"#),
    ("revoke update (views_count) on shop.posts from %", r#"GRANT UPDATE ("views_count") ON "shop"."posts" TO %"#),
    ("revoke select (post_id) on shop.post_views from %", r#"GRANT SELECT ("post_id") ON "shop"."post_views" TO %"#),
    ("revoke insert (viewed_at) on shop.post_views from %", r#"GRANT INSERT ("viewed_at") ON "shop"."post_views" TO %"#),
    (
        "revoke all (post_id, user_id, viewed_at) on shop.post_views from %",
        r#"GRANT SELECT ("post_id", "user_id"), INSERT ("post_id", "user_id", "viewed_at") ON "shop"."post_views" TO %"#,
    ),
    ("revoke all on sequence shop.post_views_number_seq from %", r#"GRANT USAGE ON SEQUENCE shop.post_views_number_seq TO %"#),
];
