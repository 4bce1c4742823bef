//! Who is next: lines for writes by urgency, and lines in which names take turns. Pure.

use crate::index::{Id, Lane};
use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

/// Robots in line for a write: by urgency, then each application in its turn, then each of its namespaces, and there
/// what is urgent before the rest. Where the API server is slower than the calls, this is where a drain waits, and what
/// is beside it must not wait with it. An id may stand here though it needs no write any more; that shows when its turn
/// comes.
#[derive(Debug, Default)]
pub(super) struct Lines {
    lanes: [Turns<Turns<Ranks>>; 4],
}

impl Lines {
    pub(super) fn push(
        &mut self,
        lane: Lane,
        application: &Arc<str>,
        namespace: &Arc<str>,
        id: Id,
        urgent: bool,
    ) {
        let Some(applications) = self.lanes.get_mut(lane as usize) else { return };
        let namespaces = applications.of(application);
        namespaces.of(namespace).push(id, urgent);
        namespaces.depth.add(urgent);
        applications.depth.add(urgent);
    }

    /// How many stand in line.
    pub(super) fn waiting(&self) -> usize {
        self.depths().into_iter().sum()
    }

    /// How many robots of `application` stand in `lane` with something urgent.
    pub(super) fn urgent_of(&self, lane: Lane, application: &Arc<str>) -> usize {
        let robots = self.lanes.get(lane as usize).and_then(|lane| lane.lines.get(application));
        robots.map_or(0, |robots| robots.depth().urgent)
    }

    /// The next id of the most urgent lane, up to the lane `last`.
    pub(super) fn pop(&mut self, last: Lane) -> Option<(Lane, Id)> {
        [Lane::Final, Lane::Waiting, Lane::Told, Lane::Live]
            .into_iter()
            .filter(|lane| *lane <= last)
            .find_map(|lane| self.lanes.get_mut(lane as usize)?.pop().map(|id| (lane, id)))
    }

    /// How many ids stand in each lane, the most urgent first.
    pub(super) fn depths(&self) -> [usize; 4] {
        self.lanes.each_ref().map(|lane| lane.depth().all)
    }
}

/// So many urgent ones go before one of the rest, which may otherwise never have its turn.
const URGENT_IN_A_ROW: u32 = 3;

/// Robots of one namespace in line for a write. What is urgent goes first: the record of an answer, without which a
/// process that takes over asks again, and before which the next calls wait. What only follows from a record, the end of
/// the finalizer, can wait while the API server is the slower one: so robots leave their rooms at the pace of the calls.
#[derive(Debug, Default)]
pub(super) struct Ranks {
    urgent: VecDeque<Id>,
    rest: VecDeque<Id>,
    in_a_row: u32,
}

impl Ranks {
    fn push(&mut self, id: Id, urgent: bool) {
        if urgent { &mut self.urgent } else { &mut self.rest }.push_back(id);
    }
}

/// How many stand in a line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Depth {
    all: usize,
    /// Those that are urgent.
    urgent: usize,
}

impl Depth {
    fn add(&mut self, urgent: bool) {
        self.all += 1;
        self.urgent += usize::from(urgent);
    }

    /// By as much as a part of the line fell.
    fn fall(&mut self, before: Self, after: Self) {
        self.all -= before.all - after.all;
        self.urgent -= before.urgent - after.urgent;
    }
}

/// Robots of one application in line for a call or a write: each namespace in its turn.
pub(super) type CallLine = Turns<VecDeque<Id>>;

impl CallLine {
    /// Puts `id` at the end of its namespace's line, or in `front` of everything.
    pub(super) fn push(&mut self, namespace: &Arc<str>, id: Id, front: bool) {
        let line = self.of(namespace);
        if front {
            line.push_front(id);
            self.order.retain(|name| name != namespace);
            self.order.push_front(Arc::clone(namespace));
        } else {
            line.push_back(id);
        }
        self.depth.add(false);
    }
}

/// Lines under names that take turns. A name stands among the turns as long as its line is not empty.
#[derive(Debug)]
pub(super) struct Turns<L> {
    order: VecDeque<Arc<str>>,
    lines: HashMap<Arc<str>, L>,
    /// Counted, so that nobody walks over thousands of names to know.
    depth: Depth,
}

impl<L> Default for Turns<L> {
    fn default() -> Self {
        Self { order: VecDeque::new(), lines: HashMap::new(), depth: Depth::default() }
    }
}

impl<L: Line> Turns<L> {
    /// The line of `name`, where somebody is about to be put.
    fn of(&mut self, name: &Arc<str>) -> &mut L {
        if !self.lines.contains_key(name) {
            self.order.push_back(Arc::clone(name));
        }
        self.lines.entry(Arc::clone(name)).or_default()
    }

    /// The next id; its name goes to the end of the turns.
    pub(super) fn pop(&mut self) -> Option<Id> {
        let name = self.order.pop_front()?;
        let line = self.lines.get_mut(&name)?;
        let before = line.depth();
        let id = line.next();
        let after = line.depth();
        self.depth.fall(before, after);
        if line.is_over() {
            self.lines.remove(&name);
        } else {
            self.order.push_back(name);
        }
        id
    }

    pub(super) fn is_empty(&self) -> bool {
        self.order.is_empty()
    }
}

/// What stands under a name.
pub(super) trait Line: Default {
    /// Takes the next id.
    fn next(&mut self) -> Option<Id>;
    /// Whether nobody is left.
    fn is_over(&self) -> bool;
    /// How many are left.
    fn depth(&self) -> Depth;
}

impl Line for VecDeque<Id> {
    fn next(&mut self) -> Option<Id> {
        self.pop_front()
    }

    fn is_over(&self) -> bool {
        self.is_empty()
    }

    fn depth(&self) -> Depth {
        Depth { all: self.len(), urgent: 0 }
    }
}

impl Line for Ranks {
    fn next(&mut self) -> Option<Id> {
        if (self.in_a_row < URGENT_IN_A_ROW || self.rest.is_empty())
            && let Some(id) = self.urgent.pop_front()
        {
            self.in_a_row = (self.in_a_row + 1).min(URGENT_IN_A_ROW);
            return Some(id);
        }
        self.in_a_row = 0;
        self.rest.pop_front()
    }

    fn is_over(&self) -> bool {
        self.urgent.is_empty() && self.rest.is_empty()
    }

    fn depth(&self) -> Depth {
        Depth { all: self.urgent.len() + self.rest.len(), urgent: self.urgent.len() }
    }
}

impl<L: Line> Line for Turns<L> {
    fn next(&mut self) -> Option<Id> {
        self.pop()
    }

    fn is_over(&self) -> bool {
        self.is_empty()
    }

    fn depth(&self) -> Depth {
        self.depth
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
        assert!(line.is_empty() && line.lines.is_empty());
    }

    #[test]
    fn ends_of_deletions_go_first_and_live_robots_last() {
        let ids = ids(4);
        let (app, namespace): (Arc<str>, Arc<str>) = ("app".into(), "namespace".into());
        let mut lines = Lines::default();
        for (lane, id) in [Lane::Live, Lane::Told, Lane::Waiting, Lane::Final].into_iter().zip(&ids) {
            lines.push(lane, &app, &namespace, *id, false);
        }
        assert_eq!(lines.pop(Lane::Live), Some((Lane::Final, ids[3])));
        assert_eq!(lines.pop(Lane::Waiting), Some((Lane::Waiting, ids[2])));
        assert_eq!(lines.pop(Lane::Waiting), None);
        assert_eq!(lines.pop(Lane::Told), Some((Lane::Told, ids[1])));
        assert_eq!(lines.pop(Lane::Told), None);
        assert_eq!(lines.pop(Lane::Live), Some((Lane::Live, ids[0])));
    }

    #[test]
    fn writes_go_by_turns_of_applications_and_then_of_their_namespaces() {
        let ids = ids(7);
        let [a, b]: [Arc<str>; 2] = ["a".into(), "b".into()];
        let [one, two]: [Arc<str>; 2] = ["one".into(), "two".into()];
        let mut lines = Lines::default();
        let order = [(&a, &one), (&a, &one), (&a, &one), (&a, &two), (&b, &one), (&b, &one), (&b, &one)];
        for ((application, namespace), id) in order.into_iter().zip(&ids) {
            lines.push(Lane::Final, application, namespace, *id, true);
        }
        assert_eq!((lines.urgent_of(Lane::Final, &a), lines.urgent_of(Lane::Final, &b)), (4, 3));
        assert_eq!((lines.depths(), lines.waiting()), ([7, 0, 0, 0], 7));
        let out: Vec<Id> = std::iter::from_fn(|| lines.pop(Lane::Final)).map(|(_, id)| id).collect();
        assert_eq!(out, [0, 4, 3, 5, 1, 6, 2].map(|n| ids[n]));
        assert!(lines.lanes.iter().all(|lane| lane.depth == Depth::default()));
        assert_eq!(lines.waiting(), 0);
        assert!(lines.lanes.iter().all(|lane| lane.order.is_empty() && lane.lines.is_empty()));
    }
    #[test]
    fn what_is_urgent_goes_first_and_the_rest_has_every_fourth_turn() {
        let ids = ids(12);
        let (app, namespace): (Arc<str>, Arc<str>) = ("app".into(), "namespace".into());
        let mut lines = Lines::default();
        for (at, id) in ids.iter().enumerate() {
            lines.push(Lane::Final, &app, &namespace, *id, at % 2 == 1);
        }
        assert_eq!((lines.urgent_of(Lane::Final, &app), lines.waiting()), (6, 12));
        let mut pop = || lines.pop(Lane::Final).map(|(_, id)| ids.iter().position(|one| *one == id).unwrap());
        let order: Vec<_> = std::iter::from_fn(&mut pop).collect();
        assert_eq!(order, [1, 3, 5, 0, 7, 9, 11, 2, 4, 6, 8, 10]);
        assert_eq!((lines.urgent_of(Lane::Final, &app), lines.waiting()), (0, 0));
    }
}
