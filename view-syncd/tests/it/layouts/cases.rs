//! Tables of posts as applications have them, and what they are to be told.

/// A layout of tables, with one post.
pub(super) struct Layout {
    /// Makes the tables, and the post.
    pub(super) setup: &'static str,
    /// The settings.
    pub(super) settings: &'static [(&'static str, &'static str)],
    /// Behind `migrate`.
    pub(super) flags: &'static [&'static str],
    /// What `migrate` says.
    pub(super) says: &'static [&'static str],
    pub(super) post: &'static str,
    /// The author; none where the setting says so.
    pub(super) author: Option<&'static str>,
    pub(super) viewers: [&'static str; 3],
    /// The count before.
    pub(super) before: i64,
    /// The expression and the table of the post's count.
    pub(super) count: &'static str,
    pub(super) ledger: &'static str,
}

const NUMBERS: Layout = Layout {
    setup: "",
    settings: &[],
    flags: &[],
    says: &["created the ledger"],
    post: "7",
    author: Some("1"),
    viewers: ["2", "3", "4"],
    before: 0,
    count: "select views_count::int8 from posts where id = 7",
    ledger: "post_views",
};
const WORDS: Layout = Layout {
    post: "pOst-7",
    author: Some("Ann"),
    viewers: ["Bob", "bob", "zoe"],
    count: "select views_count::int8 from posts where id::text = 'pOst-7'",
    ..NUMBERS
};
const UUIDS: Layout = Layout {
    post: "00000000-0000-4000-8000-000000000007",
    author: Some("00000000-0000-4000-8000-000000000001"),
    viewers: [
        "00000000-0000-4000-8000-000000000002",
        "00000000-0000-4000-8000-000000000003",
        "00000000-0000-4000-8000-000000000004",
    ],
    count: "select views_count::int8 from posts where id::text = '00000000-0000-4000-8000-000000000007'",
    ..NUMBERS
};
/// A table and a post with so many views.
const POSTS: &str = "create table posts (id bigint primary key, author_id bigint, views_count bigint not null default 0);
    insert into posts values (7, 1, 0)";

/// All of them.
pub(super) const LAYOUTS: [Layout; 22] = [
    // No count yet.
    Layout {
        setup: r#"create table "Post" (id text primary key, "authorId" text, views text[]); insert into "Post" values ('pOst-7', 'Ann')"#,
        settings: &[("POSTS_TABLE", "Post"), ("AUTHOR_COLUMN", "authorId"), ("COUNT_COLUMN", "viewsCount")],
        flags: &["--add-count-column"],
        says: &["added the column", "created the ledger", "created the table of bases"],
        count: r#"select "viewsCount" from "Post""#,
        ..WORDS
    },
    Layout { setup: POSTS, flags: &["--add-count-column"], says: &["is there already"], ..NUMBERS },
    // Blanks that belong to no id.
    Layout {
        setup: "create table posts (id char(36) primary key, author_id char(36), views_count integer not null default 0);
            insert into posts values ('pOst-7', 'Ann', 5), ('pOst-70', 'Ann', 5)",
        before: 5,
        ..WORDS
    },
    Layout {
        setup: "create table posts (id char(36) primary key, author_id char(36), views_count numeric);
            insert into posts values ('00000000-0000-4000-8000-000000000007', upper('00000000-0000-4000-8000-00000000000a'), null)",
        author: Some("00000000-0000-4000-8000-00000000000a"),
        ..UUIDS
    },
    Layout {
        setup: "create table posts (id bigint primary key, author_id bigint, views_count numeric(20, 2) not null default 0);
            insert into posts values (7, 1, 41), (8, 1, 'NaN')",
        before: 41,
        ..NUMBERS
    },
    // Types made from others.
    Layout {
        setup: "create domain word as text check (value <> ''); create domain name_of_somebody as word;
            create domain number as bigint check (value >= 0);
            create table posts (id word primary key, author_id name_of_somebody, views_count number not null default 0);
            insert into posts values ('pOst-7', 'Ann')",
        ..WORDS
    },
    Layout {
        setup: "create domain key as uuid; create table posts (id key primary key, author_id key, views_count smallint);
            insert into posts values ('00000000-0000-4000-8000-000000000007', '00000000-0000-4000-8000-000000000001', 0)",
        ..UUIDS
    },
    Layout {
        setup: "create schema extensions; create extension citext schema extensions;
            create table posts (id extensions.citext primary key, author_id extensions.citext, views_count int not null default 0);
            insert into posts values ('pOst-7', 'Ann')",
        ..WORDS
    },
    // Nobody's own posts.
    Layout {
        setup: "create table posts (id bigint primary key, views_count bigint not null default 0); insert into posts values (7)",
        settings: &[("AUTHOR_COLUMN", "")],
        author: None,
        ..NUMBERS
    },
    // Counts that stand apart.
    Layout {
        setup: "create table posts (id bigint primary key, author_id bigint); insert into posts values (7, 1)",
        settings: &[("COUNT_TABLE", "post_counts")],
        says: &["created the table of counts"],
        count: "select views from post_counts where post_id = 7",
        ..NUMBERS
    },
    Layout {
        setup: r#"create table posts (id char(36) primary key, author_id text); insert into posts values ('pOst-7', 'Ann');
            create schema stats; create table stats."Counts" (post_id char(36) unique references posts on delete cascade, views bigint);
            insert into stats."Counts" values ('pOst-7', 12)"#,
        settings: &[("COUNT_TABLE", "stats.Counts"), ("LEDGER_TABLE", "stats.viewed")],
        says: &["created the ledger"],
        before: 12,
        count: r#"select views from stats."Counts""#,
        ledger: "stats.viewed",
        ..WORDS
    },
    // What a view shows of other tables.
    Layout {
        setup: "create table channels (id bigint primary key, owner bigint); insert into channels values (5, 1);
            create table videos (id bigint primary key, channel_id bigint references channels, views int not null default 0, deleted_at timestamptz);
            insert into videos values (7, 5, 3, null), (8, 5, 3, now());
            create view posts as select v.id, (select c.owner from channels c where c.id = v.channel_id) as author_id, v.views as views_count
              from videos v where v.deleted_at is null",
        says: &["has no foreign key to the posts, because \"public\".\"posts\" is no table of this database's own", "ADD FOREIGN KEY (post_id)"],
        before: 3,
        count: "select views::int8 from videos where id = 7",
        ..NUMBERS
    },
    Layout {
        setup: "create table channels (id bigint primary key, owner bigint); insert into channels values (5, 1);
            create table videos (id bigint primary key, channel_id bigint); insert into videos values (7, 5);
            create view posts as select v.id, c.owner as author_id from videos v join channels c on c.id = v.channel_id",
        settings: &[("COUNT_TABLE", "video_counts")],
        says: &["has no foreign key"],
        count: "select views from video_counts where post_id = 7",
        ..NUMBERS
    },
    Layout {
        setup: "create table articles (slug text primary key, writer text); insert into articles values ('pOst-7', 'Ann');
            create materialized view posts as select slug as id, writer as author_id from articles",
        settings: &[("COUNT_TABLE", "article_counts")],
        says: &["has no foreign key"],
        count: "select views from article_counts",
        ..WORDS
    },
    // No unique index, and no id that stands twice.
    Layout {
        setup: "create table posts (id bigint, author_id bigint, views_count bigint, day date not null, primary key (id, day)) partition by range (day);
            create table posts_1 partition of posts for values from ('2026-01-01') to ('2027-01-01'); insert into posts values (7, 1, 2, '2026-02-03')",
        says: &["nothing keeps the column \"id\" of \"public\".\"posts\" unique", "has no unique index on exactly"],
        before: 2,
        ..NUMBERS
    },
    Layout {
        setup: "create table posts (id bigint, author_id bigint, views_count bigint); insert into posts values (7, 1, 0), (8, 1, 0), (null, 1, 0)",
        says: &["run CREATE INDEX ON \"public\".\"posts\" (\"id\")", "has no unique index on exactly"],
        ..NUMBERS
    },
    Layout {
        setup: "create table posts (id bigint unique deferrable, author_id bigint, views_count bigint); insert into posts values (7, 1, 0)",
        says: &["is deferrable"],
        ..NUMBERS
    },
    Layout {
        setup: "create table posts (id bigint primary key, author_id bigint, views_count bigint); create table articles () inherits (posts);
            insert into posts values (8, 1, 0); insert into articles values (7, 1, 4)",
        says: &["has no foreign key to the posts, because other tables inherit from"],
        before: 4,
        count: "select views_count from articles",
        ..NUMBERS
    },
    // Another server's table.
    Layout {
        setup: "create table articles (id bigint primary key, author_id bigint); insert into articles values (7, 1);
            create extension postgres_fdw;
            do $$ begin
              execute format('create server itself foreign data wrapper postgres_fdw options (host %L, port %L, dbname %L)',
                split_part(current_setting('unix_socket_directories'), ',', 1), current_setting('port'), current_database());
            end $$;
            create user mapping for current_user server itself options (user 'postgres');
            create foreign table posts (id bigint, author_id bigint) server itself options (table_name 'articles')",
        settings: &[("COUNT_TABLE", "article_counts")],
        says: &["has no foreign key", "DELETE FROM"],
        count: "select views from article_counts",
        ..NUMBERS
    },
    // A table of the application's own in the ledger's place, and a trigger that goes off with each view.
    Layout {
        setup: "create table posts (id bigint primary key, author_id bigint, views_count bigint not null default 0, updated_at timestamptz);
            insert into posts values (7, 1, 0); create table post_views (day date, views int);
            create function touch() returns trigger language plpgsql as $$ begin new.updated_at := now(); return new; end $$;
            create trigger touch before update on posts for each row execute function touch();
            create trigger other before update of author_id on posts for each row execute function touch()",
        settings: &[("LEDGER_TABLE", "viewed")],
        says: &["views that are stored set off touch on posts: where", "--count-table (COUNT_TABLE)"],
        ledger: "viewed",
        ..NUMBERS
    },
    // With counts that stand apart, no post is touched.
    Layout {
        setup: "create table posts (id bigint primary key, author_id bigint, views_count bigint not null default 0); insert into posts values (7, 1, 9);
            create function refuse() returns trigger language plpgsql as $$ begin raise exception 'not to be changed'; end $$;
            create trigger refuse before update on posts for each row execute function refuse()",
        settings: &[("COUNT_TABLE", "post_counts")],
        count: "select views from post_counts where post_id = 7",
        ..NUMBERS
    },
    // The same behind a view that calls the count otherwise.
    Layout {
        setup: "create table videos (id bigint primary key, owner bigint, views int not null default 0, updated_at timestamptz);
            insert into videos values (7, 1, 3); create view posts as select id, owner as author_id, views as views_count from videos;
            create function touch() returns trigger language plpgsql as $$ begin new.updated_at := now(); return new; end $$;
            create trigger touch before update on videos for each row execute function touch()",
        says: &["views that are stored set off touch on videos: where"],
        before: 3,
        count: "select views::int8 from videos",
        ..NUMBERS
    },
];
