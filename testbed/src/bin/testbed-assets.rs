//! Builds the control plane's binaries where they are missing, and prints their folder.

use std::process::ExitCode;

fn main() -> ExitCode {
    match testbed::assets::folder() {
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
