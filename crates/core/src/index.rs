//! Every `RoomRobot` that is known, found by key and by the robot it stands for.
//!
//! Pure. The two tables hold ids only, so that a robot's texts are stored once. However many stand for one robot, each
//! operation takes the same time.

mod names;

pub use names::LEAST_NAMES;

use crate::{
    codes::{Operation, PerOperation},
    plan::Memory,
    robot::{Key, Robot},
    write_trouble::WriteTrouble,
};
use hashbrown::{DefaultHashBuilder, HashTable};
use names::Names;
use slotmap::{SlotMap, new_key_type};
use std::{collections::BTreeSet, hash::BuildHasher as _, sync::Arc, time::Duration};

new_key_type! {
    /// A robot's place in memory; a place that is used again has another id.
    pub struct Id;
}

/// One robot: the object, and what this process does about it.
#[derive(Debug)]
pub struct Entry {
    /// What is stored in Kubernetes.
    pub robot: Robot,
    /// What this process remembers.
    pub memory: Memory,
    /// What this process is doing.
    pub state: State,
    /// The list that last showed the object.
    pub epoch: u32,
    /// Only a list that is not complete yet has shown that it is being deleted: who else stands for the robot, and with what
    /// policy, may be about to be shown. A watch tells of all that is stored in its order; and a reply shows nothing that
    /// was not known when the write was sent.
    pub half_listed: bool,
    /// When the timer that is set for it goes off.
    pub timer: Option<Duration>,
    /// What stands in the way of its writes.
    pub write_trouble: WriteTrouble,
    /// What it is counted as among the robots of its application.
    pub counted: Counted,
    /// It would take over the removal of its robot: see [`crate::plan::may_inherit`].
    pub heir: bool,
    /// It has a place in the line for each command, whether or not it needs the call by now.
    pub in_lines: PerOperation<bool>,
    /// The version of the object for which a write went out that takes it in charge; 0 for none. While this version is the
    /// known one, that write may be stored at any time.
    pub accepting: u64,
}

/// What a robot is counted as.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// It is being deleted and held by our finalizer.
    pub deleting: bool,
    /// Its application has to stay for it.
    pub holding: bool,
    /// Its last answer is not recorded.
    pub unrecorded: bool,
    /// The command of that answer, where no write of it has failed yet.
    pub fresh: Option<Operation>,
}

impl Entry {
    /// Whether it waits for nothing but its turn to call.
    #[must_use]
    pub const fn in_line(&self) -> bool {
        matches!(self.state, State::CallQueued(_))
    }
}

/// What is under way for a robot: one thing at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Nothing.
    Idle,
    /// In line for a write.
    WriteQueued(Priority),
    /// In line for this call.
    CallQueued(Operation),
    /// A write is under way.
    Writing,
    /// A call is under way.
    Calling,
    /// The API server knows no such object; the watch has not said so yet.
    Vanished,
}

/// Writes by how urgent they are, the most urgent first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Priority {
    /// The record of an answer to a deletion. Without it a process that takes over asks again, and the next calls wait for it:
    /// so robots leave their rooms at the pace of the calls.
    Record,
    /// What ends a deletion that was answered.
    Final,
    /// What ends one without a call.
    Released,
    /// What tells that a deletion waits.
    Waiting,
    /// What an addition was answered.
    Told,
    /// Everything about robots that are not being deleted.
    Live,
}

/// The robots.
#[derive(Debug, Default)]
pub struct Index {
    entries: SlotMap<Id, Entry>,
    by_key: HashTable<Id>,
    by_claim: HashTable<Claim>,
    hasher: DefaultHashBuilder,
    timers: BTreeSet<(Duration, Id)>,
    names: Names,
}

/// Who stands for one robot of one application: nearly always one.
#[derive(Debug)]
enum Claim {
    One(Id),
    Several(Box<Claimants>),
}

/// Several that stand for the same robot.
#[derive(Debug, Default)]
struct Claimants {
    all: BTreeSet<Id>,
    /// Of those, the ones that would take over its removal.
    heirs: BTreeSet<Id>,
}

impl Claim {
    /// One of them.
    fn any(&self) -> Option<Id> {
        match self {
            Self::One(id) => Some(*id),
            Self::Several(claimants) => claimants.all.first().copied(),
        }
    }
}

impl Index {
    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The robot of `id`, if it is still there.
    #[must_use]
    pub fn get(&self, id: Id) -> Option<&Entry> {
        self.entries.get(id)
    }

    /// The robot of `id`, if it is still there.
    pub fn get_mut(&mut self, id: Id) -> Option<&mut Entry> {
        self.entries.get_mut(id)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (Id, &Entry)> {
        self.entries.iter()
    }

    /// All of them.
    pub fn all_mut(&mut self) -> impl Iterator<Item = &mut Entry> {
        self.entries.values_mut()
    }

    /// The robot of `key`.
    #[must_use]
    pub fn find(&self, key: &Key) -> Option<Id> {
        let hash = self.hasher.hash_one(key);
        self.by_key
            .find(hash, |id| self.entries.get(*id).is_some_and(|entry| entry.robot.key == *key))
            .copied()
    }

    /// The one copy of `text`: a name of a namespace or of an application, which many robots share.
    pub fn intern(&mut self, text: &Arc<str>) -> Arc<str> {
        self.names.intern(text)
    }

    /// Lets go of names that nobody holds any more, now and then.
    pub fn forget_names(&mut self) {
        self.names.forget();
    }

    /// How many names are kept.
    #[must_use]
    pub fn names(&self) -> usize {
        self.names.len()
    }

    /// Sets the timer of `id`, in place of the one before.
    pub fn set_timer(&mut self, id: Id, at: Duration) {
        let Some(entry) = self.entries.get_mut(id) else { return };
        if let Some(before) = entry.timer.replace(at) {
            self.timers.remove(&(before, id));
        }
        self.timers.insert((at, id));
    }

    /// When the first timer goes off.
    #[must_use]
    pub fn next_timer(&self) -> Option<Duration> {
        self.timers.first().map(|(at, _)| *at)
    }

    /// Takes a robot whose timer has gone off by `now`.
    pub fn take_due(&mut self, now: Duration) -> Option<Id> {
        let (at, id) = self.timers.first().copied().filter(|(at, _)| *at <= now)?;
        self.timers.remove(&(at, id));
        if let Some(entry) = self.entries.get_mut(id) {
            entry.timer = None;
        }
        Some(id)
    }

    /// How many timers are set.
    #[must_use]
    pub fn timers(&self) -> usize {
        self.timers.len()
    }

    /// All that stand under this name of application for the same room and member account as `robot`.
    pub fn claimants(&self, application: &str, robot: &Robot) -> impl Iterator<Item = Id> {
        let (one, several) = match self.claim(application, robot) {
            None => (None, None),
            Some(Claim::One(id)) => (Some(*id), None),
            Some(Claim::Several(claimants)) => (None, Some(&claimants.all)),
        };
        one.into_iter().chain(several.into_iter().flatten().copied())
    }

    /// A few of those, of the last that came: enough for who came a moment ago, however many there are.
    pub fn latest_claimants(&self, application: &str, robot: &Robot) -> impl Iterator<Item = Id> {
        const FEW: usize = 16;
        let (one, several) = match self.claim(application, robot) {
            None => (None, None),
            Some(Claim::One(id)) => (Some(*id), None),
            Some(Claim::Several(claimants)) => (None, Some(claimants.all.iter().rev().take(FEW))),
        };
        one.into_iter().chain(several.into_iter().flatten().copied())
    }

    /// One of those, other than `id`, that would take over the removal.
    #[must_use]
    pub fn heir(&self, application: &str, robot: &Robot, id: Id) -> Option<&Entry> {
        let heir = match self.claim(application, robot)? {
            Claim::One(one) => Some(*one).filter(|one| *one != id),
            Claim::Several(claimants) => claimants.heirs.iter().copied().find(|one| *one != id),
        };
        self.entries.get(heir?).filter(|entry| entry.heir)
    }

    /// Whether `id` would take over the removal of its robot from now on. True where it is the first that would.
    pub fn set_heir(&mut self, id: Id, heir: bool) -> bool {
        let Some(entry) = self.entries.get_mut(id) else { return false };
        if std::mem::replace(&mut entry.heir, heir) == heir {
            return false;
        }
        let hash = claim(&self.hasher, &entry.robot.application, &entry.robot);
        let Self { entries, by_claim, .. } = self;
        let found = by_claim.find_mut(hash, |claim| same(entries, claim, id));
        match found {
            Some(Claim::Several(claimants)) if heir => {
                claimants.heirs.insert(id) && claimants.heirs.len() == 1
            }
            Some(Claim::Several(claimants)) => {
                claimants.heirs.remove(&id);
                false
            }
            Some(Claim::One(_)) | None => heir,
        }
    }

    fn claim(&self, application: &str, robot: &Robot) -> Option<&Claim> {
        self.by_claim.find(claim(&self.hasher, application, robot), |claim| {
            claim.any().and_then(|id| self.entries.get(id)).is_some_and(|entry| {
                &*entry.robot.application == application && entry.robot.same_robot(robot)
            })
        })
    }

    /// Adds a robot whose key is not there yet.
    pub fn insert(&mut self, robot: Robot, epoch: u32) -> Id {
        let key = self.hasher.hash_one(&robot.key);
        let claimed = claim(&self.hasher, &robot.application, &robot);
        let id = self.entries.insert(Entry {
            robot,
            memory: Memory::default(),
            state: State::Idle,
            epoch,
            half_listed: false,
            timer: None,
            write_trouble: WriteTrouble::default(),
            counted: Counted::default(),
            heir: false,
            in_lines: PerOperation::default(),
            accepting: 0,
        });
        let Self { entries, by_key, by_claim, hasher, .. } = self;
        by_key.insert_unique(key, id, |id| {
            entries.get(*id).map_or(0, |entry| hasher.hash_one(&entry.robot.key))
        });
        match by_claim.find_mut(claimed, |claim| same(entries, claim, id)) {
            Some(Claim::Several(claimants)) => drop(claimants.all.insert(id)),
            Some(claim) => {
                if let Claim::One(first) = *claim {
                    let heirs = entries.get(first).filter(|entry| entry.heir).map(|_| first);
                    let claimants = Claimants { all: [first, id].into(), heirs: heirs.into_iter().collect() };
                    *claim = Claim::Several(Box::new(claimants));
                }
            }
            None => {
                by_claim.insert_unique(claimed, Claim::One(id), |one| {
                    let entry = one.any().and_then(|id| entries.get(id));
                    entry.map_or(0, |entry| claim(hasher, &entry.robot.application, &entry.robot))
                });
            }
        }
        id
    }

    /// Forgets a robot.
    pub fn remove(&mut self, id: Id) -> Option<Entry> {
        let entry = self.entries.get(id)?;
        let key = self.hasher.hash_one(&entry.robot.key);
        let claimed = claim(&self.hasher, &entry.robot.application, &entry.robot);
        if let Ok(place) = self.by_key.find_entry(key, |other| *other == id) {
            place.remove();
        }
        let Self { entries, by_claim, .. } = self;
        if let Ok(mut place) = by_claim.find_entry(claimed, |claim| same(entries, claim, id)) {
            let left = match place.get_mut() {
                Claim::One(_) => false,
                Claim::Several(claimants) => {
                    claimants.all.remove(&id);
                    claimants.heirs.remove(&id);
                    !claimants.all.is_empty()
                }
            };
            if !left {
                place.remove();
            }
        }
        let entry = self.entries.remove(id)?;
        if let Some(at) = entry.timer {
            self.timers.remove(&(at, id));
        }
        Some(entry)
    }
}

/// Whether `id` stands for the robot of `claim`.
fn same(entries: &SlotMap<Id, Entry>, claim: &Claim, id: Id) -> bool {
    let found = claim.any().and_then(|one| entries.get(one)).zip(entries.get(id));
    found.is_some_and(|(one, other)| {
        one.robot.application == other.robot.application && one.robot.same_robot(&other.robot)
    })
}

fn claim(hasher: &DefaultHashBuilder, application: &str, robot: &Robot) -> u64 {
    hasher.hash_one((application, &robot.room_id, &robot.member_account))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::robot::Stored;

    fn robot(namespace: &str, name: &str, room: &str) -> Robot {
        let json = serde_json::json!({
            "metadata": {"namespace": namespace, "name": name, "uid": format!("{namespace}-{name}")},
            "spec": {"roomId": room, "memberAccount": "m"},
        });
        serde_json::from_value::<Stored>(json).unwrap().into()
    }

    #[test]
    fn robots_are_found_by_key_and_by_what_they_stand_for() {
        let mut index = Index::default();
        let ids: Vec<Id> = (0..1000)
            .map(|n| index.insert(robot("ns", &format!("r{n}"), &format!("room{}", n / 2)), 1))
            .collect();
        for (n, id) in ids.iter().enumerate() {
            assert_eq!(index.find(&robot("ns", &format!("r{n}"), "").key), Some(*id));
            assert_eq!(index.claimants("default", &robot("x", "y", &format!("room{}", n / 2))).count(), 2);
        }
        for id in &ids[..999] {
            assert!(index.remove(*id).is_some());
            assert!(index.remove(*id).is_none());
        }
        assert_eq!(index.len(), 1);
        assert_eq!(index.find(&robot("ns", "r0", "").key), None);
        assert_eq!(index.claimants("default", &robot("x", "y", "room499")).count(), 1);
        assert_eq!(index.claimants("other", &robot("x", "y", "room499")).count(), 0);
        let again = index.insert(robot("ns", "r0", "room0"), 2);
        assert!(!ids.contains(&again), "an id is never used twice");
    }

    #[test]
    fn the_heirs_of_a_robot_are_those_that_were_named() {
        let mut index = Index::default();
        let stored = robot("ns", "any", "room");
        let ids: Vec<Id> =
            (0..20_000).map(|n| index.insert(robot("ns", &format!("r{n}"), "room"), 1)).collect();
        assert!(index.heir("default", &stored, ids[0]).is_none());
        assert!(index.set_heir(ids[7], true), "the first");
        assert!(!index.set_heir(ids[7], true), "no news");
        assert!(!index.set_heir(ids[8], true), "the second");
        let heir =
            |index: &Index, id: Id| index.heir("default", &stored, id).map(|entry| entry.robot.key.clone());
        assert_eq!(heir(&index, ids[0]).unwrap().to_string(), "ns/r7");
        assert_eq!(heir(&index, ids[7]).unwrap().to_string(), "ns/r8", "not itself");
        assert!(index.remove(ids[8]).is_some());
        assert!(!index.set_heir(ids[7], false));
        assert_eq!(heir(&index, ids[0]), None);
        for id in &ids[..19_999] {
            index.remove(*id);
        }
        let last = ids[19_999];
        assert!(index.set_heir(last, true));
        assert_eq!(heir(&index, last), None);
        let next = index.insert(robot("ns", "next", "room"), 1);
        assert_eq!(heir(&index, next).unwrap().to_string(), "ns/r19999");
        index.remove(last);
        index.remove(next);
        assert!(index.by_claim.is_empty());
    }
}
