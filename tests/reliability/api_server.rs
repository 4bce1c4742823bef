//! The API server goes away, refuses, forgets to answer.

use super::Allowed;
use crate::harness::{World, eventually};
use hyper::Method;
use std::{cell::Cell, time::Duration};
use testbed::{
    operator::{Operator, account_token},
    proxy::{Action, Proxy, Rule},
};

/// What an API server may answer to a write that it does not carry out.
pub const REFUSALS: [u16; 5] = [409, 429, 504, 500, 403];

/// The operator behind a proxy, which leads without an election.
pub async fn through<'a>(world: &'a World, proxy: &Proxy) -> Operator<'a> {
    through_with(world, proxy, &["--leader-elect=false"]).await
}

/// The operator behind a proxy, with these arguments.
pub async fn through_with<'a>(world: &'a World, proxy: &Proxy, args: &[&str]) -> Operator<'a> {
    let operator = spawn_through(world, proxy, args).await;
    operator.wait_ready().await.unwrap();
    operator
}

/// The same, without waiting for anything.
pub async fn spawn_through<'a>(world: &'a World, proxy: &Proxy, args: &[&str]) -> Operator<'a> {
    let token = account_token(&world.plane).await.unwrap();
    let kubeconfig = world.plane.kubeconfig_through(&proxy.server(), &token).unwrap();
    world.spawn_with_env(args, &[("KUBECONFIG", kubeconfig.to_str().unwrap())]).await
}

/// Lets each kind of write to `paths` be refused `times` with each answer.
pub fn refuse(proxy: &Proxy, times: u32, paths: &[(Method, &'static str)]) {
    for (method, path) in paths {
        for status in REFUSALS {
            let action = Action::Answer(status);
            proxy.add(Rule { method: method.clone(), path, times, action });
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn api_server_restarted_in_a_drain() {
    let world = World::new().await;
    let _replicas = [world.operator().await, world.operator().await];
    world.crowd("r", 300).await;
    world.drain_at(200).await;
    eventually("a part of the drain", || async { world.simulator.calls().len() > 60 }).await;
    world.plane.restart_api_server().await.unwrap();
    world.all_gone(Duration::from_secs(90)).await;
    // What was answered while nobody could record it is remembered, and not asked again.
    assert_eq!(world.simulator.calls().len(), 300);
    assert_eq!(world.simulator.population(), 0);
    // As many writes as the operator has under way at once.
    world.verify_but(Allowed { lost: 32, ..Allowed::default() }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn etcd_stopped_for_20_s() {
    let world = World::new().await;
    let operator = world.operator_with(&["--leader-elect=false"]).await;
    world.crowd("r", 200).await;
    world.drain_at(100).await;
    eventually("a part of the drain", || async { world.simulator.calls().len() > 40 }).await;
    let paused = world.plane.pause_etcd().unwrap();
    tokio::time::sleep(Duration::from_secs(20)).await;
    drop(paused);
    world.all_gone(Duration::from_secs(90)).await;
    assert_eq!(world.simulator.calls().len(), 200);
    world.verify(0).await;
    drop(operator);
}

/// A drain with an outage in it that is longer than a Lease lasts. Whichever replica leads afterwards, no answer is asked
/// for again that the one before has.
async fn outage_under_two_replicas(world: &World, begin: impl AsyncFnOnce(), end: impl AsyncFnOnce()) {
    let replicas = [world.operator().await, world.operator().await];
    world.crowd("r", 300).await;
    world.drain_at(100).await;
    eventually("a part of the drain", || async { world.simulator.calls().len() > 60 }).await;
    begin().await;
    tokio::time::sleep(Duration::from_secs(20)).await;
    let meanwhile = world.simulator.calls().len();
    assert!(meanwhile < 300, "nothing is left to be called for");
    let lost = replicas.iter().filter(|operator| operator.log().contains("the Lease was lost")).count();
    assert_eq!(lost, 1, "the leader gives up");
    end().await;
    world.all_gone(Duration::from_secs(90)).await;
    assert_eq!(world.simulator.calls().len(), 300);
    assert_eq!(world.simulator.population(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn etcd_stopped_for_20_s_under_two_replicas() {
    let world = World::new().await;
    let paused = Cell::new(None);
    let begin = async || paused.set(Some(world.plane.pause_etcd().unwrap()));
    outage_under_two_replicas(&world, begin, async || drop(paused.take())).await;
    world.verify(0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn api_server_gone_for_20_s_under_two_replicas() {
    let world = World::new().await;
    let begin = async || world.plane.stop_api_server().unwrap();
    let end = async || world.plane.restart_api_server().await.unwrap();
    outage_under_two_replicas(&world, begin, end).await;
    world.verify_but(Allowed { lost: 32, ..Allowed::default() }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn api_server_answers_409_429_and_504_to_writes() {
    let world = World::new().await;
    let proxy = Proxy::start(&world.plane).await.unwrap();
    let application = [(Method::PATCH, "/rtcapplications"), (Method::PATCH, "/rtcapplications/status")];
    refuse(&proxy, 1, &application);
    // A Lease cannot even be made at first; of Events every one that is refused is missed.
    refuse(&proxy, 1, &[(Method::POST, "/leases"), (Method::POST, "/events")]);
    let _operator = through_with(&world, &proxy, &[]).await;
    world.crowd("r", 30).await;
    refuse(&proxy, 1, &[(Method::PATCH, "/leases")]);
    refuse(&proxy, 10, &[(Method::PATCH, "/roomrobots"), (Method::PATCH, "/roomrobots/status")]);
    world.delete_all().await;
    world.all_gone(Duration::from_secs(90)).await;
    eventually("each refusal was met", || async { proxy.left().is_empty() }).await;
    assert_eq!(
        world.simulator.calls().len(),
        30,
        "an answer was asked for again because it could not be written down"
    );
    world.verify(0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn watch_cut() {
    let world = World::new().await;
    let proxy = Proxy::start(&world.plane).await.unwrap();
    let _operator = through(&world, &proxy).await;
    world.crowd("r", 100).await;
    world.drain_at(50).await;
    for _ in 0..10 {
        proxy.cut_watches();
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    world.all_gone(Duration::from_secs(90)).await;
    world.robot("after").await;
    world.ready("after").await;
    proxy.cut_watches();
    world.delete("after").await;
    world.gone("after").await;
    assert_eq!(world.simulator.calls().len(), 101);
    world.verify(0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_succeeds_but_its_reply_is_lost() {
    let world = World::new().await;
    let proxy = Proxy::start(&world.plane).await.unwrap();
    let _operator = through(&world, &proxy).await;
    world.crowd("r", 20).await;
    for path in ["/roomrobots", "/roomrobots/status"] {
        proxy.add(Rule { method: Method::PATCH, path, times: 15, action: Action::LoseReply });
    }
    world.delete_all().await;
    world.all_gone(Duration::from_secs(90)).await;
    assert_eq!(world.simulator.calls().len(), 20);
    assert_eq!(proxy.left().len(), 0);
    world.verify(0).await;
}
