//! The protocol as it is built, with different things going wrong. Each of these worlds is walked through to its end.
//!
//! Two processes of view-syncd believe to lead, and drain at once: nothing depends on there being only one.

use model::setup::Setup;

use crate::support::holds;

const PLAIN: Setup = Setup::PLAIN;

/// One process of view-syncd.
const ONE_LEADER: Setup = Setup { daemons: 1, leaders: 1, ..PLAIN };

#[test]
fn nothing_is_lost_or_doubled_when_two_processes_of_each_kind_die_between_any_two_steps() {
    holds(PLAIN, 14_000);
    holds(Setup { requests: [2, 1], ..ONE_LEADER }, 120_000);
    holds(Setup { requests: [2, 1], ingests: 1, ..PLAIN }, 210_000);
    holds(Setup { requests: [3, 0], ..PLAIN }, 130_000);
}

#[test]
fn nothing_is_lost_or_doubled_when_set_and_hash_expire_together_or_apart() {
    let setup = Setup { expiries: 1, database_away: true, ..PLAIN };
    holds(Setup { ingests: 1, ..setup }, 100_000);
    holds(Setup { daemons: 1, leaders: 1, ..setup }, 45_000);
}

#[test]
fn nothing_is_lost_or_doubled_when_a_pipeline_is_cut_goes_on_unheard_or_is_sent_again() {
    holds(Setup { lost_replies: 1, orphans: 1, ..ONE_LEADER }, 140_000);
    holds(Setup { lost_replies: 1, ingests: 1, requests: [2, 0], ..PLAIN }, 50_000);
    holds(Setup { orphans: 1, ingests: 1, ..PLAIN }, 20_000);
}

#[test]
fn nothing_is_lost_or_doubled_when_redis_is_away_for_one_process_and_statements_wait_for_each_other() {
    holds(Setup { bypasses: 1, slow_statements: true, ..PLAIN }, 88_000);
}

#[test]
fn nothing_is_lost_or_doubled_when_everything_goes_wrong_for_a_client_that_sends_again() {
    let mishaps = Setup { requests: [2, 0], lost_replies: 1, bypasses: 1, database_away: true, ..ONE_LEADER };
    holds(Setup { late_pipelines: true, ..mishaps }, 110_000);
    holds(Setup { expiries: 1, ingests: 1, ..mishaps }, 73_000);
}

#[test]
fn scans_and_repairs_may_run_beside_everything_else() {
    holds(Setup { scans: 1, ..ONE_LEADER }, 12_000);
    holds(Setup { scans: 1, ingests: 1, ..PLAIN }, 210_000);
    holds(Setup { scans: 1, leaders: 1, ingests: 1, ..PLAIN }, 79_000);
}

#[test]
fn two_daemons_may_scan_and_repair_at_once_also_while_keys_expire() {
    let setup = Setup { ingests: 1, requests: [2, 0], ..PLAIN };
    holds(Setup { scans: 2, ..setup }, 96_000);
    holds(Setup { scans: 1, expiries: 1, leaders: 1, ..setup }, 140_000);
}

#[test]
fn the_corrections_of_a_scan_may_be_sent_again() {
    let setup = Setup { scans: 1, lost_replies: 1, ..ONE_LEADER };
    holds(Setup { ingests: 1, ..setup }, 160_000);
    holds(Setup { requests: [2, 0], ..setup }, 200_000);
}

#[test]
fn without_mishaps_to_view_ingest_or_the_keys_the_count_is_true_without_any_scan() {
    let setup = Setup { ingests_die: false, ..PLAIN };
    assert!(setup.is_calm());
    holds(setup, 3_800);
    holds(Setup { requests: [2, 1], ..Setup { daemons: 1, leaders: 1, ..setup } }, 17_000);
}
