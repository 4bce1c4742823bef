//! One replica: the real engine and the real election of one process after another, its clocks, and what it watches.

use crate::{checks::Knew, story::Setup};
use k8s_openapi::jiff::Timestamp;
use roomrobot_core::{
    election::Election,
    endpoint::Allowed,
    engine::{Engine, Now, ObjectRef, Settings},
    right::{Moment, Right},
};
use std::{collections::HashMap, sync::Arc, time::Duration};

/// Unix seconds at which every story begins.
pub const START: i64 = 1_700_000_000;

/// What a stream shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shows {
    Robots(Option<Arc<str>>),
    Applications,
    Namespaces,
    Secret(Arc<str>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Listing,
    Watching,
    Cut,
    /// Nobody looks at it any more.
    Over,
}

/// A list and the watch that follows it, as the client library does it.
#[derive(Debug)]
pub struct Stream {
    pub shows: Shows,
    pub state: State,
    /// What was begun before counts no more.
    pub generation: u32,
    /// The place in the log of what is shown next.
    pub at: usize,
    pub ticking: bool,
    /// What it had shown when its list began: everything that was stored until then.
    pub shown: Duration,
    /// It tells nothing until then.
    pub mute: Duration,
    pub failures: u32,
    /// Since when nothing was heard after a failure.
    pub silent: Option<Duration>,
    /// When the list was first asked for, of a Secret that was never read.
    pub begun: Duration,
    pub read: bool,
}

impl Stream {
    pub fn new(shows: Shows, now: Duration) -> Self {
        Self {
            shows,
            state: State::Listing,
            generation: 0,
            at: 0,
            ticking: false,
            shown: Duration::ZERO,
            mute: Duration::ZERO,
            failures: 0,
            silent: None,
            begun: now,
            read: false,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Dead,
    Running,
    /// It was asked to end at this time.
    Ending(Duration),
    /// Its work is over; it gives the Lease back.
    Resigning,
}

pub struct Replica {
    pub number: usize,
    pub shard: u8,
    pub process: u32,
    pub phase: Phase,
    pub engine: Engine,
    pub election: Option<Election>,
    pub right: Right,
    /// When the process started, and how long its machine has slept since.
    pub started: Duration,
    pub slept: Duration,
    /// The wall clock against the true one, in seconds.
    pub skew: i64,
    /// It stands still until then.
    pub paused: Duration,
    /// And its machine sleeps.
    pub asleep: bool,
    pub streams: Vec<Stream>,
    pub round: u32,
    /// When this process was elected.
    pub elected: Duration,
    /// Until when it leads by its own account, in true time.
    pub until: Duration,
    pub wake: Option<Duration>,
    /// How often nothing came of looking at it, since its clock last moved.
    pub idle: u32,
    pub looked: Duration,
    pub answered: Option<Duration>,
    /// Requests without a reply, by number: whether they are about a RoomRobot, and its UID.
    pub open: HashMap<u64, Open>,
    /// Until when it has no way to the API server, and whether requests hang.
    pub cut: (Duration, bool),
    /// Milliseconds until the next process starts, once this one has ended.
    pub down: u16,
}

/// A request that waits for its reply.
#[derive(Clone, Debug)]
pub enum Open {
    /// A write to this object, and the UID that it is for.
    Write(ObjectRef, String),
    Call,
}

impl Replica {
    pub fn new(number: usize, shard: u8, setup: &Setup) -> Self {
        Self {
            number,
            shard,
            process: 0,
            phase: Phase::Dead,
            engine: engine(setup, shard, 0),
            election: None,
            right: Right::default(),
            started: Duration::ZERO,
            slept: Duration::ZERO,
            skew: i64::from(setup.skew) * i64::try_from(number).unwrap_or_default(),
            paused: Duration::ZERO,
            asleep: false,
            streams: Vec::new(),
            round: 0,
            elected: Duration::ZERO,
            until: Duration::ZERO,
            wake: None,
            idle: 0,
            looked: Duration::ZERO,
            answered: None,
            open: HashMap::new(),
            cut: (Duration::ZERO, false),
            down: 0,
        }
    }

    /// A new process begins.
    pub fn start(&mut self, setup: &Setup, now: Duration) {
        self.process += 1;
        let seed = u64::from(self.process) * 100 + self.number as u64;
        self.phase = Phase::Running;
        self.engine = engine(setup, self.shard, seed);
        self.election = setup.elects().then(|| Election::new(&format!("pod-{}", self.number), seed));
        self.right = Right::default();
        (self.started, self.slept) = (now, Duration::ZERO);
        (self.paused, self.asleep) = (Duration::ZERO, false);
        (self.elected, self.until, self.wake, self.round) = (now, Duration::ZERO, None, 0);
        (self.answered, self.idle) = (None, 0);
        self.open.clear();
        self.streams = scopes(setup)
            .into_iter()
            .map(Shows::Robots)
            .chain([Shows::Applications, Shows::Namespaces])
            .map(|shows| Stream::new(shows, now))
            .collect();
    }

    pub fn alive(&self) -> bool {
        self.phase != Phase::Dead
    }

    /// Its clock that stands still while the machine sleeps.
    pub fn since_start(&self, now: Duration) -> Duration {
        now.saturating_sub(self.started + self.slept)
    }

    pub fn wall(&self, now: Duration) -> Timestamp {
        let seconds = START + i64::try_from(now.as_secs()).unwrap_or_default() + self.skew;
        let nanos = i32::try_from(now.subsec_nanos()).unwrap_or_default();
        Timestamp::new(seconds, nanos).unwrap_or_default()
    }

    pub fn moment(&self, now: Duration) -> Now {
        let wall = Timestamp::from_second(self.wall(now).as_second()).unwrap_or_default();
        Now { since_start: self.since_start(now), wall }
    }

    /// Its clock that goes on: ahead of the true one, and a little faster or slower.
    pub fn boot(&self, now: Duration) -> Duration {
        let number = u32::try_from(self.number).unwrap_or_default();
        Duration::from_secs(1000 * u64::from(number + 1)) + now.mul_f64(self.rate())
    }

    fn rate(&self) -> f64 {
        [1.0, 1.005, 0.995].get(self.number % 3).copied().unwrap_or(1.0)
    }

    /// The true time of a moment of that clock.
    pub fn true_time(&self, boot: Duration) -> Duration {
        let number = u32::try_from(self.number).unwrap_or_default();
        boot.saturating_sub(Duration::from_secs(1000 * u64::from(number + 1))).div_f64(self.rate())
    }

    pub fn boot_moment(&self, now: Duration) -> Moment {
        Moment::new(self.boot(now))
    }

    pub fn process(&self) -> (usize, u32) {
        (self.number, self.process)
    }

    /// What it has to know: what its watches have shown, and what was stored when it was elected.
    pub fn knew(&self, shown: Duration) -> Knew {
        Knew { process: self.process(), until: shown.max(self.elected) }
    }

    /// Whether it acts, and has done so since `since`.
    pub fn acts_since(&self, since: Duration) -> bool {
        self.phase == Phase::Running && self.engine.elected() && self.elected <= since
    }
}

/// The lists of RoomRobots that an operator follows.
pub fn scopes(setup: &Setup) -> Vec<Option<Arc<str>>> {
    if setup.by_namespace {
        crate::story::NAMESPACES.iter().map(|name| Some(Arc::from(*name))).collect()
    } else {
        vec![None]
    }
}

fn engine(setup: &Setup, shard: u8, seed: u64) -> Engine {
    let settings = Settings {
        allowed: Allowed::default(),
        namespace: "operator".into(),
        concurrency: usize::from(setup.concurrency.max(1)),
        shard: (setup.sharded || setup.by_namespace).then(|| format!("shard-{shard}")),
    };
    Engine::new(settings, scopes(setup).len(), seed)
}
