//! Stories that nobody thought of, and the shortest one of those that break a promise.
//!
//! proptest draws, records and shrinks. A story is a list of small independent values, which is what it shrinks best: it leaves
//! steps out one by one and makes what is left smaller, and each candidate is a story again. Each case draws a few kinds of
//! actions and only steps of these kinds (swarm testing): a story in which everything happens is one in which each thing is
//! drowned by the others.

use crate::{
    story::{Action, Meets, Of, Refusal, Secret, Setup, Step, Story, Which},
    world::{self, Report},
};
use proptest::{
    collection::vec,
    prelude::*,
    strategy::{Union, ValueTree},
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    time::{Duration, Instant},
};

/// A story that breaks a promise.
#[derive(Debug)]
pub struct Found {
    /// The case that it came from.
    pub seed: u64,
    /// The shortest story that was found.
    pub story: Story,
    /// Which promise it breaks, and how.
    pub why: String,
    /// What happens in it.
    pub told: Vec<String>,
    /// How many stories it took to make it short.
    pub tried: u32,
}

/// Runs a story; a panic of the operator's code is a broken promise, too.
#[must_use]
pub fn run(story: &Story, tell: bool) -> Report {
    let run = catch_unwind(AssertUnwindSafe(|| world::run(story, tell)));
    run.unwrap_or_else(|panic| {
        let text =
            panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
        let broken = Some(format!("a panic: {}", text.unwrap_or("of another kind")));
        Report { broken, ..Report::default() }
    })
}

/// Runs the story of `seed`, and makes it shorter if it breaks a promise; within `patience`.
#[must_use]
pub fn case(seed: u64, patience: Duration) -> (Report, Option<Found>) {
    let mut tree = tree(seed);
    let story = tree.current();
    let report = run(&story, false);
    let Some(why) = report.broken.clone() else { return (report, None) };
    let (mut best, mut why, mut tried) = (story, why, 0);
    let begun = Instant::now();
    if tree.simplify() {
        while begun.elapsed() < patience {
            tried += 1;
            let candidate = tree.current();
            let more = match run(&candidate, false).broken {
                Some(broken) => {
                    (best, why) = (candidate, broken);
                    tree.simplify()
                }
                None => tree.complicate(),
            };
            if !more {
                break;
            }
        }
    }
    leave_out(&mut best, &mut why, &mut tried, begun + patience);
    let told = run(&best, true).told;
    (report, Some(Found { seed, story: best, why, told, tried }))
}

/// Leaves steps out whose time the next step takes over: proptest moves everything that follows to an earlier time.
fn leave_out(best: &mut Story, why: &mut String, tried: &mut u32, end: Instant) {
    let mut place = 0;
    while place < best.steps.len() && Instant::now() < end {
        let mut shorter = best.clone();
        let left_out = shorter.steps.remove(place);
        if let Some(next) = shorter.steps.get_mut(place) {
            next.after += left_out.after;
        }
        *tried += 1;
        match run(&shorter, false).broken {
            Some(broken) => (*best, *why) = (shorter, broken),
            None => place += 1,
        }
    }
}

/// The story of a seed.
#[must_use]
pub fn story(seed: u64) -> Story {
    tree(seed).current()
}

/// The story of a seed, which can be made shorter.
fn tree(seed: u64) -> impl ValueTree<Value = Story> {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let mut rng = runner.new_rng();
    let kinds = kinds(&mut rng);
    // People always create and delete.
    let mut chosen: Vec<(u32, BoxedStrategy<Action>)> = Vec::new();
    for (n, (weight, kind)) in kinds.into_iter().enumerate() {
        let part = if n < ALWAYS { 100 } else { 25 };
        if rng.random_range(0..100) < part {
            chosen.push((weight, kind));
        }
    }
    let most = [8, 16, 30, 50][rng.random_range(0..4)];
    let after = prop_oneof![
        3 => Just(0_u32),
        4 => 1..50_u32,
        4 => 50..2_000_u32,
        2 => 2_000..15_000_u32,
        1 => 15_000..70_000_u32,
    ];
    // In half of the stories something is there already, and at rest, when the trouble begins.
    let there = vec(prop_oneof![4 => create_one(), 3 => create_many()], 0..[1, 7][rng.random_range(0..2)]);
    let begin = there.prop_map(|there| {
        let mut steps: Vec<Step> = there.into_iter().map(|action| Step { after: 0, action }).collect();
        if !steps.is_empty() {
            steps.push(Step { after: 20_000, action: Action::Wait });
        }
        steps
    });
    let step = (after, Union::new_weighted(chosen)).prop_map(|(after, action)| Step { after, action });
    let story = (setup(), begin, vec(step, 2..most)).prop_map(|(setup, mut begin, steps)| {
        begin.extend(steps);
        Story { setup, steps: begin }
    });
    story.new_tree(&mut runner).expect("no strategy filters")
}

fn setup() -> impl Strategy<Value = Setup> {
    let shape = (
        prop_oneof![3 => Just(1_u8), 4 => Just(2), 2 => Just(3)],
        prop::bool::weighted(0.1),
        prop::bool::weighted(0.15),
        prop::bool::weighted(0.5),
        prop::bool::weighted(0.25),
        prop::bool::weighted(0.15),
    );
    let size =
        (prop_oneof![Just(50_u8), Just(5), Just(20), Just(200)], prop_oneof![Just(16_u8), Just(4), Just(64)]);
    let times = (
        prop_oneof![3 => Just(4_u16), 1 => 1..150_u16],
        prop_oneof![3 => Just(20_u16), 1 => 1..600_u16],
        prop_oneof![3 => Just(5_u16), 1 => 0..1500_u16],
        prop_oneof![3 => Just(10_u16), 1 => 0..2000_u16],
        prop_oneof![3 => Just(0_i16), 1 => -700..700_i16],
    );
    (shape, size, times).prop_map(|(shape, (rate, concurrency), (api, room, lag, list, skew))| {
        let (replicas, sharded, by_namespace, twin, selective, alone) = shape;
        let by_namespace = by_namespace && !sharded;
        Setup {
            replicas,
            sharded,
            by_namespace,
            twin,
            selective,
            alone,
            rate,
            concurrency,
            api,
            room,
            lag,
            list,
            skew,
        }
    })
}

fn ns() -> impl Strategy<Value = u8> {
    prop_oneof![3 => Just(0_u8), 2 => Just(1), 1 => Just(2)]
}

fn name() -> impl Strategy<Value = u8> {
    prop_oneof![3 => 0..2_u8, 2 => 2..4_u8, 1 => 4..8_u8]
}

fn app() -> impl Strategy<Value = u8> {
    prop_oneof![3 => Just(0_u8), 1 => Just(1)]
}

fn create_one() -> BoxedStrategy<Action> {
    let of = prop_oneof![2 => Just(Of::Its), 3 => (0..2_u8).prop_map(Of::Shared)];
    let policies = (any::<bool>(), prop::bool::weighted(0.15), any::<bool>(), prop::bool::weighted(0.1));
    (ns(), name(), of, app(), policies)
        .prop_map(|(ns, name, of, app, (create, retain, born, suspend))| Action::Create {
            ns,
            name,
            of,
            app,
            create,
            retain,
            born,
            suspend,
        })
        .boxed()
}

fn create_many() -> BoxedStrategy<Action> {
    (ns(), 1..12_u8, app(), prop::bool::weighted(0.3), prop::bool::weighted(0.15))
        .prop_map(|(ns, tens, app, create, shared)| Action::Crowd { ns, tens, app, create, shared })
        .boxed()
}

/// One or two of `all`, or all of them.
fn few<T: Clone>(rng: &mut TestRng, mut all: Vec<T>) -> Vec<T> {
    let many = [1, 2, all.len()][rng.random_range(0..3)];
    while all.len() > many {
        all.swap_remove(rng.random_range(0..all.len()));
    }
    all
}

/// So many of the kinds are in every story.
const ALWAYS: usize = 3;

#[expect(clippy::too_many_lines, reason = "a line or two for each of them")]
fn kinds(rng: &mut TestRng) -> Vec<(u32, BoxedStrategy<Action>)> {
    // In many stories trouble lasts, or is of few kinds.
    let long = [1, 1, 6][rng.random_range(0..3)];
    let replica = || 0..3_u8;
    let one = move || (ns(), name());
    let brief = || prop_oneof![3 => 1..3_000_u16, 2 * long => 3_000..20_000_u16, long => 20_000..60_000_u16];
    let times = || prop_oneof![2 => 1..4_u8, 1 => 4..40_u8, 2 * long => Just(u8::MAX)];
    let secret = prop_oneof![
        3 => Just(Secret::Right),
        2 => Just(Secret::Wrong),
        1 => Just(Secret::Empty),
        1 => Just(Secret::Missing),
        1 => Just(Secret::Forbidden),
        1 => Just(Secret::Failing),
        1 => Just(Secret::Hanging),
    ];
    let which = || {
        prop_oneof![
            Just(Which::Robots),
            Just(Which::Finalizers),
            Just(Which::Statuses),
            Just(Which::Applications)
        ]
    };
    let refusals = few(
        rng,
        vec![
            Refusal::Policy,
            Refusal::Forbidden,
            Refusal::Unauthorized,
            Refusal::Webhook,
            Refusal::WebhookFails,
            Refusal::TooMany,
            Refusal::Internal,
            Refusal::Proxy404,
            Refusal::Conflict,
            Refusal::Unreachable,
            Refusal::ReplyLost,
            Refusal::ReplyLate,
            // What hangs takes places.
            Refusal::Hangs,
            Refusal::Hangs,
            Refusal::Hangs,
            Refusal::Overtaken,
        ],
    );
    let refusal = prop::sample::select(refusals);
    let codes = few(
        rng,
        vec![
            100_001_u32,
            100_004,
            100_005,
            100_006,
            100_002,
            60010,
            60011,
            60017,
            60020,
            70398,
            72000,
            70001,
            70003,
            70009,
            70050,
            20004,
            60008,
            100_007,
            100_013,
            424_242,
        ],
    );
    let code = prop::sample::select(codes);
    let meets = prop_oneof![
        6 => code.prop_map(Meets::Code),
        1 => prop::sample::select(vec![500_u16, 502, 429, 403, 404]).prop_map(Meets::Http),
        1 => Just(Meets::Refused),
        1 => Just(Meets::Broken),
        1 => Just(Meets::BrokenAfter),
        1 => Just(Meets::Lost),
        1 => Just(Meets::LostAfter),
        1 => Just(Meets::Alternating),
    ];
    let add = prop_oneof![Just(None), Just(Some(true)), Just(Some(false))];
    let far = prop_oneof![4 => 100..10_000_u32, 4 => 10_000..120_000_u32, 1 => 120_000..900_000_u32];
    vec![
        (24, create_one()),
        (14, one().prop_map(|(ns, name)| Action::Delete { ns, name }).boxed()),
        (3, ns().prop_map(|ns| Action::DeleteAll { ns }).boxed()),
        (3, create_many()),
        (8, (ns(), name(), name()).prop_map(|(ns, from, to)| Action::Rename { ns, from, to }).boxed()),
        (6, (one(), any::<bool>()).prop_map(|((ns, name), on)| Action::Retain { ns, name, on }).boxed()),
        (4, (one(), any::<bool>()).prop_map(|((ns, name), on)| Action::Suspend { ns, name, on }).boxed()),
        (
            3,
            (one(), any::<bool>())
                .prop_map(|((ns, name), create)| Action::Creation { ns, name, create })
                .boxed(),
        ),
        (4, (one(), app()).prop_map(|((ns, name), app)| Action::Restore { ns, name, app }).boxed()),
        (4, one().prop_map(|(ns, name)| Action::Move { ns, name }).boxed()),
        (2, one().prop_map(|(ns, name)| Action::Strip { ns, name }).boxed()),
        (
            3,
            (one(), any::<bool>())
                .prop_map(|((ns, name), on)| Action::OtherFinalizer { ns, name, on })
                .boxed(),
        ),
        (3, one().prop_map(|(ns, name)| Action::OtherCondition { ns, name }).boxed()),
        (2, one().prop_map(|(ns, name)| Action::WipeStatus { ns, name }).boxed()),
        (2, ns().prop_map(|ns| Action::DeleteNamespace { ns }).boxed()),
        (3, (ns(), 0..40_u8).prop_map(|(ns, back)| Action::ForceNamespace { ns, back }).boxed()),
        (3, (ns(), any::<bool>()).prop_map(|(ns, on)| Action::Label { ns, on }).boxed()),
        (6, (app(), any::<bool>()).prop_map(|(app, on)| Action::Brake { app, on }).boxed()),
        (2, (app(), 1..100_u8).prop_map(|(app, rate)| Action::Rate { app, rate }).boxed()),
        (2, app().prop_map(|app| Action::DeleteApplication { app }).boxed()),
        (2, app().prop_map(|app| Action::CreateApplication { app }).boxed()),
        (1, app().prop_map(|app| Action::StripApplication { app }).boxed()),
        (6, (app(), secret).prop_map(|(app, secret)| Action::Change { app, secret }).boxed()),
        (5, (replica(), brief()).prop_map(|(replica, down)| Action::Kill { replica, down }).boxed()),
        (5, (replica(), brief()).prop_map(|(replica, down)| Action::End { replica, down }).boxed()),
        (3, (replica(), brief()).prop_map(|(replica, time)| Action::Pause { replica, time }).boxed()),
        (3, (replica(), brief()).prop_map(|(replica, time)| Action::Sleep { replica, time }).boxed()),
        (2, (replica(), -900..900_i16).prop_map(|(replica, by)| Action::Clock { replica, by }).boxed()),
        (2, Just(Action::DeleteLease).boxed()),
        (
            5,
            (0..4_u8, any::<bool>(), brief())
                .prop_map(|(replica, hangs, time)| Action::Cut { replica, hangs, time })
                .boxed(),
        ),
        (
            5,
            (replica(), any::<bool>(), 0..8_000_u16)
                .prop_map(|(replica, gone, mute)| Action::Watches { replica, gone, mute })
                .boxed(),
        ),
        (3, (10..5_000_u16, brief()).prop_map(|(takes, time)| Action::SlowLists { takes, time }).boxed()),
        (
            9,
            (prop_oneof![2 => Just(0_u8), 1 => 1..4_u8], which(), refusal, times(), brief())
                .prop_map(|(ns, which, how, times, time)| Action::Writes { ns, which, how, times, time })
                .boxed(),
        ),
        (3, (10..3_000_u16, brief()).prop_map(|(takes, time)| Action::SlowWrites { takes, time }).boxed()),
        (
            9,
            (app(), add, meets, times(), far)
                .prop_map(|(app, add, how, times, time)| Action::Room { app, add, how, times, time })
                .boxed(),
        ),
        (3, brief().prop_map(|time| Action::Stall { time }).boxed()),
        (3, (1..4_500_u16, brief()).prop_map(|(takes, time)| Action::SlowCalls { takes, time }).boxed()),
        (2, one().prop_map(|(ns, name)| Action::Leave { ns, name }).boxed()),
        (4, Just(Action::Wait).boxed()),
    ]
}

/// Whether a deletion costs about as much among thousands as among hundreds, and as much where all of them stand for one
/// robot as where each stands for its own: machine time of the engine.
///
/// # Errors
/// How much more.
pub fn linear() -> Result<String, String> {
    let crowd = |hundreds: u8, shared: bool| {
        let crowds = (0..hundreds).map(|_| Step {
            after: 0,
            action: Action::Crowd { ns: 0, tens: 10, app: 0, create: false, shared },
        });
        let rest = [
            Step { after: 90_000, action: Action::DeleteAll { ns: 0 } },
            Step { after: 180_000, action: Action::Wait },
        ];
        let setup = Setup { rate: 200, concurrency: 64, ..crate::story::HEALTHY };
        let story = Story { setup, steps: crowds.chain(rest).collect() };
        let runs = (0..if hundreds < 10 { 8 } else { 2 }).map(|_| world::machine_time(&story));
        runs.min().unwrap_or_default().as_secs_f64() * 1e6 / (f64::from(hundreds) * 100.0)
    };
    let (few, many, one) = (crowd(8, false), crowd(80, false), crowd(80, true));
    let told = format!(
        "a deletion costs the engine {few:.0} µs among 800, {many:.0} µs among 8000, {one:.0} µs among 8000 of one robot"
    );
    if many > 3.0 * few || one > 2.5 * many { Err(told) } else { Ok(told) }
}
