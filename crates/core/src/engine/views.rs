//! How far the lists have come, and how new what they have shown is.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

/// A list of RoomRobots: of one namespace, or of all.
type Scope = Option<Arc<str>>;

/// How far the lists have come.
#[derive(Debug)]
pub(super) struct Views {
    /// Counts the lists of RoomRobots.
    epoch: u32,
    /// The epoch and the round in which the list of each scope began.
    listing: HashMap<Scope, (u32, u32)>,
    scopes: usize,
    /// The scopes whose list is complete, each with the round in which it began.
    robots: HashMap<Scope, u32>,
    /// The round in which the list of RtcApplications began.
    applications_listing: u32,
    /// The round of the last complete one.
    applications: Option<u32>,
    namespaces: bool,
    /// The scopes whose list is not complete.
    unfinished: HashSet<Scope>,
}

impl Views {
    /// RoomRobots come as so many lists.
    pub(super) fn new(scopes: usize) -> Self {
        Self {
            epoch: 0,
            listing: HashMap::new(),
            scopes,
            robots: HashMap::new(),
            applications_listing: 0,
            applications: None,
            namespaces: false,
            unfinished: HashSet::new(),
        }
    }

    /// Whether every first list is in.
    pub(super) fn are_complete(&self) -> bool {
        self.applications.is_some() && self.namespaces && self.robots.len() >= self.scopes
    }

    /// Whether every list of what this process acts on began in `round`.
    pub(super) fn are_of(&self, round: u32) -> bool {
        self.are_complete()
            && self.applications == Some(round)
            && self.robots.values().all(|listed| *listed == round)
    }

    /// The list that a RoomRobot is shown by which is seen now.
    pub(super) const fn epoch(&self) -> u32 {
        self.epoch
    }

    pub(super) fn robots_begin(&mut self, scope: Scope, round: u32) {
        self.epoch += 1;
        self.unfinished.insert(scope.clone());
        self.listing.insert(scope, (self.epoch, round));
    }

    /// Ends the list of `scope`; returns its epoch: what was not shown since then is gone.
    pub(super) fn robots_end(&mut self, scope: Scope) -> u32 {
        self.unfinished.remove(&scope);
        let (begun, round) = self.listing.get(&scope).copied().unwrap_or_default();
        self.robots.insert(scope, round);
        begun
    }

    /// Whether a list that RoomRobots of this namespace are shown by is not complete.
    pub(super) fn is_listing(&self, namespace: &Arc<str>) -> bool {
        let unfinished = &self.unfinished;
        !unfinished.is_empty()
            && (unfinished.contains(&None) || unfinished.contains(&Some(Arc::clone(namespace))))
    }

    pub(super) fn applications_begin(&mut self, round: u32) {
        self.applications_listing = round;
    }

    pub(super) fn applications_end(&mut self) {
        self.applications = Some(self.applications_listing);
    }

    pub(super) fn namespaces_end(&mut self) {
        self.namespaces = true;
    }
}
