//! With the feature `libfuzzer`: libFuzzer, on the target that `FUZZ_TARGET` names. Without: runs a target over files, to see
//! what a crash says, as `fuzz TARGET FILE…`; alone, it lists the targets.

#![cfg_attr(feature = "libfuzzer", no_main)]
// A panic is the report.
#![allow(clippy::unwrap_used, clippy::panic)]

#[cfg(feature = "libfuzzer")]
mod search {
    use fuzz_targets::{Target, target};
    use std::sync::LazyLock;

    static TARGET: LazyLock<&Target> = LazyLock::new(|| {
        let name = std::env::var("FUZZ_TARGET").unwrap_or_default();
        target(&name).unwrap_or_else(|| panic!("FUZZ_TARGET names no target: {name:?}"))
    });

    libfuzzer_sys::fuzz_target!(|bytes: &[u8]| (TARGET.check)(bytes));
}

#[cfg(not(feature = "libfuzzer"))]
fn main() {
    let mut args = std::env::args().skip(1);
    let Some(name) = args.next() else {
        for target in fuzz_targets::TARGETS {
            println!("{}", target.name);
        }
        return;
    };
    let target = fuzz_targets::target(&name).unwrap_or_else(|| panic!("no target {name:?}"));
    for file in args {
        (target.check)(&std::fs::read(&file).unwrap());
        println!("{file}: holds");
    }
}
