//! Searches for stories that break a promise, for some time; prints the shortest one of the first that is found.

#![allow(clippy::cast_precision_loss, reason = "counts for people")]

use clap::Parser;
use simulation::{
    orders,
    search::{self, Found},
};
use std::{
    process::ExitCode,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

/// Searches the orders of what can happen to the operator.
#[derive(Parser)]
struct Args {
    /// How long.
    #[arg(long, default_value_t = 1.0)]
    minutes: f64,
    /// The first case; that of the day unless told.
    #[arg(long)]
    seed: Option<u64>,
    /// Only this case.
    #[arg(long)]
    case: Option<u64>,
    /// Threads; as many as there are cores unless told.
    #[arg(long)]
    jobs: Option<usize>,
    /// Goes on after a failure.
    #[arg(long)]
    keep_going: bool,
    /// Goes through every order of small worlds, each for so many minutes at most.
    #[arg(long)]
    orders: bool,
}

/// Goes through every order of each small world.
fn orders(patience: Duration) -> ExitCode {
    let mut all_well = true;
    for (name, story) in orders::small_worlds() {
        let begun = Instant::now();
        let count = orders::every(&name, &story, Duration::from_millis(2_500), patience);
        let complete = if count.complete { "every order" } else { "not every order" };
        println!(
            "{}: {complete}, {} runs, {} states, {:.1} s",
            count.name,
            count.orders,
            count.states,
            begun.elapsed().as_secs_f64()
        );
        if let Some((story, why, told)) = count.broken {
            all_well = false;
            println!("{}\n\nA promise is broken: {why}\n\n{}", told.join("\n"), story.as_test("order", &why));
        }
    }
    if all_well { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn main() -> ExitCode {
    let args = Args::parse();
    if args.orders {
        return orders(Duration::from_secs_f64(args.minutes * 60.0));
    }
    let day = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs() / 86_400);
    let first = args.case.or(args.seed).unwrap_or(day * 1_000_000_000);
    let jobs = args
        .case
        .map(|_| 1)
        .or(args.jobs)
        .unwrap_or_else(|| thread::available_parallelism().map_or(1, usize::from));
    let (next, over) = (AtomicU64::new(first), AtomicBool::new(false));
    let (deletions, events, simulated) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    let found: Mutex<Vec<Found>> = Mutex::default();
    let begun = Instant::now();
    let limit = Duration::from_secs_f64(args.minutes * 60.0);
    if args.case.is_none() {
        // A panic is told with its story.
        std::panic::set_hook(Box::new(|_| {}));
        // Another program beside it may be what took the time.
        match search::linear().or_else(|_| search::linear()).or_else(|_| search::linear()) {
            Ok(told) => println!("{told}"),
            Err(told) => {
                println!("A promise is broken: what a deletion costs grows with how many there are: {told}");
                return ExitCode::FAILURE;
            }
        }
    }
    thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) && begun.elapsed() < limit {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    let (report, story) = search::case(seed, Duration::from_secs(60));
                    deletions.fetch_add(report.deletions, Ordering::Relaxed);
                    events.fetch_add(report.events, Ordering::Relaxed);
                    simulated.fetch_add(report.time.as_secs(), Ordering::Relaxed);
                    if let Some(story) = story {
                        over.store(!args.keep_going, Ordering::Relaxed);
                        if args.keep_going {
                            println!("case {}: {}", story.seed, story.why);
                        }
                        found.lock().unwrap_or_else(PoisonError::into_inner).push(story);
                    }
                    if args.case.is_some() {
                        break;
                    }
                }
            });
        }
    });
    let took = begun.elapsed().as_secs_f64();
    let stories = next.load(Ordering::Relaxed) - first;
    let [deletions, events, simulated] =
        [&deletions, &events, &simulated].map(|count| count.load(Ordering::Relaxed));
    println!(
        "{stories} stories from case {first} on in {took:.0} s with {jobs} threads: {events} events, {deletions} deletions \
         ({:.0} a second and thread), {} hours of simulated time",
        deletions as f64 / took / jobs as f64,
        simulated / 3600
    );
    let found = found.into_inner().unwrap_or_else(PoisonError::into_inner);
    let Some(first) = found.iter().min_by_key(|found| found.story.steps.len()) else {
        return ExitCode::SUCCESS;
    };
    println!("\nThis is what happens:\n");
    for line in first.told.iter().filter(|line| line.len() > 16) {
        println!("{line}");
    }
    println!("\nA promise is broken: {}\n", first.why);
    println!(
        "The story, after {} attempts to make it shorter, as a test for crates/simulation/tests/corpus.rs:\n",
        first.tried
    );
    println!("{}", first.story.as_test(&format!("case_{}", first.seed), &first.why));
    ExitCode::FAILURE
}
