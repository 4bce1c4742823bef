//! What the system says of this process, looked up at each scrape. Reads `/proc` and nothing else.

use super::{register, table};
use prometheus_client::{
    metrics::{counter::Counter, gauge::Gauge},
    registry::Registry,
};
use std::sync::atomic::AtomicU64;

/// The usual `process_` metrics.
#[derive(Clone, Debug, Default)]
pub(super) struct ProcessMetrics {
    cpu: Counter<f64, AtomicU64>,
    resident: Gauge<u64, AtomicU64>,
    virtual_memory: Gauge<u64, AtomicU64>,
    start: Gauge<f64, AtomicU64>,
    open_fds: Gauge<u64, AtomicU64>,
    max_fds: Gauge<u64, AtomicU64>,
    threads: Gauge,
}

impl ProcessMetrics {
    pub(super) fn register(&self, registry: &mut Registry) {
        register(registry, &table::CPU, self.cpu.clone());
        register(registry, &table::RESIDENT, self.resident.clone());
        register(registry, &table::VIRTUAL, self.virtual_memory.clone());
        register(registry, &table::START, self.start.clone());
        register(registry, &table::OPEN_FDS, self.open_fds.clone());
        register(registry, &table::MAX_FDS, self.max_fds.clone());
        register(registry, &table::THREADS, self.threads.clone());
    }

    /// Only Linux tells. A build for another system is one for the plugin, which lies in the same package.
    #[cfg(not(target_os = "linux"))]
    #[expect(clippy::unused_self, reason = "as on Linux")]
    pub(super) fn look(&self) {}

    /// Looks everything up. What the system does not tell stays as it was.
    #[cfg(target_os = "linux")]
    pub(super) fn look(&self) {
        use std::sync::atomic::Ordering;

        let Ok(process) = procfs::process::Process::myself() else { return };
        if let Ok(stat) = process.stat() {
            #[allow(clippy::cast_precision_loss, reason = "ticks and seconds far below 2^52")]
            let seconds = |ticks: u64| ticks as f64 / procfs::ticks_per_second() as f64;
            self.cpu.inner().store(seconds(stat.utime + stat.stime).to_bits(), Ordering::Relaxed);
            self.resident.set(stat.rss * procfs::page_size());
            self.virtual_memory.set(stat.vsize);
            self.threads.set(stat.num_threads);
            if let Ok(boot) = procfs::boot_time_secs() {
                #[allow(clippy::cast_precision_loss, reason = "ticks and seconds far below 2^52")]
                self.start.set(boot as f64 + seconds(stat.starttime));
            }
        }
        if let Ok(count) = process.fd_count() {
            self.open_fds.set(count as u64);
        }
        if let Ok(limits) = process.limits()
            && let procfs::process::LimitValue::Value(most) = limits.max_open_files.soft_limit
        {
            self.max_fds.set(most);
        }
    }
}
