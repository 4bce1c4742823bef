//! What is measured: each scenario sets its world up, lets the operator work, and reads the figures off.

use super::{
    engine_room::most_in_a_second,
    measure::{self, Audited, Spread, float, rate},
    report::Row,
    world::{APPS, Crowd, Programs, QUOTA, Running, World, end},
};
use kube::api::DeleteParams;
use std::time::{Duration, Instant};
use testbed::{Error, Result, audit::AuditLog, control_plane::ControlPlane, simulator::Call};

/// How long the operator is left alone before its steady memory is read.
const REST: Duration = Duration::from_secs(3);

/// Namespaces that the load is spread over.
const NAMESPACES: usize = 10;

/// Deletions of a round beside the settled robots, and rounds.
const ROUND: usize = 1_000;
const ROUNDS: usize = 3;

/// The floor of this run.
#[derive(Clone, Copy, Debug)]
pub struct Floor {
    /// Deletions in a second.
    pub rate: f64,
    /// CPU time for each.
    pub cpu_ms: f64,
}

impl Floor {
    /// Of a scenario that deletes nothing.
    pub const NONE: Self = Self { rate: f64::INFINITY, cpu_ms: f64::NAN };

    /// `rate` as a share of the smaller of the quota and this floor.
    fn share(self, rate: f64) -> f64 {
        rate / f64::from(QUOTA).min(self.rate)
    }
}

/// Robots that are deleted together in a scenario of size `n`.
#[must_use]
pub fn lives(letter: &str, n: usize) -> usize {
    match letter {
        "c" => 0,
        "e" => ROUND.min(n),
        _ => n,
    }
}

/// Where scenarios run.
#[derive(Clone, Copy, Debug)]
pub struct Stage<'a> {
    /// The control plane.
    pub plane: &'a ControlPlane,
    /// The programs.
    pub programs: &'a Programs,
    /// Deletions one at a time, for their latency.
    pub singles: usize,
}

/// The machine's limit with `n` lives, many at once, without a watch and with one; and the latency of a life alone.
///
/// # Errors
/// If something does not work.
pub async fn floor(stage: Stage<'_>, n: usize) -> Result<([Row; 2], Floor)> {
    let world = World::new(stage.plane, stage.programs, u32::MAX).await?;
    let templates = world.templates().await?;
    let crowd = Crowd { namespace: "floor-alone", count: stage.singles, pending: true };
    world.fill(crowd, APPS[0].1).await?;
    world.put(&templates, crowd).await?;
    let (alone, _) = world.floor(1, false).await?;
    let many = async |name: &'static str, watch: bool| -> Result<Row> {
        let before = world.room_engine.calls().await?.len();
        for crowd in spread(n, true) {
            world.fill(crowd, APPS[0].1).await?;
            world.put(&templates, crowd).await?;
        }
        let (done, audited) = world.floor(32, watch).await?;
        let calls = world.room_engine.calls().await?.split_off(before);
        let mut row = row(name, n, &audited, &calls, None);
        row.cpu_ms_per_life = Some(done.cpu_ms / float(done.lives));
        row.rss_peak = Some(done.peak);
        Ok(row)
    };
    let mut bare = many("floor", false).await?;
    bare.single = Spread::of(alone.latencies);
    let watched = many("floor, watched", true).await?;
    let rate = bare.deletions_per_second.ok_or_else(|| Error("the floor deleted nothing".to_owned()))?;
    let floor = Floor { rate, cpu_ms: bare.cpu_ms_per_life.unwrap_or(f64::NAN) };
    Ok(([bare, watched], floor))
}

/// (a) Deletions that are pending at the operator's start.
///
/// # Errors
/// If something does not work.
pub async fn pending(stage: Stage<'_>, n: usize, floor: Floor) -> Result<Row> {
    let world = World::new(stage.plane, stage.programs, QUOTA).await?;
    let templates = world.templates().await?;
    for crowd in spread(n, true) {
        world.fill(crowd, APPS[0].1).await?;
        world.put(&templates, crowd).await?;
    }
    let audit = world.audit();
    let running = world.operator().await?;
    world.until_ended(&audit, n).await?;
    finish("a pending", &world, running, &audit, n, floor).await
}

/// (b) Robots that are created and deleted while the operator runs.
///
/// # Errors
/// If something does not work.
pub async fn live(stage: Stage<'_>, n: usize, floor: Floor) -> Result<Row> {
    let world = World::new(stage.plane, stage.programs, QUOTA).await?;
    let running = world.operator().await?;
    let audit = world.audit();
    let namespaces = names();
    for (namespace, count) in namespaces.iter().zip(shares(n)) {
        world.create_many(namespace, count, (APPS[0].0, APPS[0].1)).await?;
    }
    for (namespace, count) in namespaces.iter().zip(shares(n)) {
        world.until_ready(namespace, count).await?;
    }
    futures::future::try_join_all(namespaces.iter().map(|namespace| world.delete_all(namespace))).await?;
    world.until_ended(&audit, n).await?;
    finish("b live", &world, running, &audit, n, floor).await
}

/// (c) A restart over settled robots, and single deletions among them.
///
/// # Errors
/// If something does not work.
pub async fn restart(stage: Stage<'_>, n: usize) -> Result<Row> {
    let world = World::new(stage.plane, stage.programs, QUOTA).await?;
    let mut crowds = spread(n, false);
    crowds.retain(|crowd| crowd.count > 0);
    let singles = Crowd { namespace: "single", count: stage.singles, pending: false };
    if n > 0 {
        // With nothing settled, it is the start on an empty cluster that is measured.
        let templates = world.templates().await?;
        world.fill(singles, APPS[0].1).await?;
        for crowd in crowds.iter().copied().chain([singles]) {
            world.put(&templates, crowd).await?;
        }
        let running = world.operator().await?;
        world.until_counted(APPS[0].0, n + singles.count).await?;
        end(running.operator).await?;
    }
    let audit = world.audit();
    let running = world.operator().await?;
    let pid = running.operator.pid();
    tokio::time::sleep(REST).await;
    let (rss_steady, rss_peak) = measure::memory(pid).unzip();
    let quiet = Audited::read(&audit.entries()?);
    let calls = world.room_engine.calls().await?;
    let mut row = row("c restart", 0, &quiet, &calls, None);
    row.settled = n;
    row.ready_ms = Some(running.ready.as_secs_f64() * 1e3);
    row.cpu_ms_until_ready = Some(running.cpu_at_ready.as_secs_f64() * 1e3);
    row.rss_steady = rss_steady;
    row.rss_peak = rss_peak;
    if n > 0 {
        let audit = world.audit();
        world.delete_singly(singles.namespace).await?;
        let audited = Audited::read(&audit.entries()?);
        row.single = Spread::of(audited.latencies.into_values().collect());
    }
    end(running.operator).await?;
    Ok(row)
}

/// (d) One application drains, and another has a single deletion now and then.
///
/// # Errors
/// If something does not work.
pub async fn beside(stage: Stage<'_>, n: usize, floor: Floor) -> Result<Row> {
    let world = World::new(stage.plane, stage.programs, QUOTA).await?;
    let templates = world.templates().await?;
    // Enough of them for a deletion every half second of the drain.
    let singles = (n / 100).clamp(3, 100);
    let running = world.operator().await?;
    world.create_many("beside", singles, (APPS[1].0, APPS[1].1)).await?;
    world.until_ready("beside", singles).await?;
    end(running.operator).await?;
    for crowd in spread(n, true) {
        world.fill(crowd, APPS[0].1).await?;
        world.put(&templates, crowd).await?;
    }
    let audit = world.audit();
    let running = world.operator().await?;
    let robots = world.robots(Some("beside"));
    let interval = Duration::from_secs_f64(float(n) / f64::from(QUOTA) / float(singles));
    let start = Instant::now();
    for single in 0..singles {
        let name = format!("robot-{single:06}");
        robots
            .delete(&name, &DeleteParams::default())
            .await
            .map_err(|error| Error::new("a single deletion", error))?;
        let next = interval.mul_f64(float(single + 1));
        tokio::time::sleep(next.saturating_sub(start.elapsed())).await;
    }
    world.until_ended(&audit, n + singles).await?;
    let audited = Audited::read(&audit.entries()?);
    let mut row = finish("d beside", &world, running, &audit, n + singles, floor).await?;
    let of_singles = audited.latencies.into_iter().filter(|((namespace, _), _)| namespace == "beside");
    row.single = Spread::of(of_singles.map(|(_, latency)| latency).collect());
    // Two quotas were used; that of the load counts.
    let calls = world.room_engine.calls().await?;
    row.calls_per_second = calls_per_second(calls.iter().filter(|call| call.sdk_app_id == APPS[0].1));
    row.calls_share_of_limit = row.calls_per_second.map(|rate| floor.share(rate));
    Ok(row)
}

/// (e) A thousand deletions among more and more settled robots: the median of three rounds.
///
/// # Errors
/// If something does not work.
pub async fn growth(stage: Stage<'_>, n: usize, floor: Floor) -> Result<Row> {
    let world = World::new(stage.plane, stage.programs, QUOTA).await?;
    let templates = world.templates().await?;
    let round = ROUND.min(n);
    let names: Vec<String> = (0..ROUNDS).map(|n| format!("round-{n}")).collect();
    for crowd in spread(n, false) {
        world.put(&templates, crowd).await?;
    }
    for namespace in &names {
        let crowd = Crowd { namespace, count: round, pending: false };
        world.fill(crowd, APPS[0].1).await?;
        world.put(&templates, crowd).await?;
    }
    let running = world.operator().await?;
    world.until_counted(APPS[0].0, n + ROUNDS * round).await?;
    let pid = running.operator.pid();
    let mut rows = Vec::new();
    for namespace in &names {
        let audit = world.audit();
        let before = world.room_engine.calls().await?.len();
        let cpu = measure::cpu(pid).unwrap_or_default();
        world.delete_all(namespace).await?;
        world.until_ended(&audit, round).await?;
        let used = measure::cpu(pid).unwrap_or_default().saturating_sub(cpu);
        let calls = world.room_engine.calls().await?.split_off(before);
        let mut row = row("e growth", round, &Audited::read(&audit.entries()?), &calls, Some(floor));
        row.cpu_ms_per_life = Some(used.as_secs_f64() * 1e3 / float(round));
        rows.push(row);
    }
    rows.sort_by(|a, b| f64::total_cmp(&a.cpu_ms_per_life.unwrap_or(0.0), &b.cpu_ms_per_life.unwrap_or(0.0)));
    let mut row = rows.swap_remove(ROUNDS / 2);
    tokio::time::sleep(REST).await;
    let (rss_steady, rss_peak) = measure::memory(pid).unzip();
    row.settled = n;
    row.cpu_of_floor = row.cpu_ms_per_life.map(|cpu| cpu / floor.cpu_ms);
    row.rss_steady = rss_steady;
    row.rss_peak = rss_peak;
    end(running.operator).await?;
    Ok(row)
}

/// Reads everything off when `n` lives are over, and ends the operator.
async fn finish(
    scenario: &str,
    world: &World<'_>,
    running: Running<'_>,
    audit: &AuditLog,
    n: usize,
    floor: Floor,
) -> Result<Row> {
    let pid = running.operator.pid();
    let used = measure::cpu(pid).unwrap_or_default().saturating_sub(running.cpu_at_ready);
    tokio::time::sleep(REST).await;
    let (rss_steady, rss_peak) = measure::memory(pid).unzip();
    let calls = world.room_engine.calls().await?;
    let mut row = row(scenario, n, &Audited::read(&audit.entries()?), &calls, Some(floor));
    let cpu = used.as_secs_f64() * 1e3 / float(n);
    row.cpu_ms_per_life = Some(cpu);
    row.cpu_of_floor = Some(cpu / floor.cpu_ms);
    row.rss_steady = rss_steady;
    row.rss_peak = rss_peak;
    row.ready_ms = Some(running.ready.as_secs_f64() * 1e3);
    end(running.operator).await?;
    Ok(row)
}

/// What the audit log and the room engine say.
fn row(scenario: &str, n: usize, audited: &Audited, calls: &[Call], floor: Option<Floor>) -> Row {
    let per_life = |count: usize| float(count) / float(n.max(1));
    let deletions_per_second = audited.rate();
    let quota = f64::from(QUOTA);
    let of_limit = |rate: Option<f64>| Some(floor?.share(rate?));
    let calls_per_second = calls_per_second(calls.iter());
    let accepted = audited.accepted.and_then(|(first, last)| {
        let count = audited.robot_writes.iter().filter(|(what, _)| what.contains("acceptance"));
        rate(count.map(|(_, count)| count).sum(), u64::try_from(last - first).ok()?)
    });
    Row {
        scenario: scenario.to_owned(),
        deletions: n,
        deletions_per_second,
        share_of_quota: deletions_per_second.filter(|_| floor.is_some()).map(|rate| rate / quota),
        share_of_limit: of_limit(deletions_per_second),
        calls_per_second,
        calls_share_of_limit: of_limit(calls_per_second),
        most_calls_in_a_second: (n > 0).then(|| most_in_a_second(calls)),
        calls_per_deletion: (n > 0).then(|| per_life(calls.len())),
        calls: calls.len(),
        writes_per_life: audited
            .robot_writes
            .iter()
            .map(|(what, count)| (what.clone(), per_life(*count)))
            .collect(),
        other_writes: audited.other_writes.clone(),
        refused_writes: audited.refused.clone(),
        accepted_per_second: accepted,
        ..Row::default()
    }
}

fn calls_per_second<'a>(calls: impl Iterator<Item = &'a Call>) -> Option<f64> {
    let times: Vec<u64> = calls.map(|call| call.at).collect();
    rate(times.len(), times.last()? - times.first()?)
}

/// The namespaces of the load.
fn names() -> Vec<String> {
    CROWDS.iter().map(|name| (*name).to_owned()).collect()
}

const CROWDS: [&str; NAMESPACES] = [
    "event-0", "event-1", "event-2", "event-3", "event-4", "event-5", "event-6", "event-7", "event-8",
    "event-9",
];

/// `n` as evenly as can be.
fn shares(n: usize) -> impl Iterator<Item = usize> {
    (0..NAMESPACES).map(move |place| n / NAMESPACES + usize::from(place < n % NAMESPACES))
}

/// `n` robots over the namespaces of the load.
fn spread(n: usize, pending: bool) -> Vec<Crowd<'static>> {
    CROWDS.iter().zip(shares(n)).map(|(namespace, count)| Crowd { namespace, count, pending }).collect()
}
