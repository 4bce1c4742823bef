//! An image run as a cluster runs it: runc, a user without any capability, a root that cannot be written.

use super::build::Image;
use serde_json::{Value, json};
use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, ExitStatus},
    time::{Duration, Instant},
};
use testbed::{Error, Result, control_plane::wait_for, guardian::Guardian, tool::Tool};

/// How long a container may take to start.
const START: Duration = Duration::from_secs(10);

/// What is in an image.
#[derive(Debug)]
pub struct Content {
    /// Its files, unpacked.
    pub root: PathBuf,
    /// Its configuration, as the image has it.
    pub config: Value,
    /// Path and size of each file.
    pub files: Vec<(String, u64)>,
}

impl Content {
    /// Unpacks the archive of `image` into `folder`.
    ///
    /// # Errors
    /// If it is no such archive.
    pub fn of(image: &Image, folder: &Path) -> Result<Self> {
        let (raw, root) = (folder.join("archive"), folder.join("rootfs"));
        for folder in [&raw, &root] {
            fs::create_dir_all(folder).map_err(|error| Error::new(folder.display(), error))?;
        }
        let tar = Tool::new("tar", "apt-get install tar");
        let unpack = |archive: &Path, to: &Path| {
            tar.run(&["-x", "-p", "-f", &archive.display().to_string(), "-C", &to.display().to_string()])
        };
        unpack(&image.archive, &raw)?;
        let manifest = read(&raw.join("manifest.json"))?;
        let manifest = manifest.get(0).cloned().unwrap_or_default();
        for layer in
            manifest.get("Layers").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
        {
            unpack(&raw.join(layer), &root)?;
        }
        let config = read(&raw.join(manifest.get("Config").and_then(Value::as_str).unwrap_or_default()))?;
        let mut files = Vec::new();
        list(&root, &root, &mut files)?;
        files.sort();
        Ok(Self { root, config, files })
    }
}

fn read(path: &Path) -> Result<Value> {
    let text = fs::read(path).map_err(|error| Error::new(path.display(), error))?;
    serde_json::from_slice(&text).map_err(|error| Error::new(path.display(), error))
}

fn list(root: &Path, folder: &Path, files: &mut Vec<(String, u64)>) -> Result<()> {
    let why = |error: std::io::Error| Error::new(folder.display(), error);
    for entry in fs::read_dir(folder).map_err(why)? {
        let path = entry.map_err(why)?.path();
        let about = fs::symlink_metadata(&path).map_err(why)?;
        if about.is_dir() {
            list(root, &path, files)?;
        } else {
            let name = path.strip_prefix(root).unwrap_or(&path).display().to_string();
            files.push((format!("/{name}"), about.len()));
        }
    }
    Ok(())
}

/// How a container is run.
#[derive(Debug)]
pub struct Settings<'a> {
    /// User and group.
    pub user: u32,
    /// After the image's entry point.
    pub args: &'a [&'a str],
    /// Environment.
    pub env: &'a [String],
    /// What of this machine is seen in it, read-only: source and destination.
    pub mounts: &'a [(PathBuf, &'a str)],
}

/// A running container; it is killed with the value.
#[derive(Debug)]
pub struct Container {
    runc: Tool,
    id: String,
    child: Child,
    log: PathBuf,
    pid: u32,
}

impl Container {
    /// Runs `content` in the network of this machine, under the care of `guardian`.
    ///
    /// # Errors
    /// If it does not start.
    pub async fn start(content: &Content, settings: &Settings<'_>, guardian: &Guardian) -> Result<Self> {
        let id = format!("roomrobot-{:08x}", fastrand::u32(..));
        let bundle = content.root.with_file_name(&id);
        let why = |error: std::io::Error| Error::new(bundle.display(), error);
        fs::create_dir_all(&bundle).map_err(why)?;
        fs::write(bundle.join("config.json"), config(content, settings).to_string()).map_err(why)?;
        let (log, pid_file) = (bundle.join("log"), bundle.join("pid"));
        let file = File::create(&log).map_err(why)?;
        let state = bundle.join("state").display().to_string();
        let runc = Tool::new("runc", "`make image` runs the image with it; apt-get install runc")
            .with(&["--root", &state]);
        runc.run(&["--version"])?;
        let (bundle, pid_path) = (bundle.display().to_string(), pid_file.display().to_string());
        let mut command = runc.command(&["run", "--bundle", &bundle, "--pid-file", &pid_path, &id]);
        command.stdout(file.try_clone().map_err(why)?).stderr(file);
        let child = guardian.spawn(&mut command)?;
        let mut this = Self { runc, id, child, log, pid: 0 };
        wait_for(START, "runc", || async {
            fs::read_to_string(&pid_file).is_ok_and(|text| !text.is_empty())
        })
        .await
        .map_err(|error| Error::new(error, this.log()))?;
        this.pid = fs::read_to_string(&pid_file).ok().and_then(|text| text.parse().ok()).unwrap_or_default();
        guardian.adopt(this.pid);
        Ok(this)
    }

    /// What it printed so far.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// A file under `/proc/PID` of its first process.
    ///
    /// # Errors
    /// If the process has ended.
    pub fn proc(&self, name: &str) -> Result<String> {
        let path = format!("/proc/{}/{name}", self.pid);
        fs::read_to_string(&path).map_err(|error| Error::new(format!("{path}: {error}"), self.log()))
    }

    /// Sends SIGTERM and waits for its end.
    ///
    /// # Errors
    /// If it does not end within `limit`.
    pub async fn terminate(mut self, limit: Duration) -> Result<ExitStatus> {
        self.runc.run(&["kill", &self.id, "TERM"])?;
        self.ended(limit).await
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// If it does not end within `limit`.
    pub async fn ended(&mut self, limit: Duration) -> Result<ExitStatus> {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().map_err(|error| Error::new("runc", error))? {
                return Ok(status);
            }
            if start.elapsed() > limit {
                return Err(Error::new("the container did not end", self.log()));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let _ = self.runc.run(&["delete", "--force", &self.id]);
        let _ = self.child.wait();
    }
}

/// The runtime's configuration: what Pod Security `restricted` asks for and a Pod of the chart has.
fn config(content: &Content, settings: &Settings<'_>) -> Value {
    let none = json!([]);
    let strings = |name: &str| -> Vec<String> {
        let value = content.config.pointer(&format!("/config/{name}"));
        value
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .map(str::to_owned)
            .collect()
    };
    let mut args = strings("Entrypoint");
    args.extend(settings.args.iter().map(|&arg| arg.to_owned()));
    let mut env = strings("Env");
    env.extend(settings.env.iter().cloned());
    let mut mounts = vec![
        json!({"destination": "/proc", "type": "proc", "source": "proc"}),
        json!({"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755", "size=64k"]}),
    ];
    mounts.extend(settings.mounts.iter().map(
        |(from, to)| json!({"destination": to, "type": "bind", "source": from, "options": ["bind", "ro", "nosuid", "nodev", "noexec"]}),
    ));
    let spaces = ["pid", "ipc", "uts", "mount"].map(|kind| json!({"type": kind}));
    json!({
        "ociVersion": "1.0.2",
        "hostname": "image-check",
        "root": {"path": content.root, "readonly": true},
        "process": {
            "user": {"uid": settings.user, "gid": settings.user}, "cwd": "/", "args": args, "env": env,
            "noNewPrivileges": true,
            "capabilities": {"bounding": none, "effective": none, "permitted": none, "inheritable": none, "ambient": none},
        },
        "mounts": mounts,
        "linux": {"namespaces": spaces},
    })
}
