//! The program: reads its arguments, starts logging, runs, and says in one line why it ended.

use clap::Parser as _;
use roomrobot_core::{crd, printable::printable};
use roomrobot_operator::{
    cli::{Cli, Command},
    hooks, operator, telemetry,
};
use std::{fmt::Display, io::Write as _, process::ExitCode};

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Crds => print_crds(),
        Command::Run(args) => {
            telemetry::start(args.log_format);
            run(operator::run(*args))
        }
        Command::Hook(hook) => run(async {
            let said = hooks::run(hook).await?;
            // The verdict is the exit code; nobody may be left to read the words.
            let _ = std::io::stdout().lock().write_all(said.as_bytes());
            Ok::<(), hooks::Error>(())
        }),
    }
}

fn print_crds() -> ExitCode {
    let written = crd::to_yaml().map_err(|error| error.to_string()).and_then(|yaml| {
        std::io::stdout().lock().write_all(yaml.as_bytes()).map_err(|error| error.to_string())
    });
    match written {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&format!("cannot print the CustomResourceDefinitions: {error}")),
    }
}

fn run<E: Display>(work: impl Future<Output = Result<(), E>>) -> ExitCode {
    // One TLS provider for both clients, installed before either exists.
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        return fail("cannot set up TLS: another provider is installed already");
    }
    // Two threads: the engine's own task, and one for what it started.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    match runtime {
        Err(error) => fail(&format!("cannot start: {error}")),
        Ok(runtime) => {
            let end = runtime.block_on(work);
            // A look-up of a name cannot be stopped, and may take longer than a Pod has.
            runtime.shutdown_background();
            match end {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => fail(&error.to_string()),
            }
        }
    }
}

/// Only a hook's list of what remains has several lines; it is made so that no name begins one.
fn fail(why: &str) -> ExitCode {
    let lines: Vec<_> = why.split('\n').map(printable).collect();
    eprintln!("roomrobot-operator: {}", lines.join("\n"));
    ExitCode::FAILURE
}
