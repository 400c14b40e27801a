use super::support::run;
use model::setup::Setup;
const P: Setup = Setup::PLAIN;
#[test]
fn calm_slow() {
    run("calm slow", Setup { ingests_die: false, slow_statements: true, requests: [1, 1], ..P });
}
#[test]
fn expiry2() {
    run("expiry 2", Setup { requests: [2, 0], expiries: 2, database_away: true, ..P });
}
#[test]
fn lost2() {
    run("lost [2,0]", Setup { requests: [2, 0], lost_replies: 2, bypasses: 1, expiries: 1, database_away: true, ..P });
}
#[test]
fn bypass2() {
    run("bypass 2", Setup { requests: [2, 1], bypasses: 1, daemons: 1, slow_statements: true, ..P });
}
#[test]
fn scan() {
    run("scan 1", Setup { requests: [1, 1], scans: 1, daemons: 1, ..P });
}
#[test]
fn scan2() {
    run("scan 2 daemons", Setup { requests: [2, 0], scans: 2, daemons: 2, expiries: 1, ..P });
}
#[test]
fn scan3() {
    run("scan lost expiry", Setup { requests: [1, 1], scans: 1, daemons: 1, expiries: 1, lost_replies: 1, ingests: 1, ..P });
}
#[test]
fn lone() {
    run("lone hashes", Setup { requests: [1, 1], bypasses: 1, ..P });
}
#[test]
fn refuse() {
    run("refuse", Setup { requests: [2, 0], refusals: 1, ..P });
}
#[test]
fn refuse_healed() {
    run("refuse, with drift_unites", Setup { requests: [2, 0], refusals: 1, drift_unites: true, ..P });
}
