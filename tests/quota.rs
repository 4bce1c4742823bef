//! Promise 5: the quota is kept, applications do not wait for one another, deletions go before everything.

use crate::harness::{KEY, World, create, eventually, manifest};
use futures::{StreamExt as _, stream};
use kube::api::{Patch, PatchParams};
use roomrobot_core::crd::{ROBOT_FINALIZER, RoomRobot};
use serde_json::json;
use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};
use testbed::simulator::{Fault, Kind, Simulator};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::AbortHandle,
};

#[tokio::test(flavor = "multi_thread")]
async fn no_second_has_more_calls_than_the_application_may_make() {
    let world = World::new().await;
    let _operator = world.operator().await;
    world.crowd("r", 60).await;
    world.drain_at(20).await;
    world.all_gone(Duration::from_secs(90)).await;
    let most = world.simulator.most_in_a_second();
    assert!((18..=20).contains(&most), "{most} in the fullest second of 20");
    assert_eq!(world.simulator.calls().len(), 60);
    world.verify(0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_applications_of_one_sdkappid_share_its_quota_at_the_lower_rate() {
    let world = World::new().await;
    let _operator = world.operator().await;
    world.patch_application(json!({"spec": {"requestsPerSecond": 20}})).await;
    let other = crate::harness::unique("other");
    world.application(&other, json!({"requestsPerSecond": 100})).await;
    world.crowd("r", 20).await;
    for n in 0..20 {
        let name = format!("o-{n}");
        world.simulator.add_members(world.sdk_app_id, &name, [name.as_str()]);
        let spec = json!({"roomId": name, "memberAccount": name, "applicationRef": {"name": other}});
        create(&world.robots(), manifest::<RoomRobot>(&name, spec)).await;
    }
    world.all_ready(40).await;
    world.drain_at(20).await;
    world.all_gone(Duration::from_secs(90)).await;
    assert!(world.simulator.most_in_a_second() <= 20, "{} in a second", world.simulator.most_in_a_second());
    // In turn, not one after the other.
    let order: Vec<bool> = world.simulator.calls().iter().map(|call| call.room.starts_with("o-")).collect();
    let switches = order.windows(2).filter(|pair| pair[0] != pair[1]).count();
    assert!(switches >= 20, "{order:?}");
    world.verify(0).await;
}

/// Two operators at the same time: one whose other application has as many calls hanging as may hang, and one without.
#[tokio::test(flavor = "multi_thread")]
async fn an_application_whose_api_hangs_does_not_hold_another_up() {
    const TIMES: usize = 15;
    const HANGING: usize = 300;
    let world = World::new().await;
    let _beside = world.operator_with(&["--selector", "shard=beside"]).await;
    let _alone = world.operator_with(&["--selector", "shard=alone"]).await;
    let (other, name) = (world.sdk_app_id + 1, crate::harness::unique("hanging"));
    world.simulator.add_app(other, KEY);
    world.application(&name, json!({"sdkAppId": other})).await;
    let shards = ["beside", "alone"];
    for n in 0..=TIMES {
        for shard in shards {
            world.robot_of(shard, &format!("{shard}-{n}"), &world.app, world.sdk_app_id).await;
        }
    }
    let hanging: Vec<String> = (0..=HANGING).map(|n| format!("h-{n}")).collect();
    stream::iter(&hanging)
        .for_each_concurrent(16, |robot| world.robot_of("beside", robot, &name, other))
        .await;
    world.all_ready(hanging.len() + shards.len() * (TIMES + 1)).await;
    // Proven first: before that, one call at a time could hang.
    for robot in ["beside-0", "alone-0", "h-0"] {
        world.delete(robot).await;
        world.gone(robot).await;
    }
    world.simulator.fail(Fault::always(Kind::Hang).app(other));
    stream::iter(&hanging[1..]).for_each_concurrent(16, |robot| world.delete(robot)).await;
    eventually("as many calls hang as may", || async {
        world.simulator.calls().iter().filter(|call| call.sdk_app_id == other).count() > 185
    })
    .await;
    // In turn, so that whatever else the machine does slows both.
    let mut took = [Vec::new(), Vec::new()];
    for n in 1..=TIMES {
        for (shard, took) in shards.iter().zip(&mut took) {
            let (robot, start) = (format!("{shard}-{n}"), Instant::now());
            world.delete(&robot).await;
            world.gone(&robot).await;
            took.push(start.elapsed());
        }
    }
    let [beside, alone] = took.map(|mut took| {
        took.sort();
        took[took.len() / 2]
    });
    println!("{beside:?} beside a hanging API, {alone:?} alone");
    assert!(beside < alone + Duration::from_millis(100), "{beside:?} beside a hanging API, {alone:?} alone");
    world.verify(0).await;
}

impl World {
    /// A robot with the label of a shard, in a room of the same name.
    async fn robot_of(&self, shard: &str, name: &str, application: &str, sdk_app_id: u32) {
        self.simulator.add_members(sdk_app_id, name, [name]);
        let spec = json!({"roomId": name, "memberAccount": name, "applicationRef": {"name": application}});
        let mut robot = manifest::<RoomRobot>(name, spec);
        robot["metadata"]["labels"] = json!({"shard": shard});
        create(&self.robots(), robot).await;
    }
}

/// Two shards, each with an RtcApplication of its own and its share of the quota of one SDKAppID.
#[tokio::test(flavor = "multi_thread")]
async fn two_shards_share_the_quota_and_leave_each_others_applications_alone() {
    let world = World::new().await;
    let other = crate::harness::unique("other");
    world.application(&other, json!({"requestsPerSecond": 10})).await;
    world.patch_application(json!({"spec": {"requestsPerSecond": 10}})).await;
    let _a = world.operator_with(&["--selector", "shard=a"]).await;
    let _b = world.operator_with(&["--selector", "shard=b"]).await;
    for (shard, application) in [("a", &world.app), ("b", &other)] {
        for n in 0..20 {
            world.robot_of(shard, &format!("{shard}-{n}"), application, world.sdk_app_id).await;
        }
    }
    world.all_ready(40).await;
    let about = |name: &str| world.writes().iter().filter(|write| write.object_ref.name == name).count();
    let before = about(&world.app) + about(&other);
    // A fight over finalizers or counts would be hundreds of writes in this time.
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(about(&world.app) + about(&other) <= before + 2, "the shards write against each other");
    for application in [&world.app, &other] {
        let held = world.applications().get(application).await.unwrap().metadata.finalizers.unwrap();
        assert!(held.len() == 1 && held[0].starts_with("roomrobot.dev/in-use-"), "{held:?}");
    }
    world.delete_all().await;
    world.all_gone(Duration::from_secs(90)).await;
    let calls = world.simulator.calls();
    assert_eq!(calls.len(), 40);
    // Each keeps to its own share, so that both together keep to the quota without knowing of each other.
    for shard in ["a-", "b-"] {
        let of = calls.iter().filter(|call| call.room.starts_with(shard));
        let times: Vec<u64> = of.map(|call| call.at).collect();
        assert_eq!(times.len(), 20, "shard {shard}");
        assert!(
            promises::most_in(&times, 1_000_000) <= 10,
            "shard {shard}: {} in a second",
            promises::most_in(&times, 1_000_000)
        );
    }
    assert!(world.simulator.most_in_a_second() <= 20, "{} in a second", world.simulator.most_in_a_second());
    world.verify(0).await;
}

/// Throttled for a while: the pace halves, robots do not each back off, and it recovers.
#[tokio::test(flavor = "multi_thread")]
async fn throttle_answers_slow_the_application_down_and_it_recovers() {
    let world = World::new().await;
    let _operator = world.operator().await;
    world.crowd("r", 80).await;
    world.simulator.set(|settings| settings.quota = 20);
    world.delete_all().await;
    world.all_gone(Duration::from_secs(40)).await;
    let calls = world.simulator.calls();
    let throttled = calls.iter().filter(|call| call.code == Some(60011)).count();
    assert!(throttled > 0, "the simulator never throttled");
    assert!(throttled < 80, "{throttled} throttle answers for 80 deletions: the pace did not slow down");
    assert_eq!(calls.iter().filter(|call| call.code == Some(0)).count(), 80);
    world.verify(0).await;
}

/// The way to a room engine, which can stall: connections are taken and stay open, requests wait, and when it reopens all of
/// them arrive at once, those too that their clients have given up.
struct Way {
    address: SocketAddr,
    open: watch::Sender<bool>,
    task: AbortHandle,
}

impl Way {
    async fn to(simulator: &Simulator) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let (address, engine) = (listener.local_addr().unwrap(), simulator.address());
        let (open, opened) = watch::channel(true);
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(relay(client, engine, opened.clone()));
            }
        });
        Self { address, open, task: task.abort_handle() }
    }

    fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    async fn stall(&self, time: Duration) {
        self.open.send_replace(false);
        tokio::time::sleep(time).await;
        self.open.send_replace(true);
    }
}

impl Drop for Way {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn relay(client: TcpStream, engine: SocketAddr, mut open: watch::Receiver<bool>) {
    let Ok(server) = TcpStream::connect(engine).await else { return };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    tokio::spawn(async move { drop(tokio::io::copy(&mut from_server, &mut to_client).await) });
    let mut part = [0; 4096];
    while let Ok(length @ 1..) = from_client.read(&mut part).await {
        if open.wait_for(|open| *open).await.is_err() || to_server.write_all(&part[..length]).await.is_err() {
            return;
        }
    }
    // What was sent is on its way still, though nobody waits for an answer.
    if open.wait_for(|open| *open).await.is_ok() {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

/// An SDKAppID with robots whose calls go by a way of their own.
struct Stalled {
    way: Way,
    sdk_app_id: u32,
    applications: Vec<String>,
    rate: u32,
    robots: usize,
    stall: Duration,
}

impl Stalled {
    async fn new(world: &World, way: Way, sharers: usize, rate: u32, robots: usize, stall: u64) -> Self {
        let sdk_app_id = 1_500_000_000 + fastrand::u32(..100_000_000);
        world.simulator.add_app(sdk_app_id, KEY);
        let mut applications = Vec::new();
        for _ in 0..sharers {
            let name = crate::harness::unique("way");
            let spec = json!({"sdkAppId": sdk_app_id, "endpoint": way.endpoint(), "requestsPerSecond": rate});
            world.application(&name, spec).await;
            applications.push(name);
        }
        Self { way, sdk_app_id, applications, rate, robots, stall: Duration::from_secs(stall) }
    }

    /// Their names.
    fn names(&self) -> impl Iterator<Item = (String, &String)> {
        let sharers = self.applications.iter().cycle();
        (0..self.robots)
            .zip(sharers)
            .map(|(n, application)| (format!("{}-{n}", self.applications[0]), application))
    }

    fn calls(&self, world: &World) -> Vec<u64> {
        let calls = world.simulator.calls().into_iter().filter(|call| call.sdk_app_id == self.sdk_app_id);
        calls.map(|call| call.at).collect()
    }

    /// The way stalls in the middle of the drain, and reopens.
    async fn stalls(&self, world: &World) {
        eventually("the drain is under way", || async { self.calls(world).len() > self.robots / 5 }).await;
        self.way.stall(self.stall).await;
    }

    fn check(&self, world: &World) {
        let times = self.calls(world);
        let most = promises::most_in(&times, 1_000_000);
        println!(
            "a stall of {:?}, {} applications at {}: {most} arrivals in a second, {} calls for {} robots",
            self.stall,
            self.applications.len(),
            self.rate,
            times.len(),
            self.robots
        );
        let gap = times.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap();
        assert!(gap + 200_000 > u64::try_from(self.stall.as_micros()).unwrap(), "nothing stalled: {gap} us");
        assert!(
            most <= self.rate as usize,
            "{most} arrivals in a second of {} after {:?}",
            self.rate,
            self.stall
        );
    }
}

/// Drains all of them at once, each with its stall.
async fn drain_over_ways_that_stall(world: &World, all: &[Stalled]) {
    let endpoints: Vec<String> = all.iter().map(|one| one.way.endpoint()).collect();
    let args: Vec<&str> =
        endpoints.iter().flat_map(|endpoint| ["--allow-endpoint", endpoint.as_str()]).collect();
    let _operator = world.operator_with(&args).await;
    let robots = all
        .iter()
        .flat_map(|one| one.names().map(move |(name, application)| (one.sdk_app_id, name, application)));
    let count = stream::iter(robots)
        .map(|(sdk_app_id, name, application)| async move {
            world.simulator.add_members(sdk_app_id, &name, [name.as_str()]);
            let spec =
                json!({"roomId": name, "memberAccount": name, "applicationRef": {"name": application}});
            let mut robot = manifest::<RoomRobot>(&name, spec);
            robot["metadata"]["finalizers"] = json!([ROBOT_FINALIZER]);
            create(&world.robots(), robot).await;
        })
        .buffer_unordered(16)
        .count()
        .await;
    world.all_ready(count).await;
    let suspend = async |suspend: bool| {
        for application in all.iter().flat_map(|one| &one.applications) {
            let patch = Patch::Merge(json!({"spec": {"suspend": suspend}}));
            world.applications().patch(application, &PatchParams::default(), &patch).await.unwrap();
        }
    };
    // Proven first, so that it goes at the full pace from its first call.
    for one in all {
        for (name, _) in one.names().take(one.applications.len()) {
            world.delete(&name).await;
            world.gone(&name).await;
        }
    }
    suspend(true).await;
    world.delete_all().await;
    suspend(false).await;
    futures::future::join_all(all.iter().map(|one| one.stalls(world))).await;
    world.all_gone(Duration::from_secs(120)).await;
    for one in all {
        one.check(world);
    }
    // One that was given up may have had its answer, each time.
    world.verify(9).await;
}

/// At the full quota, for 3 s: 256 calls arrived at once.
#[tokio::test(flavor = "multi_thread")]
async fn no_second_has_more_arrivals_than_the_quota_after_the_way_stalled() {
    let world = World::new().await;
    for sharers in [1, 2] {
        let way = Way::to(&world.simulator).await;
        let stalled = Stalled::new(&world, way, sharers, 200, 500, 3).await;
        drain_over_ways_that_stall(&world, &[stalled]).await;
    }
}

/// For shorter and longer, also than a call waits for its answer, at a tenth of the quota, so that all can be tried at once.
#[tokio::test(flavor = "multi_thread")]
async fn no_second_has_more_arrivals_than_the_quota_however_long_the_way_stalled() {
    let world = World::new().await;
    let mut all = Vec::new();
    for (sharers, seconds) in
        [1, 2].into_iter().flat_map(|sharers| [1, 8, 20, 60].map(|stall| (sharers, stall)))
    {
        let way = Way::to(&world.simulator).await;
        all.push(Stalled::new(&world, way, sharers, 20, 100, seconds).await);
    }
    drain_over_ways_that_stall(&world, &all).await;
}
