//! The clocks: those of both servers, and this machine's, by which tokens are judged.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use views_redis::server_info::ServerInfo;

use super::check::Checks;
use crate::commands::{
    look::{Look, in_time},
    output,
};

/// A greater difference is told.
const LARGE: Duration = Duration::from_secs(1);
/// A greater one fails, unless tokens are given more leeway.
const TOO_LARGE: Duration = Duration::from_secs(10);

pub(super) async fn check(look: &Look, leeway: Duration, checks: &mut Checks) {
    let mut of_nodes = Vec::new();
    for node in &look.nodes {
        let (before, mut of_node) = (now(), Checks::default());
        if let Ok(Some(info)) = &node.info
            && info.clock().is_some()
            && let Ok(Some(info)) = ServerInfo::ask(&look.context.redis, node.node).await
            && let Some(clock) = info.clock()
        {
            judge("Redis", clock, [before, now()], leeway, &mut of_node);
        }
        of_nodes.push((node.address.clone(), of_node));
    }
    checks.add_all(of_nodes);
    let before = now();
    if look.database.is_ok()
        && let Ok(state) = in_time(look.context.database.server_state()).await
    {
        judge("PostgreSQL", state.clock, [before, now()], leeway, checks);
    }
}

/// Compares a server's clock with this machine's, which it was read between two moments of.
fn judge(server: &str, clock: Duration, [before, after]: [Duration; 2], leeway: Duration, checks: &mut Checks) {
    let (ahead, behind) = (clock.saturating_sub(after), before.saturating_sub(clock));
    let difference = ahead.max(behind);
    let direction = if ahead > behind { "ahead of" } else { "behind" };
    let text = format!("the clock of {server} is {} {direction} this machine's", output::age(difference));
    let advice = "let all machines take the time from the network (NTP)";
    if difference > TOO_LARGE.max(leeway) {
        checks.fail("clocks", format!("{text}, more than tokens and times of views put up with: {advice}"));
    } else if difference > LARGE {
        checks.warn("clocks", format!("{text}: {advice}"));
    } else {
        checks.ok("clocks", format!("that of {server} agrees with this machine's"));
    }
}

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::{super::check::Verdict, *};

    #[test]
    fn a_difference_counts_only_beyond_the_time_that_the_answer_took() {
        let seconds = Duration::from_secs;
        for (clock, [before, after], leeway, expected) in [
            (100, [99, 101], 0, Verdict::Ok),
            (105, [99, 104], 0, Verdict::Ok),
            (106, [99, 104], 0, Verdict::Warn),
            (97, [99, 104], 0, Verdict::Warn),
            (115, [99, 104], 0, Verdict::Fail),
            (88, [99, 104], 0, Verdict::Fail),
            (88, [99, 104], 60, Verdict::Warn),
            (30, [99, 104], 60, Verdict::Fail),
        ] {
            let mut checks = Checks::default();
            judge("Redis", seconds(clock), [seconds(before), seconds(after)], seconds(leeway), &mut checks);
            assert_eq!(checks.into_list()[0].verdict, expected, "{clock}");
        }
    }
}
