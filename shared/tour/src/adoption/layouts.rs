//! Tables of public applications, and of others like them.

use super::layout::Layout;

const NUMBERS: Layout = Layout {
    name: "",
    setup: "",
    settings: &[],
    migrate: &[],
    adopt: ["", ""],
    told: "",
    post: "7",
    author: "1",
    known: "2",
    other: "4",
    views: 2,
    rows: 2,
    count: "",
    ledger: "post_views",
};
const UUIDS: Layout = Layout {
    author: "00000000-0000-4000-8000-00000000000a",
    known: "00000000-0000-4000-8000-00000000000b",
    other: "00000000-0000-4000-8000-00000000000d",
    ..NUMBERS
};

/// All of them.
pub(super) const LAYOUTS: [Layout; 15] = [
    Layout {
        name: "origin",
        setup: include_str!("layouts/origin.sql"),
        settings: &[("POSTS_TABLE", "Post"), ("AUTHOR_COLUMN", "authorId"), ("COUNT_COLUMN", "viewsCount")],
        migrate: &["--add-count-column"],
        adopt: ["--from-array", "views"],
        told: "posts 1 · pairs 5 · new 2 · author's own 1 · no viewer 1 · unknown post 0 · do not fit 0",
        post: "550e8400-e29b-41d4-a716-446655440000",
        author: "usr_ann",
        known: "usr_clara",
        other: "usr_dora",
        count: r#"select "viewsCount" from "Post" where id = '550e8400-e29b-41d4-a716-446655440000'"#,
        ..NUMBERS
    },
    Layout {
        name: "peertube",
        setup: include_str!("layouts/peertube.sql"),
        settings: &[("POSTS_TABLE", "counted_videos"), ("COUNT_COLUMN", "views"), ("LEDGER_TABLE", "video_views")],
        adopt: ["--from-table", r#""userVideoHistory"("videoId","userId","createdAt")"#],
        told: "posts 1 · pairs 3 · new 2 · author's own 1 · no viewer 0 · unknown post 0 · do not fit 0",
        views: 12_345,
        count: "select views from video where id = 7",
        ledger: "video_views",
        ..NUMBERS
    },
    Layout {
        name: "discourse",
        setup: include_str!("layouts/discourse.sql"),
        settings: &[
            ("POSTS_TABLE", "topics"),
            ("AUTHOR_COLUMN", "user_id"),
            ("COUNT_COLUMN", "views"),
            ("LEDGER_TABLE", "topic_viewers"),
        ],
        adopt: ["--from-table", "topic_views(topic_id,user_id,viewed_at)"],
        told: "posts 2 · pairs 6 · new 3 · author's own 1 · no viewer 1 · unknown post 1 · do not fit 0",
        views: 230,
        count: "select views from topics where id = 7",
        ledger: "topic_viewers",
        ..NUMBERS
    },
    Layout {
        name: "forem",
        setup: include_str!("layouts/forem.sql"),
        settings: &[("POSTS_TABLE", "articles"), ("AUTHOR_COLUMN", "user_id"), ("COUNT_COLUMN", "page_views_count")],
        adopt: ["--from-table", "page_views(article_id,user_id,created_at)"],
        told: "posts 2 · pairs 6 · new 3 · author's own 1 · no viewer 1 · unknown post 0 · do not fit 0",
        views: 31,
        count: "select page_views_count from articles where id = 7",
        ..NUMBERS
    },
    Layout {
        name: "prisma",
        setup: include_str!("layouts/prisma.sql"),
        settings: &[("POSTS_TABLE", "Post"), ("AUTHOR_COLUMN", "authorId"), ("COUNT_COLUMN", "viewCount")],
        adopt: ["--from-table", r#""_ViewedPosts"("A","B")"#],
        told: "posts 1 · pairs 3 · new 2 · author's own 1 · no viewer 0 · unknown post 0 · do not fit 0",
        post: "clv2post000000al4efgh",
        author: "clv1ann00000008l4abcd",
        known: "clv1clara000008l4abcd",
        other: "clv1dora0000008l4abcd",
        count: r#"select "viewCount" from "Post""#,
        ..NUMBERS
    },
    Layout {
        name: "lemmy",
        setup: include_str!("layouts/lemmy.sql"),
        settings: &[("POSTS_TABLE", "post"), ("AUTHOR_COLUMN", "creator_id"), ("COUNT_TABLE", "post_view_counts")],
        adopt: ["--from-table", "post_read(post_id,person_id,published)"],
        told: "posts 2 · pairs 4 · new 3 · author's own 1 · no viewer 0 · unknown post 0 · do not fit 0",
        count: "select views from post_view_counts where post_id = 7",
        ..NUMBERS
    },
    Layout {
        name: "mastodon",
        setup: include_str!("layouts/mastodon.sql"),
        settings: &[
            ("POSTS_TABLE", "statuses"),
            ("AUTHOR_COLUMN", "account_id"),
            ("COUNT_TABLE", "status_view_counts"),
            ("LEDGER_TABLE", "status_viewers"),
        ],
        adopt: ["--from-table", "status_views(status_id,account_id,created_at)"],
        told: "posts 2 · pairs 3 · new 3 · author's own 0 · no viewer 0 · unknown post 0 · do not fit 0",
        post: "112233445566778899",
        author: "109876543210123451",
        known: "109876543210123452",
        other: "109876543210123454",
        count: "select views from status_view_counts where post_id = 112233445566778899",
        ledger: "status_viewers",
        ..NUMBERS
    },
    Layout {
        name: "ghost",
        setup: include_str!("layouts/ghost.sql"),
        settings: &[("POSTS_TABLE", "published_posts"), ("COUNT_COLUMN", "view_count")],
        adopt: ["--from-table", "members_post_views(post_id,member_id,created_at)"],
        told: "posts 1 · pairs 2 · new 1 · author's own 0 · no viewer 0 · unknown post 1 · do not fit 0",
        post: "64b7f3d9e4b0a1c2d3e4f501",
        author: "5951f5fca366002ebd5dbef7",
        known: "65a1f5fca366002ebd5dbe01",
        other: "65a1f5fca366002ebd5dbe02",
        views: 1,
        rows: 1,
        count: "select view_count from posts where id = '64b7f3d9e4b0a1c2d3e4f501'",
        ..NUMBERS
    },
    Layout {
        name: "wordpress",
        setup: include_str!("layouts/wordpress.sql"),
        settings: &[
            ("POSTS_TABLE", "wp_posts"),
            ("POST_ID_COLUMN", "ID"),
            ("AUTHOR_COLUMN", "post_author"),
            ("COUNT_TABLE", "wp_post_counts"),
            ("LEDGER_TABLE", "wp_post_viewers"),
        ],
        adopt: ["--from-table", "seen(post_id,user_id)"],
        told: "posts 1 · pairs 5 · new 2 · author's own 1 · no viewer 1 · unknown post 0 · do not fit 1",
        count: "select views from wp_post_counts where post_id = 7",
        ledger: "wp_post_viewers",
        ..NUMBERS
    },
    Layout {
        name: "directus",
        setup: include_str!("layouts/directus.sql"),
        settings: &[("POSTS_TABLE", "articles"), ("AUTHOR_COLUMN", "user_created"), ("COUNT_COLUMN", "views")],
        adopt: ["--from-table", "articles_directus_users(articles_id,directus_users_id)"],
        told: "posts 1 · pairs 4 · new 1 · author's own 0 · no viewer 2 · unknown post 1 · do not fit 0",
        post: "11111111-0000-4000-8000-000000000007",
        views: 3,
        rows: 1,
        count: "select views from articles",
        ..UUIDS
    },
    Layout {
        name: "strapi",
        setup: include_str!("layouts/strapi.sql"),
        settings: &[("POSTS_TABLE", "counted_articles"), ("COUNT_COLUMN", "views"), ("LEDGER_TABLE", "article_views")],
        adopt: ["--from-table", "articles_viewers_lnk(article_id,user_id)"],
        told: "posts 1 · pairs 2 · new 2 · author's own 0 · no viewer 0 · unknown post 0 · do not fit 0",
        count: "select views from articles",
        ledger: "article_views",
        ..NUMBERS
    },
    Layout {
        name: "supabase",
        setup: include_str!("layouts/supabase.sql"),
        settings: &[("AUTHOR_COLUMN", "user_id"), ("COUNT_COLUMN", "view_count"), ("LEDGER_TABLE", "counted_views")],
        adopt: ["--from-table", "post_views(post_id,viewer_id,viewed_at)"],
        told: "posts 1 · pairs 4 · new 2 · author's own 0 · no viewer 1 · unknown post 0 · do not fit 0",
        post: "22222222-0000-4000-8000-000000000007",
        views: 5,
        count: "select view_count from posts",
        ledger: "counted_views",
        ..UUIDS
    },
    Layout {
        name: "django",
        setup: include_str!("layouts/django.sql"),
        settings: &[("POSTS_TABLE", "blog_post"), ("COUNT_COLUMN", "views")],
        adopt: ["--from-table", "blog_post_viewed_by(post_id,user_id)"],
        told: "posts 2 · pairs 4 · new 3 · author's own 1 · no viewer 0 · unknown post 0 · do not fit 0",
        count: "select views from blog_post where id = 7",
        ..NUMBERS
    },
    Layout {
        name: "laravel",
        setup: include_str!("layouts/laravel.sql"),
        settings: &[("AUTHOR_COLUMN", "user_id")],
        adopt: ["--from-array", "viewed_by"],
        told: "posts 1 · pairs 6 · new 2 · author's own 1 · no viewer 1 · unknown post 0 · do not fit 2",
        views: 40,
        count: "select views_count from posts where id = 7",
        ..NUMBERS
    },
    Layout {
        name: "hasura",
        setup: include_str!("layouts/hasura.sql"),
        settings: &[("COUNT_TABLE", "post_counts")],
        adopt: ["--from-array", "viewer_ids"],
        told: "posts 1 · pairs 3 · new 2 · author's own 1 · no viewer 0 · unknown post 0 · do not fit 0",
        post: "33333333-0000-4000-8000-000000000007",
        count: "select views from post_counts",
        ..UUIDS
    },
];
