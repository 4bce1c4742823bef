//! Under which name a replica stands, and what it draws at random.

use std::time::Duration;

/// Under which name this replica stands.
#[derive(Debug)]
pub(super) struct Candidate {
    pod: String,
    random: fastrand::Rng,
    pub(super) identity: String,
}

impl Candidate {
    pub(super) fn new(pod: &str, seed: u64) -> Self {
        let random = fastrand::Rng::with_seed(seed);
        let mut this = Self { pod: pod.to_owned(), random, identity: String::new() };
        this.rename();
        this
    }

    /// Takes another name, as each time that it stands anew: a Lease that it has lost is not its own any more.
    pub(super) fn rename(&mut self) {
        self.identity = format!("{}-{:08x}", self.pod, self.random.u32(..));
    }

    /// A part of `most`, drawn at random.
    pub(super) fn part(&mut self, most: Duration) -> Duration {
        most.mul_f64(self.random.f64())
    }
}
