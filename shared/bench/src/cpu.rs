//! What processes cost, by the kernel's own books.

use std::{collections::HashSet, time::Duration};

use anyhow::Context;
use procfs::{
    CurrentSI, KernelStats,
    process::{Process, Task, all_processes},
    ticks_per_second,
};

/// The kernel forgets a process's peak of memory when this is written to its `clear_refs`.
const FORGET_PEAK: &str = "5";

/// Returns the CPU time that all threads of the processes have used. Threads that have ended are not in it: servers
/// keep theirs.
pub(crate) fn used(pids: &[u32]) -> anyhow::Result<Duration> {
    let mut total = Duration::ZERO;
    for pid in pids {
        // A thread may end between the listing and the look at it.
        total += process(*pid)?.tasks()?.flatten().filter_map(|task| used_by(&task)).sum::<Duration>();
    }
    Ok(total)
}

/// To the nanosecond where the kernel keeps such books, and otherwise in its ticks.
fn used_by(thread: &Task) -> Option<Duration> {
    if let Ok(stat) = thread.schedstat() {
        return Some(Duration::from_nanos(stat.sum_exec_runtime));
    }
    let stat = thread.stat().ok()?;
    Some(Duration::from_secs_f64((stat.utime + stat.stime) as f64 / ticks_per_second() as f64))
}

/// Returns the CPU time of each thread but the first.
pub(crate) fn used_by_helpers(pid: u32) -> anyhow::Result<Vec<(i32, Duration)>> {
    let tasks = process(pid)?.tasks()?.flatten().filter(|task| task.tid != task.pid);
    Ok(tasks.filter_map(|task| Some((task.tid, used_by(&task)?))).collect())
}

/// Returns the share of all processors that others use while this program does nothing but wait, from 0 to 1.
pub(crate) async fn used_by_others(patience: Duration) -> anyhow::Result<f64> {
    let look = || -> anyhow::Result<(u64, u64)> {
        let total = KernelStats::current()?.total;
        let idle = total.idle + total.iowait.unwrap_or(0);
        let busy = total.user + total.nice + total.system + total.irq.unwrap_or(0) + total.softirq.unwrap_or(0);
        Ok((idle, busy))
    };
    let before = look()?;
    tokio::time::sleep(patience).await;
    let after = look()?;
    let (idle, busy) = (after.0.saturating_sub(before.0), after.1.saturating_sub(before.1));
    Ok(busy as f64 / (idle + busy).max(1) as f64)
}

/// Returns a process and all that descend from it.
pub(crate) fn family(pid: u32) -> anyhow::Result<Vec<u32>> {
    let parents: Vec<(u32, u32)> = all_processes()?
        .flatten()
        .filter_map(|process| Some((process.pid.try_into().ok()?, process.stat().ok()?.ppid.try_into().ok()?)))
        .collect();
    let mut family = HashSet::from([pid]);
    // A child may be listed before its parent, so the list is gone through until nobody is added.
    while parents.iter().filter(|(child, parent)| family.contains(parent) && !family.contains(child)).count() > 0 {
        let children: Vec<u32> = parents.iter().filter(|(_, parent)| family.contains(parent)).map(|(child, _)| *child).collect();
        family.extend(children);
    }
    Ok(family.into_iter().collect())
}

/// Returns how much memory the processes hold now, in bytes.
pub(crate) fn memory(pids: &[u32]) -> anyhow::Result<u64> {
    pids.iter().map(|pid| Ok(process(*pid)?.status()?.vmrss.context("no VmRSS")? * 1024)).sum()
}

/// Returns how much memory the processes have held at most since [`forget_peak`], in bytes.
pub(crate) fn peak_memory(pids: &[u32]) -> anyhow::Result<u64> {
    pids.iter().map(|pid| Ok(process(*pid)?.status()?.vmhwm.context("no VmHWM")? * 1024)).sum()
}

/// Has the peak begin anew.
pub(crate) fn forget_peak(pids: &[u32]) {
    for pid in pids {
        // Where the kernel does not let us, the peak is that of the whole life, which is an upper bound.
        let _ = std::fs::write(format!("/proc/{pid}/clear_refs"), FORGET_PEAK);
    }
}

fn process(pid: u32) -> anyhow::Result<Process> {
    Process::new(pid.try_into()?).with_context(|| format!("process {pid} is gone"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_shows_up_as_cpu_time_and_memory() {
        let me = [std::process::id()];
        let before = used(&me).unwrap();
        let block: Vec<u64> = (0..4_000_000_u64).map(|number| number.wrapping_mul(0x9E37_79B9)).collect();
        assert!(used(&me).unwrap() > before);
        assert!(peak_memory(&me).unwrap() >= memory(&me).unwrap().min(block.len() as u64 * 8));
    }

    #[test]
    fn a_child_belongs_to_the_family() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let family = family(std::process::id()).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(family.contains(&child.id()) && family.contains(&std::process::id()));
        assert!(!family.contains(&1));
    }
}
