//! What the system says of this process, looked up at each scrape. Reads `/proc` and nothing else.

use super::samples::Samples;

/// Only Linux tells. A build for another system is one for the plugin, which lies in the same package.
#[cfg(not(target_os = "linux"))]
pub(super) const fn look(_: &mut Samples) {}

/// Looks everything up: the usual `process_` metrics, without what the system does not tell.
#[cfg(target_os = "linux")]
pub(super) fn look(samples: &mut Samples) {
    use super::{samples::Value, table};

    let Ok(process) = procfs::process::Process::myself() else { return };
    let whole = |n: u64| Value::Whole(i64::try_from(n).unwrap_or(i64::MAX));
    if let Ok(stat) = process.stat() {
        #[allow(clippy::cast_precision_loss, reason = "ticks and seconds far below 2^52")]
        let seconds = |ticks: u64| ticks as f64 / procfs::ticks_per_second() as f64;
        samples.add(&table::CPU, &[], seconds(stat.utime + stat.stime));
        samples.add(&table::RESIDENT, &[], whole(stat.rss * procfs::page_size()));
        samples.add(&table::VIRTUAL, &[], whole(stat.vsize));
        samples.add(&table::THREADS, &[], Value::Whole(stat.num_threads));
        if let Ok(boot) = procfs::boot_time_secs() {
            #[allow(clippy::cast_precision_loss, reason = "ticks and seconds far below 2^52")]
            samples.add(&table::START, &[], boot as f64 + seconds(stat.starttime));
        }
    }
    if let Ok(count) = process.fd_count() {
        samples.add(&table::OPEN_FDS, &[], whole(count as u64));
    }
    if let Ok(limits) = process.limits()
        && let procfs::process::LimitValue::Value(most) = limits.max_open_files.soft_limit
    {
        samples.add(&table::MAX_FDS, &[], whole(most));
    }
}
