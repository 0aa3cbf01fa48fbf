//! Helpers of the measuring tools: priorities, limits, and the kernel's numbers about a broker.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setpriority_process, setrlimit};
use rustix::thread::{CpuSet, sched_getcpu, sched_setaffinity};

use crate::broker::{Mosquitto, MosquittoBuilder};
use crate::tenant::{AUDIENCE, Tenant};

/// The niceness of threads that stand for other machines.
const NICE: i32 = 10;

/// Lowers the priority of the calling thread, and of every thread that it starts from now on.
///
/// For threads that stand for other machines: devices, and the tenant. On a machine with few cores they would
/// otherwise take CPU time from the broker, which other machines do not.
pub fn lower_priority() {
    // On Linux, "no process" means the calling thread alone. Lowering a priority needs no permission, so this
    // cannot fail.
    let _ = setpriority_process(None, NICE);
}

/// Starts a broker without a plugin, or with the plugin and the tenant's keys.
///
/// # Errors
///
/// Returns why the broker does not start.
pub fn start(
    builder: MosquittoBuilder,
    plugin: Option<&Path>,
    tenant: &Tenant,
    policy_file: Option<&str>,
) -> Result<Mosquitto, String> {
    let ca_file = tenant.ca_file().display().to_string();
    let mut options = vec![
        ("domain", tenant.domain()),
        ("audience", AUDIENCE),
        ("ca_file", &ca_file),
    ];
    options.extend(policy_file.map(|path| ("policy_file", path)));
    let started = match plugin {
        None => builder.allow_anonymous(true).start(),
        Some(plugin) => builder.plugin(plugin, &options).start(),
    };
    let broker = started.map_err(|error| error.to_string())?;
    if plugin.is_some() {
        broker.expect_log("signing keys were fetched");
    }
    Ok(broker)
}

/// Keeps the calling thread, and the threads and brokers that it starts from now on, on one core.
///
/// For comparing CPU times of processes that wake each other: with two cores the result depends on whether
/// the other core was asleep, which costs more than the difference to be measured.
pub fn stay_on_one_core() {
    let mut here = CpuSet::new();
    here.set(sched_getcpu());
    // Where this is not permitted, the numbers vary more.
    let _ = sched_setaffinity(None, &here);
}

/// Runs this on a thread of a lower priority, which its threads inherit: `elsewhere(Tenant::start)`.
///
/// # Panics
///
/// Panics when the closure panics.
pub fn elsewhere<T: Send>(make: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| {
        let thread = scope.spawn(|| {
            lower_priority();
            make()
        });
        thread.join().expect("no panic")
    })
}

/// Raises the limit of open files and sockets for this process, and for the brokers that it starts from now
/// on.
///
/// # Errors
///
/// Returns an error when the system's hard limit is lower.
pub fn allow_open_files(count: u64) -> Result<(), String> {
    let now = getrlimit(Resource::Nofile);
    if now.current.is_none_or(|current| current >= count) {
        return Ok(());
    }
    let wanted = Rlimit {
        current: Some(count),
        maximum: now.maximum,
    };
    setrlimit(Resource::Nofile, wanted).map_err(|error| {
        format!(
            "{count} open files are needed, and the hard limit is {}: {error}",
            now.maximum.unwrap_or_default()
        )
    })
}

/// Returns the CPU time of a process's main thread so far, in user space and in the kernel, once the thread
/// sleeps. (While it runs, the kernel's number lags behind.)
///
/// # Panics
///
/// Panics when there is no such process.
#[must_use]
pub fn main_thread_cpu(pid: u32) -> Duration {
    loop {
        let path = |name: &str| format!("/proc/{pid}/task/{pid}/{name}");
        let schedstat = fs::read_to_string(path("schedstat")).expect("a live process");
        let stat = fs::read_to_string(path("stat")).expect("a live process");
        // The fields follow the program's name, which may contain anything and ends at the last parenthesis.
        let sleeps = stat
            .rsplit_once(") ")
            .is_some_and(|(_, rest)| rest.starts_with('S'));
        let again = fs::read_to_string(path("schedstat")).expect("a live process");
        if sleeps && schedstat == again {
            let spent = schedstat.split(' ').next().and_then(|ns| ns.parse().ok());
            return Duration::from_nanos(spent.expect("nanoseconds"));
        }
        thread::yield_now();
    }
}

/// Returns the size of a process's private modified pages, in bytes. It includes free memory that the C
/// library has not given back.
///
/// # Panics
///
/// Panics when there is no such process.
#[must_use]
pub fn private_dirty(pid: u32) -> i64 {
    let sums = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).expect("a live process");
    let line = sums
        .lines()
        .find_map(|line| line.strip_prefix("Private_Dirty:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<i64>().ok());
    kilobytes.expect("kilobytes") * 1024
}

/// Returns the median.
///
/// # Panics
///
/// Panics without values.
#[must_use]
pub fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    let upper = values[values.len() / 2];
    match values.len() % 2 {
        0 => (values[values.len() / 2 - 1] + upper) / 2.0,
        _ => upper,
    }
}

/// Returns the minimum.
#[must_use]
pub fn least(values: &[f64]) -> f64 {
    values.iter().copied().fold(f64::INFINITY, f64::min)
}

/// Calls `make` for each number below `count` on as many threads as there are cores, and returns the results
/// in order.
///
/// # Panics
///
/// Panics when one of the calls does.
pub fn in_parallel<T: Send>(count: usize, make: impl Fn(usize) -> T + Sync) -> Vec<T> {
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let share = count.div_ceil(threads).max(1);
    thread::scope(|scope| {
        let make = &make;
        let parts: Vec<_> = (0..count)
            .step_by(share)
            .map(|from| {
                scope.spawn(move || {
                    (from..count.min(from + share))
                        .map(make)
                        .collect::<Vec<_>>()
                })
            })
            .collect();
        parts
            .into_iter()
            .flat_map(|part| part.join().expect("no panic"))
            .collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_in_parallel_are_in_order() {
        assert_eq!(in_parallel(5, |i| i * i), [0, 1, 4, 9, 16]);
        assert!(in_parallel(0, |i| i).is_empty());
    }

    #[test]
    fn the_median_and_the_minimum_are_found() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        assert_eq!(least(&[3.0, 1.0, 2.0]), 1.0);
    }
}
