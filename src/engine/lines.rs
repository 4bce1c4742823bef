//! Who is next: lines for writes by urgency, and for calls fairly by namespace. Pure.

use crate::index::{Id, Lane};
use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

/// Robots in line for a write. An id may stand here though it needs no write any more; that shows when its turn comes.
#[derive(Debug, Default)]
pub(super) struct Lines {
    lanes: [VecDeque<Id>; 3],
}

impl Lines {
    pub(super) fn push(&mut self, lane: Lane, id: Id) {
        if let Some(line) = self.lanes.get_mut(lane as usize) {
            line.push_back(id);
        }
    }

    /// The first id of the most urgent lane, of [`Lane::Live`] only if `live`.
    pub(super) fn pop(&mut self, live: bool) -> Option<(Lane, Id)> {
        [Lane::Final, Lane::Waiting, Lane::Live]
            .into_iter()
            .filter(|lane| live || *lane != Lane::Live)
            .find_map(|lane| self.lanes.get_mut(lane as usize)?.pop_front().map(|id| (lane, id)))
    }
}

impl Lines {
    /// How many ids stand in each lane, the most urgent first.
    pub(super) fn depths(&self) -> [usize; 3] {
        self.lanes.each_ref().map(VecDeque::len)
    }
}

/// Robots of one application in line for a call: each namespace in its turn.
#[derive(Debug, Default)]
pub(super) struct CallLine {
    turns: VecDeque<Arc<str>>,
    waiting: HashMap<Arc<str>, VecDeque<Id>>,
}

impl CallLine {
    /// Puts `id` at the end of its namespace's line, or in `front` of everything.
    pub(super) fn push(&mut self, namespace: &Arc<str>, id: Id, front: bool) {
        let line = self.waiting.entry(Arc::clone(namespace)).or_default();
        if front {
            line.push_front(id);
            self.turns.retain(|name| name != namespace);
            self.turns.push_front(Arc::clone(namespace));
        } else {
            if line.is_empty() {
                self.turns.push_back(Arc::clone(namespace));
            }
            line.push_back(id);
        }
    }

    /// The next id; its namespace goes to the end of the turns.
    pub(super) fn pop(&mut self) -> Option<Id> {
        let namespace = self.turns.pop_front()?;
        let line = self.waiting.get_mut(&namespace)?;
        let id = line.pop_front();
        if line.is_empty() {
            self.waiting.remove(&namespace);
        } else {
            self.turns.push_back(namespace);
        }
        id
    }

    pub(super) fn is_empty(&self) -> bool {
        self.turns.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use slotmap::SlotMap;

    fn ids(n: usize) -> Vec<Id> {
        let mut map = SlotMap::with_key();
        (0..n).map(|n| map.insert(n)).collect()
    }

    #[test]
    fn a_namespace_with_thousands_does_not_keep_another_waiting() {
        let ids = ids(1001);
        let (big, small): (Arc<str>, Arc<str>) = ("big".into(), "small".into());
        let mut line = CallLine::default();
        for id in &ids[..1000] {
            line.push(&big, *id, false);
        }
        line.push(&small, ids[1000], false);
        assert_eq!(line.pop(), Some(ids[0]));
        assert_eq!(line.pop(), Some(ids[1000]), "the other namespace is next");
        assert_eq!(line.pop(), Some(ids[1]));
        line.push(&small, ids[1000], true);
        assert_eq!(line.pop(), Some(ids[1000]), "put in front of everything");
        let rest: Vec<Id> = std::iter::from_fn(|| line.pop()).collect();
        assert_eq!(rest, ids[2..1000]);
        assert!(line.is_empty() && line.waiting.is_empty());
    }

    #[test]
    fn ends_of_deletions_go_first_and_live_robots_last() {
        let ids = ids(3);
        let mut lines = Lines::default();
        for (lane, id) in [Lane::Live, Lane::Waiting, Lane::Final].into_iter().zip(&ids) {
            lines.push(lane, *id);
        }
        assert_eq!(lines.pop(true), Some((Lane::Final, ids[2])));
        assert_eq!(lines.pop(false), Some((Lane::Waiting, ids[1])));
        assert_eq!(lines.pop(false), None);
        assert_eq!(lines.pop(true), Some((Lane::Live, ids[0])));
    }
}
