//! A Redis Cluster: a world with one, and views of posts on all of its nodes.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use serde_json::json;
use testkit::{
    SOON,
    cluster::{Cluster, Node, slot_of},
    eventually,
    postgres::{self, Database},
    posts::{IdType, PostsTable},
    process::DaemonBuilder,
};
use views_core::{
    ids::PostId,
    keys::Keys,
    partition::{self, Partition},
};

use crate::support::{Ingest, SECRET, meta, migrate, on_free_ports, set, token};

/// How long a node may be silent: on a busy machine, one may be late without being dead.
pub(crate) const PATIENT: Duration = Duration::from_secs(10);

/// A cluster, and a database with posts.
pub(crate) struct ClusterWorld {
    pub(crate) cluster: Cluster,
    pub(crate) keys: Keys,
    pub(crate) posts: PostsTable,
    pub(crate) database: Database,
    pub(crate) sql: tokio_postgres::Client,
}

impl ClusterWorld {
    pub(crate) async fn new() -> Self {
        Self::with(Cluster::builder().node_timeout(PATIENT).start().await).await
    }

    pub(crate) async fn with(cluster: Cluster) -> Self {
        Self::with_stores(cluster, postgres::shared().await.database().await).await
    }

    pub(crate) async fn with_stores(cluster: Cluster, database: Database) -> Self {
        let (posts, sql) = (PostsTable::with_ids(IdType::Text), database.client().await);
        posts.create(&sql).await;
        migrate(&database, &posts).await;
        Self { cluster, keys: Keys::default().in_cluster(), posts, database, sql }
    }

    /// So many posts, which are spread over all nodes.
    pub(crate) async fn posts(&self, number: usize) -> Vec<String> {
        let posts: Vec<String> = (0..number).map(|post| format!("post-{post}")).collect();
        self.sql.execute("insert into posts (id, author_id) select unnest($1::text[]), 'nobody'", &[&posts]).await.unwrap();
        posts
    }

    /// The posts whose keys a node has, or their outbox: a range of slots may be divided between two nodes.
    pub(crate) async fn posts_of<'p>(&self, node: &Node, posts: &'p [String]) -> Vec<&'p String> {
        let members = self.cluster.members().await;
        let member = members.iter().map(|(_, member)| member).find(|member| member.id == node.id()).unwrap();
        let outbox = |id: &str| slot_of(self.keys.outbox_of(self.keys.partition(&post(id))));
        posts.iter().filter(|id| member.has(slot_of(&set(id))) || member.has(outbox(id))).collect()
    }

    /// The program with its settings, not yet started.
    pub(crate) fn program(&self) -> DaemonBuilder {
        self.program_at(&self.cluster.url())
    }

    pub(crate) fn program_at(&self, url: &str) -> DaemonBuilder {
        on_free_ports()
            .env("JWT_SECRET", SECRET)
            .env("REDIS_URL", url)
            .env("DATABASE_URL", self.database.url())
            .env("POSTS_TABLE", &self.posts.table)
            .env("POST_ID_COLUMN", &self.posts.id_column)
            .env("AUTHOR_COLUMN", &self.posts.author_column)
            .env("COUNT_COLUMN", &self.posts.count_column)
    }

    pub(crate) async fn ingest(&self) -> Ingest {
        Self::start(self.program()).await
    }

    /// Starts the program and waits until all its workers know what the nodes are.
    pub(crate) async fn start(program: DaemonBuilder) -> Ingest {
        let ingest = Ingest::start(program).await;
        eventually("the nodes are known", SOON, async || ingest.metric("view_ingest_redis_up").await == 1.0).await;
        ingest
    }

    /// The pairs in the outbox of each partition that has one.
    pub(crate) async fn outboxes(&self) -> BTreeMap<Partition, Vec<(String, String)>> {
        let mut outboxes = BTreeMap::new();
        for partition in self.keys.partitions() {
            let outbox = self.keys.outbox_of(partition);
            let entries: Vec<(String, Vec<String>)> =
                self.cluster.command(&["XRANGE", outbox, "-", "+"]).await.convert().unwrap();
            let pairs: Vec<_> =
                entries.iter().flat_map(|(_, fields)| fields.chunks(2).map(|pair| (pair[0].clone(), pair[1].clone()))).collect();
            if !pairs.is_empty() {
                outboxes.insert(partition, pairs);
            }
        }
        outboxes
    }

    /// All pairs that are in an outbox.
    pub(crate) async fn recorded(&self) -> BTreeSet<(String, String)> {
        self.outboxes().await.into_values().flatten().collect()
    }

    /// All pairs that are in the ledger.
    pub(crate) async fn ledger(&self) -> BTreeSet<(String, String)> {
        let rows = self.sql.query("select post_id, user_id from post_views", &[]).await.unwrap();
        rows.iter().map(|row| (row.get(0), row.get(1))).collect()
    }

    pub(crate) async fn members(&self, post: &str) -> BTreeSet<String> {
        self.cluster.command(&["SMEMBERS", &set(post)]).await.convert().unwrap()
    }
}

pub(crate) fn post(id: &str) -> PostId {
    PostId::parse(id).unwrap()
}

fn viewers(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[tokio::test]
async fn views_of_posts_on_all_nodes_are_recorded_each_in_the_outbox_of_its_partition() {
    let world = ClusterWorld::new().await;
    let posts = world.posts(150).await;
    let app = world.ingest().await;
    for chunk in posts.chunks(50) {
        let body = app.batch("ann", chunk).await.json();
        assert_eq!(body["processedCount"], 50, "{body}");
        let body = app.batch("ann", chunk).await.json();
        assert_eq!(body["processedCount"], 0, "they are duplicates: {body}");
    }
    for post in &posts[..10] {
        assert_eq!(app.verdict("bob", post).await, "counted 2");
        assert_eq!(app.count(post).await, 2);
        assert_eq!(world.members(post).await, viewers(&["ann", "bob"]));
    }
    let counts = app.http.get(&format!("/posts/views?ids={}", posts[..100].join(","))).await.json();
    let seen = format!("/posts/viewed?ids={}", posts[..100].join(","));
    let authorization = format!("Bearer {}", token("bob"));
    let seen = app.http.request("GET", &seen, &[("authorization", &authorization)], "").await.json();
    for (number, post) in posts[..100].iter().enumerate() {
        assert_eq!(counts["views"][post], json!(if number < 10 { 2 } else { 1 }), "{counts}");
        assert_eq!(seen["viewed"][post], json!(number < 10), "{seen}");
    }

    let outboxes = world.outboxes().await;
    assert!(outboxes.len() > 32, "{}", outboxes.len());
    let mut nodes = BTreeSet::new();
    for (partition, pairs) in &outboxes {
        for (id, _) in pairs {
            assert_eq!(partition::slot(set(id).as_bytes()), partition::slot(meta(id).as_bytes()));
            assert_eq!(usize::from(slot_of(&set(id))) / 256, usize::from(partition.number()));
        }
        let outbox = world.keys.outbox_of(*partition);
        assert_eq!(outbox, format!("views:outbox:{{{}}}", partition.tag().unwrap()));
        nodes.insert(world.cluster.primary_of_key(outbox).await.id());
    }
    assert_eq!(nodes.len(), 3);
    let pairs: Vec<_> = outboxes.into_values().flatten().collect();
    assert_eq!((pairs.len(), pairs.into_iter().collect::<BTreeSet<_>>().len()), (160, 160), "each view once");
    assert_eq!(world.ledger().await.len(), 0, "no view has gone past Redis");
    assert!(app.daemon.lines_with("WARN").iter().all(|line| line.contains("keeps nothing")), "{:?}", app.daemon.output());
    assert_eq!(app.metric("view_ingest_redis_nodes_away").await, 0.0);
}

#[tokio::test]
async fn with_a_prefix_the_set_and_the_hash_of_a_post_share_a_slot() {
    let world = ClusterWorld::with(Cluster::builder().replicas(0).node_timeout(PATIENT).start().await).await;
    let keys = Keys::with_prefix("shop:").unwrap().in_cluster();
    let posts = world.posts(30).await;
    let app = ClusterWorld::start(world.program().env("REDIS_PREFIX", "shop:")).await;
    for id in &posts {
        assert_eq!(app.verdict("ann", id).await, "counted 1");
        let (views, meta) = (keys.views(&post(id)), keys.meta(&post(id)));
        assert_eq!(views, format!("shop:post:{id}:views"));
        assert_eq!(slot_of(&views), slot_of(&meta));
        let members: Vec<String> = world.cluster.command(&["SMEMBERS", &views]).await.convert().unwrap();
        assert_eq!(members, ["ann"]);
        let recorded = world.cluster.command(&["HGET", &meta, "recorded"]).await.as_u64();
        assert_eq!(recorded, Some(1));
        let outbox = keys.outbox_of(keys.partition(&post(id)));
        assert!(outbox.starts_with("shop:views:outbox:{"), "{outbox}");
        assert_eq!(slot_of(outbox) / 256, slot_of(&views) / 256);
        let length = world.cluster.command(&["XLEN", outbox]).await.as_u64();
        assert!(length.is_some_and(|length| length > 0), "{outbox}");
    }
}

#[tokio::test]
async fn returning_viewers_and_authors_are_known_from_the_ledger_on_all_nodes() {
    let world = ClusterWorld::with(Cluster::builder().replicas(0).node_timeout(PATIENT).start().await).await;
    let posts = world.posts(60).await;
    let insert = "insert into post_views (post_id, user_id) select unnest($1::text[]), 'old'";
    world.sql.execute(insert, &[&posts]).await.unwrap();
    world.sql.execute("update posts set views_count = 1, author_id = 'author'", &[]).await.unwrap();
    let app = world.ingest().await;
    for (viewer, status, views) in [("old", "duplicate", 1), ("author", "own", 1), ("new", "counted", 2)] {
        let body = app.batch(viewer, &posts[..50]).await.json();
        for result in body["results"].as_array().unwrap() {
            assert_eq!((&result["status"], &result["viewsCount"]), (&json!(status), &json!(views)), "{viewer}: {result}");
        }
    }
    // Whoever only reads has a post looked up, too.
    for post in &posts[50..] {
        assert_eq!(app.count(post).await, 1);
    }
}
