//! The daemons' role as the compose file makes it: no other grants than the documented ones, and no other rights.

use testkit::grants;

use super::schema::psql;
use super::subject::{Subject, holds};
use crate::repository;
use crate::shell::{output, succeeds};
use crate::stores::{Stores, random_word};

const ROLES: &str = "deploy/docker/roles.sql";
/// Whether it is a superuser, creates databases, creates roles, replicates, or is exempt from row security.
const RIGHTS: &str =
    "SELECT rolsuper, rolcreatedb, rolcreaterole, rolreplication, rolbypassrls FROM pg_roles WHERE rolname = 'views'";

/// Creates the role, and returns the URL with which it reaches the database. The daemons that start after this have no
/// other.
pub(super) async fn check(subject: &mut Subject, stores: &Stores) -> String {
    subject.report.headline(ROLES);
    let roles = repository::text(ROLES);
    for grant in grants::statements().lines().filter(|line| line.starts_with("GRANT")) {
        let right = grant.split(" ON ").next().unwrap_or(grant);
        let outcome = holds(roles.lines().any(|line| line == grant), || format!("{grant} is missing"));
        subject.report.holds(&format!("roles.sql has the documented {right}"), outcome);
    }
    let documented = grants::statements().lines().filter(|line| line.starts_with("GRANT ")).count();
    let granted = roles.lines().filter(|line| line.starts_with("GRANT")).count();
    subject.report.check("roles.sql has no other grant than the documented ones", documented, granted);
    let mut password = String::new();
    for what in ["roles.sql", "roles.sql a second time, with another password"] {
        password = random_word();
        let mut psql = psql(&stores.database.url());
        let outcome = succeeds(psql.env("VIEWS_PASSWORD", &password).arg("-f").arg(repository::path(ROLES))).await;
        subject.report.holds(what, outcome);
    }
    subject.report.check("what else the role is", "f|f|f|f|f", stores.sql(RIGHTS).await);
    let url = format!("postgres://views:{password}@127.0.0.1:{}/{}", stores.postgres.port(), stores.database.name());
    let deleted = output(psql(&url).args(["-c", "DELETE FROM post_views"])).await;
    let answer = String::from_utf8_lossy(&deleted.stderr).into_owned();
    subject.report.holds("the role deletes nothing", holds(answer.contains("permission denied"), || answer.clone()));
    url
}
