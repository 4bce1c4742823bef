//! One acts: whichever replica holds the Lease, and how it comes by it.

use crate::{
    harness::{World, create, eventually, leads},
    reliability::api_server::through_with,
};
use futures::StreamExt as _;
use hyper::Method;
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::MicroTime,
    jiff::{SignedDuration, Timestamp},
};
use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, Patch, PatchParams},
    runtime::{WatchStreamExt as _, watcher},
};
use roomrobot_core::election::{Record, Request};
use serde_json::json;
use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};
use testbed::{
    control_plane::OPERATOR_NAMESPACE,
    operator::Operator,
    proxy::{Action, Proxy, Rule},
};

const LEASE: &str = "roomrobot-operator";

fn leases(world: &World) -> Api<Lease> {
    Api::namespaced(world.client.clone(), OPERATOR_NAMESPACE)
}

async fn spec(world: &World) -> LeaseSpec {
    leases(world).get(LEASE).await.unwrap().spec.unwrap_or_default()
}

/// A Lease of a holder that is gone, and whose clock was this much ahead.
async fn left_by_another(world: &World, ahead: SignedDuration) {
    let renewed = MicroTime(Timestamp::now().checked_add(ahead).unwrap());
    let spec = json!({
        "holderIdentity": "gone-0a1b2c3d", "leaseDurationSeconds": 15, "leaseTransitions": 6,
        "acquireTime": renewed, "renewTime": renewed,
    });
    create(&leases(world), json!({"metadata": {"name": LEASE}, "spec": spec})).await;
}

/// Nobody led for 615 s.
#[tokio::test(flavor = "multi_thread")]
async fn a_lease_whose_holder_s_clock_was_ten_minutes_ahead_is_taken_when_it_has_lasted() {
    let world = World::new().await;
    left_by_another(&world, SignedDuration::from_mins(10)).await;
    let start = Instant::now();
    let operator = world.operator().await;
    eventually("it leads", || async { leads(&operator) }).await;
    let after = start.elapsed();
    assert!((Duration::from_secs(15)..Duration::from_secs(25)).contains(&after), "it leads after {after:?}");
    let spec = spec(&world).await;
    assert_eq!(spec.lease_transitions, Some(7));
    assert!(spec.acquire_time.unwrap().0 <= Timestamp::now(), "the time is its own");
    world.verify(0).await;
}

/// What it thinks of another's clock does not make it take a Lease that is valid.
#[tokio::test(flavor = "multi_thread")]
async fn a_lease_whose_holder_s_clock_is_ten_minutes_behind_is_not_taken_while_it_is_renewed() {
    let world = World::new().await;
    left_by_another(&world, SignedDuration::from_mins(-10)).await;
    let operator = world.operator().await;
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(25) {
        let renewed = MicroTime(Timestamp::now().checked_sub(SignedDuration::from_mins(10)).unwrap());
        let patch = Patch::Merge(json!({"spec": {"renewTime": renewed}}));
        leases(&world).patch(LEASE, &PatchParams::default(), &patch).await.unwrap();
        assert!(!leads(&operator), "two leaders");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(spec(&world).await.holder_identity.as_deref(), Some("gone-0a1b2c3d"));
    world.verify(0).await;
}

/// On the API server itself: of two writes that were decided on the same version one is refused.
#[tokio::test(flavor = "multi_thread")]
async fn of_two_claims_the_api_server_refuses_one() {
    let world = World::new().await;
    let api = leases(&world);
    left_by_another(&world, SignedDuration::ZERO).await;
    let labels = json!({"metadata": {"labels": {"team": "a"}}});
    api.patch(LEASE, &PatchParams::default(), &Patch::Merge(labels)).await.unwrap();
    let write = async |request: Request, now| {
        api.patch(LEASE, &PatchParams::default(), &Patch::Merge(request.patch(now).unwrap())).await
    };
    let stored = Record::from(api.get(LEASE).await.unwrap());
    let claim = |holder: &str| Request::Claim { record: stored.clone(), holder: holder.to_owned() };
    let now = Timestamp::now();
    let first = write(claim("a-1"), now).await.unwrap();
    let Err(kube::Error::Api(refused)) = write(claim("b-1"), now).await else { panic!("two holders") };
    assert_eq!(refused.code, 409);
    assert_eq!(first.labels()["team"], "a");
    // Renewed at the same moment by a clock that stands still: another version all the same.
    let record = Record::from(first.clone());
    assert_eq!((record.holder.as_deref(), record.transitions), (Some("a-1"), 7));
    let second = write(Request::Renew { record: record.clone() }, now).await.unwrap();
    assert_ne!(second.resource_version(), first.resource_version());
    assert_eq!(second.spec.as_ref().unwrap().acquire_time, first.spec.unwrap().acquire_time);
    let Err(kube::Error::Api(refused)) = write(Request::Release { record }, now).await else {
        panic!("an old version was written over")
    };
    assert_eq!(refused.code, 409);
    let released = write(Request::Release { record: Record::from(second) }, now).await.unwrap();
    let spec = released.spec.unwrap();
    assert_eq!((spec.holder_identity, spec.renew_time, spec.lease_transitions), (None, None, Some(7)));
    world.verify(0).await;
}

/// Who held the Lease, one after the other, as a watcher saw it; nobody is left out.
fn holders(world: &World) -> Arc<Mutex<Vec<String>>> {
    let holders = Arc::<Mutex<Vec<String>>>::default();
    let notes = Arc::clone(&holders);
    let config = watcher::Config::default().fields(&format!("metadata.name={LEASE}"));
    let mut seen = watcher(leases(world), config).applied_objects().boxed();
    tokio::spawn(async move {
        while let Some(Ok(lease)) = seen.next().await {
            let holder = Record::from(lease).holder;
            let mut notes = notes.lock().unwrap();
            if let Some(holder) = holder.filter(|holder| notes.last() != Some(holder)) {
                notes.push(holder);
            }
        }
    });
    holders
}

/// Waits until one of them leads, and returns which; never do two.
async fn one_leads(replicas: &[Operator<'_>]) -> usize {
    let mut leader = None;
    eventually("one leads", || {
        let leading: Vec<usize> = (0..replicas.len()).filter(|n| leads(&replicas[*n])).collect();
        assert!(leading.len() < 2, "{leading:?} lead");
        leader = leading.first().copied();
        async move { leader.is_some() }
    })
    .await;
    leader.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn of_five_that_start_at_once_one_leads_and_each_time_one_follows() {
    let world = World::new().await;
    let holders = holders(&world);
    let mut replicas = Vec::new();
    for _ in 0..5 {
        replicas.push(world.spawn_operator(&[]).await);
    }
    let mut turns = Vec::new();
    for killed in [false, false, true] {
        let leader = one_leads(&replicas).await;
        for replica in &replicas {
            replica.wait_ready().await.unwrap();
        }
        assert_eq!(one_leads(&replicas).await, leader, "without a reason");
        let leader = replicas.remove(leader);
        turns.push(leader.name().to_owned());
        if killed {
            leader.kill();
        } else {
            leader.terminate(Duration::from_secs(15)).await.unwrap();
        }
    }
    let last = one_leads(&replicas).await;
    turns.push(replicas[last].name().to_owned());
    let stored = spec(&world).await;
    // The first one made the Lease.
    assert_eq!(stored.lease_transitions, Some(3));
    eventually("the last is seen", || async { holders.lock().unwrap().len() >= 4 }).await;
    let seen: Vec<String> = holders.lock().unwrap().clone();
    let pods: Vec<&str> = seen.iter().filter_map(|holder| Some(holder.rsplit_once('-')?.0)).collect();
    assert_eq!(pods, turns);
    world.verify(0).await;
}

/// Its watch of the Lease is never answered, and a hand-over takes a little longer, not until the Lease would have ended.
#[tokio::test(flavor = "multi_thread")]
async fn a_standby_whose_watch_hangs_sees_all_the_same_that_the_lease_is_free() {
    let world = World::new().await;
    let leader = world.operator().await;
    eventually("the first leads", || async { leads(&leader) }).await;
    let proxy = Proxy::start(&world.plane).await.unwrap();
    proxy.add(Rule { method: Method::GET, path: "/leases?watch", times: 1000, action: Action::Hang });
    let next = through_with(&world, &proxy, &[]).await;
    eventually("its watch hangs", || async { proxy.left()[0].times < 1000 }).await;
    leader.terminate(Duration::from_secs(15)).await.unwrap();
    let start = Instant::now();
    eventually("the next leads", || async { leads(&next) }).await;
    assert!(start.elapsed() < Duration::from_secs(5), "after {:?}", start.elapsed());
    assert!(next.log().contains(r#""before":"Finished""#), "{}", next.log());
    world.verify(0).await;
}

/// Every kind of request hangs once, and the connection stays open.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_is_never_answered_costs_neither_the_election_nor_the_lease() {
    let world = World::new().await;
    let proxy = Proxy::start(&world.plane).await.unwrap();
    let hang = |method, path| proxy.add(Rule { method, path, times: 1, action: Action::Hang });
    hang(Method::GET, "/leases/roomrobot-operator");
    hang(Method::POST, "/leases");
    let operator = through_with(&world, &proxy, &[]).await;
    eventually("it leads", || async { leads(&operator) }).await;
    assert!(proxy.left().is_empty(), "{:?}", proxy.left());
    assert!(operator.log().contains("the API server did not answer in time"), "{}", operator.log());
    hang(Method::PATCH, "/leases");
    eventually("a renewal hangs", || async { proxy.left().is_empty() }).await;
    let before = spec(&world).await.renew_time;
    eventually("it is renewed", || async { spec(&world).await.renew_time != before }).await;
    assert!(leads(&operator) && !operator.log().contains("the Lease was lost"), "{}", operator.log());
    world.verify(0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_is_deleted_or_given_to_another_is_lost_at_once() {
    let world = World::new().await;
    let operator = world.operator().await;
    eventually("it leads", || async { leads(&operator) }).await;
    let lost = || operator.log().matches("the Lease was lost").count();
    leases(&world).delete(LEASE, &DeleteParams::default()).await.unwrap();
    eventually("it knows", || async { lost() == 1 }).await;
    eventually("it leads again", || async { leads(&operator) }).await;
    let start = Instant::now();
    let patch = Patch::Merge(json!({"spec": {"holderIdentity": "other-1"}}));
    leases(&world).patch(LEASE, &PatchParams::default(), &patch).await.unwrap();
    eventually("it knows", || async { lost() == 2 }).await;
    assert!(start.elapsed() < Duration::from_secs(2), "after {:?}", start.elapsed());
    assert!(!leads(&operator));
    eventually("it leads again when the other's has expired", || async { leads(&operator) }).await;
    assert!(start.elapsed() > Duration::from_secs(15), "after {:?}", start.elapsed());
    assert!(operator.log().contains(r#""before":"Vanished""#), "{}", operator.log());
    world.verify(0).await;
}
