//! What the ends of writes say about the API server: whether it can be reached, and whose writes it takes.

use super::WriteError;
use crate::write_trouble::retry_delay;
use std::{collections::HashSet, sync::Arc, time::Duration};

/// So many writes that fail in a row, with none that is stored between them, are taken for an API server that takes nothing
/// of the namespaces that they are in.
const TAKES_NOTHING: u32 = 8;

/// From so many namespaces on, it is taken for one that takes nothing at all.
const NAMESPACES_THAT_TELL: usize = 4;

/// While there is no way to the API server, the longest wait before the next try. One write tries for all of them, so
/// that answers are recorded as soon as there is a way.
const CUT_OFF: Duration = Duration::from_secs(1);

/// The API server cannot be reached.
#[derive(Debug, Default)]
struct CutOff {
    tries: u32,
    /// The next try.
    next: Duration,
}

/// What the last writes ended with.
#[derive(Debug, Default)]
pub(super) struct WriteHealth {
    /// Writes in a row that failed for whatever the API server has, or that did not reach it.
    failures: u32,
    /// The namespaces of their robots.
    namespaces: HashSet<Arc<str>>,
    /// The API server could not be reached when a write was last tried.
    cut_off: Option<CutOff>,
}

impl WriteHealth {
    /// A write to a robot of `namespace` has ended.
    pub(super) fn ended<T>(&mut self, result: &Result<T, WriteError>, namespace: &Arc<str>) {
        if matches!(
            result,
            Err(WriteError::Unreachable(_)
                | WriteError::Refused(_)
                | WriteError::Late
                | WriteError::Other(_))
        ) {
            self.failures = self.failures.saturating_add(1);
            self.namespaces.insert(Arc::clone(namespace));
        } else {
            self.failures = 0;
            self.namespaces.clear();
        }
    }

    /// Records whether a write reached the API server.
    pub(super) fn record_reachability<T>(
        &mut self,
        result: &Result<T, WriteError>,
        jitter: f64,
        now: Duration,
    ) {
        match result {
            Err(WriteError::Unreachable(reason)) => {
                let cut_off = self.cut_off.get_or_insert_with(|| {
                    tracing::warn!(%reason, "no write gets through; trying one now and then");
                    CutOff::default()
                });
                // What went out together says the same.
                if cut_off.next <= now {
                    cut_off.tries = cut_off.tries.saturating_add(1);
                    cut_off.next = now + retry_delay(cut_off.tries, jitter).min(CUT_OFF);
                }
            }
            _ if self.cut_off.take().is_some() => tracing::info!("writes get through again"),
            _ => {}
        }
    }

    /// While the API server cannot be reached, when the next write tries.
    pub(super) fn next_try(&self) -> Option<Duration> {
        self.cut_off.as_ref().map(|cut_off| cut_off.next)
    }

    /// Whether the API server takes nothing at all, though it can be reached.
    pub(super) fn takes_nothing(&self) -> bool {
        self.failures >= TAKES_NOTHING && self.namespaces.len() >= NAMESPACES_THAT_TELL
    }

    /// Namespaces of which it takes nothing.
    pub(super) fn refused_namespaces(&self) -> Option<&HashSet<Arc<str>>> {
        (self.failures >= TAKES_NOTHING).then_some(&self.namespaces)
    }
}
