//! Builds the control plane's binaries where they are missing, with `--tests` also what tests need besides, and prints
//! the control plane's folder.

use std::{path::PathBuf, process::ExitCode};
use testbed::{Result, assets};

fn main() -> ExitCode {
    match build(std::env::args().any(|arg| arg == "--tests")) {
        Ok(folder) => {
            println!("{}", folder.display());
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn build(for_tests: bool) -> Result<PathBuf> {
    let folder = assets::folder()?;
    if for_tests {
        // Before the tests, not in the middle of them: a build beside them would make them slow.
        assets::helm()?;
        assets::health()?;
        assets::promtool()?;
        assets::prometheus()?;
    }
    Ok(folder)
}
