//! Every `RoomRobot` that is known, found by key and by the robot it stands for.
//!
//! Pure. The two tables hold ids only, so that a robot's texts are stored once.

use crate::{
    codes::Operation,
    plan::Memory,
    robot::{Key, Robot},
};
use hashbrown::{DefaultHashBuilder, HashTable};
use slotmap::{SlotMap, new_key_type};
use std::{hash::BuildHasher as _, time::Duration};

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
    /// When the timer that is set for it goes off.
    pub timer: Option<Duration>,
    /// No write before this time: the last one failed.
    pub blocked_until: Duration,
    /// Writes that failed in a row.
    pub failed_writes: u32,
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
    WriteQueued(Lane),
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
pub enum Lane {
    /// What ends a deletion.
    Final,
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
    by_claim: HashTable<Id>,
    hasher: DefaultHashBuilder,
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

    /// The robot of `key`.
    #[must_use]
    pub fn find(&self, key: &Key) -> Option<Id> {
        let hash = self.hasher.hash_one(key);
        self.by_key
            .find(hash, |id| self.entries.get(*id).is_some_and(|entry| entry.robot.key == *key))
            .copied()
    }

    /// All that stand for the same room and member account as `robot`, itself included.
    pub fn claimants(&self, robot: &Robot) -> impl Iterator<Item = (Id, &Entry)> {
        self.by_claim
            .iter_hash(claim(&self.hasher, robot))
            .filter_map(|id| self.entries.get(*id).map(|entry| (*id, entry)))
            .filter(move |(_, entry)| entry.robot.same_robot(robot))
    }

    /// Adds a robot whose key is not there yet.
    pub fn insert(&mut self, robot: Robot, epoch: u32) -> Id {
        let (key, claimed) = (self.hasher.hash_one(&robot.key), claim(&self.hasher, &robot));
        let id = self.entries.insert(Entry {
            robot,
            memory: Memory::default(),
            state: State::Idle,
            epoch,
            timer: None,
            blocked_until: Duration::ZERO,
            failed_writes: 0,
        });
        let Self { entries, by_key, by_claim, hasher } = self;
        by_key.insert_unique(key, id, |id| {
            entries.get(*id).map_or(0, |entry| hasher.hash_one(&entry.robot.key))
        });
        by_claim
            .insert_unique(claimed, id, |id| entries.get(*id).map_or(0, |entry| claim(hasher, &entry.robot)));
        id
    }

    /// Forgets a robot.
    pub fn remove(&mut self, id: Id) -> Option<Entry> {
        let entry = self.entries.get(id)?;
        let (key, claimed) = (self.hasher.hash_one(&entry.robot.key), claim(&self.hasher, &entry.robot));
        for (table, hash) in [(&mut self.by_key, key), (&mut self.by_claim, claimed)] {
            if let Ok(place) = table.find_entry(hash, |other| *other == id) {
                place.remove();
            }
        }
        self.entries.remove(id)
    }
}

fn claim(hasher: &DefaultHashBuilder, robot: &Robot) -> u64 {
    hasher.hash_one((&robot.room_id, &robot.member_account))
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
            assert_eq!(index.claimants(&robot("x", "y", &format!("room{}", n / 2))).count(), 2);
        }
        for id in &ids[..999] {
            assert!(index.remove(*id).is_some());
            assert!(index.remove(*id).is_none());
        }
        assert_eq!(index.len(), 1);
        assert_eq!(index.find(&robot("ns", "r0", "").key), None);
        assert_eq!(index.claimants(&robot("x", "y", "room499")).count(), 1);
        let again = index.insert(robot("ns", "r0", "room0"), 2);
        assert!(!ids.contains(&again), "an id is never used twice");
    }
}
