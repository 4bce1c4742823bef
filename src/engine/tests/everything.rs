//! Everything at once: a randomised model of API server and room engine.

use super::*;

/// What the room engine of a chaotic world knows.
#[derive(Default)]
struct Ledger {
    /// The process that is alive, by its number.
    process: u32,
    /// Who is in a room, and which RoomRobot came with it or added it last.
    members: BTreeMap<String, String>,
    /// Final answers by UID, with the process that asked.
    ended: HashMap<String, u32>,
    /// UIDs that `add_robot` was called for.
    added: BTreeSet<String>,
    /// It has lost its Lease.
    lost: bool,
    /// Nothing fails any more.
    healed: bool,
}

/// Random creations, deletions, changes, restarts, lost Leases, lost and refused writes, and faults of the room engine,
/// for some minutes; then everything is well and all that is left is deleted.
#[test]
fn whatever_goes_wrong_nothing_is_lost_and_no_final_answer_is_asked_for_twice() {
    let (mut restarts, mut deletions, mut additions, mut claims) = (0, 0, 0, 0);
    for seed in 0..24 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut world = World::led_with(8);
        world.secret("app-secret", user_sig("right"));
        world.application("twin", json!({}));
        let ledger = Rc::new(RefCell::new(Ledger::default()));
        world.answering(room_engine(&ledger, seed));
        world.failing(api_server(&ledger, seed));
        let mut retained = BTreeSet::new();
        for n in 0..200 {
            let keys: Vec<String> = world.robots.keys().cloned().collect();
            let one = (!keys.is_empty()).then(|| keys[random.usize(..keys.len())].clone());
            let live = one.clone().filter(|key| world.robots[key]["metadata"]["deletionTimestamp"].is_null());
            match (random.u32(..16), one, live) {
                (0..5, _, _) => {
                    let key = format!("team-{}/r-{n}", n % 3);
                    if create(&mut world, &ledger, &key, &mut random) {
                        retained.insert(text(&world.robots[&key]["spec"]["memberAccount"]));
                    }
                }
                (5..8, _, Some(key)) => world.delete(&key),
                (8, Some(key), _) => world.edit(&key, json!({"spec": {"suspend": random.bool()}})),
                (9, Some(key), _) if random.u32(..3) == 0 => {
                    retained.insert(text(&world.robots[&key]["spec"]["memberAccount"]));
                    world.edit(&key, json!({"spec": {"deletionPolicy": "Retain"}}));
                }
                (10, _, _) => world.configure("app", json!({"suspend": random.u32(..4) == 0})),
                (11, _, _) => {
                    world.secret("app-secret", user_sig(if random.bool() { "right" } else { "wrong" }));
                }
                (12, _, _) => world.list_robots(),
                (13, _, _) => {
                    restarts += 1;
                    ledger.borrow_mut().process += 1;
                    ledger.borrow_mut().lost = false;
                    world.restart();
                }
                (14, _, _) => {
                    ledger.borrow_mut().lost = true;
                    world.input(Input::Lost);
                }
                (15, _, _) => {
                    ledger.borrow_mut().lost = false;
                    world.input(Input::Leading(Before::Vanished));
                }
                _ => {}
            }
            world.watch_takes = MS * random.u32(1..3000);
            world.list_takes = MS * random.u32(1..1000);
            world.call_takes = MS * random.u32(10..4000);
            world.run(MS * random.u32(1..2000));
        }
        ledger.borrow_mut().healed = true;
        ledger.borrow_mut().lost = false;
        world.input(Input::Leading(Before::Vanished));
        (world.watch_takes, world.list_takes) = (8 * MS, MS);
        world.secret("app-secret", user_sig("right"));
        world.configure("app", json!({"suspend": false}));
        for key in world.robots.keys().cloned().collect::<Vec<_>>() {
            world.edit(&key, json!({"spec": {"suspend": false}}));
        }
        world.run(MINUTE);
        for key in world.robots.keys().cloned().collect::<Vec<_>>() {
            if world.robots[&key]["metadata"]["deletionTimestamp"].is_null() {
                world.delete(&key);
            }
        }
        world.run(20 * MINUTE);
        assert_eq!(world.robots.keys().collect::<Vec<_>>(), [""; 0], "seed {seed}");
        assert_eq!(world.engine.robots().len(), 0, "seed {seed}");
        let ledger = ledger.borrow();
        for (_, key) in ledger.members.iter().filter(|(member, _)| !retained.contains(*member)) {
            // Only the robot of one that was never accepted may stay behind.
            let last = &world.gone[key];
            assert!(!read(last).accepted(), "seed {seed}: {key} left its robot in the room: {last}");
        }
        for (key, last) in &world.gone {
            let ended = ledger.ended.contains_key(&text(&last["metadata"]["uid"]));
            let robot = read(last);
            let reason = robot.conditions.reason(Kind::RobotDeleted);
            match reason {
                Some(Reason::Deleted | Reason::RoomNotFound) => assert!(ended, "seed {seed}: {key}"),
                Some(Reason::NotInRoom) => {
                    assert!(ended || !ledger.added.contains(&*robot.uid), "seed {seed}: {key}");
                }
                Some(Reason::StillClaimed) => claims += 1,
                Some(Reason::Retained) => {}
                other => assert!(!robot.accepted(), "seed {seed}: {key} left with {other:?}"),
            }
        }
        deletions += ledger.ended.len();
        additions += ledger.added.len();
    }
    assert!(restarts > 100 && deletions > 500 && additions > 200, "{restarts} {deletions} {additions}");
    assert!(claims > 50, "{claims} left their robot to others");
}

/// Creates a RoomRobot of any kind; says whether its robot is to stay.
fn create(world: &mut World, ledger: &Rc<RefCell<Ledger>>, key: &str, random: &mut fastrand::Rng) -> bool {
    // Some stand for the same robot as others, under the same application or another of its SDKAppID.
    let own = key.split_once('/').unwrap().1.to_owned();
    let member = if random.bool() { own } else { format!("shared-{}", random.u32(..6)) };
    let adopted = random.bool();
    if adopted {
        ledger.borrow_mut().members.insert(member.clone(), key.to_owned());
    }
    let creation = if adopted { "Adopt" } else { "Create" };
    let application = if random.u32(..4) == 0 { "twin" } else { "app" };
    let retain = random.u32(..8) == 0;
    let deletion = if retain { "Retain" } else { "Delete" };
    world.robot(
        key,
        json!({"creationPolicy": creation, "deletionPolicy": deletion, "roomId": "room", "memberAccount": member,
            "applicationRef": {"name": application}}),
    );
    retain
}

fn room_engine(ledger: &Rc<RefCell<Ledger>>, seed: u64) -> impl FnMut(&Call, Duration) -> Says + 'static {
    let (ledger, mut random) = (Rc::clone(ledger), fastrand::Rng::with_seed(seed ^ 1));
    move |call, _| {
        let mut ledger = ledger.borrow_mut();
        let (uid, member) = (call.uid.to_string(), call.target.member_account.clone());
        let process = ledger.process;
        assert!(!ledger.lost, "seed {seed}: a call for {} without the Lease", call.key);
        let before = ledger.ended.get(&uid);
        assert!(
            before != Some(&process),
            "seed {seed}: {} has had its answer, and is asked about again",
            call.key
        );
        if call.caller.user_sig.expose() != "right" {
            return Says::Code(70009);
        }
        let luck = if ledger.healed { 99 } else { random.u32(..100) };
        match luck {
            0..8 => return Says::Code(100_001),
            8..10 => return Says::Code(60011),
            10 => return Says::Code(60010),
            11..13 => return Says::Code(60020),
            13..15 => return Says::Code(424_242),
            15..20 => return Says::Fails(TroubleKind::Refused),
            _ => {}
        }
        let was_there = match call.operation {
            Operation::AddRobot => {
                ledger.added.insert(uid.clone());
                ledger.members.insert(member, call.key.to_string());
                true
            }
            Operation::DeleteRobot => ledger.members.remove(&member).is_some(),
        };
        // It took effect, and nobody hears of it.
        if luck < 30 {
            return Says::Fails(TroubleKind::Timeout);
        }
        if call.operation == Operation::DeleteRobot {
            ledger.ended.insert(uid, process);
        }
        Says::Code(if was_there { 0 } else { 100_005 })
    }
}

fn api_server(
    ledger: &Rc<RefCell<Ledger>>,
    seed: u64,
) -> impl FnMut(&str, &Change, Duration) -> Option<Fault> + 'static {
    let (ledger, mut random) = (Rc::clone(ledger), fastrand::Rng::with_seed(seed ^ 2));
    move |_, _, _| match random.u32(..100) {
        _ if ledger.borrow().healed => None,
        0..5 => Some(Fault::Refused(WriteError::Other("down".into()))),
        5..10 => Some(Fault::Refused(WriteError::Unreachable("cut".into()))),
        10..13 => Some(Fault::Refused(WriteError::Conflict("changed".into()))),
        13..15 => Some(Fault::Refused(WriteError::Refused("denied".into()))),
        15..25 => Some(Fault::ReplyLost),
        _ => None,
    }
}
