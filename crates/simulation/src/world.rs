//! A world in which a story takes place: replicas with the real engine and election, an API server, a room engine, and a
//! clock that jumps from one thing that is due to the next. Nothing in it is drawn by chance.

use crate::{
    checks::{Arrival, Checks, Identity, Knew, Life, Process},
    cluster::{self, App, Changed, Cluster, Namespace, Object},
    orders::{self, Orders},
    replica::{Open, Phase, Replica, START, Shows, State, Stream},
    story::{self, Action, Meets, Of, Refusal, Secret, Setup, Step, Story, Which},
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use roomrobot_core::{
    api_server,
    application::Credentials,
    call::{Outcome, Reply, Trouble, TroubleKind},
    codes::Operation,
    crd::ROBOT_FINALIZER,
    election,
    engine::{
        Call, Change, Effect, HANDOVER_GAP, Input, ObjectRef, StoredObject, Write, WriteError,
        application_finalizer,
    },
    right::Standing,
    usersig::Sensitive,
};
use serde_json::{Value, json};
use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap, HashMap},
    fmt::Write as _,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

mod calls;
mod people;
mod processes;
mod views;
mod writes;

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

/// How long a call waits for its answer, as the operator's client does.
const CALL_TIMEOUT: Duration = Duration::from_secs(8);

/// How long a list waits for its answer.
const LIST_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a Secret that was never read may be unanswered, or fail, before that is told; as in `watch::secret`.
const UNANSWERED: Duration = Duration::from_secs(6);
const UNREAD: Duration = Duration::from_secs(3);

/// How long nothing may be heard of a watch that failed; as in `watch`.
const UNHEARD: Duration = Duration::from_secs(5);

/// How long a process that ends waits for what is under way.
const DRAIN: Duration = Duration::from_secs(10);

/// The SDKAppID of the first application.
const SDK_APP_ID: u32 = 1_400_000_000;

/// What a run comes to.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// RoomRobots that left.
    pub deletions: u64,
    /// Events of the simulation.
    pub events: u64,
    /// Simulated time.
    pub time: Duration,
    /// Which promise was broken, and how.
    pub broken: Option<String>,
    /// What happened, in words, where it was asked for.
    pub told: Vec<String>,
}

enum Event {
    Step(usize),
    Start(usize),
    Wake(usize, u32),
    Election(usize, u32, Box<election::Input>),
    Told(usize, u32, Box<Input>),
    Stream(usize, u32, usize, u32, Do),
    Request(Box<Request>),
    Reply(usize, u32, u64, Box<Input>),
    GiveUp(usize, u32, u64),
    Lease(usize, u32, election::Ticket, Box<election::Request>),
    Arrive(Box<InFlight>),
    CallGiveUp(Box<InFlight>),
    Heard(Box<InFlight>, Box<Outcome>),
    Resign(usize, u32),
    Controller(&'static str),
    NamespaceBack(&'static str),
    Sample,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Do {
    Begin,
    Snapshot,
    Deliver,
    Tick,
    Fail,
    Resume,
    Unheard,
    Unanswered,
}

struct Request {
    replica: usize,
    process: u32,
    id: u64,
    write: Write,
    knew: Knew,
}

#[derive(Clone)]
struct InFlight {
    replica: usize,
    process: u32,
    id: u64,
    call: Rc<Call>,
    way: Duration,
    sent: Duration,
}

struct WriteFault {
    ns: u8,
    which: Which,
    how: Refusal,
    times: u8,
    until: Duration,
}

struct RoomFault {
    app: String,
    add: Option<bool>,
    how: Meets,
    times: u8,
    until: Duration,
}

struct Due(Duration, u64, Event);

impl Event {
    /// Tells what is on its way from other things.
    fn fingerprint(&self) -> String {
        match self {
            Self::Step(n) => format!("step {n}"),
            Self::Start(n) => format!("start {n}"),
            Self::Wake(n, _) => format!("wake {n}"),
            Self::Election(n, _, input) => format!("election {n} {input:?}"),
            Self::Told(n, _, input) => format!("told {n} {input:?}"),
            Self::Stream(n, _, stream, generation, what) => {
                format!("stream {n} {stream} {generation} {what:?}")
            }
            Self::Request(request) => format!("request {} {:?}", request.replica, request.write),
            Self::Reply(n, _, _, input) => format!("reply {n} {input:?}"),
            Self::GiveUp(n, ..) => format!("give up {n}"),
            Self::Lease(n, _, _, request) => format!("lease {n} {request:?}"),
            Self::Arrive(flight) => format!("arrive {:?}", flight.call.key),
            Self::CallGiveUp(flight) => format!("call given up {:?}", flight.call.key),
            Self::Heard(flight, outcome) => format!("heard {:?} {outcome:?}", flight.call.key),
            Self::Resign(n, _) => format!("resign {n}"),
            Self::Controller(name) => format!("controller {name}"),
            Self::NamespaceBack(name) => format!("namespace {name}"),
            Self::Sample => "sample".to_owned(),
        }
    }
}

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        (self.0, self.1) == (other.0, other.1)
    }
}
impl Eq for Due {}
impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Due {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.0, self.1).cmp(&(other.0, other.1))
    }
}

struct World {
    setup: Setup,
    steps: Vec<Step>,
    now: Duration,
    events: BinaryHeap<Reverse<Due>>,
    sequence: u64,
    handled: u64,
    cluster: Cluster,
    leases: BTreeMap<u8, election::Record>,
    replicas: Vec<Replica>,
    secrets: BTreeMap<String, Secret>,
    checks: Checks,
    /// What is stored now is stored by this process, which knew so much.
    by: Option<Knew>,
    // What goes wrong.
    writes: Vec<WriteFault>,
    overtaken: Vec<(String, Request)>,
    rooms: Vec<RoomFault>,
    stalled: Duration,
    slow_calls: (Duration, Duration),
    slow_writes: (Duration, Duration),
    slow_lists: (Duration, Duration),
    alternate: bool,
    /// When something was last wrong with the API server, by namespace and for all.
    api_trouble: BTreeMap<&'static str, Duration>,
    all_api_trouble: Duration,
    /// When something was last wrong with an application's calls.
    app_trouble: BTreeMap<(String, bool), Duration>,
    last_call: BTreeMap<u32, Duration>,
    most_rate: u32,
    least_rate: u32,
    /// When somebody deleted the Lease.
    lease_deleted: Option<Duration>,
    request_ids: u64,
    crowds: u32,
    sampling: bool,
    slow_classes: bool,
    leaderless: u32,
    app_untold: BTreeMap<String, u32>,
    inputs: u64,
    told: Option<Vec<String>>,
    orders: Orders,
    /// Commands that are refused for the whole application, as a process has heard it: since when, and its last call since.
    refusals: HashMap<(Process, String, bool), (Duration, Duration)>,
    /// When a process last began afresh with all of them.
    afresh: HashMap<Process, Duration>,
    /// The generation of each application that a process was shown.
    generations: HashMap<(Process, String), i64>,
    engines: Option<Duration>,
    /// Looks of processes that are gone.
    looked: u64,
    wrote: u64,
    called: u64,
}

/// Lets a story take place, and looks whether every promise is kept.
#[must_use]
pub fn run(story: &Story, tell: bool) -> Report {
    run_in(story, Orders::default(), tell).0
}

/// The same, where what is due at the same moment comes in one of many orders.
#[must_use]
pub fn run_in(story: &Story, orders: Orders, tell: bool) -> (Report, Orders) {
    let mut world = World::new(story, tell);
    if orders.to > Duration::ZERO {
        (world.cluster.revision, world.request_ids) = (orders::REVISIONS.start, orders::IDS.start);
    }
    world.orders = orders;
    world.whole();
    let report = Report {
        deletions: world.checks.deletions,
        events: world.handled,
        time: world.now,
        // What breaks off in the middle, because the rest is known, comes to no end.
        broken: world.checks.violation.filter(|_| !world.orders.known),
        told: world.told.unwrap_or_default(),
    };
    (report, world.orders)
}

/// The processor's time that the engines take for a story.
#[must_use]
pub fn machine_time(story: &Story) -> Duration {
    let mut world = World::new(story, false);
    world.engines = Some(Duration::ZERO);
    world.whole();
    world.engines.unwrap_or_default()
}

/// The object that changed, and its `resourceVersion` since then.
fn version(changed: &Changed) -> Option<(String, u64)> {
    match changed {
        Changed::Robot { after: Some(object), .. } => Some((object.key(), object.robot.resource_version)),
        Changed::Application { name, after: Some(app) } => Some((name.clone(), app.spec.resource_version)),
        _ => None,
    }
}

impl World {
    fn new(story: &Story, tell: bool) -> Self {
        let setup = story.setup;
        let each = if setup.elects() { setup.replicas.clamp(1, 3) } else { 1 };
        let mut replicas = Vec::new();
        for shard in 0..setup.shards() {
            for _ in 0..each {
                replicas.push(Replica::new(replicas.len(), shard, &setup));
            }
        }
        let mut world = Self {
            setup,
            steps: story.steps.clone(),
            now: Duration::ZERO,
            events: BinaryHeap::new(),
            sequence: 0,
            handled: 0,
            cluster: Cluster { wall: START, ..Cluster::default() },
            leases: BTreeMap::new(),
            replicas,
            secrets: BTreeMap::new(),
            checks: Checks::default(),
            by: None,
            writes: Vec::new(),
            overtaken: Vec::new(),
            rooms: Vec::new(),
            stalled: Duration::ZERO,
            slow_calls: Default::default(),
            slow_writes: Default::default(),
            slow_lists: Default::default(),
            alternate: false,
            api_trouble: BTreeMap::new(),
            all_api_trouble: Duration::ZERO,
            app_trouble: BTreeMap::new(),
            last_call: BTreeMap::new(),
            most_rate: u32::from(setup.rate.max(1)),
            least_rate: u32::from(setup.rate.max(1)),
            lease_deleted: None,
            request_ids: 0,
            crowds: 0,
            sampling: false,
            slow_classes: false,
            leaderless: 0,
            app_untold: BTreeMap::new(),
            inputs: 0,
            told: tell.then(Vec::new),
            orders: Orders::default(),
            refusals: HashMap::new(),
            afresh: HashMap::new(),
            generations: HashMap::new(),
            engines: None,
            looked: 0,
            wrote: 0,
            called: 0,
        };
        world.checks.moves = setup.sharded;
        for name in story::NAMESPACES {
            world.cluster.set_namespace(name, Some(labelled(true)));
        }
        for app in 0..2 {
            world.secrets.insert(secret_of(app), Secret::Right);
            world.create_application(app);
        }
        for replica in 0..world.replicas.len() {
            // One after the other, as a Deployment starts them.
            world.at(MS * 300 * u32::try_from(replica).unwrap_or_default(), Event::Start(replica));
        }
        let mut at = 2 * SECOND;
        for (n, step) in story.steps.iter().enumerate() {
            at += MS * step.after;
            world.at(at, Event::Step(n));
        }
        world
    }

    /// The story, then what follows when everything is well again.
    fn whole(&mut self) {
        let end = 2 * SECOND + MS * self.steps.iter().map(|step| step.after).sum::<u32>();
        self.run(end);
        if self.orders.known {
            return;
        }
        self.heal();
        // A deletion that was refused because of its own spec is tried again after an hour.
        let bound = if self.slow_classes { 80 * MINUTE } else { 16 * MINUTE };
        let waits = |world: &Self| {
            let mut unfinished = world.checks.unfinished.iter().filter_map(|uid| world.checks.lives.get(uid));
            unfinished.find(|life| life.is_deleting()).map(|life| life.key.clone())
        };
        self.run_until(bound, "its deletion", waits);
        self.run_until(bound, "what Ready says", |world| {
            let mut unfinished = world.checks.unfinished.iter().filter_map(|uid| world.checks.lives.get(uid));
            unfinished.find(|life| world.can_be_ready(&life.last)).map(|life| life.key.clone())
        });
        self.quiet();
        for key in self.cluster.robots.keys().cloned().collect::<Vec<_>>() {
            self.cluster.delete(&key);
        }
        self.stored();
        self.run_until(bound, "its deletion", waits);
        for name in story::APPLICATIONS {
            self.cluster.delete_application(name);
        }
        self.stored();
        self.run_until(4 * MINUTE, "its RoomRobots, and there are none", |world| {
            world.cluster.applications.keys().next().map(|name| format!("RtcApplication {name}"))
        });
        self.run(self.now + 10 * SECOND);
        for replica in &self.replicas {
            if replica.alive() && !replica.engine.robots().is_empty() {
                let kept = replica.engine.robots().iter();
                let kept: Vec<String> = kept.map(|(_, entry)| entry.robot.key.to_string()).collect();
                self.checks.broken(format!(
                    "replica {} keeps RoomRobots that are gone: {}",
                    replica.number,
                    kept.join(", ")
                ));
            }
        }
        self.checks.verify_rooms();
        let looks = self.looks();
        let most = 5 * self.inputs + 1_000;
        if looks > most {
            self.checks.broken(format!("RoomRobots were looked at {looks} times for {} inputs", self.inputs));
        }
    }

    fn looks(&self) -> u64 {
        self.looked + self.replicas.iter().map(|replica| replica.engine.reconciles()).sum::<u64>()
    }

    /// Whether nothing stands in the way of a RoomRobot that is not being deleted, in a healthy world.
    fn can_be_ready(&self, object: &Object) -> bool {
        let robot = &object.robot;
        let Some(app) = self.cluster.applications.get(&*robot.application) else { return false };
        let labelled = |name: &str| {
            self.cluster
                .namespaces
                .get(name)
                .is_some_and(|namespace| namespace.labels.contains_key(cluster::TEAM))
        };
        let admitted = !self.setup.selective
            || app.spec.allowed_namespaces == Ok(None)
            || labelled(&robot.key.namespace);
        robot.deleting_since.is_none() && !app.spec.deleting && admitted
    }

    /// What was wrong is not told any more when it is over.
    fn look_for_old_complaints(&mut self) {
        const OVER: [&str; 6] = [
            "WriteRefused",
            "SecretNotFound",
            "SecretInvalid",
            "Suspended",
            "EndpointNotAllowed",
            "DeletionsStalled",
        ];
        let told =
            |app: &Rc<App>| promises::reason(&app.json, "Ready").is_some_and(|reason| OVER.contains(&reason));
        let found = self.cluster.applications.values().find(|app| told(app));
        if let Some(app) = found {
            let ready = promises::condition(&app.json, "Ready").map(Value::to_string).unwrap_or_default();
            self.checks.broken(format!("RtcApplication {} tells of what is over: {ready}", app.spec.name));
        }
    }

    /// In a world in which everything is settled nothing is written and nobody is called, a restart included.
    fn quiet(&mut self) {
        // A process that stood still when it was to end starts again late.
        let mut since = self.now;
        while self.now < since + 100 * SECOND && self.checks.violation.is_none() {
            self.run(self.now + 2 * SECOND);
            if !self.replicas.iter().all(Replica::alive) {
                since = self.now;
            }
        }
        if self.checks.unfinished.is_empty() {
            self.look_for_old_complaints();
        }
        let ready = |app: &Rc<App>| {
            promises::condition(&app.json, "Ready").is_none_or(|ready| ready["status"] != "False")
        };
        let settled = self.checks.unfinished.is_empty() && self.cluster.applications.values().all(ready);
        if self.checks.violation.is_some() || !settled || self.checks.lives.values().all(Life::is_gone) {
            return;
        }
        let (wrote, called) = (self.wrote, self.called);
        self.run(self.now + 2 * MINUTE);
        self.kill(0, 500);
        self.run(self.now + 90 * SECOND);
        if self.wrote > wrote || self.called > called {
            let (writes, calls) = (self.wrote - wrote, self.called - called);
            self.checks.broken(format!("{writes} writes and {calls} calls though nothing was left to do"));
        }
    }

    fn run_until(&mut self, bound: Duration, what: &str, waits: impl Fn(&Self) -> Option<String>) {
        let end = self.now + bound;
        while let Some(who) = waits(self) {
            if self.now >= end {
                let last = self.cluster.robots.get(&who).map(|object| object.json["status"].to_string());
                let about = last.unwrap_or_default();
                self.checks.broken(format!(
                    "{who} still waits for {what} after {bound:?} of a healthy world: {about}"
                ));
            }
            if self.checks.violation.is_some() || self.orders.known {
                return;
            }
            self.run(self.now + 2 * SECOND);
        }
    }

    fn run(&mut self, end: Duration) {
        while self.checks.violation.is_none()
            && !self.orders.known
            && self.events.peek().is_some_and(|Reverse(due)| due.0 <= end)
            && let Some((at, event)) = self.next()
        {
            self.now = self.now.max(at);
            self.cluster.now = self.now;
            self.cluster.wall = START + i64::try_from(self.now.as_secs()).unwrap_or_default();
            self.handled += 1;
            self.take(event);
            self.stored();
        }
        if self.checks.violation.is_none() {
            self.now = self.now.max(end);
            self.cluster.now = self.now;
        }
    }

    /// What happens next: the first thing that is due, or where orders are gone through, one of those.
    fn next(&mut self) -> Option<(Duration, Event)> {
        let Reverse(Due(at, number, event)) = self.events.pop()?;
        if at < self.orders.from || at > self.orders.to {
            return Some((at, event));
        }
        let mut due = vec![Due(at, number, event)];
        while self.events.peek().is_some_and(|Reverse(next)| next.0 == at)
            && let Some(Reverse(next)) = self.events.pop()
        {
            due.push(next);
        }
        // People do one thing after the other.
        let mut steps = 0;
        let (mut open, shut): (Vec<_>, Vec<_>) = due.into_iter().partition(|due| {
            steps += usize::from(matches!(due.2, Event::Step(_)));
            !matches!(due.2, Event::Step(_)) || steps == 1
        });
        let alike = open.iter().position(|due| self.comes_to_the_same(&due.2));
        let chosen = if let Some(alike) = alike {
            alike
        } else if open.len() > 1 {
            let many = open.len();
            let mut orders = std::mem::take(&mut self.orders);
            let chosen = orders.choose(many, || self.state(&open));
            self.orders = orders;
            chosen?
        } else {
            0
        };
        let Due(at, _, event) = open.remove(chosen);
        self.events.extend(open.into_iter().chain(shut).map(Reverse));
        Some((at, event))
    }

    /// Whether nothing depends on what of the things that are due now comes before this one: a look without news, and what
    /// is shown to a replica that does not lead, which lists anew before it acts.
    fn comes_to_the_same(&self, event: &Event) -> bool {
        match event {
            Event::Sample | Event::Wake(..) => true,
            Event::Stream(n, ..) => self.replicas.get(*n).is_some_and(|replica| !replica.engine.elected()),
            _ => false,
        }
    }

    /// Everything that what follows depends on.
    fn state(&self, open: &[Due]) -> u64 {
        let mut hasher = DefaultHasher::new();
        let log = self.cluster.log.iter().map(|(_, changed)| changed);
        let versions = orders::Versions::of(log.clone().filter_map(version));
        let plain = |text: &str| versions.plain(text);
        (self.now, &self.leases.len(), self.checks.members.len()).hash(&mut hasher);
        for object in self.cluster.robots.values() {
            plain(&object.json.to_string()).hash(&mut hasher);
        }
        for app in self.cluster.applications.values() {
            plain(&app.json.to_string()).hash(&mut hasher);
        }
        for replica in &self.replicas {
            orders::canonical(&plain(&format!("{:#?}", replica.engine))).hash(&mut hasher);
            format!("{:?}{:?}{:?}", replica.phase, replica.paused, replica.election).hash(&mut hasher);
            for stream in &replica.streams {
                (stream.generation, stream.ticking, stream.state as u8).hash(&mut hasher);
                let shown = |changed: &&Changed| self.is_shown(replica.number, &stream.shows, changed);
                for changed in log.clone().skip(stream.at).filter(shown) {
                    version(changed).map(|(_, version)| plain(&version.to_string())).hash(&mut hasher);
                }
            }
        }
        let mut waiting: Vec<u64> =
            open.iter().map(|due| orders::hash(&plain(&due.2.fingerprint()))).collect();
        waiting.sort_unstable();
        waiting.hash(&mut hasher);
        (self.events.len(), self.writes.len(), self.rooms.len(), self.overtaken.len()).hash(&mut hasher);
        hasher.finish()
    }

    fn at(&mut self, at: Duration, event: Event) {
        self.sequence += 1;
        self.events.push(Reverse(Due(at, self.sequence, event)));
    }

    fn later(&mut self, wait: Duration, event: Event) {
        self.at(self.now + wait, event);
    }

    fn say(&mut self, what: impl FnOnce(&Self) -> String) {
        if self.told.is_some() {
            let line = format!("{:>10.3} s  {}", self.now.as_secs_f64(), what(self));
            self.told.get_or_insert_default().push(line);
        }
    }

    fn take(&mut self, event: Event) {
        let target = match &event {
            Event::Wake(replica, process)
            | Event::Election(replica, process, _)
            | Event::Told(replica, process, _)
            | Event::Stream(replica, process, ..)
            | Event::Reply(replica, process, ..)
            | Event::GiveUp(replica, process, _)
            | Event::Resign(replica, process) => Some((*replica, *process)),
            Event::CallGiveUp(call) | Event::Heard(call, _) => Some((call.replica, call.process)),
            _ => None,
        };
        if let Some((n, process)) = target {
            let Some(replica) = self.replicas.get(n) else { return };
            if !replica.alive() || replica.process != process {
                return;
            }
            if replica.paused > self.now {
                return self.at(replica.paused, event);
            }
        }
        match event {
            Event::Step(n) => {
                if let Some(step) = self.steps.get(n).copied() {
                    self.say(|_| format!("* {}", step.action));
                    self.act(step.action);
                }
            }
            Event::Start(n) => self.start(n),
            Event::Wake(n, _) => {
                if let Some(replica) = self.replicas.get_mut(n)
                    && replica.wake.is_some_and(|wake| wake <= self.now)
                {
                    replica.wake = None;
                    self.elect(n, election::Input::Tick);
                    self.tell(n, None);
                }
            }
            Event::Election(n, _, input) => self.elect(n, *input),
            Event::Told(n, _, input) => self.tell(n, Some(*input)),
            Event::Stream(n, _, stream, generation, what) => self.stream(n, stream, generation, what),
            Event::Request(request) => self.request(*request),
            Event::Reply(n, _, id, input) => self.reply(n, id, *input),
            Event::GiveUp(n, _, id) => self.give_up(n, id),
            Event::Lease(n, process, ticket, request) => self.lease(n, process, ticket, &request),
            Event::Arrive(call) => self.arrive(&call),
            Event::CallGiveUp(call) => self.hear(&call, Outcome::failed(TroubleKind::Timeout)),
            Event::Heard(call, outcome) => self.hear(&call, *outcome),
            Event::Resign(n, _) => {
                if let Some(replica) = self.replicas.get_mut(n) {
                    replica.until = replica.until.min(self.now);
                }
                self.elect(n, election::Input::Resign);
            }
            Event::Controller(name) => {
                for key in self.cluster.keys_in(name) {
                    self.cluster.delete(&key);
                }
                self.cluster.sweep(name);
            }
            Event::NamespaceBack(name) => {
                if !self.cluster.namespaces.contains_key(name) {
                    self.cluster.set_namespace(name, Some(labelled(true)));
                }
            }
            Event::Sample => {
                self.sampling = false;
                self.sample();
            }
        }
    }

    /// Looks at what was stored since the last time: the promises, and watches.
    fn stored(&mut self) {
        let by = self.by.take();
        while let Some((_, changed)) = self.cluster.log.get(self.cluster.news).cloned() {
            self.cluster.news += 1;
            self.say(|_| in_words(&changed));
            let twin = self.setup.twin;
            self.checks.stored(&changed, by, |object| identity(object, twin), self.now);
            for n in 0..self.replicas.len() {
                self.ring(n);
            }
            if matches!(changed, Changed::Robot { .. }) && !self.sampling {
                self.sampling = true;
                self.later(SECOND, Event::Sample);
            }
        }
    }

    fn carry_out(&mut self, n: usize, effect: Effect) {
        let knew = self.knew(n);
        let Some(replica) = self.replicas.get_mut(n) else { return };
        let process = replica.process;
        match effect {
            Effect::Write(write) => {
                self.wrote += 1;
                self.request_ids += 1;
                let id = self.request_ids;
                replica.open.insert(id, Open::Write(write.object.clone(), write.uid.to_string()));
                self.send(Request { replica: n, process, id, write: *write, knew });
            }
            Effect::Call(call) => self.call(n, call, knew),
            Effect::ListAgain(round) => {
                replica.round = round;
                let streams: Vec<usize> = replica
                    .streams
                    .iter()
                    .enumerate()
                    .filter(|(_, stream)| matches!(stream.shows, Shows::Robots(_) | Shows::Applications))
                    .map(|(at, _)| at)
                    .collect();
                for stream in streams {
                    let shown = self.shown_by(n, stream);
                    let generation = self.with_stream(n, stream, |stream| {
                        stream.generation += 1;
                        (stream.state, stream.shown) = (State::Listing, shown);
                        stream.generation
                    });
                    let begin = Event::Stream(n, process, stream, generation.unwrap_or_default(), Do::Begin);
                    self.later(Duration::ZERO, begin);
                }
            }
            Effect::Publish(_) => {}
            Effect::WatchSecret(name) => {
                replica.streams.push(Stream::new(Shows::Secret(name), self.now));
                let (stream, generation) = (replica.streams.len() - 1, 0);
                self.later(Duration::ZERO, Event::Stream(n, process, stream, generation, Do::Begin));
            }
            Effect::ForgetSecret(name) => {
                for stream in &mut replica.streams {
                    if stream.shows == Shows::Secret(Arc::clone(&name)) {
                        stream.state = State::Over;
                    }
                }
            }
        }
    }
}

/// A change of what is stored, in words.
fn in_words(changed: &Changed) -> String {
    match changed {
        Changed::Robot { before, after: Some(after) } => {
            let mut text = format!("  {} is stored", after.key());
            let all = after.json["status"]["conditions"].as_array().into_iter().flatten();
            for one in all {
                let word = |field: &str| one[field].as_str().unwrap_or_default().to_owned();
                let _ = write!(text, ", {}={}/{}", word("type"), word("status"), word("reason"));
            }
            let held = |object: &Object| object.json["metadata"]["finalizers"].clone();
            if before.as_ref().is_none_or(|before| held(before) != held(after)) {
                let _ = write!(text, ", finalizers {}", held(after));
            }
            if after.robot.deleting_since.is_some() {
                text.push_str(", being deleted");
            }
            text
        }
        Changed::Robot { before, after: None } => {
            format!("  {} is gone", before.as_ref().map(|object| object.key()).unwrap_or_default())
        }
        Changed::Application { name, after: None } => format!("  application {name} is gone"),
        Changed::Application { name, after: Some(app) } => {
            let ready = promises::reason(&app.json, "Ready").unwrap_or("-");
            format!("  application {name} is stored, {ready}, finalizers {:?}", app.spec.finalizer_names)
        }
        Changed::Namespace { name, after: Some(namespace) } => {
            format!(
                "  namespace {name} is stored{}",
                if namespace.terminating { ", being deleted" } else { "" }
            )
        }
        Changed::Namespace { name, after: None } => format!("  namespace {name} is gone"),
        Changed::Secret { name } => format!("  Secret {name} is stored"),
    }
}

fn labelled(labelled: bool) -> Namespace {
    let labels = [("name".to_owned(), "any".to_owned())].into_iter();
    let team = labelled.then(|| (cluster::TEAM.to_owned(), "yes".to_owned()));
    Namespace { labels: labels.chain(team).collect(), terminating: false }
}

fn secret_of(app: u8) -> String {
    format!("{}-secret", story::application(app))
}

fn sdk_app_id(app: &str, twin: bool) -> u32 {
    if app == story::APPLICATIONS[0] || twin { SDK_APP_ID } else { SDK_APP_ID + 1 }
}

/// Which robot of the room engine an object stands for.
fn identity(object: &Object, twin: bool) -> Identity {
    let robot = &object.robot;
    (sdk_app_id(&robot.application, twin), robot.room_id.to_string(), robot.member_account.to_string())
}

/// The end of a write that failed.
fn failed(write: &Write, error: WriteError) -> Input {
    Input::Written(write.object.clone(), Err(error))
}

/// A Lease after a merge patch of its spec.
fn patched_lease(stored: &election::Record, spec: &Value) -> election::Record {
    let mut next = stored.clone();
    if let Some(holder) = spec.get("holderIdentity") {
        next.holder = holder.as_str().map(str::to_owned);
    }
    if let Some(lasts) = spec.get("leaseDurationSeconds") {
        next.lasts = lasts.as_u64().map_or(election::DURATION, Duration::from_secs);
    }
    if let Some(renewed) = spec.get("renewTime") {
        next.renewed = serde_json::from_value::<MicroTime>(renewed.clone()).ok().map(|time| time.0);
    }
    if let Some(transitions) = spec.get("leaseTransitions").and_then(Value::as_i64) {
        next.transitions = i32::try_from(transitions).unwrap_or_default();
    }
    next
}
