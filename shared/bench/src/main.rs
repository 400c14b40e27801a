//! The benchmark: what view-ingest and view-syncd do with a machine, beside other servers that count views and beside
//! doing nothing.
//!
//! `deploy/bench` builds the programs, installs what is missing and runs this.

mod client;
mod cpu;
mod load;
mod machine;
mod measure;
mod pace;
mod parts;
mod population;
mod report;
mod servers;
mod sql;
mod stats;
mod stores;
mod synced;
mod workload;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, ensure};
use clap::{Parser, ValueEnum};

use crate::{
    parts::{name::Name, setting::Setting},
    report::Results,
    servers::{Kind, Programs},
};

/// The document that shows the results.
const DOCUMENT: &str = "docs/performance.md";
/// Where the results are kept that the document shows.
const KEPT: &str = "docs/bench";

/// How long it is watched, before and after each part, what else the machine has to do.
const QUIET: Duration = Duration::from_secs(2);

/// Measures view-ingest and view-syncd, beside their peers.
#[derive(Debug, Parser)]
#[command(name = "deploy/bench")]
struct Args {
    /// What to measure [default: everything]
    parts: Vec<Name>,
    /// A few minutes, to see that everything works: only ours, the floor and webdis, and small numbers
    #[arg(long)]
    quick: bool,
    /// The servers of the comparison, separated by commas [default: all]
    #[arg(long, value_delimiter = ',', value_name = "SERVERS")]
    only: Option<Vec<Kind>>,
    /// How often everything is measured; tables show the median [default: 3, quick: 1]
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u16).range(1..=100))]
    rounds: Option<u16>,
    /// How long one measurement takes [default: 4, quick: 2]
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u64).range(1..=60))]
    seconds: Option<u64>,
    /// Where the results go [default: docs/bench, quick: bench-quick in the target folder]
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
    /// Shows the results in docs/performance.md
    #[arg(long, alias = "update-readme")]
    update_docs: bool,
    /// Where the servers for Node.js are installed; without it they are left out
    #[arg(long, env = "BENCH_NODE_PEERS", hide = true)]
    node_peers: Option<PathBuf>,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    // Each connection takes a file descriptor here and one in the server.
    rlimit::increase_nofile_limit(u64::MAX).context("cannot raise the limit of open files")?;
    // One thread: the servers need the others.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(run(&args))
}

async fn run(args: &Args) -> anyhow::Result<()> {
    let me = std::env::current_exe().context("a program knows its path")?;
    let binaries = me.parent().map(PathBuf::from).unwrap_or_default();
    let quick_out = || binaries.parent().unwrap_or(&binaries).join("bench-quick");
    let out = args.out.clone().unwrap_or_else(|| if args.quick { quick_out() } else { PathBuf::from(KEPT) });
    let setting = Setting {
        kinds: kinds(args)?,
        rounds: args.rounds.unwrap_or(if args.quick { 1 } else { 3 }).into(),
        seconds: args.seconds.unwrap_or(if args.quick { 2 } else { 4 }),
        quick: args.quick,
        programs: Programs { binaries, node: args.node_peers.clone().unwrap_or_default() },
    };
    // Read before anything takes its time, so that what cannot be read is said at once.
    let mut results = Results::read(&out)?;
    let parts = if args.parts.is_empty() { Name::value_variants() } else { &args.parts };
    for part in parts {
        println!("==> {}", part.as_str());
        let before = cpu::used_by_others(QUIET).await?;
        let mut measured =
            parts::run(*part, &setting).await.with_context(|| format!("{} could not be measured", part.as_str()))?;
        measured.machine.used_by_others = before.max(cpu::used_by_others(QUIET).await?);
        println!("{}", report::markdown::body(&measured));
        results.parts.insert(part.as_str().to_owned(), measured);
        // What has been measured is kept, whatever becomes of the next part.
        results.write(&out)?;
    }
    println!("The results are in {}", out.display());
    if args.update_docs {
        report::performance::update(Path::new(DOCUMENT), &results, &out)?;
        println!("{DOCUMENT} shows them");
    }
    Ok(())
}

/// Which servers are compared.
fn kinds(args: &Args) -> anyhow::Result<Vec<Kind>> {
    let can_run = |kind: &Kind| args.node_peers.is_some() || !kind.is_on_node();
    if let Some(kinds) = &args.only {
        ensure!(kinds.iter().all(can_run), "Fastify and NestJS need Node.js 20 or later, with npm");
        return Ok(kinds.clone());
    }
    let kinds: &[Kind] = if args.quick { &Kind::QUICK } else { &Kind::ALL };
    Ok(kinds.iter().copied().filter(can_run).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds_of(words: &[&str]) -> anyhow::Result<Vec<Kind>> {
        kinds(&Args::try_parse_from([&["bench"], words].concat()).unwrap())
    }

    #[test]
    fn servers_on_node_are_left_out_without_it_unless_they_are_asked_for() {
        assert!(!kinds_of(&[]).unwrap().contains(&Kind::Fastify));
        assert!(kinds_of(&["--node-peers", "somewhere"]).unwrap().contains(&Kind::Fastify));
        assert!(kinds_of(&["--only", "nest"]).is_err());
        assert_eq!(kinds_of(&["--quick", "--only", "nginx,floor"]).unwrap(), [Kind::Nginx, Kind::Floor]);
    }

    #[test]
    fn the_flag_for_the_document_has_its_old_name_too() {
        for flag in ["--update-docs", "--update-readme"] {
            assert!(Args::try_parse_from(["bench", flag]).unwrap().update_docs);
        }
    }
}
