//! Ends processes and removes folders when the testbed ends, in whatever way: normally, by a panic, by Ctrl-C or by
//! SIGKILL.
//!
//! A shell waits on a pipe that only the testbed holds. It reads what to end; when the pipe closes, it ends it.

use crate::{Error, Result};
use std::{
    io::Write as _,
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Child, ChildStdin, Command, Stdio},
    sync::Mutex,
};

/// Lines are `+PID`, `-PID`; at the end of the input every remaining PID is killed and the folder removed.
const SCRIPT: &str = r#"
pids=' '
while read -r line; do
  pid=${line#?}
  case $line in
    +*) pids="$pids$pid " ;;
    -*) pids=$(printf %s "$pids" | sed "s/ $pid / /") ;;
  esac
done
for pid in $pids; do kill -KILL "$pid" 2>/dev/null; done
[ -z "$1" ] || rm -rf "$1"
"#;

/// The shell, and the only open end of its pipe.
#[derive(Debug)]
pub struct Guardian {
    shell: Child,
    pipe: Mutex<Option<ChildStdin>>,
}

impl Guardian {
    /// Watches over `folder`, which is removed at the end.
    ///
    /// # Errors
    /// If no shell can be started.
    pub fn new(folder: &Path) -> Result<Self> {
        let mut shell = Command::new("sh")
            .args(["-c", SCRIPT, "guardian"])
            .arg(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Ctrl-C goes to the foreground group: the guardian must outlive it.
            .process_group(0)
            .spawn()
            .map_err(|error| Error::new("cannot start a shell", error))?;
        let pipe = Mutex::new(shell.stdin.take());
        Ok(Self { shell, pipe })
    }

    /// Starts `command` under the guardian's care.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn spawn(&self, command: &mut Command) -> Result<Child> {
        let program = command.get_program().to_string_lossy().into_owned();
        let child = command.process_group(0).spawn().map_err(|error| Error::new(program, error))?;
        self.tell('+', child.id());
        Ok(child)
    }

    /// Kills the process of `pid` too when the testbed ends: one that another program has started.
    pub fn adopt(&self, pid: u32) {
        self.tell('+', pid);
    }

    /// Kills `child` and waits for it.
    pub fn end(&self, child: &mut Child) {
        let _ = child.kill();
        let _ = child.wait();
        self.tell('-', child.id());
    }

    fn tell(&self, sign: char, pid: u32) {
        if let Ok(mut pipe) = self.pipe.lock()
            && let Some(pipe) = pipe.as_mut()
        {
            let _ = writeln!(pipe, "{sign}{pid}");
        }
    }
}

impl Drop for Guardian {
    fn drop(&mut self) {
        if let Ok(mut pipe) = self.pipe.lock() {
            pipe.take();
        }
        let _ = self.shell.wait();
    }
}
