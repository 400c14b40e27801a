//! What operators see of all this.

use super::guide::Guide;
use crate::daemons::status;

pub(super) async fn look(guide: &mut Guide) {
    let (public, admin) = (guide.ingest().public, guide.ingest().admin);
    let command = format!("curl -s http://{admin}/metrics | grep '^view_ingest_views_total'");
    let metrics = guide.step("What operators see", &command).await;
    let counted = metrics.text().lines().find(|line| line.contains("counted")).unwrap_or_default();
    guide.report.check("metrics: counted views", "view_ingest_views_total{status=\"counted\"} 3", counted);
    guide.report.check("metrics on the listener for clients", 404, status(public, "GET", "/metrics", &[]).await);
}
