//! How many robots an application has, and what they wait for.

use crate::{
    codes::{Operation, PerOperation},
    index::{Counted, Id},
};
use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

/// The robots of one application name, whether or not there is such an application.
#[derive(Debug, Default)]
pub(super) struct RobotCounts {
    pub(super) robots: usize,
    /// Those that hold the application: it has not refused them.
    pub(super) holding: usize,
    /// Being deleted and held by our finalizer, or still to be added: whoever waits for the application.
    pub(super) unfinished: BTreeSet<Id>,
    /// Of those, the ones being deleted.
    pub(super) deleting: usize,
    /// Those whose last answer is not recorded.
    pub(super) unrecorded: usize,
    /// Of those, the ones whose record has not failed yet, by command, in each namespace that has any.
    pub(super) fresh: HashMap<Arc<str>, PerOperation<usize>>,
    /// The same of all namespaces.
    pub(super) all_fresh: PerOperation<usize>,
}

impl RobotCounts {
    /// Takes one robot's share from what it `was` to what it is `now`.
    pub(super) fn count(&mut self, was: Counted, now: Counted, namespace: &Arc<str>) {
        let move_by = |count: &mut usize, was: bool, now: bool| {
            *count = (*count + usize::from(now)).saturating_sub(usize::from(was));
        };
        move_by(&mut self.deleting, was.deleting, now.deleting);
        move_by(&mut self.holding, was.holding, now.holding);
        move_by(&mut self.unrecorded, was.unrecorded, now.unrecorded);
        if was.fresh == now.fresh {
            return;
        }
        let of_namespace = self.fresh.entry(Arc::clone(namespace)).or_default();
        for operation in Operation::ALL {
            let [was, now] = [was.fresh, now.fresh].map(|fresh| fresh == Some(operation));
            for counts in [&mut *of_namespace, &mut self.all_fresh] {
                if let Some(count) = counts.get_mut(operation as usize) {
                    move_by(count, was, now);
                }
            }
        }
        if *of_namespace == PerOperation::<usize>::default() {
            self.fresh.remove(namespace);
        }
    }
}
