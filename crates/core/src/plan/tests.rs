use super::*;
use crate::{
    call::{Outcome, Reply, Trouble, TroubleKind},
    codes::{CODES, Class},
    robot::{Finalizers, Key, LastRequest, Stored},
    status::Conditions,
};
use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Condition, jiff::Timestamp};
use serde_json::json;

const SECOND: Duration = Duration::from_secs(1);
const ID: &str = "Id-52f0-O-Seq-56287";

/// Everything that a decision depends on, owned.
#[derive(Clone)]
struct Scene {
    robot: Robot,
    application: Option<Found>,
    hold: Option<Hold>,
    heir: Option<Key>,
    refused: Option<&'static str>,
    /// The stored conditions in full.
    list: Option<Vec<Condition>>,
    memory: Memory,
    settled: Duration,
    now: Duration,
}

#[derive(Clone, Copy)]
struct Found {
    deleting: bool,
    admits: Option<bool>,
    held: bool,
    refused: Option<&'static str>,
}

impl Scene {
    /// A new robot, and an application that would take it.
    fn new() -> Self {
        let stored = json!({
            "metadata": {"name": "robot", "namespace": "team-a", "uid": "u", "resourceVersion": "1", "generation": 1},
            "spec": {"roomId": "room", "memberAccount": "member", "applicationRef": {"name": "app"}},
        });
        Self {
            robot: serde_json::from_value::<Stored>(stored).unwrap().into(),
            application: Some(Found { deleting: false, admits: Some(true), held: true, refused: None }),
            hold: None,
            heir: None,
            refused: None,
            list: None,
            memory: Memory::default(),
            settled: Duration::ZERO,
            now: 100 * SECOND,
        }
    }

    fn creating(mut self) -> Self {
        self.robot.creation_policy = CreationPolicy::Create;
        self
    }

    fn retaining(mut self) -> Self {
        self.robot.deletion_policy = DeletionPolicy::Retain;
        self
    }

    fn suspended(mut self) -> Self {
        self.robot.suspend = true;
        self
    }

    fn finalizer(mut self) -> Self {
        self.robot.finalizers = Finalizers { ours: Some(0), count: 1 };
        self
    }

    /// Taken in charge, with what its policy says at that time.
    fn accepted(mut self) -> Self {
        self = self.finalizer();
        let before = std::mem::replace(&mut self.application, Self::new().application);
        assert!(matches!(self.carry_out(), Step::Report(_)));
        self.application = before;
        assert!(self.robot.accepted());
        self
    }

    fn deleting(mut self) -> Self {
        self.robot.deleting_since = Some(1_700_000_000);
        self.robot.generation += 1;
        self
    }

    fn application(mut self, change: impl FnOnce(&mut Found)) -> Self {
        change(self.application.as_mut().unwrap());
        self
    }

    fn without_application(mut self) -> Self {
        self.application = None;
        self
    }

    fn held_back(mut self, reason: Reason) -> Self {
        self.hold = Some(hold(reason));
        self
    }

    fn claimed(mut self) -> Self {
        self.heir = Some(Key { namespace: "team-a".into(), name: "twin".into() });
        self
    }

    fn never_added(mut self) -> Self {
        self.memory.additions = Additions::None;
        self
    }

    fn answered(mut self, operation: Operation, outcome: Outcome) -> Self {
        let class = outcome.class(operation);
        let at = 1_700_000_100;
        if operation == Operation::AddRobot {
            let before = additions_before_call(&self.robot, &self.memory);
            self.memory.additions = additions_after_answer(before, &outcome);
        }
        self.memory.last = Some(Box::new(Attempt {
            operation,
            outcome,
            class,
            at,
            recorded: false,
            settled: Duration::ZERO,
        }));
        self
    }

    /// The answer of a deletion that stands in the stored status.
    fn told(mut self, outcome: Outcome) -> Self {
        self = self.answered(Operation::DeleteRobot, outcome);
        assert!(matches!(self.carry_out(), Step::Report(_)));
        self
    }

    fn store(&mut self, list: Vec<Condition>) {
        self.robot.conditions = Conditions::read(Some(list.clone()));
        self.list = Some(list);
    }

    fn plan(&self) -> Step {
        let application = self.application.map_or(Application::Missing, |found| Application::Found {
            deleting: found.deleting,
            admits: found.admits,
            held: found.held,
            refused: found.refused,
            hold: self.hold.as_ref(),
        });
        plan(&Facts {
            robot: &self.robot,
            application,
            heir: self.heir.as_ref(),
            heir_comes: false,
            half_listed: false,
            refused: self.refused,
            memory: &self.memory,
            settled: self.settled,
            now: self.now,
        })
    }

    /// Does what is planned, as the API server would take it, and says what it was.
    fn carry_out(&mut self) -> Step {
        let step = self.plan();
        let finalizers = &mut self.robot.finalizers;
        match &step {
            Step::Rest | Step::Wait(_) | Step::Call(_) => {}
            Step::AddFinalizer => {
                assert_eq!(finalizers.ours, None);
                *finalizers = Finalizers { ours: Some(finalizers.count), count: finalizers.count + 1 };
            }
            Step::DropFinalizer => {
                assert!(finalizers.ours.take().is_some());
                finalizers.count -= 1;
            }
            Step::Report(wanted) => {
                let at = Timestamp::from_second(1_700_000_200).unwrap();
                let generation = self.robot.generation;
                let mut object = self
                    .list
                    .take()
                    .map_or_else(|| json!({}), |list| json!({"status": {"conditions": list}}));
                let patch = self.robot.conditions.patch(wanted, generation, [], at);
                json_patch::patch(
                    &mut object,
                    &serde_json::from_value::<json_patch::Patch>(json!(patch)).unwrap(),
                )
                .unwrap();
                self.store(serde_json::from_value(object["status"]["conditions"].take()).unwrap());
                self.robot.observed_generation = Some(generation);
                if let Some(last) = &mut self.memory.last {
                    self.robot.last_request = Some(Box::new(LastRequest {
                        operation: last.operation.to_string(),
                        request_id: last.outcome.request_id().map(str::to_owned),
                        error_code: last.outcome.code(),
                    }));
                    last.recorded = true;
                }
            }
        }
        step
    }
}

fn hold(reason: Reason) -> Hold {
    Hold {
        reason,
        message: format!("The application makes no call ({reason}): ErrorCode 1, RequestId of-another"),
        refusal: reason != Reason::Suspended,
        person: true,
    }
}

fn reply(code: i64) -> Outcome {
    Outcome::Reply(Reply { code, info: "info".into(), request_id: Some(ID.into()) })
}

fn trouble(kind: TroubleKind, http_status: Option<u16>) -> Outcome {
    Outcome::Trouble(Trouble { kind, http_status, request_id: None })
}

fn refused(reason: Reason) -> Vec<(Kind, Is, Reason)> {
    vec![
        (Kind::Accepted, Is::False, reason),
        (Kind::Ready, Is::False, reason),
        (Kind::Stalled, Is::True, reason),
    ]
}

const ACCEPTED: (Kind, Is, Reason) = (Kind::Accepted, Is::True, Reason::Accepted);
const LEAVING: (Kind, Is, Reason) = (Kind::Ready, Is::False, Reason::Deleting);

fn waiting_for(reason: Reason, stalled: bool) -> Vec<(Kind, Is, Reason)> {
    let mut all = vec![ACCEPTED, LEAVING, (Kind::RobotDeleted, Is::False, reason)];
    if stalled {
        all.insert(2, (Kind::Stalled, Is::True, reason));
    }
    all
}

#[track_caller]
fn conditions(step: Step) -> Vec<Wanted> {
    match step {
        Step::Report(wanted) => wanted,
        other => panic!("{other:?} where a report was due"),
    }
}

/// The step is a report of just these conditions.
#[track_caller]
fn assert_report(step: Step, expected: &[(Kind, Is, Reason)]) {
    let wanted: Vec<_> = conditions(step).iter().map(|want| (want.kind, want.is, want.reason)).collect();
    assert_eq!(wanted, expected);
}

#[track_caller]
fn message(step: Step, kind: Kind) -> String {
    conditions(step).into_iter().find(|want| want.kind == kind).expect("no such condition").message
}

// Live robots.

#[test]
fn a_robot_without_a_home_is_refused_and_says_why() {
    for (scene, reason, told) in [
        (
            Scene::new().without_application(),
            Reason::ApplicationNotFound,
            "RtcApplication app does not exist",
        ),
        (
            Scene::new().application(|app| app.deleting = true),
            Reason::ApplicationNotFound,
            "is being deleted",
        ),
        (
            Scene::new().application(|app| app.admits = Some(false)),
            Reason::NamespaceNotAllowed,
            "namespace team-a",
        ),
        // Born with the finalizer: refused all the same.
        (Scene::new().finalizer().without_application(), Reason::ApplicationNotFound, "does not exist"),
        (
            Scene::new().creating().suspended().without_application(),
            Reason::ApplicationNotFound,
            "does not exist",
        ),
    ] {
        let mut scene = scene;
        let text = message(scene.plan(), Kind::Accepted);
        assert!(text.contains(told), "{text}");
        assert_report(scene.carry_out(), &refused(reason));
        assert_eq!(scene.plan(), Step::Rest, "said once");
        scene.robot.generation += 1;
        assert_report(scene.plan(), &refused(reason));
    }
}

#[test]
fn a_robot_waits_in_silence_for_what_is_only_not_known_yet() {
    for scene in [
        Scene::new().application(|app| app.admits = None),
        Scene::new().application(|app| app.held = false),
        Scene::new().finalizer().application(|app| app.held = false),
    ] {
        assert_eq!(scene.plan(), Step::Rest);
    }
}

#[test]
fn the_finalizer_comes_before_the_acceptance() {
    let mut scene = Scene::new();
    assert_eq!(scene.carry_out(), Step::AddFinalizer);
    assert!(!scene.robot.accepted());
    assert_report(scene.carry_out(), &[ACCEPTED, (Kind::Ready, Is::True, Reason::Adopted)]);
    assert_eq!(scene.carry_out(), Step::Rest);
    let mut others = Scene::new();
    others.robot.finalizers.count = 2;
    assert_eq!(others.carry_out(), Step::AddFinalizer);
    assert_eq!(others.robot.finalizers, Finalizers { ours: Some(2), count: 3 });
}

#[test]
fn a_refusal_that_is_over_leaves_nothing_behind() {
    let mut scene = Scene::new().without_application();
    assert_report(scene.carry_out(), &refused(Reason::ApplicationNotFound));
    scene.application = Scene::new().application;
    assert_eq!(scene.carry_out(), Step::AddFinalizer);
    assert_report(scene.carry_out(), &[ACCEPTED, (Kind::Ready, Is::True, Reason::Adopted)]);
    assert!(scene.robot.conditions.reason(Kind::Stalled).is_none());
}

#[test]
fn a_changed_spec_is_observed_and_nothing_else_is_written() {
    let mut scene = Scene::new().accepted();
    assert_eq!(scene.plan(), Step::Rest);
    scene.robot.generation += 1;
    assert_report(scene.carry_out(), &[ACCEPTED, (Kind::Ready, Is::True, Reason::Adopted)]);
    assert_eq!(scene.plan(), Step::Rest);
}

#[test]
fn charge_is_never_given_back() {
    for scene in [
        Scene::new().accepted().without_application(),
        Scene::new().accepted().application(|app| app.deleting = true),
        Scene::new().accepted().application(|app| app.admits = Some(false)),
        Scene::new().accepted().application(|app| app.admits = None),
        Scene::new().accepted().application(|app| app.held = false),
        Scene::new().accepted().held_back(Reason::CredentialsRejected),
        Scene::new().accepted().suspended(),
        Scene::new().accepted().claimed(),
    ] {
        let mut scene = scene;
        assert_eq!(
            scene.plan(),
            Step::Rest,
            "nothing to say about a robot that is in the room by other means"
        );
        scene.robot.finalizers = Finalizers { ours: None, count: 0 };
        assert_eq!(scene.plan(), Step::AddFinalizer, "a finalizer that was dropped is put back");
    }
}

// Live robots that the operator brings in.

#[test]
fn a_robot_to_be_added_is_accepted_called_for_and_told() {
    let mut scene = Scene::new().creating();
    assert_eq!(scene.carry_out(), Step::AddFinalizer);
    assert_report(scene.carry_out(), &[ACCEPTED, (Kind::Ready, Is::Unknown, Reason::Adding)]);
    assert_eq!(scene.plan(), Step::Call(Operation::AddRobot));
    scene = scene.answered(Operation::AddRobot, reply(0));
    let text = message(scene.plan(), Kind::Ready);
    assert!(text.ends_with(&format!("ErrorCode 0, RequestId {ID}")), "{text}");
    assert_report(scene.carry_out(), &[ACCEPTED, (Kind::Ready, Is::True, Reason::Added)]);
    assert_eq!(scene.plan(), Step::Rest);
}

#[test]
fn no_call_is_made_for_a_robot_that_is_not_accepted() {
    for application in [None, Some((true, Some(true))), Some((false, None)), Some((false, Some(false)))] {
        let mut scene = Scene::new().creating().finalizer();
        scene.application =
            application.map(|(deleting, admits)| Found { deleting, admits, held: true, refused: None });
        for _ in 0..4 {
            assert!(!matches!(scene.carry_out(), Step::Call(_)));
        }
        assert!(!scene.robot.accepted());
    }
}

#[test]
fn each_answer_to_an_addition_has_its_own_reason() {
    for (outcome, is, reason, stalled) in [
        (reply(100_004), Is::False, Reason::RoomNotFound, false),
        (reply(100_008), Is::False, Reason::RoomFull, false),
        (reply(100_700), Is::False, Reason::RobotLimitReached, false),
        (reply(70107), Is::False, Reason::AccountNotImported, true),
        // It tried, and does not say how far it came.
        (reply(100_001), Is::Unknown, Reason::InternalError, false),
        (reply(60008), Is::Unknown, Reason::InternalError, false),
        (reply(60011), Is::False, Reason::Throttled, false),
        (reply(70009), Is::False, Reason::CredentialsRejected, true),
        (reply(70001), Is::False, Reason::CredentialsRejected, true),
        (reply(60010), Is::False, Reason::PermissionDenied, true),
        (reply(100_006), Is::False, Reason::PermissionDenied, true),
        (reply(60020), Is::False, Reason::ApplicationNotReady, true),
        (reply(100_002), Is::False, Reason::InvalidParameter, true),
        // "Not a member" makes no sense as an answer to an addition: not a success, and not the end.
        (reply(100_005), Is::Unknown, Reason::UnknownErrorCode, true),
        (reply(424_242), Is::Unknown, Reason::UnknownErrorCode, true),
        // Nothing was sent.
        (trouble(TroubleKind::Refused, None), Is::False, Reason::Unreachable, false),
        (trouble(TroubleKind::Certificate, None), Is::False, Reason::Unreachable, false),
        (trouble(TroubleKind::Timeout, None), Is::Unknown, Reason::Unreachable, false),
        (trouble(TroubleKind::Http, Some(502)), Is::Unknown, Reason::UnexpectedReply, false),
        (trouble(TroubleKind::Http, Some(429)), Is::False, Reason::Throttled, false),
    ] {
        let scene = Scene::new().creating().accepted().never_added();
        let mut scene = scene.answered(Operation::AddRobot, outcome.clone());
        let text = message(scene.plan(), Kind::Ready);
        assert!(text.ends_with(&outcome.reference()), "{text}");
        let mut expected = vec![ACCEPTED, (Kind::Ready, is, reason)];
        if stalled {
            expected.push((Kind::Stalled, Is::True, reason));
        }
        assert_report(scene.carry_out(), &expected);
        scene.memory.not_before = scene.now + SECOND;
        assert_eq!(scene.plan(), Step::Wait(scene.now + SECOND), "{reason}");
        scene.now += SECOND;
        assert_eq!(scene.plan(), Step::Call(Operation::AddRobot), "{reason}");
    }
}

#[test]
fn an_addition_that_may_not_be_called_for_says_so() {
    for (scene, reason) in [
        (Scene::new().creating().suspended(), Reason::Suspended),
        (Scene::new().creating().held_back(Reason::CredentialsRejected), Reason::CredentialsRejected),
        (Scene::new().creating().held_back(Reason::ApplicationNotReady), Reason::ApplicationNotReady),
        // The robot's own reason comes first.
        (Scene::new().creating().suspended().held_back(Reason::CredentialsRejected), Reason::Suspended),
    ] {
        let mut scene = scene;
        let expected = [ACCEPTED, (Kind::Ready, Is::False, reason), (Kind::Stalled, Is::True, reason)];
        assert_eq!(scene.carry_out(), Step::AddFinalizer);
        assert_report(scene.carry_out(), &expected);
        let in_line = scene.hold.is_some() && !scene.robot.suspend;
        let follows = if in_line { Step::Call(Operation::AddRobot) } else { Step::Rest };
        assert_eq!(scene.plan(), follows);
        scene.hold = None;
        scene.robot.suspend = false;
        assert_report(scene.carry_out(), &[ACCEPTED, (Kind::Ready, Is::Unknown, Reason::Adding)]);
        assert_eq!(scene.plan(), Step::Call(Operation::AddRobot), "{reason} is over");
    }
    // That a call is due was stored, and is not taken back: it could go out before that write is known to be stored.
    let missing = Scene::new().creating().accepted().never_added().without_application();
    let reason = Reason::ApplicationNotReady;
    let expected = [ACCEPTED, (Kind::Ready, Is::Unknown, reason), (Kind::Stalled, Is::True, reason)];
    assert_report(missing.plan(), &expected);
}

#[test]
fn an_addition_that_is_told_is_not_repeated_after_a_restart() {
    let mut scene = Scene::new().creating().accepted().answered(Operation::AddRobot, reply(0));
    scene.carry_out();
    scene.memory = Memory::default();
    for scene in [
        scene.clone(),
        scene.clone().suspended(),
        scene.clone().without_application(),
        scene.clone().held_back(Reason::CredentialsRejected),
    ] {
        assert_eq!(scene.plan(), Step::Rest);
    }
    // One whose answer is not known is called for again.
    let mut unknown = Scene::new().creating().accepted();
    unknown.memory = Memory::default();
    assert_eq!(unknown.plan(), Step::Call(Operation::AddRobot));
}

/// What an earlier call did is not known from the refusal of a later one, unless there is no room at all.
#[test]
fn after_a_lost_reply_only_success_or_a_missing_room_ends_the_doubt() {
    let lost = Scene::new()
        .creating()
        .accepted()
        .never_added()
        .answered(Operation::AddRobot, trouble(TroubleKind::Timeout, None));
    for (outcome, is) in [
        (reply(0), Is::True),
        (reply(100_004), Is::False),
        (reply(100_002), Is::Unknown),
        (reply(100_005), Is::Unknown),
        (reply(100_006), Is::Unknown),
        (reply(100_008), Is::Unknown),
        (reply(100_700), Is::Unknown),
        (reply(60011), Is::Unknown),
        (reply(70009), Is::Unknown),
        (reply(424_242), Is::Unknown),
        (trouble(TroubleKind::Refused, None), Is::Unknown),
    ] {
        for restarted in [false, true] {
            let mut scene = lost.clone();
            assert!(matches!(scene.carry_out(), Step::Report(_)));
            if restarted {
                scene.memory = Memory::default();
            }
            let scene = scene.answered(Operation::AddRobot, outcome.clone());
            let ready = conditions(scene.plan()).into_iter().find(|want| want.kind == Kind::Ready).unwrap();
            assert_eq!(ready.is, is, "{outcome:?}");
            let doubt = ready.message.starts_with("The robot may be in the room or not; ");
            assert_eq!(doubt, is == Is::Unknown, "{}", ready.message);
        }
    }
    // Nor does a brake say more than is known.
    let mut scene = lost;
    scene.carry_out();
    let mut scene = scene.suspended();
    for _ in 0..2 {
        scene.robot.generation += 1;
        let (ready, stalled) = ((Kind::Ready, Is::Unknown), (Kind::Stalled, Is::True));
        let suspended = [ready, stalled].map(|(kind, is)| (kind, is, Reason::Suspended));
        assert_report(scene.carry_out(), &[&[ACCEPTED], &suspended[..]].concat());
        scene.memory = Memory::default();
    }
}

/// Before its first call a robot says that it is due, so that another process knows as well.
#[test]
fn what_is_stored_tells_another_process_whether_there_can_have_been_a_call() {
    // Accepted under a brake: nobody has called.
    let braked = {
        let mut scene = Scene::new().creating().finalizer().suspended();
        assert!(matches!(scene.carry_out(), Step::Report(_)));
        scene
    };
    let ends = [ACCEPTED, LEAVING, (Kind::RobotDeleted, Is::True, Reason::NotInRoom)];
    assert_report(braked.clone().deleting().plan(), &ends);
    // Never even accepted: nobody may call.
    assert_report(Scene::new().creating().finalizer().deleting().plan(), &ends);
    // The brake is off: a call may follow what is stored now.
    let mut due = braked.clone();
    due.robot.suspend = false;
    assert_report(due.carry_out(), &[ACCEPTED, (Kind::Ready, Is::Unknown, Reason::Adding)]);
    assert_eq!(due.plan(), Step::Call(Operation::AddRobot));
    assert_eq!(due.clone().deleting().plan(), Step::Call(Operation::DeleteRobot));
    // A deletion that waits hides what was there before, and it would not wait if there had been no call.
    let mut waiting = due.clone().deleting().suspended();
    assert_report(waiting.carry_out(), &waiting_for(Reason::Suspended, true));
    waiting.robot.suspend = false;
    assert_eq!(waiting.plan(), Step::Call(Operation::DeleteRobot));
    // Refused: there was a call, and perhaps another.
    let mut refused = due.answered(Operation::AddRobot, reply(100_700));
    refused.carry_out();
    refused.memory = Memory::default();
    assert_eq!(refused.plan(), Step::Call(Operation::AddRobot), "said already");
    assert_eq!(refused.deleting().plan(), Step::Call(Operation::DeleteRobot));
}

/// The room engine may still carry out what nobody waits for any more.
#[test]
fn a_deletion_does_not_overtake_an_addition() {
    let mut scene = Scene::new().creating().accepted().never_added();
    scene = scene.answered(Operation::AddRobot, trouble(TroubleKind::Broken, Some(200)));
    let later = scene.now + 3 * SECOND;
    scene.memory.last.as_mut().unwrap().settled = later;
    scene.carry_out();
    let scene = scene.deleting();
    assert_eq!(scene.plan(), Step::Wait(later));
    // Another process does not know of the call; only that it may have been made before it began.
    let mut other = scene.clone();
    (other.memory, other.settled) = (Memory::default(), later + SECOND);
    assert_eq!(other.plan(), Step::Wait(later + SECOND));
    other.robot.creation_policy = CreationPolicy::Adopt;
    assert_eq!(other.plan(), Step::Wait(later + SECOND), "changed while it was under way");
    // What was told as added long ago, and what was not added by a call, is deleted at once.
    let mut added = Scene::new().creating().accepted().answered(Operation::AddRobot, reply(0));
    added.carry_out();
    (added.memory, added.settled) = (Memory::default(), added.now + SECOND);
    assert_eq!(added.deleting().plan(), Step::Call(Operation::DeleteRobot));
    let mut adopted = Scene::new().accepted();
    adopted.settled = adopted.now + SECOND;
    assert_eq!(adopted.clone().deleting().plan(), Step::Call(Operation::DeleteRobot));
    // The policy became Create, and the process before may have called before it could write that down.
    assert_eq!(adopted.clone().creating().deleting().plan(), Step::Wait(adopted.settled));
}

#[test]
fn an_adopted_robot_whose_policy_becomes_create_says_that_it_is_to_be_added() {
    let mut scene = Scene::new().accepted().creating();
    scene.robot.generation += 1;
    let mut held = scene.clone().suspended();
    assert_report(scene.carry_out(), &[ACCEPTED, (Kind::Ready, Is::Unknown, Reason::Adding)]);
    assert_eq!(scene.plan(), Step::Call(Operation::AddRobot));
    let (ready, stalled) = ((Kind::Ready, Is::Unknown), (Kind::Stalled, Is::True));
    let suspended = [ready, stalled].map(|(kind, is)| (kind, is, Reason::Suspended));
    assert_report(held.carry_out(), &[&[ACCEPTED], &suspended[..]].concat());
    // It came by other means: its deletion is owed.
    assert_report(held.deleting().plan(), &waiting_for(Reason::Suspended, true));
}

/// The message holds a RequestId that this process did not see: it is kept, and the generation is observed all the same.
#[test]
fn a_changed_spec_of_an_added_robot_is_observed_after_a_restart_too() {
    let mut scene = Scene::new().creating().accepted().answered(Operation::AddRobot, reply(0));
    scene.carry_out();
    scene.robot.generation += 1;
    assert_report(scene.plan(), &[ACCEPTED, (Kind::Ready, Is::True, Reason::Added)]);
    scene.memory = Memory::default();
    assert_report(scene.plan(), &[ACCEPTED, (Kind::Ready, Is::True, Reason::Added)]);
}

/// As while two processes lead, or two installations do: else each puts its own RequestId there in turn, as fast as it can.
#[test]
fn an_addition_that_another_process_tells_of_is_not_told_again() {
    let mut scene = Scene::new().creating().accepted().answered(Operation::AddRobot, reply(0));
    scene.carry_out();
    let mine = scene.memory.clone();
    let mut other = reply(0);
    if let Outcome::Reply(reply) = &mut other {
        reply.request_id = Some("Id-of-another".into());
    }
    scene = scene.answered(Operation::AddRobot, other);
    assert_report(scene.carry_out(), &[ACCEPTED, (Kind::Ready, Is::True, Reason::Added)]);
    scene.memory = mine;
    assert_eq!(scene.plan(), Step::Rest);
}

/// As a deletion does: else each probe costs a second write, which puts another call's RequestId there.
#[test]
fn an_addition_that_was_refused_itself_keeps_its_own_request_id() {
    let mut scene = Scene::new()
        .creating()
        .accepted()
        .answered(Operation::AddRobot, reply(70009))
        .held_back(Reason::CredentialsRejected);
    let text = message(scene.carry_out(), Kind::Ready);
    assert!(text.ends_with(&format!("ErrorCode 70009, RequestId {ID}")), "{text}");
    assert_eq!(scene.plan(), Step::Call(Operation::AddRobot), "it stays in line");
}

/// Not every row has a remedy, and 100004 as the answer to an addition has none that the row would tell.
#[test]
fn no_message_has_an_empty_clause() {
    let codes = CODES.iter().map(|row| row.code).chain([424_242]);
    for (operation, code) in
        codes.flat_map(|code| [(Operation::DeleteRobot, code), (Operation::AddRobot, code)])
    {
        let mut scene = Scene::new().creating().accepted();
        if operation == Operation::DeleteRobot {
            scene = scene.deleting();
        }
        for want in conditions(scene.answered(operation, reply(code)).plan()) {
            for ugly in ["; :", "; ;", ": :", ". ", ".:", ".;", "  "] {
                assert!(!want.message.contains(ugly), "{operation} {code}: {}", want.message);
            }
        }
    }
}

// Deletions.

#[test]
fn the_finalizer_is_never_put_on_a_robot_that_is_being_deleted() {
    for scene in [Scene::new(), Scene::new().accepted(), Scene::new().retaining(), Scene::new().suspended()] {
        let mut scene = scene.deleting();
        scene.robot.finalizers = Finalizers { ours: None, count: 1 };
        assert_eq!(scene.plan(), Step::Rest, "only others hold it still");
    }
}

#[test]
fn what_is_told_already_only_drops_the_finalizer() {
    for reason in [Reason::Deleted, Reason::RoomNotFound, Reason::NotInRoom, Reason::Retained] {
        let mut scene = Scene::new().accepted().deleting();
        if reason == Reason::Retained {
            scene = scene.retaining();
        }
        let wanted =
            [Wanted::new(Kind::RobotDeleted, Is::True, reason, "told by the process before this one")];
        let at = Timestamp::from_second(1).unwrap();
        scene.store(scene.robot.conditions.with(&wanted, 1, at));
        for scene in
            [scene.clone(), scene.clone().suspended(), scene.clone().without_application(), scene.claimed()]
        {
            assert_eq!(scene.plan(), Step::DropFinalizer);
        }
    }
}

#[test]
fn a_final_answer_is_told_and_then_the_finalizer_goes() {
    for (code, reason, says) in [
        (0, Reason::Deleted, "The robot was removed from the room"),
        (100_004, Reason::RoomNotFound, "The room does not exist"),
        (100_005, Reason::NotInRoom, "The robot is not a member of the room"),
    ] {
        let answered = Scene::new().accepted().deleting().answered(Operation::DeleteRobot, reply(code));
        // Whatever else has become true meanwhile: the robot is gone, and that is what is told.
        for scene in [
            answered.clone(),
            answered.clone().suspended(),
            answered.clone().retaining(),
            answered.clone().claimed(),
            answered.clone().without_application(),
            answered.clone().held_back(Reason::CredentialsRejected),
        ] {
            let mut scene = scene;
            let text = message(scene.plan(), Kind::RobotDeleted);
            assert!(text.starts_with(says), "{text}");
            assert!(text.ends_with(&format!("ErrorCode {code}, RequestId {ID}")), "{text}");
            assert_report(scene.carry_out(), &[ACCEPTED, LEAVING, (Kind::RobotDeleted, Is::True, reason)]);
            assert_eq!(scene.carry_out(), Step::DropFinalizer);
            assert_eq!(scene.plan(), Step::Rest);
        }
    }
}

#[test]
fn an_answer_to_an_addition_ends_no_deletion() {
    for code in [0, 100_004, 100_005] {
        let scene = Scene::new().creating().accepted().answered(Operation::AddRobot, reply(code)).deleting();
        assert!(scene.memory.final_answer().is_none());
        assert_eq!(scene.plan(), Step::Call(Operation::DeleteRobot), "{code}");
    }
}

#[test]
fn retain_lets_go_at_once_whatever_stands_in_the_way() {
    let accepted = Scene::new().accepted().deleting().retaining();
    for scene in [
        accepted.clone(),
        accepted.clone().suspended(),
        accepted.clone().without_application(),
        accepted.clone().application(|app| app.admits = None),
        accepted.clone().claimed(),
        accepted.clone().held_back(Reason::CredentialsRejected),
        accepted.clone().answered(Operation::DeleteRobot, reply(100_001)),
        Scene::new()
            .accepted()
            .deleting()
            .held_back(Reason::CredentialsRejected)
            .told(reply(70009))
            .retaining(),
        Scene::new().creating().accepted().deleting().retaining().never_added(),
    ] {
        let mut scene = scene;
        scene.memory.not_before = scene.now + 300 * SECOND;
        assert_report(
            scene.carry_out(),
            &[ACCEPTED, LEAVING, (Kind::RobotDeleted, Is::True, Reason::Retained)],
        );
        assert_eq!(scene.carry_out(), Step::DropFinalizer);
        assert_eq!(scene.plan(), Step::Rest);
    }
    // Never accepted: that is not claimed on the way out.
    for scene in [
        Scene::new().finalizer(),
        Scene::new().finalizer().without_application(),
        Scene::new().finalizer().application(|app| app.admits = None),
        Scene::new().finalizer().application(|app| app.admits = Some(false)),
    ] {
        let mut scene = scene.deleting().retaining();
        assert_report(scene.carry_out(), &[LEAVING, (Kind::RobotDeleted, Is::True, Reason::Retained)]);
        assert_eq!(scene.carry_out(), Step::DropFinalizer);
    }
}

/// `deletionPolicy` may be changed at any time, and until the finalizer goes it counts: that may take hours where the
/// cluster refuses to take it off.
#[test]
fn retain_can_be_taken_back_until_the_object_goes() {
    let mut scene = Scene::new().accepted().deleting().retaining();
    assert_report(scene.carry_out(), &[ACCEPTED, LEAVING, (Kind::RobotDeleted, Is::True, Reason::Retained)]);
    scene.robot.deletion_policy = DeletionPolicy::Delete;
    assert_eq!(scene.plan(), Step::Call(Operation::DeleteRobot));
    scene = scene.answered(Operation::DeleteRobot, reply(0));
    assert_report(scene.carry_out(), &[ACCEPTED, LEAVING, (Kind::RobotDeleted, Is::True, Reason::Deleted)]);
    assert_eq!(scene.plan(), Step::DropFinalizer);
}

/// The call may even have taken effect, its reply lost; and the last RequestId stays in the condition (promise 4).
#[test]
fn who_lets_go_after_a_call_does_not_say_that_nothing_was_called() {
    for reason in [Reason::Retained, Reason::StillClaimed] {
        let mut scene = Scene::new().accepted().deleting().told(reply(100_001));
        scene = if reason == Reason::Retained { scene.retaining() } else { scene.claimed() };
        let text = message(scene.plan(), Kind::RobotDeleted);
        assert!(!text.contains("nothing was called"), "{text}");
        assert!(text.ends_with(&format!("ErrorCode 100001, RequestId {ID}")), "{text}");
    }
}

#[test]
fn what_was_never_accepted_goes_without_a_call_and_without_a_word() {
    for scene in [
        Scene::new().finalizer().without_application(),
        Scene::new().finalizer().application(|app| app.admits = Some(false)),
        Scene::new().finalizer().suspended().without_application(),
        Scene::new().finalizer().claimed().application(|app| app.admits = Some(false)),
    ] {
        let mut refused = scene.clone();
        assert!(matches!(refused.carry_out(), Step::Report(_)));
        for mut scene in [scene.deleting(), refused.deleting()] {
            assert_eq!(scene.carry_out(), Step::DropFinalizer);
            assert_eq!(scene.plan(), Step::Rest);
        }
    }
}

#[test]
fn what_was_refused_by_an_application_on_its_way_out_goes_without_a_call() {
    let mut scene = Scene::new().finalizer().application(|app| app.deleting = true);
    assert_report(scene.carry_out(), &refused(Reason::ApplicationNotFound));
    let mut scene = scene.deleting();
    assert_eq!(scene.carry_out(), Step::DropFinalizer);
    assert_eq!(scene.plan(), Step::Rest);
}

#[test]
fn a_robot_born_with_the_finalizer_is_accepted_on_its_way_out() {
    let unknown = Scene::new().finalizer().deleting().application(|app| app.admits = None);
    assert_eq!(unknown.plan(), Step::Rest, "whether it may be accepted is not known yet");
    // An application that is being deleted still serves deletions.
    for deleting in [false, true] {
        let mut scene = Scene::new().finalizer().deleting().application(|app| app.deleting = deleting);
        assert_eq!(scene.plan(), Step::Call(Operation::DeleteRobot));
        scene = scene.answered(Operation::DeleteRobot, reply(0));
        assert_report(
            scene.carry_out(),
            &[ACCEPTED, LEAVING, (Kind::RobotDeleted, Is::True, Reason::Deleted)],
        );
    }
    let waiting = Scene::new().finalizer().deleting().suspended();
    assert_report(waiting.plan(), &waiting_for(Reason::Suspended, true));
}

#[test]
fn the_last_of_those_who_claim_a_robot_deletes_it() {
    let claimed = Scene::new().accepted().deleting().claimed();
    for scene in [
        claimed.clone(),
        claimed.clone().suspended(),
        claimed.clone().without_application(),
        claimed.clone().held_back(Reason::CredentialsRejected),
        Scene::new().creating().accepted().deleting().claimed().never_added(),
        Scene::new().finalizer().deleting().claimed(),
    ] {
        let mut scene = scene;
        let text = message(scene.plan(), Kind::RobotDeleted);
        assert!(text.contains("RoomRobot team-a/twin stands for the same robot"), "{text}");
        assert_report(
            scene.carry_out(),
            &[ACCEPTED, LEAVING, (Kind::RobotDeleted, Is::False, Reason::StillClaimed)],
        );
        assert_eq!(scene.carry_out(), Step::DropFinalizer);
    }
    // The rival went before our finalizer did: now this is the last one.
    let mut scene = claimed;
    scene.carry_out();
    scene.heir = None;
    assert_eq!(scene.plan(), Step::Call(Operation::DeleteRobot));
}

/// What another tenant calls its objects is not for everybody to read.
#[test]
fn an_heir_is_named_within_its_namespace_only() {
    let mut scene = Scene::new().accepted().deleting().claimed();
    scene.heir = Some(Key { namespace: "team-b".into(), name: "secret-plan".into() });
    let text = message(scene.plan(), Kind::RobotDeleted);
    assert!(!text.contains("team-b") && !text.contains("secret-plan"), "{text}");
    assert!(text.contains("in another namespace"), "{text}");
}

#[test]
fn only_who_would_delete_a_robot_that_may_be_there_inherits() {
    let inherits = |scene: Scene| may_inherit(&scene.robot, &scene.memory);
    assert!(inherits(Scene::new().accepted()));
    assert!(inherits(Scene::new().accepted().suspended()), "it deletes later");
    assert!(!inherits(Scene::new().finalizer()), "not in charge");
    assert!(!inherits(Scene::new().accepted().deleting()));
    assert!(!inherits(Scene::new().accepted().retaining()));
    assert!(!inherits(Scene::new().creating().accepted().never_added()));
    assert!(inherits(Scene::new().creating().accepted()), "another process may have sent add_robot");
    let refused = Scene::new().creating().accepted().answered(Operation::AddRobot, reply(100_002));
    assert!(inherits(refused), "it answers for what it has sent");
    assert!(!inherits(Scene::new().creating()), "not in charge");
}

#[test]
fn who_is_about_to_be_taken_in_charge_is_to_inherit() {
    assert!(is_to_inherit(&Scene::new().robot));
    assert!(is_to_inherit(&Scene::new().finalizer().robot), "its acceptance is due");
    let mut unheld = Scene::new().accepted();
    unheld.robot.finalizers = Finalizers::default();
    assert!(is_to_inherit(&unheld.robot), "somebody took its finalizer, which is put back");
    for scene in [
        Scene::new().accepted(),
        Scene::new().deleting(),
        Scene::new().accepted().deleting(),
        Scene::new().retaining(),
        Scene::new().creating(),
    ] {
        assert!(!is_to_inherit(&scene.robot), "{:?}", scene.robot);
    }
}

#[test]
fn no_robot_counts_as_never_added_that_this_process_or_another_has_called_for() {
    let never = |scene: &Scene| super::never_added(&scene.robot, &scene.memory);
    assert!(never(&Scene::new().creating().finalizer()));
    // The status that told of it is gone, as after a restore.
    let added = Scene::new().creating().finalizer().answered(Operation::AddRobot, reply(0));
    assert_eq!(added.memory.additions, Additions::Untold, "that it succeeded is told in the condition");
    assert!(!never(&added));
    // The process before this one was refused.
    let mut refused = Scene::new().creating().accepted().answered(Operation::AddRobot, reply(100_002));
    refused.carry_out();
    refused.memory = Memory::default();
    assert_eq!(refused.robot.conditions.is(Kind::Ready), Some(Is::Unknown));
    assert!(!never(&refused));
    refused.store(Conditions::default().with(
        &[accepted(&refused.robot), ready(Is::False, Reason::InvalidParameter, "refused")],
        1,
        Timestamp::UNIX_EPOCH,
    ));
    assert!(!never(&refused));
}

/// By whichever process it was made.
#[test]
fn who_lets_go_names_the_last_call_that_is_stored() {
    let stored = |operation: &str, code, id: Option<&str>| {
        let mut scene = Scene::new().accepted().deleting().retaining();
        scene.robot.last_request = Some(Box::new(LastRequest {
            operation: operation.into(),
            request_id: id.map(str::to_owned),
            error_code: code,
        }));
        message(scene.plan(), Kind::RobotDeleted)
    };
    let text = stored("delete_robot", Some(60010), Some("Id-7"));
    assert!(text.ends_with("; delete_robot was called before: ErrorCode 60010, RequestId Id-7"), "{text}");
    let text = stored("delete_robot", None, None);
    assert!(text.ends_with("; delete_robot was called before and not answered"), "{text}");
}

#[test]
fn a_finalizer_that_the_cluster_refuses_is_told_once_and_tried_again() {
    let refused = |mut scene: Scene, words| {
        scene.refused = Some(words);
        scene
    };
    // Put on, for a new robot.
    let mut scene = refused(Scene::new(), "denied by policy x");
    let told = [
        (Kind::Accepted, Is::False, Reason::WriteRefused),
        (Kind::Ready, Is::False, Reason::WriteRefused),
        (Kind::Stalled, Is::True, Reason::WriteRefused),
    ];
    assert!(message(scene.plan(), Kind::Ready).contains("denied by policy x"));
    assert_report(scene.carry_out(), &told);
    assert_eq!(scene.plan(), Step::AddFinalizer);
    scene.refused = Some("denied in other words");
    assert_eq!(scene.plan(), Step::AddFinalizer, "a person reads the same");
    // Put on again, for one that was added: that is not forgotten.
    let mut scene = Scene::new().creating().accepted().answered(Operation::AddRobot, reply(0));
    scene.carry_out();
    scene.robot.finalizers = Finalizers { ours: None, count: 0 };
    let mut scene = refused(scene, "denied");
    scene.carry_out();
    assert!(scene.robot.conditions.is_true(Kind::Stalled) && scene.robot.accepted());
    assert_eq!(scene.robot.conditions.reason(Kind::Ready), Some(Reason::Added));
    // Taken off: the record stays as it is.
    let mut scene = Scene::new().accepted().deleting().answered(Operation::DeleteRobot, reply(0));
    scene.carry_out();
    let record = scene.list.clone().unwrap().into_iter().find(|one| one.type_ == "RobotDeleted");
    let mut scene = refused(scene, "denied");
    let told = [
        ACCEPTED,
        (Kind::Ready, Is::False, Reason::WriteRefused),
        (Kind::Stalled, Is::True, Reason::WriteRefused),
        (Kind::RobotDeleted, Is::True, Reason::Deleted),
    ];
    assert_report(scene.carry_out(), &told);
    assert_eq!(scene.list.clone().unwrap().into_iter().find(|one| one.type_ == "RobotDeleted"), record);
    assert_eq!(scene.plan(), Step::DropFinalizer);
    // And the application's own.
    let mut scene = Scene::new().application(|app| (app.held, app.refused) = (false, Some("denied")));
    assert!(message(scene.plan(), Kind::Ready).contains("on RtcApplication app: denied"));
    scene.carry_out();
    assert_eq!(scene.plan(), Step::Rest);
}

#[test]
fn a_deletion_that_may_not_be_called_for_says_for_what_it_waits() {
    let deleting = Scene::new().accepted().deleting();
    for (scene, reason, told) in [
        (deleting.clone().suspended(), Reason::Suspended, "spec.suspend is true"),
        (deleting.clone().without_application(), Reason::ApplicationNotReady, "app does not exist any more"),
        (deleting.clone().held_back(Reason::Suspended), Reason::Suspended, "The application makes no call"),
        (
            deleting.clone().held_back(Reason::ApplicationNotReady),
            Reason::ApplicationNotReady,
            "makes no call",
        ),
        (
            deleting.clone().held_back(Reason::CredentialsRejected),
            Reason::CredentialsRejected,
            "makes no call",
        ),
        (deleting.clone().held_back(Reason::PermissionDenied), Reason::PermissionDenied, "makes no call"),
        // The robot's own reason comes first.
        (
            deleting.clone().suspended().held_back(Reason::CredentialsRejected),
            Reason::Suspended,
            "spec.suspend",
        ),
        (deleting.clone().suspended().without_application(), Reason::Suspended, "spec.suspend"),
    ] {
        let mut scene = scene;
        let text = message(scene.plan(), Kind::RobotDeleted);
        assert!(text.contains(told), "{text}");
        assert_report(scene.carry_out(), &waiting_for(reason, true));
        let in_line = scene.hold.as_ref().is_some_and(|hold| hold.refusal) && !scene.robot.suspend;
        let follows = if in_line { Step::Call(Operation::DeleteRobot) } else { Step::Rest };
        assert_eq!(scene.plan(), follows, "{reason} is said once");
        scene.robot.generation += 1;
        assert_report(scene.plan(), &waiting_for(reason, true));
        scene.robot.suspend = false;
        scene.hold = None;
        scene.application = Scene::new().application;
        assert_eq!(scene.plan(), Step::Call(Operation::DeleteRobot), "{reason} is over");
    }
}

#[test]
fn a_robot_that_was_refused_itself_keeps_its_own_request_id() {
    for (code, reason) in [
        (70009, Reason::CredentialsRejected),
        (70001, Reason::CredentialsRejected),
        (60010, Reason::PermissionDenied),
        (60020, Reason::ApplicationNotReady),
    ] {
        let mut scene = Scene::new()
            .accepted()
            .deleting()
            .held_back(reason)
            .answered(Operation::DeleteRobot, reply(code));
        let text = message(scene.carry_out(), Kind::RobotDeleted);
        assert!(text.ends_with(&format!("ErrorCode {code}, RequestId {ID}")), "{text}");
        assert_eq!(scene.plan(), Step::Call(Operation::DeleteRobot), "{code}: it stays in line");
        // Another reason, or another spec: the application's own message is the news.
        assert_report(
            scene.clone().held_back(Reason::Suspended).plan(),
            &waiting_for(Reason::Suspended, true),
        );
        scene.robot.generation += 1;
        assert_eq!(message(scene.plan(), Kind::RobotDeleted), hold(reason).message);
    }
}

/// Thousands may wait, and each probe that is refused has a RequestId of its own.
#[test]
fn a_robot_that_waits_is_told_of_a_refusal_once() {
    for (reason, person) in
        [(Reason::CredentialsRejected, true), (Reason::PermissionDenied, true), (Reason::Unreachable, false)]
    {
        let mut scene = Scene::new().accepted().deleting().held_back(reason);
        scene.hold.as_mut().unwrap().person = person;
        assert_report(scene.carry_out(), &waiting_for(reason, person));
        scene.hold.as_mut().unwrap().message = "The same: ErrorCode 1, RequestId another".into();
        assert_eq!(scene.plan(), Step::Call(Operation::DeleteRobot), "{reason}");
    }
    // It has causes that differ in what a person has to do.
    let mut scene = Scene::new().accepted().deleting().held_back(Reason::ApplicationNotReady);
    scene.carry_out();
    scene.hold.as_mut().unwrap().message = "Another cause".into();
    assert_eq!(message(scene.plan(), Kind::RobotDeleted), "Another cause");
}

/// Both have the reason `ApplicationNotReady`, and only a refusal may leave a robot its own message.
#[test]
fn a_robot_that_was_refused_itself_tells_of_a_secret_that_goes_missing() {
    let mut scene =
        Scene::new().accepted().deleting().held_back(Reason::ApplicationNotReady).told(reply(60020));
    let message_of_the_hold =
        "RtcApplication app is not ready: Secret s does not exist in the operator's namespace";
    scene.hold = Some(Hold {
        reason: Reason::ApplicationNotReady,
        message: message_of_the_hold.into(),
        refusal: false,
        person: true,
    });
    assert_eq!(message(scene.plan(), Kind::RobotDeleted), message_of_the_hold);
}

#[test]
fn each_answer_to_a_deletion_has_its_reason_and_stalls_only_where_a_person_must_act() {
    let mut seen = Vec::new();
    for code in CODES.iter().map(|row| row.code).chain([-1, 424_242]) {
        let outcome = reply(code);
        let class = outcome.class(Operation::DeleteRobot);
        seen.push(class);
        let (reason, stalled) = match class {
            // Final answers have a test of their own.
            Class::Done | Class::Gone => continue,
            Class::Retry => (Reason::InternalError, false),
            Class::Throttled => (Reason::Throttled, false),
            Class::Credentials | Class::Expired => (Reason::CredentialsRejected, true),
            Class::Permission | Class::RobotPermission => (Reason::PermissionDenied, true),
            Class::Plan => (Reason::ApplicationNotReady, true),
            Class::Invalid => (Reason::InvalidParameter, true),
            Class::Later => (Reason::UnexpectedReply, false),
            Class::Unknown => (Reason::UnknownErrorCode, true),
        };
        let mut scene = Scene::new().accepted().deleting().answered(Operation::DeleteRobot, outcome);
        for want in conditions(scene.plan()).iter().filter(|want| want.reason == reason) {
            let end = format!(": ErrorCode {code}, RequestId {ID}");
            assert!(want.message.ends_with(&end), "{}", want.message);
            assert!(
                want.message.starts_with("The robot is not deleted yet; delete_robot: "),
                "{}",
                want.message
            );
        }
        assert_report(scene.carry_out(), &waiting_for(reason, stalled));
        assert_eq!(
            scene.plan(),
            Step::Call(Operation::DeleteRobot),
            "{code} is asked again when its time comes"
        );
    }
    for class in [Class::Retry, Class::Throttled, Class::Credentials, Class::Expired, Class::Permission] {
        assert!(seen.contains(&class));
    }
    for class in [Class::RobotPermission, Class::Plan, Class::Invalid, Class::Later, Class::Unknown] {
        assert!(seen.contains(&class));
    }
}

#[test]
fn no_answer_is_told_as_such() {
    for (outcome, reason) in [
        (trouble(TroubleKind::Name, None), Reason::Unreachable),
        (trouble(TroubleKind::Refused, None), Reason::Unreachable),
        (trouble(TroubleKind::Certificate, None), Reason::Unreachable),
        (trouble(TroubleKind::Connect, None), Reason::Unreachable),
        (trouble(TroubleKind::Timeout, None), Reason::Unreachable),
        (trouble(TroubleKind::Broken, Some(200)), Reason::Unreachable),
        (trouble(TroubleKind::TooLarge, Some(200)), Reason::UnexpectedReply),
        (trouble(TroubleKind::NotAReply, Some(200)), Reason::UnexpectedReply),
        (trouble(TroubleKind::Http, Some(503)), Reason::UnexpectedReply),
        (trouble(TroubleKind::Http, Some(429)), Reason::Throttled),
    ] {
        let mut scene = Scene::new().accepted().deleting().answered(Operation::DeleteRobot, outcome);
        let text = message(scene.plan(), Kind::RobotDeleted);
        assert!(!text.contains("ErrorCode") && !text.ends_with([':', ' ', '.']), "{text}");
        assert_report(scene.carry_out(), &waiting_for(reason, false));
    }
    // An HTTP error that carries a RequestId all the same.
    let mut broken = Trouble { kind: TroubleKind::Http, http_status: Some(502), request_id: None };
    broken.request_id = Some(ID.into());
    let scene = Scene::new().accepted().deleting().answered(Operation::DeleteRobot, Outcome::Trouble(broken));
    assert!(
        message(scene.plan(), Kind::RobotDeleted)
            .ends_with(&format!("HTTP 502; the operator tries again by itself: RequestId {ID}"))
    );
    // A reply without one says so, so that nobody looks for it.
    let bare = Outcome::Reply(Reply { code: 100_001, info: String::new(), request_id: None });
    let scene = Scene::new().accepted().deleting().answered(Operation::DeleteRobot, bare);
    assert!(message(scene.plan(), Kind::RobotDeleted).ends_with("ErrorCode 100001, no RequestId"));
}

/// `lastRequest` has a time: the same words in the conditions are no reason not to write it.
#[test]
fn an_attempt_that_is_not_recorded_is_always_told() {
    let timeout = || trouble(TroubleKind::Timeout, None);
    let mut deletion = Scene::new().accepted().deleting().told(timeout());
    assert_eq!(deletion.plan(), Step::Call(Operation::DeleteRobot));
    deletion = deletion.answered(Operation::DeleteRobot, timeout());
    assert_report(deletion.carry_out(), &waiting_for(Reason::Unreachable, false));
    assert_eq!(deletion.plan(), Step::Call(Operation::DeleteRobot));
    let mut addition = Scene::new().creating().accepted().answered(Operation::AddRobot, timeout());
    for _ in 0..2 {
        addition = addition.answered(Operation::AddRobot, timeout());
        assert_report(addition.carry_out(), &[ACCEPTED, (Kind::Ready, Is::Unknown, Reason::Unreachable)]);
        assert_eq!(addition.plan(), Step::Call(Operation::AddRobot));
    }
    // Also where a hold has come up meanwhile: first what happened, then why nothing more does.
    let mut held = Scene::new().accepted().deleting().suspended().answered(Operation::DeleteRobot, timeout());
    assert_report(held.carry_out(), &waiting_for(Reason::Unreachable, false));
    assert_report(held.carry_out(), &waiting_for(Reason::Suspended, true));
    assert_eq!(held.plan(), Step::Rest);
}

#[test]
fn a_wait_ends_with_its_time_or_with_a_change_of_the_spec() {
    let mut scene = Scene::new().accepted().deleting().told(reply(100_001));
    let until = scene.now + 8 * SECOND;
    scene.memory.not_before = until;
    scene.memory.attempts = 4;
    assert_eq!(scene.plan(), Step::Wait(until));
    scene.now = until - Duration::from_nanos(1);
    assert_eq!(scene.plan(), Step::Wait(until));
    scene.now = until;
    assert_eq!(scene.plan(), Step::Call(Operation::DeleteRobot));
    scene.now = until - SECOND;
    scene.memory.start_afresh();
    assert_eq!(scene.memory.attempts, 0);
    assert_eq!(scene.plan(), Step::Call(Operation::DeleteRobot));
    assert!(scene.memory.last.is_some());
    // A final answer stays one.
    scene = scene.answered(Operation::DeleteRobot, reply(0));
    scene.memory.start_afresh();
    assert!(scene.memory.final_answer().is_some());
}

#[test]
fn what_was_never_added_is_not_called_for() {
    let never = Scene::new().creating().accepted().deleting().never_added();
    for scene in [
        never.clone(),
        never.clone().suspended(),
        never.clone().without_application(),
        never.clone().held_back(Reason::CredentialsRejected),
    ] {
        let mut scene = scene;
        assert_report(
            scene.carry_out(),
            &[ACCEPTED, LEAVING, (Kind::RobotDeleted, Is::True, Reason::NotInRoom)],
        );
        assert_eq!(scene.carry_out(), Step::DropFinalizer);
    }
    // A process that finds it stored as due cannot know, and a robot that came by other means is there.
    for scene in
        [Scene::new().creating().accepted().deleting(), Scene::new().accepted().deleting().never_added()]
    {
        assert_eq!(scene.plan(), Step::Call(Operation::DeleteRobot));
    }
}

#[test]
fn a_restart_in_the_middle_of_a_wait_tries_at_once() {
    let mut scene = Scene::new().accepted().deleting().told(reply(100_002));
    scene.memory.not_before = scene.now + 3600 * SECOND;
    scene.memory = Memory::default();
    assert_eq!(scene.plan(), Step::Call(Operation::DeleteRobot));
}

// Every state at once.

fn every_scene() -> Vec<Scene> {
    let mut all = vec![Scene::new()];
    let mut branch = |ways: &[&dyn Fn(Scene) -> Scene]| {
        all = ways.iter().flat_map(|way| all.iter().cloned().map(way)).collect();
    };
    branch(&[&|scene| scene, &Scene::creating]);
    branch(&[&|scene| scene, &Scene::finalizer, &Scene::accepted, &|scene| {
        let mut dropped = scene.accepted();
        dropped.robot.finalizers = Finalizers { ours: None, count: 0 };
        dropped
    }]);
    branch(&[&|scene| scene, &Scene::deleting]);
    branch(&[&|scene| scene, &Scene::retaining]);
    branch(&[&|scene| scene, &Scene::suspended]);
    branch(&[
        &|scene| scene,
        &Scene::without_application,
        &|scene| scene.application(|app| app.deleting = true),
        &|scene| scene.application(|app| app.admits = None),
        &|scene| scene.application(|app| app.admits = Some(false)),
        &|scene| scene.application(|app| app.held = false),
        &|scene| scene.application(|app| (app.held, app.refused) = (false, Some("denied"))),
        &|scene| scene.held_back(Reason::CredentialsRejected),
        &|scene| scene.held_back(Reason::ApplicationNotReady),
    ]);
    branch(&[&|scene| scene, &Scene::claimed]);
    branch(&[&|scene| scene, &Scene::never_added]);
    branch(&[&|scene| scene, &|mut scene| {
        scene.refused = Some("denied");
        scene
    }]);
    branch(&[
        &|scene| scene,
        &|scene| scene.answered(Operation::DeleteRobot, reply(0)),
        &|scene| scene.answered(Operation::DeleteRobot, reply(100_001)),
        &|scene| scene.answered(Operation::DeleteRobot, reply(70009)),
        &|scene| scene.answered(Operation::DeleteRobot, reply(60020)),
        &|scene| scene.answered(Operation::AddRobot, reply(0)),
        &|scene| scene.answered(Operation::AddRobot, reply(100_004)),
    ]);
    branch(&[&|scene| scene, &|mut scene| {
        scene.memory.not_before = scene.now + SECOND;
        scene
    }]);
    all
}

#[test]
fn from_every_state_a_few_steps_lead_to_one_that_lasts() {
    let all = every_scene();
    assert!(all.len() > 10_000, "{} states", all.len());
    for first in all {
        let mut scene = first.clone();
        let told = first.robot.deleting_since.is_some();
        let mut steps = Vec::new();
        loop {
            let step = scene.carry_out();
            let last = matches!(step, Step::Rest | Step::Wait(_) | Step::Call(_));
            if let Step::Report(wanted) = &step {
                assert!(wanted.iter().all(|want| (want.kind == Kind::RobotDeleted) <= told));
                assert!(wanted.iter().all(|want| want.kind != Kind::Stalled || want.is == Is::True));
                assert!(wanted.iter().any(|want| want.kind == Kind::Ready));
                let plain = |want: &Wanted| !want.message.is_empty() && !want.message.ends_with('.');
                assert!(wanted.iter().all(|want| want.kept || plain(want)));
            }
            assert!(step != Step::AddFinalizer || !told, "a finalizer for a robot that is being deleted");
            assert!(step != Step::DropFinalizer || told, "a live robot loses its finalizer");
            steps.push(step);
            if last {
                break;
            }
            assert!(steps.len() <= 3, "{:?}, {:?}, {:?}: {steps:?}", first.robot, first.memory, first.hold);
        }
        assert_eq!(&scene.carry_out(), steps.last().unwrap(), "it lasts");
        // No call without charge, and none against the will of a person.
        if matches!(steps.last(), Some(Step::Call(_))) {
            let in_line = first.hold.as_ref().is_none_or(|hold| hold.refusal);
            assert!(!first.robot.suspend && in_line && scene.robot.finalizers.ours.is_some());
            assert!(told || scene.robot.accepted());
            assert!(!told || first.robot.deletion_policy == DeletionPolicy::Delete);
        }
    }
}

/// Promise 2, over all states: what was accepted is let go of only for one of these reasons.
#[test]
fn no_state_lets_an_accepted_robot_go_without_a_reason() {
    let mut gone = 0;
    for first in every_scene().into_iter().filter(|scene| scene.robot.accepted()) {
        let mut scene = first.clone();
        for _ in 0..4 {
            if scene.carry_out() != Step::DropFinalizer {
                continue;
            }
            gone += 1;
            let stored = scene.robot.conditions.reason(Kind::RobotDeleted).unwrap();
            let reason = if first.memory.final_answer().is_some() {
                Reason::Deleted
            } else if first.robot.deletion_policy == DeletionPolicy::Retain {
                Reason::Retained
            } else if first.heir.is_some() {
                Reason::StillClaimed
            } else {
                assert!(never_added(&first.robot, &first.memory));
                Reason::NotInRoom
            };
            assert_eq!(stored, reason, "the reason is stored before the finalizer goes");
        }
    }
    assert!(gone > 1000);
}

/// The record of the process before was stored while this one had called, too; and the finalizer may not go.
#[test]
fn the_condition_tells_of_the_answer_that_is_recorded_with_it() {
    let reply =
        |code, id: &str| Outcome::Reply(Reply { code, info: String::new(), request_id: Some(id.to_owned()) });
    let mut scene = Scene::new().accepted().deleting().told(reply(0, "Id-1"));
    scene.refused = Some("a policy");
    let mut scene = scene.answered(Operation::DeleteRobot, reply(100_005, "Id-2"));
    let Step::Report(wanted) = scene.carry_out() else { panic!("{:?}", scene.plan()) };
    let deleted = wanted.iter().find(|want| want.kind == Kind::RobotDeleted).unwrap();
    assert!(deleted.reason == Reason::NotInRoom && deleted.message.ends_with("Id-2"), "{deleted:?}");
}
