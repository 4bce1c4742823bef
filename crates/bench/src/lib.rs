//! How fast, how small: what `make bench` measures, beside the machine's limit in the same run.
//!
//! - [`scenarios`]: what is measured
//! - [`world`]: what a scenario runs in: a clean control plane, the simulator as a process, robots by the thousand
//! - [`floor`]: the same calls and patches with no controller
//! - [`engine_alone`]: the engine without any input or output
//! - [`etcd`], [`engine_room`]: robots put in place, and the simulator's HTTP
//! - [`measure`], [`report`]: figures off processes and the audit log, and how they are shown

pub mod engine_alone;
pub mod engine_room;
pub mod etcd;
pub mod floor;
pub mod measure;
pub mod report;
pub mod scenarios;
pub mod world;

use report::{Machine, Report};
use roomrobot_core::{
    plan::{Application, Facts, Memory},
    robot::Robot,
};
use scenarios::{Floor, Stage};
use std::{collections::BTreeMap, fs, path::PathBuf, time::Duration};
use testbed::{Error, Result, control_plane::ControlPlane};

/// What is measured, and how much of it.
#[derive(Clone, Debug, clap::Args)]
pub struct Plan {
    /// The scenarios, by their letters; `engine` is the engine alone.
    #[arg(long, env = "BENCH", value_delimiter = ' ', default_values = ["engine", "a", "b", "c", "d", "e"])]
    pub scenarios: Vec<String>,

    /// Sizes, instead of each scenario's own.
    #[arg(long, env = "N", value_delimiter = ' ')]
    pub n: Vec<usize>,

    /// Deletions one at a time, for their latency.
    #[arg(long, default_value_t = 100)]
    pub singles: usize,

    /// The operator's binary.
    #[arg(long)]
    pub operator: PathBuf,

    /// Where the figures go as JSON.
    #[arg(long)]
    pub json: Option<PathBuf>,
}

/// The sizes of a scenario that was given none.
fn sizes(scenario: &str) -> &'static [usize] {
    match scenario {
        "a" => &[2_000, 10_000],
        "b" => &[2_000],
        "c" => &[0, 10_000, 100_000],
        "d" => &[10_000],
        _ => &[1_000, 10_000, 100_000],
    }
}

/// Measures what `plan` says.
///
/// # Errors
/// If something cannot be set up, or does not end.
pub async fn run(plan: &Plan) -> Result<Report> {
    let programs = world::beside(&plan.operator)?;
    let binary = fs::metadata(&programs.operator).map_err(|error| Error::new("the operator", error))?;
    let mut report = Report { machine: Machine::this(), binary_bytes: binary.len(), ..Report::default() };
    let of = |scenario: &str| if plan.n.is_empty() { sizes(scenario) } else { &plan.n };
    if let Some(unknown) =
        plan.scenarios.iter().find(|one| !["engine", "a", "b", "c", "d", "e"].contains(&one.as_str()))
    {
        return Err(Error(format!("there is no scenario {unknown}; there are engine, a, b, c, d and e")));
    }
    let mut letters: Vec<&str> = plan.scenarios.iter().map(String::as_str).collect();
    if letters.contains(&"engine") {
        letters.retain(|letter| *letter != "engine");
        for n in of("engine") {
            for applications in [1, 100] {
                report.engine.push(engine_alone::measure(*n, applications)?);
            }
        }
    }
    if letters.is_empty() {
        return Ok(report);
    }
    eprintln!("starting a control plane ...");
    let plane = ControlPlane::start().await?;
    plane.install_crds().await?;
    plane.install_rights()?;
    let stage = Stage { plane: &plane, programs: &programs, singles: plan.singles };
    // An API server that holds more collects more garbage, and is slower: a load has the limit of its own size.
    let mut floors: BTreeMap<usize, Floor> = BTreeMap::new();
    for letter in letters {
        for n in of(letter).iter().copied() {
            let lives = scenarios::lives(letter, n);
            let limit = match floors.get(&lives) {
                Some(floor) => *floor,
                None if lives == 0 => Floor::NONE,
                None => {
                    eprintln!("the floor: {lives} lives without a controller ...");
                    let (rows, floor) = scenarios::floor(stage, lives).await?;
                    report.rows.extend(rows);
                    *floors.entry(lives).or_insert(floor)
                }
            };
            eprintln!("scenario {letter} with {n} ...");
            let row = match letter {
                "a" => scenarios::pending(stage, n, limit).await?,
                "b" => scenarios::live(stage, n, limit).await?,
                "c" => scenarios::restart(stage, n).await?,
                "d" => scenarios::beside(stage, n, limit).await?,
                _ => scenarios::growth(stage, n, limit).await?,
            };
            report.rows.push(row);
        }
    }
    Ok(report)
}

/// What is known of a robot with nobody beside it, whose application takes it and stands in the way of nothing.
fn facts<'a>(robot: &'a Robot, memory: &'a Memory) -> Facts<'a> {
    Facts {
        robot,
        application: Application::Found {
            deleting: false,
            admits: Some(true),
            held: true,
            refused: None,
            hold: None,
        },
        heir: None,
        heir_comes: false,
        half_listed: false,
        refused: None,
        memory,
        settled: Duration::ZERO,
        now: Duration::ZERO,
    }
}
