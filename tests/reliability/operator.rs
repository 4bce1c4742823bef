//! The operator is killed, stopped, doubled, and started where nobody expects it.

use crate::harness::{World, eventually, leads};
use roomrobot_operator::crash::Point;
use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

/// Killed at each place on the path of a deletion, before and after each effect.
#[tokio::test(flavor = "multi_thread")]
async fn sigkill_at_every_crash_point() {
    let world = World::new().await;
    let operator = world.operator_with(&["--leader-elect=false"]).await;
    let names = world.crowd("r", Point::ALL.len()).await;
    operator.terminate(Duration::from_secs(5)).await.unwrap();
    for (name, point) in names.iter().zip(Point::ALL) {
        let env = [("ROOMROBOT_CRASH_AT", point.as_str()), ("ROOMROBOT_LEADER_ELECT", "false")];
        let mut operator = world.operator_with_env(&[], &env).await;
        world.delete(name).await;
        let status = operator.ended(Duration::from_secs(20)).await.unwrap();
        assert!(!status.success(), "{point:?}: {status}");
        let operator = world.operator_with(&["--leader-elect=false"]).await;
        world.gone(name).await;
        let calls = world.simulator.calls_about(name, name).len();
        // Between the call and its record the answer is lost with the process: asked once more, and no more.
        let expected = if matches!(point, Point::AfterCall | Point::BeforeStatus) { 2 } else { 1 };
        assert_eq!(calls, expected, "{point:?}");
        operator.terminate(Duration::from_secs(5)).await.unwrap();
    }
    world.verify(1);
    assert_eq!(world.simulator.population(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn sigkill_thrice_in_a_drain_of_400() {
    let world = World::new().await;
    let mut operator = world.operator_with(&["--leader-elect=false"]).await;
    world.crowd("r", 400).await;
    world.drain_at(200).await;
    for part in 1..=3 {
        eventually("a part of the drain", || async { world.simulator.calls().len() > part * 90 }).await;
        operator.kill();
        operator = world.operator_with(&["--leader-elect=false"]).await;
    }
    world.all_gone(Duration::from_secs(90)).await;
    // Each kill may cost one more call for a robot whose answer nobody had recorded.
    world.verify(3);
    // Calls wait for records: at each kill those of a second were in line, 32 being written, and a few calls out.
    let calls = world.simulator.calls().len();
    assert!(calls <= 400 + 3 * 250, "{calls} calls");
    assert_eq!(world.simulator.population(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_in_a_drain_records_what_is_under_way() {
    let world = World::new().await;
    let operator = world.operator().await;
    world.crowd("r", 300).await;
    world.simulator.set(|settings| settings.latency = Duration::from_millis(100));
    world.drain_at(200).await;
    eventually("a part of the drain", || async { world.simulator.calls().len() > 60 }).await;
    let status = operator.terminate(Duration::from_secs(15)).await.unwrap();
    assert!(status.success(), "{status}");
    let _operator = world.operator().await;
    world.all_gone(Duration::from_secs(90)).await;
    // Nothing was asked twice: every answer was recorded before the end.
    assert_eq!(world.simulator.calls().len(), 300);
    world.verify(0);
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_while_the_api_server_is_unreachable_ends_in_time() {
    let world = World::new().await;
    let operator = world.operator().await;
    world.robot("r").await;
    world.ready("r").await;
    let paused = world.plane.pause_etcd().unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let start = Instant::now();
    operator.terminate(Duration::from_secs(20)).await.unwrap();
    assert!(start.elapsed() < Duration::from_secs(15), "{:?}", start.elapsed());
    drop(paused);
    world.plane.wait_ready().await.unwrap();
}

/// A graceful hand-over takes under 2 s, a crash under 20 s.
#[tokio::test(flavor = "multi_thread")]
async fn two_replicas_hand_over_and_fail_over() {
    let world = World::new().await;
    let first = world.operator().await;
    eventually("the first leads", || async { leads(&first) }).await;
    let second = world.operator().await;
    world.crowd("r", 4).await;
    assert!(!leads(&second), "two leaders");
    let start = Instant::now();
    first.terminate(Duration::from_secs(5)).await.unwrap();
    eventually("the second leads", || async { leads(&second) }).await;
    let handed = start.elapsed();
    assert!(handed < Duration::from_secs(2), "handed over after {handed:?}");
    world.delete("r-0").await;
    world.gone("r-0").await;

    let third = world.operator().await;
    assert!(!leads(&third), "two leaders");
    let start = Instant::now();
    second.kill();
    world.delete("r-1").await;
    world.gone("r-1").await;
    let failed = start.elapsed();
    assert!(failed < Duration::from_secs(20), "failed over after {failed:?}");
    world.verify(0);
}

/// In a drain at the full quota, with two hand-overs: no replica calls within a second of another's call.
#[tokio::test(flavor = "multi_thread")]
async fn no_second_has_calls_of_two_replicas() {
    let world = World::new().await;
    let mut replicas = vec![world.operator().await, world.operator().await, world.operator().await];
    world.crowd("r", 900).await;
    world.drain_at(200).await;
    let mut turns = Vec::new();
    for _ in 0..2 {
        let before = world.simulator.calls().len();
        eventually("a part of the drain", || async { world.simulator.calls().len() > before + 150 }).await;
        let leader = replicas.iter().position(leads).expect("nobody leads");
        let mut leader = replicas.remove(leader);
        leader.ask_to_end().unwrap();
        leader.ended(Duration::from_secs(15)).await.unwrap();
        turns.push(leader.request_ids());
    }
    world.all_gone(Duration::from_secs(90)).await;
    world.verify(0);
    turns.push(replicas[0].request_ids());
    assert_eq!(turns.iter().map(BTreeSet::len).sum::<usize>(), 900);
    let calls = world.simulator.calls();
    let times = |turn: &BTreeSet<String>| -> Vec<u64> {
        calls.iter().filter(|call| turn.contains(&call.request_id)).map(|call| call.at).collect()
    };
    for pair in turns.windows(2) {
        let (last, next) = (*times(&pair[0]).last().unwrap(), times(&pair[1])[0]);
        assert!(next >= last + 1_000_000, "{} us between two replicas", i128::from(next) - i128::from(last));
    }
}

/// An API server that takes its time for every renewal does not cost the leader its Lease.
#[tokio::test(flavor = "multi_thread")]
async fn a_leader_keeps_its_lease_while_etcd_stops_for_5_s() {
    let world = World::new().await;
    let mut operator = world.operator().await;
    eventually("it leads", || async { leads(&operator) }).await;
    world.robot("r").await;
    world.ready("r").await;
    for _ in 0..2 {
        let paused = world.plane.pause_etcd().unwrap();
        tokio::time::sleep(Duration::from_secs(5)).await;
        drop(paused);
        tokio::time::sleep(Duration::from_secs(5)).await;
    }
    assert!(leads(&operator), "{}", operator.log());
    world.delete("r").await;
    world.gone("r").await;
    // Longer than any renewal, so that a Lease which is not renewed would have been lost by now.
    let ended = operator.ended(Duration::from_secs(16)).await;
    assert!(ended.is_err(), "it gave up: {}", operator.log());
    world.verify(0);
}

/// Stopped past its Lease and continued, a leader makes not one call more, and ends.
#[tokio::test(flavor = "multi_thread")]
async fn a_leader_stopped_past_its_lease_never_calls_again() {
    let world = World::new().await;
    let mut first = world.operator().await;
    eventually("the first leads", || async { leads(&first) }).await;
    let second = world.operator().await;
    world.crowd("r", 200).await;
    world.drain_at(5).await;
    eventually("the drain begins", || async { world.simulator.calls().len() > 3 }).await;
    let paused = first.pause().unwrap();
    eventually("the second leads", || async { leads(&second) }).await;
    let taken = world.simulator.calls().len();
    eventually("the second calls", || async { world.simulator.calls().len() > taken + 3 }).await;
    drop(paused);
    let status = first.ended(Duration::from_secs(5)).await.unwrap();
    assert!(!status.success() && first.log().contains("the Lease was lost"), "{status}: {}", first.log());
    let audit = |operator: &testbed::operator::Operator<'_>| {
        operator.log().lines().filter(|line| line.contains("\"target\":\"audit\"")).count()
    };
    let (by_first, all) = (audit(&first), world.simulator.calls().len());
    assert!(by_first <= taken, "the first made {by_first} calls, {taken} before it was stopped");
    assert!(all > taken);
    world.patch_application(serde_json::json!({"spec": {"requestsPerSecond": 200}})).await;
    world.all_gone(Duration::from_secs(90)).await;
    world.verify(1);
}

/// Nothing is called and nothing is written, and deletions that wait are first.
#[tokio::test(flavor = "multi_thread")]
async fn started_over_1000_settled_robots() {
    let world = World::new().await;
    let operator = world.operator_with(&["--leader-elect=false"]).await;
    world.crowd("r", 1000).await;
    eventually("the counts are told", || async {
        let status = world.applications().get(&world.app).await.unwrap().status;
        status.is_some_and(|status| status.robots == Some(1000))
    })
    .await;
    operator.terminate(Duration::from_secs(10)).await.unwrap();
    let before = world.writes().len();
    let start = Instant::now();
    let operator = world.operator_with(&["--leader-elect=false"]).await;
    let ready = start.elapsed();
    assert!(ready < Duration::from_secs(5), "ready after {ready:?}");
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(world.writes().len(), before);
    assert_eq!(world.simulator.calls().len(), 0);
    drop(operator);
}
