//! The API server goes away, refuses, forgets to answer.

use crate::harness::{World, binary, eventually};
use hyper::Method;
use std::time::Duration;
use testbed::{
    operator::{Operator, account_token},
    proxy::{Action, Proxy, Rule},
};

/// The operator behind a proxy.
pub async fn through<'a>(world: &'a World, proxy: &Proxy) -> Operator<'a> {
    let token = account_token(&world.plane).await.unwrap();
    let kubeconfig = world.plane.kubeconfig_through(&proxy.server(), &token).unwrap();
    let endpoint = world.simulator.endpoint();
    let args = ["--allow-endpoint", &endpoint, "--log-format", "json", "--leader-elect=false"];
    let env = [("KUBECONFIG", kubeconfig.to_str().unwrap())];
    let operator = Operator::spawn(&world.plane, binary(), &args, &env).await.unwrap();
    operator.wait_ready().await.unwrap();
    operator
}

#[tokio::test(flavor = "multi_thread")]
async fn api_server_restarted_in_a_drain() {
    let world = World::new().await;
    let _operator = world.operator_with(&["--leader-elect=false"]).await;
    world.crowd("r", 300).await;
    world.drain_at(200).await;
    eventually("a part of the drain", || async { world.simulator.calls().len() > 60 }).await;
    world.plane.restart_api_server().await.unwrap();
    world.all_gone(Duration::from_secs(90)).await;
    // What was answered while nobody could record it is remembered, and not asked again.
    assert_eq!(world.simulator.calls().len(), 300);
    // As many writes as the operator has under way at once.
    world.verify_with_lost_lines(0, 32);
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
    world.verify(0);
    drop(operator);
}

#[tokio::test(flavor = "multi_thread")]
async fn api_server_answers_409_429_and_504_to_writes() {
    let world = World::new().await;
    let proxy = Proxy::start(&world.plane).await.unwrap();
    let _operator = through(&world, &proxy).await;
    world.crowd("r", 30).await;
    for status in [409, 429, 504, 500, 403] {
        for path in ["/status", "/roomrobots/"] {
            proxy.add(Rule { method: Method::PATCH, path, times: 10, action: Action::Answer(status) });
        }
    }
    world.delete_all().await;
    world.all_gone(Duration::from_secs(90)).await;
    assert_eq!(
        world.simulator.calls().len(),
        30,
        "an answer was asked for again because it could not be written down"
    );
    world.verify(0);
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
    world.verify(0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_succeeds_but_its_reply_is_lost() {
    let world = World::new().await;
    let proxy = Proxy::start(&world.plane).await.unwrap();
    let _operator = through(&world, &proxy).await;
    world.crowd("r", 20).await;
    for path in ["/status", "/roomrobots/"] {
        proxy.add(Rule { method: Method::PATCH, path, times: 15, action: Action::LoseReply });
    }
    world.delete_all().await;
    world.all_gone(Duration::from_secs(90)).await;
    assert_eq!(world.simulator.calls().len(), 20);
    world.verify(0);
}
