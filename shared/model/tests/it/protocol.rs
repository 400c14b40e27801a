//! The protocol as it is built, with different things going wrong. Each of these worlds is walked through to its end.

use model::setup::Setup;

use crate::support::holds;

const PLAIN: Setup = Setup::PLAIN;

#[test]
fn nothing_is_lost_or_doubled_when_two_processes_of_each_kind_die_between_any_two_steps() {
    holds(Setup { requests: [2, 1], ..PLAIN }, 150_000);
}

#[test]
fn nothing_is_lost_or_doubled_when_set_and_hash_expire_together_or_apart() {
    holds(Setup { expiries: 1, database_away: true, ..PLAIN }, 75_000);
}

#[test]
fn nothing_is_lost_or_doubled_when_a_pipeline_is_cut_goes_on_unheard_or_is_sent_again() {
    holds(Setup { lost_replies: 1, ..PLAIN }, 145_000);
}

#[test]
fn nothing_is_lost_or_doubled_when_redis_is_away_for_one_process_and_statements_wait_for_each_other() {
    holds(Setup { bypasses: 1, slow_statements: true, ..PLAIN }, 35_000);
}

#[test]
fn nothing_is_lost_or_doubled_when_everything_goes_wrong_for_a_client_that_sends_again() {
    let mishaps = Setup { expiries: 1, lost_replies: 1, bypasses: 1, database_away: true, ..PLAIN };
    holds(Setup { requests: [2, 0], daemons: 1, ..mishaps }, 60_000);
}

#[test]
fn scans_and_repairs_may_run_beside_everything_else() {
    holds(Setup { scans: 1, ..PLAIN }, 70_000);
}

#[test]
fn two_daemons_may_scan_and_repair_at_once_also_while_keys_expire() {
    let setup = Setup { ingests: 1, requests: [2, 0], ..PLAIN };
    holds(Setup { scans: 2, ..setup }, 19_000);
    holds(Setup { scans: 1, expiries: 1, ..setup }, 50_000);
}

#[test]
fn a_scan_may_be_torn_and_its_corrections_sent_again() {
    let setup = Setup { daemons: 1, scans: 1, lost_replies: 1, ..PLAIN };
    holds(Setup { ingests: 1, ..setup }, 75_000);
    holds(Setup { requests: [2, 0], ..setup }, 44_000);
}

#[test]
fn without_mishaps_to_view_ingest_or_the_keys_the_count_is_true_without_any_scan() {
    let setup = Setup { ingests_die: false, requests: [2, 1], ..PLAIN };
    assert!(setup.is_calm());
    holds(setup, 28_000);
}
