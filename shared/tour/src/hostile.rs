#[derive(Debug, clap::Args)]
pub(crate) struct Options {}
pub(crate) async fn run(_: &Options) -> u8 {
    0
}
