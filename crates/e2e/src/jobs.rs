//! What the operator is for: removal with every kind of answer, a drain while the leader goes, the end of a namespace.

use super::{
    APPLICATION, DOOMED, PATIENCE, REQUESTS_PER_SECOND, ROBOTS, SYSTEM,
    cluster::Cluster,
    pods,
    room_engine::{Call, RoomEngine},
};
use kube::api::{DeleteParams, ListParams};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};
use testbed::{
    Error, Result,
    observe::{Departures, all_ready, told},
    report::ensure,
};
use tokio::time::sleep;

/// Robots of the drain.
const DRAIN: usize = 500;

/// How many of them are gone when the leader's Pod is deleted.
const LEADER_GOES: usize = DRAIN / 5;

/// Robots in each of its rooms.
const PER_ROOM: usize = 50;

/// Robots in the namespace that is deleted.
const DOOMED_ROBOTS: usize = 40;

/// Creates RoomRobots in `namespace`, given as name, room and member.
pub(super) fn create(cluster: &Cluster, namespace: &str, robots: &[(String, String, String)]) -> Result<()> {
    let item = |(name, room, member): &(String, String, String)| {
        json!({"apiVersion": "roomrobot.dev/v1alpha1", "kind": "RoomRobot", "metadata": {"name": name, "namespace": namespace},
            "spec": {"roomId": room, "memberAccount": member, "applicationRef": {"name": APPLICATION}}})
    };
    let items: Vec<Value> = robots.iter().map(item).collect();
    let list = json!({"apiVersion": "v1", "kind": "List", "items": items});
    cluster.kubectl.feed(&["create", "-f", "-"], &list.to_string()).map(drop)
}

/// Four robots with four different answers; the RequestId of each stands in the last status before it goes.
///
/// # Errors
/// If one does not end as it should.
pub async fn main_job(cluster: &Cluster, engine: &RoomEngine<'_>) -> Result<Vec<String>> {
    let own = |text: &str| text.to_owned();
    engine.put_room("main-lobby", &[own("robot-greeter")]).await?;
    engine.put_room("main-stage", &[own("robot-stage")]).await?;
    engine.fail(json!({"room": "main-stage", "times": 1, "kind": {"code": 100_001}})).await?;
    let robots = [
        ("greeter", "main-lobby", "robot-greeter", "Deleted"),
        ("already-left", "main-lobby", "robot-left", "NotInRoom"),
        ("closed-room", "main-yesterday", "robot-closing", "RoomNotFound"),
        ("second-try", "main-stage", "robot-stage", "Deleted"),
    ];
    let list: Vec<_> =
        robots.iter().map(|(name, room, member, _)| (own(name), own(room), own(member))).collect();
    create(cluster, ROBOTS, &list)?;
    all_ready(&cluster.client, ROBOTS, robots.len(), PATIENCE).await?;
    ensure(engine.calls("main-").await?.is_empty(), || {
        "a robot that was only created has been called about".to_owned()
    })?;

    let departures = Departures::watch(&cluster.client, ROBOTS).await?;
    cluster.kubectl.run(&["delete", "roomrobots", "--all", "-n", ROBOTS, "--timeout=60s"])?;
    let ends = departures.wait(robots.len(), PATIENCE).await?;
    let calls = engine.calls("main-").await?;
    let mut facts = Vec::new();
    for (name, room, member, reason) in robots {
        let end = ends.get(name).ok_or_else(|| Error(format!("{name} left unseen")))?;
        ensure(end.reason == reason && end.status == "True", || format!("{name} ended with {end:?}"))?;
        let call = calls.iter().rfind(|call| call.room == room && call.member == member);
        let call = call.ok_or_else(|| Error(format!("no call about {name}")))?;
        ensure(end.message.ends_with(&format!("RequestId {}", call.request_id)), || {
            format!("{name}: the last call was {call:?}, the last condition {end:?}")
        })?;
        facts.push(format!("{name:<13} {:<13} {}", end.reason, end.message));
    }
    ensure(calls.len() == 5, || format!("five calls were needed, the room engine got {calls:?}"))?;
    ensure(engine.population("main-").await? == 0, || "a robot is left in a room".to_owned())?;
    Ok(facts)
}

/// 500 robots are deleted at once, and the leader's Pod a fifth of the way through.
///
/// # Errors
/// If a robot is lost or called about twice, or the quota is broken.
pub async fn drain(cluster: &Cluster, engine: &RoomEngine<'_>) -> Result<Vec<String>> {
    let mut robots = Vec::with_capacity(DRAIN);
    for room in 0..DRAIN / PER_ROOM {
        let members: Vec<String> = (0..PER_ROOM).map(|member| format!("robot-{room}-{member}")).collect();
        engine.put_room(&format!("drain-{room}"), &members).await?;
        robots.extend(
            members.iter().map(|member| (format!("drain-{member}"), format!("drain-{room}"), member.clone())),
        );
    }
    let start = Instant::now();
    create(cluster, ROBOTS, &robots)?;
    all_ready(&cluster.client, ROBOTS, DRAIN, PATIENCE).await?;
    let mut facts = vec![format!(
        "{DRAIN} RoomRobots created and taken charge of in {:.1} s",
        start.elapsed().as_secs_f32()
    )];

    // The emergency brake is on until all are being deleted, so that the drain starts with all of them waiting.
    let departures = Departures::watch(&cluster.client, ROBOTS).await?;
    suspend(cluster, true)?;
    let all = ListParams::default();
    cluster.robots(ROBOTS).delete_collection(&DeleteParams::default(), &all).await.map_err(told)?;
    let waiting = cluster.robots(ROBOTS).list(&all).await.map_err(told)?.items;
    let deleting = waiting.iter().filter(|robot| robot.metadata.deletion_timestamp.is_some()).count();
    ensure(deleting == DRAIN && engine.calls("drain-").await?.is_empty(), || {
        format!(
            "{deleting} of {DRAIN} wait with the application suspended; calls were made all the same, or some left"
        )
    })?;
    let start = Instant::now();
    suspend(cluster, false)?;
    while departures.count() < LEADER_GOES {
        ensure(start.elapsed() < PATIENCE, || {
            format!("{} of {DRAIN} left before the leader was to go", departures.count())
        })?;
        sleep(Duration::from_millis(20)).await;
    }
    let leader = pods::leader(cluster).await?;
    cluster.kubectl.run(&["delete", "pod", &leader, "-n", SYSTEM, "--wait=false"])?;
    let at_change = departures.count();
    ensure(at_change < DRAIN * 4 / 5, || {
        format!("the drain was nearly over, at {at_change}, when the leader went")
    })?;
    let ends = departures.wait(DRAIN, PATIENCE).await?;
    let took = start.elapsed();

    let calls = engine.calls("drain-").await?;
    let gap = longest_gap(&calls);
    each_once(&robots, &calls, "delete_robot")?;
    let wrong: Vec<_> = ends.iter().filter(|(_, end)| end.reason != "Deleted").collect();
    ensure(ends.len() == DRAIN && wrong.is_empty(), || format!("{} left, not well: {wrong:?}", ends.len()))?;
    ensure(engine.population("drain-").await? == 0, || "robots are left in rooms".to_owned())?;
    let times: Vec<u64> = calls.iter().map(|call| call.at).collect();
    let most = promises::most_in(&times, 1_000_000);
    ensure(most <= REQUESTS_PER_SECOND, || {
        format!("{most} calls in one second; {REQUESTS_PER_SECOND} are allowed; {}", fullest(&times))
    })?;
    let next = pods::leader(cluster).await?;
    ensure(next != leader, || format!("{leader} still leads"))?;
    let log = cluster.kubectl.run(&["logs", &next, "-n", SYSTEM])?;
    let by_next =
        log.lines().filter(|line| line.contains("audit: call") && line.contains("room=drain-")).count();
    ensure((1..DRAIN).contains(&by_next), || format!("{next} made {by_next} of the {DRAIN} calls"))?;
    facts.push(format!("deleted in {:.1} s with one call each: {} calls, ErrorCode 0 each, at most {most} in any second, {REQUESTS_PER_SECOND} is the share", took.as_secs_f32(), calls.len()));
    facts.push(format!("the leader {leader} was deleted after {at_change}; {next} went on and made {by_next} of the calls; the longest time without a call was {:.1} s", gap.as_secs_f32()));
    facts.extend(pods::healthy(cluster, 2).await?);
    Ok(facts)
}

fn suspend(cluster: &Cluster, suspended: bool) -> Result<()> {
    let patch = json!({"spec": {"suspend": suspended}}).to_string();
    cluster.kubectl.run(&["patch", "rtcapplication", APPLICATION, "--type=merge", "-p", &patch]).map(drop)
}

/// Every robot had exactly one call, which succeeded, and nobody else had one.
fn each_once(robots: &[(String, String, String)], calls: &[Call], command: &str) -> Result<()> {
    let mut by_robot: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for call in calls {
        ensure(call.code == Some(0) && call.command == command, || {
            format!("a call that is not as it should be: {call:?}")
        })?;
        *by_robot.entry((&call.room, &call.member)).or_default() += 1;
    }
    for (name, room, member) in robots {
        let count = by_robot.remove(&(room.as_str(), member.as_str())).unwrap_or_default();
        ensure(count == 1, || format!("{name} had {count} calls"))?;
    }
    ensure(by_robot.is_empty(), || format!("calls about unknown robots: {by_robot:?}"))
}

/// Where the fullest second is, and where the pauses are: what tells a hand-over from a call that was held up.
fn fullest(times: &[u64]) -> String {
    let in_second = |from: u64| times.iter().filter(|&&time| time >= from && time - from < 1_000_000).count();
    let start = times.iter().copied().max_by_key(|&time| in_second(time)).unwrap_or_default();
    let index = times.iter().filter(|&&time| time < start).count();
    let mut pauses: Vec<(u64, usize)> = times
        .windows(2)
        .enumerate()
        .filter_map(|(at, pair)| Some((pair.last()?.saturating_sub(*pair.first()?) / 1000, at + 1)))
        .collect();
    pauses.sort_unstable_by(|a, b| b.cmp(a));
    pauses.truncate(8);
    format!(
        "the fullest second begins with call {} of {}; the longest pauses, in ms, and the call before each: {pauses:?}",
        index + 1,
        times.len()
    )
}

fn longest_gap(calls: &[Call]) -> Duration {
    let pairs = calls.iter().zip(calls.iter().skip(1));
    Duration::from_micros(
        pairs.map(|(before, after)| after.at.saturating_sub(before.at)).max().unwrap_or_default(),
    )
}

/// A namespace with robots in it is deleted as a whole.
///
/// # Errors
/// If it hangs, a robot is lost, or nothing of it can be read afterwards.
pub async fn namespace(cluster: &Cluster, engine: &RoomEngine<'_>) -> Result<Vec<String>> {
    let members: Vec<String> = (0..DOOMED_ROBOTS).map(|member| format!("robot-{member}")).collect();
    engine.put_room("doomed-room", &members).await?;
    let robots: Vec<_> =
        members.iter().map(|member| (member.clone(), "doomed-room".to_owned(), member.clone())).collect();
    create(cluster, DOOMED, &robots)?;
    all_ready(&cluster.client, DOOMED, DOOMED_ROBOTS, PATIENCE).await?;
    let departures = Departures::watch(&cluster.client, DOOMED).await?;
    let start = Instant::now();
    cluster.kubectl.run(&["delete", "namespace", DOOMED, "--timeout=120s"])?;
    let took = start.elapsed();
    let ends = departures.wait(DOOMED_ROBOTS, PATIENCE).await?;
    let calls = engine.calls("doomed-").await?;
    each_once(&robots, &calls, "delete_robot")?;
    ensure(ends.values().all(|end| end.reason == "Deleted"), || format!("they ended with {ends:?}"))?;
    // Events are best effort and within a budget: some must be there, in the operator's namespace.
    let events = cluster.kubectl.run(&["get", "events.v1.events.k8s.io", "-n", SYSTEM, "-o", "json"])?;
    let events: Value = serde_json::from_str(&events).map_err(|error| Error::new("events", error))?;
    let is =
        |event: &Value, path: &str, text: &str| event.pointer(path).and_then(Value::as_str) == Some(text);
    let about = |event: &&Value| {
        is(event, "/regarding/namespace", DOOMED) && is(event, "/regarding/kind", "RoomRobot")
    };
    let told: Vec<&Value> =
        events.get("items").and_then(Value::as_array).into_iter().flatten().filter(about).collect();
    ensure(!told.is_empty(), || "no Event about its robots in the operator's namespace".to_owned())?;
    let note = told.last().and_then(|event| event.get("note")?.as_str()).unwrap_or_default();
    Ok(vec![
        format!("gone in {:.1} s with {DOOMED_ROBOTS} robots, one call each", took.as_secs_f32()),
        format!("{} Events about them in {SYSTEM}, such as: {note}", told.len()),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(member: &str, at: u64, code: i64) -> Call {
        Call {
            at,
            command: "delete_robot".into(),
            room: "r".into(),
            member: member.into(),
            code: Some(code),
            request_id: "id".into(),
        }
    }

    #[test]
    fn a_missing_a_second_and_a_failed_call_are_seen() {
        let robots = ["a", "b"].map(|name| (name.to_owned(), "r".to_owned(), name.to_owned()));
        let judge =
            |calls: &[Call]| each_once(&robots, calls, "delete_robot").map_err(|error| error.to_string());
        judge(&[call("a", 1, 0), call("b", 2, 0)]).unwrap();
        assert_eq!(judge(&[call("a", 1, 0)]).unwrap_err(), "b had 0 calls");
        assert_eq!(judge(&[call("a", 1, 0), call("b", 2, 0), call("a", 3, 0)]).unwrap_err(), "a had 2 calls");
        assert!(judge(&[call("a", 1, 0), call("b", 2, 60011)]).unwrap_err().contains("60011"));
        assert!(judge(&[call("a", 1, 0), call("b", 2, 0), call("c", 3, 0)]).unwrap_err().contains('c'));
    }

    #[test]
    fn the_longest_gap_is_between_two_calls() {
        assert_eq!(
            longest_gap(&[call("a", 10, 0), call("b", 40, 0), call("c", 50, 0)]),
            Duration::from_micros(30)
        );
        assert_eq!(longest_gap(&[]), Duration::ZERO);
    }
}
