//! Promise 7: no call and no write in the steady state; a status write never causes a reconcile.

use crate::harness::{World, eventually, leads};
use serde_json::json;
use std::time::Duration;
use testbed::simulator::{Fault, Kind};

/// Waits until the operator has written nothing for two seconds, and returns how much it had written by then.
async fn settled(world: &World) -> usize {
    let mut before = world.writes().len();
    loop {
        tokio::time::sleep(Duration::from_secs(2)).await;
        let now = world.writes().len();
        if now == before {
            return now;
        }
        before = now;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_over_settled_robots_writes_and_calls_nothing() {
    let world = World::new().await;
    let operator = world.operator().await;
    world.crowd("r", 100).await;
    // The counts on the application are news for half a minute at most.
    eventually("the counts are told", || async {
        let status = world.applications().get(&world.app).await.unwrap().status;
        status.is_some_and(|status| status.robots == Some(100))
    })
    .await;
    let before = settled(&world).await;
    operator.terminate(Duration::from_secs(10)).await.unwrap();
    let operator = world.operator().await;
    eventually("it leads", || async { leads(&operator) }).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let writes = world.writes().split_off(before);
    assert!(writes.is_empty(), "{writes:#?}");
    assert_eq!(world.simulator.calls().len(), 0);
}

/// A hundred changes that are none of our business cause no more status writes than calls.
#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_events_about_a_failing_robot_cause_no_more_writes_than_calls() {
    let world = World::new().await;
    let _operator = world.operator().await;
    world.robot("failing").await;
    world.ready("failing").await;
    world.simulator.fail(Fault::always(Kind::Code(100_001)));
    settled(&world).await;
    world.delete("failing").await;
    world.waits_for("failing", "InternalError").await;
    for n in 0..100 {
        world.patch("failing", json!({"metadata": {"annotations": {"touched": n.to_string()}}})).await;
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    let calls = world.simulator.calls().len();
    let writes = world.robot_writes();
    let writes = writes.iter().skip(2).filter(|write| write.object_ref.subresource == "status").count();
    assert!(writes <= calls, "{writes} status writes for {calls} calls");
    // Back-off from 1 s: a dozen attempts in these seconds would be a reconcile that woke itself.
    assert!(calls <= 8, "{calls} calls");
}

#[tokio::test(flavor = "multi_thread")]
async fn foreign_changes_to_settled_robots_cause_nothing() {
    let world = World::new().await;
    let _operator = world.operator().await;
    world.crowd("r", 10).await;
    settled(&world).await;
    for n in 0..10 {
        let metadata = json!({"annotations": {"note": "größe ".repeat(1_000)}, "labels": {"team": "a"}});
        world.patch(&format!("r-{n}"), json!({"metadata": metadata})).await;
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    let writes = world.robot_writes();
    assert_eq!(writes.len(), 20, "two for each robot's acceptance");
}
