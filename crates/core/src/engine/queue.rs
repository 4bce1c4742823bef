//! Who is next: lines for writes by urgency, and lines in which names take turns. Pure.

use crate::index::{Id, Priority};
use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

/// A namespace and one of the applications that its robots refer to.
pub(super) type Place = [Arc<str>; 2];

/// Robots in line for a write: by urgency, then each namespace in its turn, then each of the applications that its
/// robots refer to. Namespaces come first: whatever names of applications a tenant invents, it has one
/// turn. Where the API server is slower than the calls, this is where a drain waits, and what is beside it must not wait
/// with it. An id may stand here though it needs no write any more; that shows when its turn comes.
#[derive(Debug, Default)]
pub(super) struct WriteQueue {
    priorities: [RoundRobin<CallLine>; PRIORITIES],
    /// Each priority, beside all that are less urgent.
    weighted: [WeightedRoundRobin; PRIORITIES],
}

/// The priorities, the most urgent first.
const ALL: [Priority; PRIORITIES] = [
    Priority::Record,
    Priority::Final,
    Priority::Released,
    Priority::Waiting,
    Priority::Told,
    Priority::Live,
];

pub(super) const PRIORITIES: usize = 6;

/// So many go out before one of a less urgent priority. Thousands of ends of deletions take as long as the API server needs
/// for them. Whoever asks why another deletion waits, or what became of an addition, is not to wait for that; and a robot
/// that is not taken in charge yet could leave without a call.
const MORE_URGENT_IN_A_ROW: u32 = 7;

impl WriteQueue {
    pub(super) fn push(&mut self, priority: Priority, application: &Arc<str>, namespace: &Arc<str>, id: Id) {
        let Some(namespaces) = self.priorities.get_mut(priority as usize) else { return };
        namespaces.of(namespace).push(application, id, false);
        namespaces.depth += 1;
    }

    /// How many stand in line.
    pub(super) fn waiting(&self) -> usize {
        self.depths().into_iter().sum()
    }

    /// The next id: of the most urgent priority, weighted; of [`Priority::Live`] only where `live` says so, and of no place of
    /// `but`.
    pub(super) fn pop(&mut self, live: bool, but: &[&[Arc<str>]]) -> Option<(Priority, Id)> {
        // Whoever has the turn may be left out.
        self.turn(live, but).or_else(|| self.turn(live, but))
    }

    fn turn(&mut self, live: bool, but: &[&[Arc<str>]]) -> Option<(Priority, Id)> {
        let mut depths = self.depths();
        if let [.., last] = &mut depths
            && !live
        {
            *last = 0;
        }
        let mut behind: usize = depths.iter().sum();
        let all = self.priorities.iter_mut().zip(&mut self.weighted);
        for ((priority, here), (line, weighted)) in ALL.into_iter().zip(depths).zip(all) {
            behind -= here;
            if weighted.first(MORE_URGENT_IN_A_ROW, here > 0, behind > 0)
                && let Some(id) = line.next(but)
            {
                return Some((priority, id));
            }
        }
        None
    }

    /// How many ids stand in each priority, the most urgent first.
    pub(super) fn depths(&self) -> [usize; PRIORITIES] {
        self.priorities.each_ref().map(Line::depth)
    }
}

/// Of two lines, the first goes before the second, which has a turn now and then all the same.
#[derive(Debug, Default)]
struct WeightedRoundRobin {
    in_a_row: u32,
}

impl WeightedRoundRobin {
    /// Whether it is the turn of the first. `first` and `second` say whether anybody is in them; where both are, the
    /// second has its turn after `most` of the first.
    fn first(&mut self, most: u32, first: bool, second: bool) -> bool {
        let turn = first && (self.in_a_row < most || !second);
        self.in_a_row = if turn { (self.in_a_row + 1).min(most) } else { 0 };
        turn
    }
}

/// Robots of one application in line for a call: each namespace in its turn. Or of one namespace in line for a write: each
/// application in its turn.
pub(super) type CallLine = RoundRobin<VecDeque<Id>>;

impl CallLine {
    /// Puts `id` at the end of the line of `name`, or in `front` of everything.
    pub(super) fn push(&mut self, name: &Arc<str>, id: Id, front: bool) {
        let line = self.of(name);
        if front {
            line.push_front(id);
            for order in [&mut self.newcomers, &mut self.order] {
                order.retain(|other| other != name);
            }
            self.newcomers.push_front(Arc::clone(name));
        } else {
            line.push_back(id);
        }
        self.depth += 1;
    }

    /// Everybody in line, who is not in it any more.
    pub(super) fn clear(&mut self) -> impl Iterator<Item = Id> + use<> {
        std::mem::take(self).lines.into_values().flatten()
    }
}

/// So many names that have just come go before one that had its turn already.
const NEWCOMERS_IN_A_ROW: u32 = 7;

/// Lines under names that take turns. A name stands among the turns as long as its line is not empty. One that comes anew
/// goes before those that had a turn and have more: who has one thing to do does not wait for many who have thousands.
#[derive(Debug)]
pub(super) struct RoundRobin<L> {
    /// Names that have not had a turn since their line was empty.
    newcomers: VecDeque<Arc<str>>,
    /// Names that have.
    order: VecDeque<Arc<str>>,
    weighted: WeightedRoundRobin,
    lines: HashMap<Arc<str>, L>,
    /// Counted, so that nobody walks over thousands of names to know.
    depth: usize,
}

impl<L> Default for RoundRobin<L> {
    fn default() -> Self {
        let (newcomers, order) = (VecDeque::new(), VecDeque::new());
        Self { newcomers, order, weighted: WeightedRoundRobin::default(), lines: HashMap::new(), depth: 0 }
    }
}

impl<L: Line> RoundRobin<L> {
    /// The line of `name`, where somebody is about to be put.
    fn of(&mut self, name: &Arc<str>) -> &mut L {
        if !self.lines.contains_key(name) {
            self.newcomers.push_back(Arc::clone(name));
        }
        self.lines.entry(Arc::clone(name)).or_default()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// Whether everybody in line stands under one of these names.
    pub(super) fn only(&self, names: &[Arc<str>]) -> bool {
        self.lines.len() <= names.len() && self.lines.keys().all(|name| names.contains(name))
    }
}

/// What stands under a name.
pub(super) trait Line: Default {
    /// Takes the next id that is not under one of these names, each with the names in it.
    fn next(&mut self, but: &[&[Arc<str>]]) -> Option<Id>;
    /// Whether nobody is left.
    fn is_over(&self) -> bool;
    /// How many are left.
    fn depth(&self) -> usize;
}

impl Line for VecDeque<Id> {
    fn next(&mut self, _: &[&[Arc<str>]]) -> Option<Id> {
        self.pop_front()
    }

    fn is_over(&self) -> bool {
        self.is_empty()
    }

    fn depth(&self) -> usize {
        self.len()
    }
}

impl<L: Line> Line for RoundRobin<L> {
    fn next(&mut self, but: &[&[Arc<str>]]) -> Option<Id> {
        // As many names may have nobody but those who are left out.
        for _ in 0..self.lines.len().min(but.len() + 1) {
            let (new, known) = (!self.newcomers.is_empty(), !self.order.is_empty());
            let name = if self.weighted.first(NEWCOMERS_IN_A_ROW, new, known) {
                self.newcomers.pop_front()?
            } else {
                self.order.pop_front()?
            };
            let line = self.lines.get_mut(&name)?;
            let before = line.depth();
            let inner: Vec<&[Arc<str>]> = but
                .iter()
                .filter_map(|path| path.split_first())
                .filter(|(first, _)| **first == name)
                .map(|(_, rest)| rest)
                .collect();
            let id = if inner.contains(&[].as_slice()) { None } else { line.next(&inner) };
            self.depth -= before - line.depth();
            if line.is_over() {
                self.lines.remove(&name);
            } else {
                self.order.push_back(name);
            }
            if id.is_some() {
                return id;
            }
        }
        None
    }

    fn is_over(&self) -> bool {
        self.is_empty()
    }

    fn depth(&self) -> usize {
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
        assert_eq!(line.next(&[]), Some(ids[0]));
        assert_eq!(line.next(&[]), Some(ids[1000]), "the other namespace is next");
        assert_eq!(line.next(&[]), Some(ids[1]));
        line.push(&small, ids[1000], true);
        assert_eq!(line.next(&[]), Some(ids[1000]), "put in front of everything");
        let rest: Vec<Id> = std::iter::from_fn(|| line.next(&[])).collect();
        assert_eq!(rest, ids[2..1000]);
        assert!(line.is_empty() && line.lines.is_empty());
    }

    fn names() -> [Arc<str>; 2] {
        ["app".into(), "namespace".into()]
    }

    #[test]
    fn ends_of_deletions_go_first_and_live_robots_last() {
        let ids = ids(6);
        let [app, namespace] = names();
        let mut lines = WriteQueue::default();
        for (priority, id) in ALL.into_iter().rev().zip(&ids) {
            lines.push(priority, &app, &namespace, *id);
        }
        assert_eq!(lines.pop(true, &[]), Some((Priority::Record, ids[5])));
        assert_eq!(lines.pop(true, &[]), Some((Priority::Final, ids[4])));
        assert_eq!(lines.pop(true, &[]), Some((Priority::Released, ids[3])));
        assert_eq!(lines.pop(false, &[]), Some((Priority::Waiting, ids[2])));
        assert_eq!(lines.pop(false, &[]), Some((Priority::Told, ids[1])));
        assert_eq!(lines.pop(false, &[]), None);
        assert_eq!(lines.pop(true, &[]), Some((Priority::Live, ids[0])));
        assert_eq!(lines.pop(true, &[]), None);
    }

    #[test]
    fn a_less_urgent_lane_has_every_eighth_turn() {
        let ids = ids(2000);
        let [app, namespace] = names();
        let mut lines = WriteQueue::default();
        for (at, id) in ids.iter().enumerate() {
            let priority = [Priority::Final, Priority::Waiting, Priority::Told, Priority::Live][at / 500];
            lines.push(priority, &app, &namespace, *id);
        }
        let order: Vec<Priority> = (0..512).map(|_| lines.pop(true, &[]).unwrap().0).collect();
        for (turn, priority) in (1..).zip(order) {
            let expected = match turn {
                512 => Priority::Live,
                _ if turn % 64 == 0 => Priority::Told,
                _ if turn % 8 == 0 => Priority::Waiting,
                _ => Priority::Final,
            };
            assert_eq!(priority, expected, "turn {turn}");
        }
        let rest = std::iter::from_fn(|| lines.pop(false, &[])).count();
        assert_eq!(512 + rest, 1501, "all but 499 of the last priority, which is closed");
        assert_eq!((lines.pop(false, &[]), lines.waiting()), (None, 499));
        assert_eq!(std::iter::from_fn(|| lines.pop(true, &[])).count(), 499);
    }

    #[test]
    fn writes_go_by_turns_of_namespaces_and_then_of_their_applications() {
        let ids = ids(7);
        let [a, b]: [Arc<str>; 2] = ["a".into(), "b".into()];
        let [one, two]: [Arc<str>; 2] = ["one".into(), "two".into()];
        let mut lines = WriteQueue::default();
        let order = [(&a, &one), (&a, &one), (&a, &one), (&a, &two), (&b, &one), (&b, &one), (&b, &one)];
        for ((namespace, application), id) in order.into_iter().zip(&ids) {
            lines.push(Priority::Final, application, namespace, *id);
        }
        assert_eq!((lines.depths(), lines.waiting()), ([0, 7, 0, 0, 0, 0], 7));
        let out: Vec<Id> = std::iter::from_fn(|| lines.pop(true, &[])).map(|(_, id)| id).collect();
        assert_eq!(out, [0, 4, 3, 5, 1, 6, 2].map(|n| ids[n]));
        assert_eq!(lines.waiting(), 0);
        assert!(lines.priorities.iter().all(|priority| priority.order.is_empty() && priority.is_empty()));
    }

    #[test]
    fn a_namespace_has_one_turn_whatever_names_of_applications_it_uses() {
        let ids = ids(2000);
        let mut lines = WriteQueue::default();
        let [many, one, app]: [Arc<str>; 3] = ["many".into(), "one".into(), "app".into()];
        for (n, id) in ids.iter().enumerate() {
            match n % 2 {
                0 => lines.push(Priority::Released, &format!("app-{n}").into(), &many, *id),
                _ => lines.push(Priority::Released, &app, &one, *id),
            }
        }
        let odd = (0..100).filter(|_| {
            let (_, id) = lines.pop(true, &[]).unwrap();
            ids.iter().position(|one| *one == id).unwrap() % 2 == 1
        });
        assert_eq!(odd.count(), 50);
    }

    #[test]
    fn who_has_one_thing_to_do_does_not_wait_for_many_who_have_thousands() {
        let ids = ids(1001);
        let mut lines = WriteQueue::default();
        let app: Arc<str> = "app".into();
        let push = |lines: &mut WriteQueue, n: usize, namespace: String| {
            lines.push(Priority::Final, &app, &namespace.into(), ids[n]);
        };
        for n in 0..1000 {
            push(&mut lines, n, format!("drained-{}", n % 10));
        }
        for _ in 0..20 {
            assert!(lines.pop(true, &[]).is_some());
        }
        push(&mut lines, 1000, "single".into());
        assert_eq!(lines.pop(true, &[]), Some((Priority::Final, ids[1000])));
        // However many come anew, those that were there have every eighth turn.
        let mut served = 0;
        for n in 0..80 {
            push(&mut lines, 1000, format!("new-{n}"));
            let (_, id) = lines.pop(true, &[]).unwrap();
            served += usize::from(id != ids[1000]);
        }
        assert!(served >= 9, "{served} of 80 turns");
    }

    #[test]
    fn whether_nobody_is_in_line_but_under_these_names() {
        let ids = ids(2);
        let [a, b, c]: [Arc<str>; 3] = ["a".into(), "b".into(), "c".into()];
        let mut line = CallLine::default();
        line.push(&a, ids[0], false);
        assert!(line.only(&[Arc::clone(&a)]) && line.only(&[Arc::clone(&a), Arc::clone(&b)]));
        assert!(
            !line.only(&[]) && !line.only(std::slice::from_ref(&b)) && !line.only(&[b.clone(), c.clone()])
        );
        line.push(&b, ids[1], false);
        assert!(line.only(&[a.clone(), b.clone()]) && !line.only(&[a, c]));
    }

    #[test]
    fn a_place_is_left_out_and_keeps_its_turn() {
        let ids = ids(6);
        let [a, b]: [Arc<str>; 2] = ["a".into(), "b".into()];
        let [one, two]: [Arc<str>; 2] = ["one".into(), "two".into()];
        let mut lines = WriteQueue::default();
        for (id, (namespace, application)) in
            ids.iter().zip([(&a, &one), (&a, &one), (&a, &two), (&b, &one), (&b, &one), (&a, &one)])
        {
            lines.push(Priority::Final, application, namespace, *id);
        }
        let but = [Arc::clone(&a), Arc::clone(&one)];
        let out: Vec<Id> =
            std::iter::from_fn(|| lines.pop(true, &[but.as_slice()])).map(|(_, id)| id).collect();
        assert_eq!(out, [2, 3, 4].map(|n| ids[n]));
        assert_eq!(lines.waiting(), 3);
        let rest: Vec<Id> = std::iter::from_fn(|| lines.pop(true, &[])).map(|(_, id)| id).collect();
        assert_eq!(rest, [0, 1, 5].map(|n| ids[n]));
    }
}
