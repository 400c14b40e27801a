//! A page with the module for web pages: a list of posts, and counts that move.

use std::net::SocketAddr;

use serde_json::json;

use crate::repository;
use crate::site::{self, Port, Site, html};
use crate::stores::Stores;

const PAGE: &str = "deploy/web/demo.html";

/// Returns the origins of the page: people may call this machine by either name.
pub(crate) fn origins(page: SocketAddr) -> String {
    let port = page.port();
    format!("http://127.0.0.1:{port},http://localhost:{port}")
}

/// Shows the page. Each time it is loaded, somebody new has come.
pub(crate) async fn show(port: Port, stores: &Stores, ingest: SocketAddr) -> Site {
    let posts = stores.sql("SELECT id, title FROM posts ORDER BY id").await;
    let posts: Vec<_> = posts.lines().filter_map(|row| row.split_once('|')).collect();
    let posts: Vec<_> = posts.into_iter().map(|(id, title)| json!({ "id": id, "title": title })).collect();
    let signer = stores.signer();
    port.show(move |path| match path {
        "/" => Some(html(repository::text(PAGE))),
        "/views.js" => Some(site::module()),
        "/config.json" => {
            let token = signer.token(&uuid::Uuid::new_v4().to_string());
            let config = json!({ "url": format!("http://{ingest}"), "token": token, "posts": posts });
            Some(("application/json", config.to_string()))
        }
        _ => None,
    })
}
