//! The kubectl plugin: reads its arguments, runs, and says by its exit code what it found.

use clap::Parser as _;
use kubectl_roomrobot::{
    cli::{self, Cli},
    output::Out,
};
use roomrobot_core::printable::printable;
use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = Cli::parse();
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        return fail("cannot set up TLS: another provider is installed already");
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return fail(&format!("cannot start: {error}")),
    };
    let mut out = Out::new(cli.common.output);
    let result = runtime.block_on(cli::run(cli, &mut out));
    out.progress_over();
    match result {
        Ok(finding) => ExitCode::from(finding.exit_code()),
        Err(error) => fail(&error.to_string()),
    }
}

fn fail(why: &str) -> ExitCode {
    eprintln!("kubectl roomrobot: {}", printable(why));
    ExitCode::FAILURE
}
