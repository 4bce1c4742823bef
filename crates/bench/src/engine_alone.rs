//! The engine alone: what a decision costs, and what a settled robot weighs, without any input or output.
//!
//! Every effect is answered at once, as the API server and the room engine would; only the engine's own time counts.

use super::{
    facts,
    measure::{float, memory},
    report::EngineRow,
};
use k8s_openapi::jiff::Timestamp;
use roomrobot_core::{
    application::{Credentials, StoredApplication},
    call::{Outcome, Reply},
    crd::{APPLICATION_FINALIZER, ROBOT_FINALIZER},
    endpoint::Allowed,
    engine::{self, Before, Change, Effect, Engine, Input, Now, ObjectRef, Settings, StoredObject, Write},
    plan::{self, Memory, Step},
    robot::{Robot, Stored},
    usersig::Sensitive,
};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    hint::black_box,
    time::{Duration, Instant},
};
use testbed::{Error, Result};

/// Deletions among the settled robots.
const DELETIONS: usize = 1_000;

/// From this many robots on, the process's memory tells what one weighs.
const WEIGHABLE: usize = 10_000;

/// Deletes [`DELETIONS`] robots beside `settled` others of `applications` applications.
///
/// # Errors
/// If the engine does not do what it should.
pub fn measure(settled: usize, applications: usize) -> Result<EngineRow> {
    let mut bench = Bench::new(applications)?;
    let before = memory(std::process::id()).map_or(0, |(now, _)| now);
    bench.take(Input::RobotsListing(None, 1));
    for n in 0..settled + DELETIONS {
        let robot = bench.settled(n)?;
        bench.take(Input::Robot(Box::new(robot)));
    }
    bench.take(Input::RobotsListed(None));
    bench.take(Input::Leading(Before::Finished));
    bench.run()?;
    if bench.calls + bench.writes > 0 {
        return Err(Error(format!("{} writes over settled robots", bench.writes)));
    }
    let grown = memory(std::process::id()).map_or(0, |(now, _)| now.saturating_sub(before));
    bench.spent = Duration::ZERO;
    for n in settled..settled + DELETIONS {
        bench.ask_for_deletion(n)?;
    }
    bench.run()?;
    let (calls, writes) = (bench.calls, bench.writes);
    if (calls, writes) != (DELETIONS, 2 * DELETIONS) || bench.engine.robots().len() != settled {
        return Err(Error(format!("{calls} calls and {writes} writes for {DELETIONS} deletions")));
    }
    let bytes = usize::try_from(grown).unwrap_or(usize::MAX);
    Ok(EngineRow {
        settled,
        applications,
        bytes_per_robot: (settled >= WEIGHABLE).then(|| float(bytes) / float(settled + DELETIONS)),
        micros_per_deletion: bench.spent.as_secs_f64() * 1e6 / float(DELETIONS),
    })
}

/// An engine, and everything around it.
struct Bench {
    engine: Engine,
    now: Now,
    spent: Duration,
    version: u64,
    applications: usize,
    calls: usize,
    writes: usize,
    /// The stored form of the applications, and of the robots that are being deleted, by name.
    stored: BTreeMap<String, Value>,
    /// The status of a settled robot of each application.
    statuses: Vec<Value>,
}

impl Bench {
    fn new(applications: usize) -> Result<Self> {
        let settings = Settings {
            allowed: Allowed::default(),
            namespace: "roomrobot-system".into(),
            concurrency: 32,
            shard: None,
        };
        let mut this = Self {
            engine: Engine::new(settings, 1, 7),
            now: Now { since_start: Duration::ZERO, wall: Timestamp::UNIX_EPOCH },
            spent: Duration::ZERO,
            version: 1,
            applications,
            calls: 0,
            writes: 0,
            stored: BTreeMap::new(),
            statuses: Vec::new(),
        };
        this.statuses = (0..applications).map(|app| this.settled_status(app)).collect::<Result<_>>()?;
        this.take(Input::ApplicationsListing(1));
        for app in 0..applications {
            let stored = this.application(app);
            let spec = StoredApplication::read(read(stored.clone())?, &Allowed::default());
            this.stored.insert(name_of(app), stored);
            this.take(Input::Application(Box::new(spec)));
            let key = Credentials::Key(Sensitive::new("key".to_owned()));
            this.take(Input::Secret("key".into(), key));
        }
        let names = (0..applications).map(|app| name_of(app).into()).collect();
        this.take(Input::ApplicationsListed(names));
        this.take(Input::Namespace("event".into(), BTreeMap::new(), false));
        this.take(Input::NamespacesListed(BTreeSet::from(["event".into()])));
        Ok(this)
    }

    /// Gives the engine an input, and counts its time.
    fn take(&mut self, input: Input) {
        let start = Instant::now();
        self.engine.handle(input, self.now);
        self.spent += start.elapsed();
    }

    /// Answers everything that the engine wants, until it wants nothing for a minute.
    fn run(&mut self) -> Result<()> {
        let mut idle_since = self.now.since_start;
        loop {
            let start = Instant::now();
            let effects = self.engine.advance(self.now);
            let due = self.engine.next_due(self.now.since_start);
            self.spent += start.elapsed();
            if !effects.is_empty() {
                idle_since = self.now.since_start;
                for effect in effects {
                    self.answer(effect)?;
                }
                continue;
            }
            match due {
                Some(due) if due < idle_since + Duration::from_secs(60) => {
                    self.now.since_start = due.max(self.now.since_start + Duration::from_micros(1));
                }
                _ => return Ok(()),
            }
        }
    }

    fn answer(&mut self, effect: Effect) -> Result<()> {
        match effect {
            Effect::Call(call) => {
                self.calls += 1;
                let reply = Reply {
                    code: 0,
                    info: String::new(),
                    request_id: Some(format!("Id-70c64a5c0f6c4de5b3e0fa8bbcd1f5ec-O-Seq-{}", self.calls)),
                };
                self.take(Input::Answered(call.answered(Outcome::Reply(reply))));
            }
            Effect::Write(write) => {
                let Write { object, name, change, .. } = *write;
                let of_application = matches!(object, ObjectRef::Application(_));
                self.writes += usize::from(!of_application);
                self.version += 1;
                let stored = self
                    .stored
                    .get_mut(&*name)
                    .ok_or_else(|| Error(format!("a write to {name}, which is settled")))?;
                let gone = matches!(change, Change::DropFinalizer { .. });
                match change {
                    Change::Status(patch) => apply(stored, &patch)?,
                    Change::DropFinalizer { .. } => set(stored, "/metadata/finalizers", json!([])),
                    _ if of_application => {
                        set(stored, "/metadata/finalizers", json!([APPLICATION_FINALIZER]));
                    }
                    change => return Err(Error(format!("an unexpected write to {name}: {change:?}"))),
                }
                set(stored, "/metadata/resourceVersion", self.version.to_string().into());
                let stored = stored.clone();
                if of_application {
                    let application = StoredApplication::read(read(stored)?, &Allowed::default());
                    self.take(Input::Written(object, Ok(StoredObject::Application(Box::new(application)))));
                    return Ok(());
                }
                let (written, seen) = (robot(stored.clone())?, robot(stored)?);
                self.take(Input::Written(object, Ok(StoredObject::Robot(Box::new(written)))));
                if gone {
                    self.stored.remove(&*name);
                    self.take(Input::RobotGone(seen.key, seen.uid));
                } else {
                    self.take(Input::Robot(Box::new(seen)));
                }
            }
            Effect::Publish(announcement) => drop(black_box(announcement)),
            // The lists were of the first round already.
            Effect::WatchSecret(_) | Effect::ForgetSecret(_) | Effect::ListAgain(_) => {}
        }
        Ok(())
    }

    fn ask_for_deletion(&mut self, n: usize) -> Result<()> {
        let mut stored = self.stored_robot(n);
        self.version += 1;
        set(&mut stored, "/metadata/resourceVersion", self.version.to_string().into());
        set(&mut stored, "/metadata/generation", 2.into());
        if let Some(meta) = stored.pointer_mut("/metadata").and_then(Value::as_object_mut) {
            meta.insert("deletionTimestamp".to_owned(), "1970-01-01T00:00:00Z".into());
        }
        self.stored.insert(name(n), stored.clone());
        let robot = robot(stored)?;
        self.take(Input::Robot(Box::new(robot)));
        Ok(())
    }

    fn settled(&self, n: usize) -> Result<Robot> {
        robot(self.stored_robot(n))
    }

    fn stored_robot(&self, n: usize) -> Value {
        let app = n % self.applications;
        json!({
            "metadata": {
                "namespace": "event", "name": name(n), "uid": format!("6c1b0d8e-7a64-4f0c-9a3e-{n:012}"),
                "resourceVersion": "1", "generation": 1, "finalizers": [ROBOT_FINALIZER],
            },
            "spec": {"roomId": format!("event-room-{:05}", n / 100), "memberAccount": name(n),
                "applicationRef": {"name": name_of(app)}},
            "status": self.statuses.get(app),
        })
    }

    /// The status that the engine itself gives to a robot that it takes in charge.
    fn settled_status(&self, app: usize) -> Result<Value> {
        let mut stored = self.stored_robot(0);
        set(&mut stored, "/spec/applicationRef/name", name_of(app).into());
        let robot = robot(stored.clone())?;
        match plan::plan(&facts(&robot, &Memory::default())) {
            Step::Report(wanted) => {
                apply(&mut stored, &engine::status_patch(&robot, &wanted, None, self.now))?;
                Ok(stored.get("status").cloned().unwrap_or_default())
            }
            step => Err(Error(format!("a new robot is not taken in charge: {step:?}"))),
        }
    }

    fn application(&self, app: usize) -> Value {
        let shares = (0..).skip(app).step_by(self.applications);
        let robots = shares.take_while(|n| *n < DELETIONS).count();
        json!({
            "apiVersion": "roomrobot.dev/v1alpha1", "kind": "RtcApplication",
            "metadata": {"name": name_of(app), "uid": format!("app-{app}"), "resourceVersion": "1",
                "generation": 1, "finalizers": [APPLICATION_FINALIZER]},
            "spec": {"sdkAppId": 1_400_000_000_usize + app, "credentials": {"secretRef": {"name": "key"}}},
            "status": {"conditions": [], "robots": robots, "deleting": 0},
        })
    }
}

fn name(n: usize) -> String {
    format!("robot-{n:06}")
}

fn name_of(app: usize) -> String {
    format!("app-{app}")
}

fn set(object: &mut Value, place: &str, value: Value) {
    if let Some(place) = object.pointer_mut(place) {
        *place = value;
    }
}

fn robot(stored: Value) -> Result<Robot> {
    read::<Stored>(stored).map(Robot::from)
}

fn read<T: serde::de::DeserializeOwned>(stored: Value) -> Result<T> {
    serde_json::from_value(stored).map_err(|error| Error::new("a stored object", error))
}

/// Applies a patch as the API server does.
fn apply(stored: &mut Value, patch: &[Value]) -> Result<()> {
    let why = |error: &dyn std::fmt::Display| Error(format!("a patch that does not fit: {error}"));
    let patch: json_patch::Patch = serde_json::from_value(json!(patch)).map_err(|error| why(&error))?;
    if stored.get("status").is_some_and(Value::is_null)
        && let Some(fields) = stored.as_object_mut()
    {
        fields.remove("status");
    }
    json_patch::patch(stored, &patch).map_err(|error| why(&error))
}

#[cfg(test)]
mod tests {
    /// Checks inside that every deletion costs one call and two writes, and that nothing settled is written to.
    #[test]
    fn a_thousand_deletions_beside_a_few_robots_of_some_applications() {
        for applications in [1, 7] {
            let row = super::measure(20, applications).unwrap();
            assert!(row.micros_per_deletion > 0.0);
        }
    }
}
