//! Measures the operator beside the machine's limit: `make bench`.

use bench::{self, Plan, floor};
use clap::{Parser, Subcommand};
use std::{fs, process::ExitCode};
use testbed::{Error, Result};

/// Measures the operator on a control plane of its own, beside the machine's limit.
#[derive(Parser)]
#[command(version, args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
struct Args {
    #[command(subcommand)]
    verb: Option<Verb>,
    #[command(flatten)]
    plan: Option<Plan>,
}

#[derive(Subcommand)]
enum Verb {
    /// The floor alone; the bench starts it as a process of its own.
    #[command(hide = true)]
    Floor(floor::Job),
}

#[tokio::main(worker_threads = 2)]
async fn main() -> ExitCode {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let work = async {
        match Args::parse() {
            Args { verb: Some(Verb::Floor(job)), .. } => {
                let done = floor::run(job).await?;
                println!("{}", serde_json::to_string(&done).map_err(|error| Error::new("floor", error))?);
                Ok(())
            }
            Args { plan: Some(plan), .. } => measure(&plan).await,
            Args { .. } => Err(Error("nothing to do; see --help".to_owned())),
        }
    };
    let result: Result<()> = tokio::select! {
        result = work => result,
        _ = tokio::signal::ctrl_c() => Err(Error("stopped; everything that was started is ended".to_owned())),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn measure(plan: &Plan) -> Result<()> {
    let report = bench::run(plan).await?;
    print!("{}", report.table());
    if let Some(path) = &plan.json {
        let text = serde_json::to_string_pretty(&report).map_err(|error| Error::new("report", error))?;
        fs::write(path, text + "\n").map_err(|error| Error::new(path.display(), error))?;
        println!("\nAs JSON: {}", path.display());
    }
    Ok(())
}
