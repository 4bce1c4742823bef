//! Prints the files that its arguments name: what an image without a shell needs for a look into `/proc`.

use std::{env, fs, process::ExitCode};

fn main() -> ExitCode {
    let mut code = ExitCode::SUCCESS;
    for path in env::args().skip(1) {
        match fs::read_to_string(&path) {
            Ok(text) => println!("== {path}\n{text}"),
            Err(error) => {
                eprintln!("show-file: {path}: {error}");
                code = ExitCode::FAILURE;
            }
        }
    }
    code
}
