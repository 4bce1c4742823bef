//! The engine, driven by hand: a world of stored objects and a scripted room engine, and a clock that jumps from one
//! thing that is due to the next.

#![allow(clippy::needless_pass_by_value, reason = "what a test hands over is made on the spot")]
#![allow(clippy::similar_names, reason = "a robot and its room, a call and its calls")]

mod additions;
mod applications;
mod breaker;
mod claims;
mod end;
mod events;
mod gauges;
mod lease;
mod lists;
mod neighbours;
mod one_call;
mod pace;
mod refusals;
mod refused_writes;
mod restarts;
mod start;
mod views;

use super::*;
use crate::{
    application::{Credentials, Labels, StoredApplication},
    call::{Outcome, Reply, TroubleKind},
    crd::{ROBOT_FINALIZER, RoomRobot, RtcApplication},
    robot::{Robot, Stored},
    status::Reason,
    usersig::Sensitive,
};
use k8s_openapi::jiff::Timestamp;
use serde::Deserialize as _;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet, HashSet};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const START: i64 = 1_700_000_000;

/// How the scripted room engine meets a call.
enum Says {
    Code(i64),
    Fails(TroubleKind),
    /// No answer for as long as the test lasts.
    Hangs,
    /// It does not get the call, as that was not sent.
    Unsent,
}

/// What the scripted API server does with a write that it should take.
enum Fault {
    Refused(WriteError),
    /// It is stored, but nobody hears of it.
    ReplyLost,
    /// Nothing is heard of it until the client gives up.
    Hangs,
}

/// Something that is still on its way.
enum Coming {
    Input(Input),
    Write(Box<Write>),
}

#[derive(Debug)]
struct Called {
    at: Duration,
    robot: String,
    application: String,
    operation: Operation,
}

#[derive(Debug)]
struct Wrote {
    /// When it was sent.
    at: Duration,
    name: String,
    change: Change,
}

type RoomEngine = Box<dyn FnMut(&Call, Duration) -> Says>;
type Faults = Box<dyn FnMut(&str, &Change, Duration) -> Option<Fault>>;

struct World {
    engine: Engine,
    scopes: Vec<Option<&'static str>>,
    concurrency: usize,
    now: Duration,
    // What is stored.
    version: u64,
    robots: BTreeMap<String, Value>,
    /// The last stored view of each robot that is gone.
    gone: BTreeMap<String, Value>,
    applications: BTreeMap<String, Value>,
    namespaces: BTreeMap<String, (Labels, bool)>,
    secrets: BTreeMap<String, Credentials>,
    watched: BTreeSet<String>,
    // How others behave.
    room_engine: RoomEngine,
    faults: Faults,
    call_takes: Duration,
    write_takes: Duration,
    /// From the storing of a write to its reply.
    reply_takes: Duration,
    watch_takes: Duration,
    // What is under way, and what has been.
    coming: BTreeMap<(Duration, u64), Coming>,
    sequence: u64,
    /// When each watch last said something: it keeps the order of what it shows.
    told: HashMap<&'static str, Duration>,
    /// The round that lists belong to.
    round: u32,
    /// From the moment in which a list is taken until it is in.
    list_takes: Duration,
    writing: usize,
    calls: Vec<Called>,
    writes: Vec<Wrote>,
    application_writes: Vec<Wrote>,
    events: Vec<Announcement>,
    secret_watches: Vec<String>,
}

fn fresh(concurrency: usize, scopes: usize) -> Engine {
    let allowed = Allowed::default();
    Engine::new(Settings { allowed, namespace: "operator".into(), concurrency, shard: None }, scopes, 7)
}

fn key(text: &str) -> Credentials {
    Credentials::Key(Sensitive::new(text.to_owned()))
}

/// A signature that is sent as it is, so that the scripted room engine can tell one from another.
fn user_sig(text: &str) -> Credentials {
    Credentials::UserSig(Sensitive::new(text.to_owned()))
}

impl World {
    /// One application `app` with its Secret; nobody leads, and nothing is listed yet.
    fn new() -> Self {
        let mut world = Self {
            engine: fresh(64, 1),
            scopes: vec![None],
            concurrency: 64,
            now: SECOND,
            version: 100,
            robots: BTreeMap::new(),
            gone: BTreeMap::new(),
            applications: BTreeMap::new(),
            namespaces: BTreeMap::new(),
            secrets: BTreeMap::new(),
            watched: BTreeSet::new(),
            room_engine: Box::new(|_, _| Says::Code(0)),
            faults: Box::new(|_, _, _| None),
            call_takes: 50 * MS,
            write_takes: 5 * MS,
            reply_takes: Duration::ZERO,
            watch_takes: 8 * MS,
            coming: BTreeMap::new(),
            sequence: 0,
            told: HashMap::new(),
            round: 0,
            list_takes: Duration::ZERO,
            writing: 0,
            calls: Vec::new(),
            writes: Vec::new(),
            application_writes: Vec::new(),
            events: Vec::new(),
            secret_watches: Vec::new(),
        };
        world.secrets.insert("app-secret".into(), key("a key"));
        world.application("app", json!({}));
        world
    }

    /// The same, with this process acting.
    fn led() -> Self {
        let mut world = Self::new();
        world.lead();
        world.run(100 * MS);
        world
    }

    /// The same for an operator that has only this part of the robots.
    fn led_as(shard: Option<&str>) -> Self {
        let mut world = Self::new();
        let settings = Settings { shard: shard.map(str::to_owned), ..world.engine.settings.clone() };
        world.engine = Engine::new(settings, 1, 7);
        world.lead();
        world.run(100 * MS);
        world
    }

    /// The same with so many writes at once.
    fn led_with(concurrency: usize) -> Self {
        let mut world = Self::new();
        world.concurrency = concurrency;
        world.engine = fresh(concurrency, 1);
        world.lead();
        world.run(100 * MS);
        world
    }

    fn answering(&mut self, room_engine: impl FnMut(&Call, Duration) -> Says + 'static) {
        self.room_engine = Box::new(room_engine);
    }

    fn failing(&mut self, faults: impl FnMut(&str, &Change, Duration) -> Option<Fault> + 'static) {
        self.faults = Box::new(faults);
    }

    fn healthy(&mut self) {
        self.answering(|_, _| Says::Code(0));
        self.failing(|_, _, _| None);
    }

    // The lists.

    /// Hands all lists over and lets this process lead.
    fn lead(&mut self) {
        self.list_robots();
        self.list_others();
        self.input(Input::Leading(Before::Finished));
    }

    fn list_robots(&mut self) {
        // A new list ends the list and the watch before it: what those had not told yet is not told any more.
        self.coming.retain(|_, coming| {
            !matches!(coming, Coming::Input(Input::Robot(_) | Input::RobotGone(..) | Input::RobotsListed(_)))
        });
        // What comes next is told after the list.
        self.told.insert("robots", self.now + self.list_takes);
        for scope in self.scopes.clone() {
            let list = || scope.map(Arc::from);
            self.input(Input::RobotsListing(list(), self.round));
            let robots: Vec<_> = self.robots.values().filter(|robot| within(robot, scope)).cloned().collect();
            for robot in robots {
                self.listed(Input::Robot(Box::new(read(&robot))));
            }
            self.listed(Input::RobotsListed(list()));
        }
    }

    fn list_others(&mut self) {
        for (name, (labels, dying)) in self.namespaces.clone() {
            self.listed(Input::Namespace(name.as_str().into(), labels, dying));
        }
        let names = self.namespaces.keys().map(|name| name.as_str().into()).collect();
        self.listed(Input::NamespacesListed(names));
        self.list_applications();
    }

    fn list_applications(&mut self) {
        self.coming.retain(|_, coming| {
            !matches!(
                coming,
                Coming::Input(
                    Input::Application(_) | Input::ApplicationGone(_) | Input::ApplicationsListed(_)
                )
            )
        });
        self.told.insert("applications", self.now + self.list_takes);
        self.input(Input::ApplicationsListing(self.round));
        for application in self.applications.values().cloned().collect::<Vec<_>>() {
            self.listed(Input::Application(Box::new(read_application(&application))));
        }
        let names = self.applications.keys().map(|name| name.as_str().into()).collect();
        self.listed(Input::ApplicationsListed(names));
    }

    /// A part of a list that was taken now.
    fn listed(&mut self, input: Input) {
        self.send(self.list_takes, Coming::Input(input));
    }

    /// Another process takes over: what was under way in this one is lost to it.
    fn restart(&mut self) {
        let writes: Vec<_> = std::mem::take(&mut self.coming).into_values().collect();
        for coming in writes {
            // A request that was sent arrives though nobody waits for its reply any more.
            match coming {
                Coming::Write(write) => drop(self.store(&write)),
                Coming::Input(_) => {}
            }
        }
        self.coming.clear();
        self.told.clear();
        self.writing = 0;
        self.round = 0;
        self.watched.clear();
        self.secret_watches.clear();
        self.engine = fresh(self.concurrency, self.scopes.len());
        self.lead();
    }

    // What people do.

    fn application(&mut self, name: &str, spec: Value) {
        let version = self.next_version();
        let mut object = json!({
            "apiVersion": "roomrobot.dev/v1alpha1",
            "kind": "RtcApplication",
            "metadata": {
                "name": name, "uid": format!("uid-{name}-{version}"), "resourceVersion": version.to_string(), "generation": 1,
            },
            "spec": {"sdkAppId": 1_400_000_000, "credentials": {"secretRef": {"name": "app-secret"}}},
        });
        merge(&mut object["spec"], &spec);
        self.applications.insert(name.to_owned(), object);
        self.show_application(name);
    }

    /// Changes the spec of an application.
    fn configure(&mut self, name: &str, spec: Value) {
        let version = self.next_version();
        let object = self.applications.get_mut(name).unwrap();
        merge(&mut object["spec"], &spec);
        renew(object, version, true);
        self.show_application(name);
    }

    fn delete_application(&mut self, name: &str) {
        let version = self.next_version();
        let object = self.applications.get_mut(name).unwrap();
        object["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
        renew(object, version, true);
        self.show_application(name);
        self.sweep_application(name);
    }

    /// Takes an application away whatever holds it.
    fn force_application(&mut self, name: &str) {
        assert!(self.applications.remove(name).is_some());
        self.tell(Input::ApplicationGone(name.into()));
    }

    fn secret(&mut self, name: &str, credentials: Credentials) {
        self.secrets.insert(name.to_owned(), credentials.clone());
        if self.watched.contains(name) {
            self.tell(Input::Secret(name.into(), credentials));
        }
    }

    fn namespace(&mut self, name: &str, labels: &[(&str, &str)], dying: bool) {
        let labels: Labels =
            labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        self.namespaces.insert(name.to_owned(), (labels.clone(), dying));
        self.tell(Input::Namespace(name.into(), labels, dying));
    }

    /// Creates a RoomRobot; it stands for a robot of its own name unless `spec` says otherwise.
    fn robot(&mut self, key: &str, spec: Value) {
        self.robot_of(key, json!({}), spec);
    }

    fn robot_of(&mut self, key: &str, meta: Value, spec: Value) {
        let (namespace, name) = key.split_once('/').unwrap();
        if !self.namespaces.contains_key(namespace) {
            self.namespace(namespace, &[], false);
        }
        let version = self.next_version();
        let mut object = json!({
            "apiVersion": "roomrobot.dev/v1alpha1",
            "kind": "RoomRobot",
            "metadata": {
                "namespace": namespace, "name": name, "uid": format!("uid-{name}-{version}"),
                "resourceVersion": version.to_string(), "generation": 1,
            },
            "spec": {"roomId": format!("room-{name}"), "memberAccount": name, "applicationRef": {"name": "app"}},
        });
        merge(&mut object["metadata"], &meta);
        merge(&mut object["spec"], &spec);
        assert!(self.robots.insert(key.to_owned(), object).is_none());
        self.show(key);
    }

    /// Creates `count` robots `prefix-N` and waits until they are taken in charge.
    fn crowd(&mut self, prefix: &str, count: usize, spec: Value) -> Vec<String> {
        let keys: Vec<String> = (0..count).map(|n| format!("{prefix}-{n:04}")).collect();
        for key in &keys {
            self.robot(key, spec.clone());
        }
        self.run(10 * SECOND);
        for key in &keys {
            assert!(read(&self.robots[key]).accepted(), "{key}");
        }
        keys
    }

    fn edit(&mut self, key: &str, change: Value) {
        let version = self.next_version();
        let object = self.robots.get_mut(key).unwrap();
        let before = object["spec"].clone();
        merge(object, &change);
        let changed = object["spec"] != before;
        renew(object, version, changed);
        self.show(key);
    }

    fn delete(&mut self, key: &str) {
        let since = Timestamp::from_second(self.wall()).unwrap().to_string();
        let version = self.next_version();
        let object = self.robots.get_mut(key).unwrap();
        object["metadata"]["deletionTimestamp"] = since.into();
        renew(object, version, true);
        self.show(key);
        self.sweep(key);
    }

    fn delete_all(&mut self) {
        let all: Vec<String> = self.robots.keys().cloned().collect();
        self.delete_these(&all);
    }

    fn delete_these(&mut self, keys: &[String]) {
        for key in keys {
            self.delete(key);
        }
    }

    /// Takes a robot away whatever holds it; the watch says so unless it is `silent`.
    fn force(&mut self, key: &str, silent: bool) {
        let robot = read(&self.robots.remove(key).unwrap());
        if !silent {
            self.tell(Input::RobotGone(robot.key, robot.uid));
        }
    }

    // The API server.

    fn next_version(&mut self) -> u64 {
        self.version += 1;
        self.version
    }

    fn show(&mut self, key: &str) {
        let robot = read(&self.robots[key]);
        self.tell(Input::Robot(Box::new(robot)));
    }

    fn show_application(&mut self, name: &str) {
        let spec = read_application(&self.applications[name]);
        self.tell(Input::Application(Box::new(spec)));
    }

    /// An object that is being deleted goes with its last finalizer.
    fn sweep(&mut self, key: &str) {
        if unheld(&self.robots[key]) {
            let object = self.robots.remove(key).unwrap();
            let robot = read(&object);
            self.gone.entry(key.to_owned()).or_insert(object);
            self.tell(Input::RobotGone(robot.key, robot.uid));
        }
    }

    fn sweep_application(&mut self, name: &str) {
        if unheld(&self.applications[name]) {
            self.force_application(name);
        }
    }

    fn store(&mut self, write: &Write) -> Result<StoredObject, WriteError> {
        let Write { namespace, name, uid, change, .. } = write;
        if namespace.is_some() {
            let robot = self.store_robot(&write.key(), uid, change)?;
            return Ok(StoredObject::Robot(Box::new(robot)));
        }
        let application = self.store_application(name, uid, change)?;
        Ok(StoredObject::Application(Box::new(application)))
    }

    fn store_robot(&mut self, key: &str, uid: &str, change: &Change) -> Result<Robot, WriteError> {
        let version = self.version + 1;
        let before = self.robots.get(key).ok_or(WriteError::NotFound)?;
        let mut object = before.clone();
        apply(&mut object, uid, change, ROBOT_FINALIZER)?;
        if object == *before {
            return Ok(read(&object));
        }
        self.version = version;
        renew(&mut object, version, false);
        serde_json::from_value::<RoomRobot>(object.clone()).expect("a robot that the schema would refuse");
        // The last view that anybody gets is the one before this write.
        self.gone.insert(key.to_owned(), before.clone());
        self.robots.insert(key.to_owned(), object.clone());
        if unheld(&object) {
            let robot = read(&object);
            self.robots.remove(key);
            self.tell(Input::RobotGone(robot.key, robot.uid));
        } else {
            self.gone.remove(key);
            self.show(key);
        }
        Ok(read(&object))
    }

    fn store_application(
        &mut self,
        name: &str,
        uid: &str,
        change: &Change,
    ) -> Result<StoredApplication, WriteError> {
        let version = self.version + 1;
        let before = self.applications.get(name).ok_or(WriteError::NotFound)?;
        let mut object = before.clone();
        apply(&mut object, uid, change, &self.engine.settings.application_finalizer())?;
        if object != *before {
            self.version = version;
            renew(&mut object, version, false);
            serde_json::from_value::<RtcApplication>(object.clone())
                .expect("an application that the schema would refuse");
            self.applications.insert(name.to_owned(), object.clone());
            self.show_application(name);
            self.sweep_application(name);
        }
        Ok(read_application(&object))
    }

    // Time.

    fn wall(&self) -> i64 {
        START + i64::try_from(self.now.as_secs()).unwrap()
    }

    fn moment(&self) -> Now {
        Now { since_start: self.now, wall: Timestamp::from_second(self.wall()).unwrap() }
    }

    fn send(&mut self, after: Duration, coming: Coming) {
        self.sequence += 1;
        self.coming.insert((self.now + after, self.sequence), coming);
    }

    fn input(&mut self, input: Input) {
        self.send(Duration::ZERO, Coming::Input(input));
    }

    /// Lets a watch tell of something, in the order in which things were stored.
    fn tell(&mut self, input: Input) {
        let watch = match &input {
            Input::Robot(_) | Input::RobotGone(..) => "robots",
            Input::Application(_) | Input::ApplicationGone(_) => "applications",
            Input::Secret(..) => "secrets",
            _ => "namespaces",
        };
        let before = self.told.get(watch).copied().unwrap_or_default();
        let at = before.max(self.now + self.watch_takes);
        self.told.insert(watch, at);
        self.send(at - self.now, Coming::Input(input));
    }

    /// Lets `span` pass.
    fn run(&mut self, span: Duration) {
        let end = self.now + span;
        let mut idle = 0;
        loop {
            let due = self.engine.next_due(self.now);
            let event = self.coming.first_key_value().map(|((at, _), _)| *at);
            let Some(at) = due.into_iter().chain(event).min().filter(|at| *at <= end) else { break };
            let moved = at > self.now;
            self.now = self.now.max(at);
            let looks = self.engine.reconciles;
            let mut busy = moved;
            while let Some(first) = self.coming.first_entry().filter(|first| first.key().0 <= self.now) {
                let coming = first.remove();
                self.arrive(coming);
                busy = true;
            }
            for effect in self.engine.advance(self.moment()) {
                self.carry_out(effect);
                busy = true;
            }
            busy |= self.engine.reconciles > looks;
            idle = if busy { 0 } else { idle + 1 };
            assert!(idle < 10, "the engine says that something is due and does nothing: it would spin");
        }
        self.now = end;
    }

    fn arrive(&mut self, coming: Coming) {
        let now = self.moment();
        let input = match coming {
            Coming::Input(input) => input,
            Coming::Write(write) => {
                let fault = (self.faults)(&write.key(), &write.change, self.now);
                let takes = if matches!(fault, Some(Fault::Hangs)) { 15 * SECOND } else { self.reply_takes };
                let result = match fault {
                    None => self.store(&write),
                    Some(Fault::Refused(error)) => Err(error),
                    Some(Fault::ReplyLost) => {
                        drop(self.store(&write));
                        Err(WriteError::Unreachable("the reply was lost".into()))
                    }
                    Some(Fault::Hangs) => Err(WriteError::Late),
                };
                return self.send(takes, Coming::Input(Input::Written(write.object, result)));
            }
        };
        if matches!(input, Input::Written(..)) {
            self.writing -= 1;
        }
        self.engine.handle(input, now);
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Call(call) => {
                self.calls.push(Called {
                    at: self.now,
                    robot: call.key.to_string(),
                    application: call.application.to_string(),
                    operation: call.operation,
                });
                let outcome = match (self.room_engine)(&call, self.now) {
                    Says::Hangs => return,
                    Says::Unsent => {
                        self.calls.pop();
                        return self.send(self.call_takes, Coming::Input(Input::Unsent(call)));
                    }
                    Says::Code(code) => {
                        let request_id = Some(format!("Id-{}", self.calls.len()));
                        Outcome::Reply(Reply { code, info: String::new(), request_id })
                    }
                    Says::Fails(kind) => Outcome::failed(kind),
                };
                let answer = answer(&call, outcome);
                self.send(self.call_takes, Coming::Input(answer));
            }
            Effect::Write(write) => {
                let wrote = Wrote { at: self.now, name: write.key(), change: write.change.clone() };
                match write.object {
                    ObjectRef::Robot(_) => self.writes.push(wrote),
                    ObjectRef::Application(_) => self.application_writes.push(wrote),
                }
                self.writing += 1;
                // An application's own write may come on top: there are few of those.
                let most = self.concurrency + self.applications.len();
                assert!(self.writing <= most, "{} writes at once", self.writing);
                self.send(self.write_takes, Coming::Write(write));
            }
            Effect::Publish(event) => self.events.push(*event),
            Effect::ListAgain(round) => {
                self.round = round;
                self.list_robots();
                self.list_applications();
            }
            Effect::WatchSecret(name) => {
                assert!(self.watched.insert(name.to_string()), "{name} is watched already");
                self.secret_watches.push(name.to_string());
                let found = self.secrets.get(&*name).cloned().unwrap_or(Credentials::Missing);
                self.tell(Input::Secret(name, found));
            }
            Effect::ForgetSecret(name) => assert!(self.watched.remove(&*name), "{name} was not watched"),
        }
    }

    // What can be seen.

    fn calls_about(&self, key: &str) -> usize {
        self.calls.iter().filter(|call| call.robot == key).count()
    }

    fn called_by(&self, application: &str) -> Vec<Duration> {
        self.calls.iter().filter(|call| call.application == application).map(|call| call.at).collect()
    }

    /// What was written to a robot, in order.
    fn changes(&self, key: &str) -> Vec<&'static str> {
        self.writes.iter().filter(|write| write.name == key).map(|write| word(&write.change)).collect()
    }

    fn application_changes(&self, name: &str) -> Vec<&'static str> {
        self.application_writes
            .iter()
            .filter(|write| write.name == name)
            .map(|write| word(&write.change))
            .collect()
    }

    /// A condition of a robot, or of its last view, as status and reason.
    #[track_caller]
    fn condition(&self, key: &str, kind: &str) -> Option<(String, String)> {
        let object = self.robots.get(key).or_else(|| self.gone.get(key)).expect("no such robot");
        condition(object, kind).map(|found| (text(&found["status"]), text(&found["reason"])))
    }

    #[track_caller]
    fn assert_waits(&self, key: &str, reason: &str) {
        assert!(self.robots.contains_key(key), "{key} is gone");
        assert_eq!(self.condition(key, "RobotDeleted"), Some(("False".into(), reason.into())), "{key}");
    }

    #[track_caller]
    fn assert_gone(&self, key: &str, reason: &str) {
        assert!(
            !self.robots.contains_key(key),
            "{key} is still there: {:?}",
            self.condition(key, "RobotDeleted")
        );
        let is = if reason == "StillClaimed" { "False" } else { "True" };
        assert_eq!(self.condition(key, "RobotDeleted"), Some((is.into(), reason.into())), "{key}");
    }

    fn application_ready(&self, name: &str) -> (String, String) {
        let ready = condition(&self.applications[name], "Ready").expect("no condition yet");
        (text(&ready["status"]), text(&ready["reason"]))
    }
}

fn answer(call: &Call, outcome: Outcome) -> Input {
    Input::Answered(call.answered(outcome))
}

fn word(change: &Change) -> &'static str {
    match change {
        Change::FirstFinalizer | Change::MoreFinalizer => "hold",
        Change::DropFinalizer { .. } => "drop",
        Change::Status(_) => "status",
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

fn condition<'a>(object: &'a Value, kind: &str) -> Option<&'a Value> {
    object["status"]["conditions"].as_array()?.iter().find(|condition| condition["type"] == kind)
}

fn read(object: &Value) -> Robot {
    Stored::deserialize(object).unwrap().into()
}

fn read_application(object: &Value) -> StoredApplication {
    StoredApplication::read(RtcApplication::deserialize(object).unwrap(), &Allowed::default())
}

fn within(robot: &Value, scope: Option<&str>) -> bool {
    scope.is_none_or(|namespace| robot["metadata"]["namespace"] == namespace)
}

fn unheld(object: &Value) -> bool {
    let meta = &object["metadata"];
    !meta["deletionTimestamp"].is_null() && meta["finalizers"].as_array().is_none_or(Vec::is_empty)
}

fn renew(object: &mut Value, version: u64, spec_changed: bool) {
    let meta = &mut object["metadata"];
    meta["resourceVersion"] = version.to_string().into();
    if spec_changed {
        meta["generation"] = (meta["generation"].as_i64().unwrap() + 1).into();
    }
}

/// A JSON merge patch.
fn merge(target: &mut Value, patch: &Value) {
    let Some(fields) = patch.as_object() else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    let object = target.as_object_mut().unwrap();
    for (name, value) in fields {
        if value.is_null() {
            object.remove(name);
        } else {
            merge(object.entry(name.clone()).or_insert(Value::Null), value);
        }
    }
}

/// What the API server makes of a write, or why it refuses it.
fn apply(object: &mut Value, uid: &str, change: &Change, finalizer: &str) -> Result<(), WriteError> {
    let refuse = |why: &str| Err(WriteError::Conflict(why.to_owned()));
    let deleting = !object["metadata"]["deletionTimestamp"].is_null();
    if object["metadata"]["uid"] != uid {
        return refuse("another object of the same name");
    }
    let meta = object["metadata"].as_object_mut().unwrap();
    match change {
        Change::Status(patch) => {
            let mut patched = Value::Object(std::mem::take(meta));
            let version = patched["resourceVersion"].clone();
            patched = json!({"metadata": patched, "status": object["status"].take()});
            if patched["status"].is_null() {
                patched.as_object_mut().unwrap().remove("status");
            }
            let result = json_patch::patch(
                &mut patched,
                &serde_json::from_value::<json_patch::Patch>(json!(patch)).unwrap(),
            );
            let same_version = patched["metadata"]["resourceVersion"] == version;
            patched["metadata"]["resourceVersion"] = version;
            object["metadata"] = patched["metadata"].take();
            if patched.get("status").is_some() {
                object["status"] = patched["status"].take();
            }
            if !same_version {
                return refuse("there is a newer version");
            }
            if let Err(error) = result {
                return refuse(&error.to_string());
            }
        }
        Change::FirstFinalizer | Change::MoreFinalizer if deleting => return refuse("it is being deleted"),
        Change::FirstFinalizer => {
            if meta.contains_key("finalizers") {
                return refuse("there are finalizers already");
            }
            meta.insert("finalizers".into(), json!([finalizer]));
        }
        Change::MoreFinalizer => match meta.get_mut("finalizers").and_then(Value::as_array_mut) {
            Some(list) => list.push(finalizer.into()),
            None => return refuse("there is no list"),
        },
        Change::DropFinalizer { version, .. } if meta["resourceVersion"] != json!(version.to_string()) => {
            return refuse("there is a newer version");
        }
        Change::DropFinalizer { at, .. } => {
            let Some(list) = meta.get_mut("finalizers").and_then(Value::as_array_mut) else {
                return refuse("there is no list");
            };
            if list.get(*at).is_none_or(|found| found != finalizer) {
                return refuse("another finalizer stands there");
            }
            list.remove(*at);
            if list.is_empty() {
                meta.remove("finalizers");
            }
        }
    }
    Ok(())
}

fn most_in_a_second(times: &[Duration]) -> usize {
    times
        .iter()
        .enumerate()
        .map(|(at, first)| times[at..].iter().take_while(|time| **time < *first + SECOND).count())
        .max()
        .unwrap_or(0)
}
