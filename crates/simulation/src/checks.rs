//! The promises, watched in a simulated world that knows everything: what is stored, who acts, and who is in which room.

use crate::{
    cluster::{Changed, Object},
    story::NAMESPACES,
};
use promises::{Call, End};
use roomrobot_core::{
    codes::{Class, Operation},
    crd::{CreationPolicy, DeletionPolicy},
    robot::Robot,
};
use std::{
    collections::{BTreeMap, HashMap, HashSet, VecDeque},
    rc::Rc,
    time::Duration,
};

/// The SDKAppID, the room and the member account.
pub type Identity = (u32, String, String);

/// One process of one replica.
pub type Process = (usize, u32);

/// From when to when something was so.
#[derive(Clone, Debug, Default)]
struct Spans(Vec<(Duration, Option<Duration>)>);

impl Spans {
    fn set(&mut self, is: bool, now: Duration) {
        let open = self.0.last().is_some_and(|(_, to)| to.is_none());
        match (open, is) {
            (false, true) => self.0.push((now, None)),
            (true, false) => {
                if let Some((_, to)) = self.0.last_mut() {
                    *to = Some(now);
                }
            }
            _ => {}
        }
    }

    /// Whether it was so at any moment from `from` on.
    fn since(&self, from: Duration) -> bool {
        self.0.iter().any(|(_, to)| to.is_none_or(|to| to >= from))
    }

    /// Whether it has been so all the time from `from` to now.
    fn all_since(&self, from: Duration) -> bool {
        self.0.last().is_some_and(|(begun, to)| to.is_none() && *begun <= from)
    }
}

/// What became of one RoomRobot, by its UID.
#[derive(Debug)]
pub struct Life {
    pub key: String,
    pub identity: Identity,
    pub application: String,
    pub last: Rc<Object>,
    accepted: bool,
    retain: Spans,
    suspended: Spans,
    deleting: Spans,
    /// The record of a final answer is stored.
    recorded: Spans,
    /// It is one that another's removal may pass to.
    heir: Spans,
    /// It certainly is.
    sure_heir: Spans,
    /// `add_robot` may have been sent for it, or it came by other means.
    may_be_there: bool,
    /// It is in its room for certain, as far as it has been brought there.
    is_there: bool,
    pub calls: Vec<Call>,
    /// Calls of `delete_robot` that wait for an answer, by process.
    asking: Vec<Process>,
    /// Processes that had a final answer.
    answered: HashSet<Process>,
    gone: bool,
    end: Option<End>,
    forced: bool,
    /// A person has removed its status.
    wiped: bool,
    /// It went from one shard to another: a process that is shown that it is gone forgets what it knew of it.
    moved: bool,
    /// How long nothing has stood in its way.
    pub waited: u32,
    /// How long that may take.
    pub limit: u32,
    /// How long it could have been told.
    pub untold: u32,
    /// Something of its own keeps it waiting until then.
    pub tainted: Duration,
    /// Statuses that said nothing new.
    repeated: u32,
}

impl Life {
    pub fn is_deleting(&self) -> bool {
        !self.gone && self.last.robot.deleting_since.is_some()
    }

    pub fn is_gone(&self) -> bool {
        self.gone
    }
}

/// A call that arrives at the room engine.
#[derive(Clone, Copy, Debug)]
pub struct Arrival {
    pub at: Duration,
    pub process: Process,
    /// It was held up on its way.
    pub held_up: bool,
}

/// What a process knew when it decided on something: everything that was stored until then.
#[derive(Clone, Copy, Debug)]
pub struct Knew {
    pub process: Process,
    pub until: Duration,
}

/// The promises.
#[derive(Default)]
pub struct Checks {
    pub lives: BTreeMap<String, Life>,
    by_identity: HashMap<Identity, Vec<String>>,
    /// RoomRobots that are not gone, and are being deleted or wait for something.
    pub unfinished: HashSet<String>,
    /// Who is in a room, and the RoomRobot that came with it or brought it in last.
    pub members: BTreeMap<Identity, String>,
    arrivals: HashMap<(u32, bool), VecDeque<Arrival>>,
    /// Applications come and go.
    pub applications_change: bool,
    /// RoomRobots leave a shard's view without being deleted.
    pub moves: bool,
    pub violation: Option<String>,
    pub deletions: u64,
    /// Final answers without a record, by process and application.
    unrecorded: HashMap<(Process, String), HashSet<String>>,
}

impl Checks {
    pub fn broken(&mut self, what: impl Into<String>) {
        self.violation.get_or_insert_with(|| what.into());
    }

    /// Something of RoomRobots is stored: by a person, or by a process that knew so much when it decided.
    pub fn stored(
        &mut self,
        changed: &Changed,
        by: Option<Knew>,
        identity: impl Fn(&Object) -> Identity,
        now: Duration,
    ) {
        let Changed::Robot { before, after } = changed else { return };
        let Some(object) = after.as_ref().or(before.as_ref()) else { return };
        let uid = object.uid().to_owned();
        if before.is_none() {
            let identity = identity(object);
            self.by_identity.entry(identity.clone()).or_default().push(uid.clone());
            self.lives.insert(
                uid.clone(),
                Life {
                    key: object.key(),
                    identity,
                    application: object.robot.application.to_string(),
                    last: Rc::clone(object),
                    accepted: false,
                    retain: Spans::default(),
                    suspended: Spans::default(),
                    deleting: Spans::default(),
                    recorded: Spans::default(),
                    heir: Spans::default(),
                    sure_heir: Spans::default(),
                    may_be_there: false,
                    is_there: false,
                    calls: Vec::new(),
                    asking: Vec::new(),
                    answered: HashSet::new(),
                    gone: false,
                    end: None,
                    forced: false,
                    wiped: false,
                    moved: false,
                    waited: 0,
                    limit: 0,
                    untold: 0,
                    tainted: Duration::ZERO,
                    repeated: 0,
                },
            );
        }
        match (before, after) {
            (before, Some(after)) => self.changes(&uid, before.as_deref(), after, by, now),
            (Some(before), None) => self.leaves(&uid, before, by, now),
            (None, None) => {}
        }
    }

    fn changes(
        &mut self,
        uid: &str,
        before: Option<&Object>,
        after: &Rc<Object>,
        by: Option<Knew>,
        now: Duration,
    ) {
        let Some(life) = self.lives.get_mut(uid) else { return };
        let robot = &after.robot;
        let mut broken = None;
        let was = life.accepted;
        life.accepted = robot.accepted();
        let told = |kind| promises::condition(&after.json, kind);
        let ready = told("Ready").and_then(|ready| ready["status"].as_str());
        if was && !life.accepted && by.is_some() {
            broken = Some(format!("{} was accepted and is not any more", life.key));
        }
        life.may_be_there |=
            robot.creation_policy == CreationPolicy::Adopt || matches!(ready, Some("Unknown" | "True"));
        let wiped = by.is_none()
            && before.is_some_and(|before| before.json.get("status").is_some())
            && after.json.get("status").is_none();
        life.wiped |= wiped;
        life.moved |= before.is_some_and(|before| before.shard != after.shard);
        life.is_there = (life.is_there && !wiped) || ready == Some("True");
        let live = robot.deleting_since.is_none();
        let heir = would_delete(robot);
        life.retain.set(robot.deletion_policy == DeletionPolicy::Retain, now);
        life.suspended.set(robot.suspend, now);
        life.deleting.set(!live, now);
        life.heir.set(heir && life.may_be_there, now);
        life.sure_heir.set(heir && life.is_there, now);
        let reason = promises::reason(&after.json, "RobotDeleted");
        let ended = promises::is_true(&after.json, "RobotDeleted");
        life.recorded.set(ended && matches!(reason, Some("Deleted" | "RoomNotFound" | "NotInRoom")), now);
        if ended || reason == Some("StillClaimed") {
            for unrecorded in self.unrecorded.values_mut() {
                unrecorded.remove(uid);
            }
        }
        if let (Some(before), Some(_)) = (before, by)
            && before.json["status"] != after.json["status"]
        {
            let same = promises::reads_the_same(&before.json, &after.json);
            life.repeated += u32::from(same);
            if life.repeated > 5 {
                broken =
                    Some(format!("{} was told the same {} times in other words", life.key, life.repeated));
            }
            if let Err(why) = promises::discreet(&after.json, &NAMESPACES) {
                broken = Some(why);
            }
        }
        if by.is_none() {
            life.repeated = 0;
        }
        life.last = Rc::clone(after);
        let held = robot.finalizers.ours.is_some();
        let let_go = before.is_some_and(|before| before.robot.finalizers.ours.is_some()) && !held && !live;
        let settled = live && ready == Some("True") && life.accepted && held;
        if before.is_some_and(|before| before.robot.finalizers.ours.is_some()) && !held && by.is_none() {
            life.forced = true;
        }
        if settled {
            self.unfinished.remove(uid);
        } else {
            self.unfinished.insert(uid.to_owned());
        }
        if let Some(broken) = broken {
            self.broken(broken);
        }
        if let_go && by.is_some() {
            self.let_go(uid, after, by, now);
        }
    }

    fn leaves(&mut self, uid: &str, last: &Object, by: Option<Knew>, now: Duration) {
        self.unfinished.remove(uid);
        let Some(life) = self.lives.get_mut(uid) else { return };
        life.gone = true;
        for spans in [&mut life.heir, &mut life.sure_heir] {
            spans.set(false, now);
        }
        for unrecorded in self.unrecorded.values_mut() {
            unrecorded.remove(uid);
        }
        if last.robot.finalizers.ours.is_some() && by.is_none() {
            life.forced = true;
        }
        self.deletions += 1;
        if last.robot.finalizers.ours.is_some() {
            self.let_go(uid, last, by, now);
        }
    }

    /// The operator has taken its finalizer off an object that is being deleted.
    fn let_go(&mut self, uid: &str, last: &Object, by: Option<Knew>, now: Duration) {
        let Some(life) = self.lives.get_mut(uid) else { return };
        if life.forced {
            return;
        }
        if !life.accepted {
            if !life.wiped && life.calls.iter().any(|call| call.add && call.code == Some(0)) {
                let key = life.key.clone();
                self.broken(format!("{key} left as if it had never been accepted, and its robot was added"));
            }
            return;
        }
        let (key, identity) = (life.key.clone(), life.identity.clone());
        let end = match promises::left(&last.json, &life.calls) {
            Ok(end) => end,
            // Somebody has removed what was known of it.
            Err(_) if life.wiped => return,
            Err(why) => return self.broken(why),
        };
        life.end = Some(end);
        let from = by.map_or(now, |knew| knew.until);
        match end {
            End::Answered | End::NeverAdded => {}
            End::Retained => {
                if !life.retain.since(from) {
                    self.broken(format!("{key} was released, and nobody chose Retain"));
                }
            }
            End::Claimed => {
                let others = self.by_identity.get(&identity).into_iter().flatten();
                let heir = others
                    .filter(|other| *other != uid)
                    .filter_map(|other| self.lives.get(other))
                    .any(|other| other.heir.since(from));
                if !heir {
                    self.broken(format!(
                        "{key} left its robot to another one, and there is none that would delete it"
                    ));
                }
            }
        }
    }

    /// A process is about to send a call.
    pub fn calls(&mut self, uid: &str, operation: Operation, knew: Knew, now: Duration) {
        let Some(life) = self.lives.get(uid) else { return };
        let Knew { process, until } = knew;
        let key = &life.key;
        let add = operation == Operation::AddRobot;
        let about = |what: &str| format!("{operation} for {key}: {what}");
        let mut broken = None;
        if life.suspended.all_since(until) {
            broken = Some(about("it is suspended"));
        }
        if add {
            if life.deleting.all_since(until) {
                broken = Some(about("it is being deleted"));
            }
        } else {
            if !life.deleting.since(Duration::ZERO) {
                broken = Some(about("it is not being deleted"));
            }
            if life.retain.all_since(until) {
                broken = Some(about("its deletionPolicy is Retain"));
            }
            if life.recorded.all_since(until) {
                broken = Some(about("its final answer is stored"));
            }
            if life.answered.contains(&process) && !life.moved {
                broken = Some(about("this process has had a final answer"));
            }
            if life.asking.contains(&process) && !life.moved {
                broken = Some(about("the call before is under way"));
            }
            let others = self.by_identity.get(&life.identity).into_iter().flatten();
            let heir = others
                .filter(|other| *other != uid)
                .filter_map(|other| self.lives.get(other))
                .filter(|other| other.application == life.application || !self.applications_change)
                .find(|other| other.sure_heir.all_since(until));
            if let Some(heir) = heir.filter(|_| !self.moves) {
                broken = Some(about(&format!("{} stands for the same robot", heir.key)));
            }
        }
        if let Some(life) = self.lives.get_mut(uid) {
            if add {
                life.may_be_there = true;
                life.heir.set(would_delete(&life.last.robot) && !life.gone, now);
            } else {
                life.asking.push(process);
            }
        }
        if let Some(broken) = broken {
            self.broken(broken);
        }
    }

    /// A call arrives at the room engine, where `limit` are allowed in a second.
    pub fn arrives(&mut self, sdk_app_id: u32, operation: Operation, limit: u32, arrival: Arrival) {
        let all = self.arrivals.entry((sdk_app_id, operation == Operation::AddRobot)).or_default();
        all.push_back(arrival);
        while all.front().is_some_and(|first| first.at + Duration::from_secs(1) <= arrival.at) {
            all.pop_front();
        }
        // What another process left behind on its way nobody could know of.
        let counts = |other: &&Arrival| !other.held_up || other.process == arrival.process;
        let arrived = all.iter().filter(counts).count();
        if arrived > limit as usize {
            self.broken(format!(
                "{arrived} calls of {operation} arrive within a second, {limit} are allowed"
            ));
        }
    }

    /// The room engine carries a call out, or answers it; the answer may still be lost.
    pub fn carried_out(
        &mut self,
        uid: &str,
        operation: Operation,
        effect: bool,
        code: Option<i64>,
        request_id: &str,
    ) -> bool {
        let Some(life) = self.lives.get_mut(uid) else { return false };
        let add = operation == Operation::AddRobot;
        life.calls.push(Call { add, code, request_id: request_id.to_owned() });
        if !effect {
            return false;
        }
        let identity = life.identity.clone();
        if add {
            self.members.insert(identity, uid.to_owned());
            true
        } else {
            self.members.remove(&identity).is_some()
        }
    }

    /// A process hears what became of its call.
    pub fn heard(&mut self, uid: &str, operation: Operation, class: Class, process: Process, now: Duration) {
        let Some(life) = self.lives.get_mut(uid) else { return };
        if operation == Operation::DeleteRobot
            && let Some(place) = life.asking.iter().position(|asking| *asking == process)
        {
            life.asking.remove(place);
        }
        if class.is_final() {
            if operation == Operation::DeleteRobot {
                life.answered.insert(process);
                if !life.gone && life.recorded.0.last().is_none_or(|(_, to)| to.is_some()) {
                    let place = (process, life.application.clone());
                    self.unrecorded.entry(place).or_default().insert(uid.to_owned());
                }
            }
            return;
        }
        let minutes = match class {
            Class::Invalid | Class::RobotPermission => 75,
            Class::Retry | Class::Throttled => 6,
            _ => 11,
        };
        life.tainted = life.tainted.max(now + Duration::from_secs(60 * minutes));
    }

    /// A write of a RoomRobot went wrong.
    pub fn write_failed(&mut self, uid: &str, now: Duration) {
        for unrecorded in self.unrecorded.values_mut() {
            unrecorded.remove(uid);
        }
        if let Some(life) = self.lives.get_mut(uid) {
            life.tainted = life.tainted.max(now + Duration::from_secs(35));
        }
    }

    /// Final answers of a process whose record no write has failed to store yet.
    pub fn unrecorded(&self, process: Process, application: &str) -> usize {
        self.unrecorded.get(&(process, application.to_owned())).map_or(0, HashSet::len)
    }

    /// Everything is gone: whoever is still in a room was let go by a person, or was never taken in charge.
    pub fn verify_rooms(&mut self) {
        let mut broken = None;
        for (identity, uid) in &self.members {
            let others = self.by_identity.get(identity).into_iter().flatten();
            let mut lives = others.filter_map(|other| self.lives.get(other));
            let chosen = lives.any(|life| life.forced || life.wiped || life.end == Some(End::Retained));
            let owner = self.lives.get(uid);
            let owned = owner.is_some_and(|life| life.end.is_some());
            if owned && !chosen {
                let key = owner.map(|life| life.key.clone()).unwrap_or_default();
                broken = Some(format!(
                    "the robot {identity:?} of {key} is still in its room, and everything is gone"
                ));
            }
        }
        if let Some(broken) = broken {
            self.broken(broken);
        }
    }
}

/// Whether it would delete its robot if it were deleted. The operator's own rule is not asked: it is what is checked.
fn would_delete(robot: &Robot) -> bool {
    robot.deleting_since.is_none()
        && robot.finalizers.ours.is_some()
        && robot.accepted()
        && robot.deletion_policy == DeletionPolicy::Delete
}
