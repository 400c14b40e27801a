//! The sample configurations, each read by the program that it is for.

mod cluster;
mod compose;
mod credentials;
mod environment;
mod kubernetes;
mod limits;
mod load_balancers;
mod roles;
mod schema;
mod subject;
mod units;

use std::path::PathBuf;

use self::subject::Subject;

/// How the samples are checked.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// The folder of view-ingest and view-syncd
    #[arg(long, value_name = "FOLDER")]
    binaries: PathBuf,
    /// The program kubernetes-validate
    #[arg(long, value_name = "PROGRAM")]
    kubernetes_validate: PathBuf,
}

/// Checks all samples and returns the exit status.
pub(crate) async fn run(options: &Options) -> u8 {
    let mut subject = Subject::new(&options.binaries);
    units::check(&mut subject).await;
    environment::check(&mut subject).await;
    compose::check(&mut subject).await;
    cluster::check(&mut subject).await;
    let stores = crate::stores::Stores::start().await;
    schema::check(&mut subject, &stores).await;
    let role_url = roles::check(&mut subject, &stores).await;
    kubernetes::check(&mut subject, &stores, &role_url, &options.kubernetes_validate).await;
    load_balancers::check(&mut subject, &stores, &role_url).await;
    let status = subject.report.verdict();
    if !subject.report.is_good() {
        subject.report.show_logs(stores.logs());
    }
    status
}
