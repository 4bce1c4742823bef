//! Completion of `kubectl roomrobot`: kubectl asks the program `kubectl_complete-roomrobot` what may come next, and that
//! asks this.

use clap::Command;

/// Commands and flags that may stand in place of the last of `words`, each with its help behind a tab; then kubectl's word
/// for where nothing is known: 0, names of files, and 4, nothing.
#[must_use]
pub fn complete(mut command: Command, words: &[String]) -> String {
    command.build();
    let (begun, before) = words.split_last().map_or(("", words), |(last, before)| (last.as_str(), before));
    let mut place = &command;
    for word in before {
        place = place.find_subcommand(word).unwrap_or(place);
    }
    let mut found = Vec::new();
    if begun.starts_with('-') {
        for arg in place.get_arguments().filter(|arg| !arg.is_hide_set()) {
            let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
            found.extend(arg.get_long().map(|long| (format!("--{long}"), help)));
        }
    } else {
        for sub in place.get_subcommands().filter(|sub| !sub.is_hide_set()) {
            found.push((
                sub.get_name().to_owned(),
                sub.get_about().map(ToString::to_string).unwrap_or_default(),
            ));
        }
    }
    found.retain(|(name, _)| name.starts_with(begun));
    let lines = found.iter().map(|(name, help)| format!("{name}\t{help}\n"));
    let files = i32::from(found.is_empty()) - 1;
    format!("{}:{}\n", lines.collect::<String>(), files & 4)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Cli;
    use clap::CommandFactory as _;

    #[test]
    fn commands_and_flags_are_completed() {
        let of = |words: &[&str]| {
            complete(Cli::command(), &words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>())
        };
        let first = of(&[""]);
        for command in ["why", "list", "plan", "doctor", "release", "requests", "completion"] {
            assert!(first.lines().any(|line| line.starts_with(&format!("{command}\t"))), "{first}");
        }
        assert!(!first.contains("__complete") && first.ends_with(":4\n"), "{first}");
        assert!(of(&["re"]).starts_with("release\t") && of(&["re"]).contains("\nrequests\t"));
        let flags = of(&["-n", "event", "release", "--"]);
        for flag in ["--reason\t", "--all\t", "--namespace\t", "--context\t"] {
            assert!(flags.contains(flag), "{flag}: {flags}");
        }
        assert!(!of(&["list", "--"]).contains("--reason"));
        assert_eq!(of(&["plan", "-f", "robots"]), ":0\n", "the shell completes files");
    }
}
