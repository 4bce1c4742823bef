//! The control plane's binaries: from `KUBEBUILDER_ASSETS` where that is set, else built once from pinned Go modules.
//! And what only tests of the installation need: Helm, the judges of Argo CD and Flux, Prometheus.
//!
//! The modules stand in `crates/testbed/assets` with committed go.sum files; the binaries are kept outside `target`, under
//! the user's cache folder, so that a clean checkout does not build them again.

use crate::{Error, Result, tool::Tool as Program};
use std::{
    env,
    ffi::OsStr,
    fs,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Mutex,
    thread,
    time::{Duration, Instant},
};

/// The Kubernetes that is built.
pub const KUBERNETES_VERSION: &str = "v1.37.2";

/// A binary, the module that pins it, its package, and how long it takes on two cores with nothing cached.
struct Tool {
    name: &'static str,
    module: &'static str,
    package: &'static str,
    about: &'static str,
}

const TOOLS: [Tool; 4] = [
    Tool { name: "etcd", module: "etcd", package: "go.etcd.io/etcd/server/v3", about: "a minute" },
    Tool {
        name: "kube-apiserver",
        module: "kubernetes",
        package: "k8s.io/kubernetes/cmd/kube-apiserver",
        about: "six minutes",
    },
    Tool {
        name: "kube-controller-manager",
        module: "kubernetes",
        package: "k8s.io/kubernetes/cmd/kube-controller-manager",
        about: "two minutes",
    },
    Tool {
        name: "kubectl",
        module: "kubernetes",
        package: "k8s.io/kubernetes/cmd/kubectl",
        about: "a minute",
    },
];

/// The Helm that the chart is tested with.
const HELM: Tool =
    Tool { name: "helm", module: "helm", package: "helm.sh/helm/v4/cmd/helm", about: "four minutes" };

/// The version that [`HELM`] says it has.
const HELM_VERSION: &str = "v4.3.1";

/// What alerts are tested with.
const PROMTOOL: Tool = Tool {
    name: "promtool",
    module: "prometheus",
    package: "github.com/prometheus/prometheus/cmd/promtool",
    about: "four minutes",
};

/// What looks at the operator in the tests of the alerts, and what the dashboard's picture is drawn from.
const PROMETHEUS: Tool = Tool {
    name: "prometheus",
    module: "prometheus",
    package: "github.com/prometheus/prometheus/cmd/prometheus",
    about: "three minutes",
};

/// What Argo CD and Flux judge resources by: Lua as Argo CD runs it, and kstatus.
const HEALTH: Tool = Tool { name: "health", module: "health", package: ".", about: "a minute" };

/// Between two lines of progress while a binary is built.
const PROGRESS: Duration = Duration::from_secs(20);

/// The folder with `etcd`, `kube-apiserver`, `kube-controller-manager` and `kubectl`; builds what is missing.
///
/// # Errors
/// If a binary is missing in `KUBEBUILDER_ASSETS`, or cannot be built.
pub fn folder() -> Result<PathBuf> {
    if let Some(given) = env::var_os("KUBEBUILDER_ASSETS") {
        let given = PathBuf::from(given);
        return match TOOLS.iter().find(|tool| !given.join(tool.name).is_file()) {
            None => Ok(given),
            Some(tool) => Err(Error(format!("KUBEBUILDER_ASSETS has no {}", tool.name))),
        };
    }
    let modules = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets");
    let folder = cache()?.join(format!("assets-{:016x}", fingerprint(&modules, &TOOLS)?));
    fs::create_dir_all(&folder).map_err(|error| Error::new(folder.display(), error))?;
    for tool in &TOOLS {
        let binary = folder.join(tool.name);
        if !binary.is_file() {
            build(tool, &modules.join(tool.module), &binary)?;
        }
    }
    Ok(folder)
}

/// The `helm` that the tests of the chart run; builds it if it is missing.
///
/// # Errors
/// If it cannot be built.
pub fn helm() -> Result<PathBuf> {
    single(&HELM)
}

/// The program that judges resources as Argo CD and Flux do; builds it if it is missing.
///
/// # Errors
/// If it cannot be built.
pub fn health() -> Result<PathBuf> {
    single(&HEALTH)
}

/// The `promtool` that the alerts are tested with; builds it if it is missing.
///
/// # Errors
/// If it cannot be built.
pub fn promtool() -> Result<PathBuf> {
    single(&PROMTOOL)
}

/// The `prometheus` that looks at the operator; builds it if it is missing.
///
/// # Errors
/// If it cannot be built.
pub fn prometheus() -> Result<PathBuf> {
    single(&PROMETHEUS)
}

/// A Python with what draws the dashboard's picture: the one that `PYTHON` names, else a virtual environment with the
/// pinned packages of `crates/bench/dashboard/requirements.txt`, made once.
///
/// # Errors
/// If it cannot be made.
pub fn python() -> Result<PathBuf> {
    if let Some(given) = env::var_os("PYTHON") {
        return Ok(PathBuf::from(given));
    }
    let wanted = Path::new(env!("CARGO_MANIFEST_DIR")).join("../bench/dashboard/requirements.txt");
    let text = fs::read(&wanted).map_err(|error| Error::new(wanted.display(), error))?;
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    let folder = cache()?.join(format!("python-{:016x}", hasher.finish()));
    let (python, done) = (folder.join("bin/python3"), folder.join("done"));
    if done.is_file() {
        return Ok(python);
    }
    eprintln!("fetching matplotlib, once ...");
    let hint = "install Python 3.11 or newer, with venv";
    Program::new("python3", hint).run(&[
        OsStr::new("-m"),
        "venv".as_ref(),
        "--clear".as_ref(),
        folder.as_os_str(),
    ])?;
    let args =
        ["-m", "pip", "install", "--quiet", "--no-deps", "--disable-pip-version-check", "-r"].map(OsStr::new);
    let args: Vec<&OsStr> = args.into_iter().chain([wanted.as_os_str()]).collect();
    Program::new(&python.to_string_lossy(), hint).run(&args)?;
    fs::write(&done, "").map_err(|error| Error::new(done.display(), error))?;
    Ok(python)
}

/// A binary with a folder of its own, so that a change of its module builds nothing else anew.
fn single(tool: &Tool) -> Result<PathBuf> {
    /// Tests ask for it at the same time; one builds.
    static ONE: Mutex<()> = Mutex::new(());
    let _one = ONE.lock().map_err(|error| Error::new(tool.name, error))?;
    let modules = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets");
    let print = fingerprint(&modules, std::slice::from_ref(tool))?;
    let folder = cache()?.join(format!("{}-{print:016x}", tool.name));
    fs::create_dir_all(&folder).map_err(|error| Error::new(folder.display(), error))?;
    let binary = folder.join(tool.name);
    if !binary.is_file() {
        build(tool, &modules.join(tool.module), &binary)?;
    }
    Ok(binary)
}

/// The user's cache folder for this project.
fn cache() -> Result<PathBuf> {
    let set = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    set("ROOMROBOT_CACHE")
        .or_else(|| set("XDG_CACHE_HOME").map(|folder| folder.join("roomrobot-operator")))
        .or_else(|| set("HOME").map(|home| home.join(".cache/roomrobot-operator")))
        .ok_or_else(|| Error("no cache folder: set HOME, XDG_CACHE_HOME or ROOMROBOT_CACHE".to_owned()))
}

/// Changes when a pinned module changes.
fn fingerprint(modules: &Path, tools: &[Tool]) -> Result<u64> {
    let mut hasher = DefaultHasher::new();
    for tool in tools {
        for file in ["go.mod", "go.sum"] {
            let path = modules.join(tool.module).join(file);
            fs::read(&path).map_err(|error| Error::new(path.display(), error))?.hash(&mut hasher);
        }
        // Of a module with code of its own, the code.
        if let Ok(code) = fs::read(modules.join(tool.module).join("main.go")) {
            code.hash(&mut hasher);
        }
    }
    Ok(hasher.finish())
}

fn build(tool: &Tool, module: &Path, binary: &Path) -> Result<()> {
    let Tool { name, package, about, .. } = tool;
    eprintln!("building {name} from source, once (about {about} on two cores) ...");
    // Built beside its place and moved there whole: two builds at once cannot harm each other.
    let partial = binary.with_extension(format!("{}.partial", std::process::id()));
    let version = "k8s.io/component-base/version";
    let flags = format!(
        "-s -w -X {version}.gitVersion={KUBERNETES_VERSION} -X {version}.gitMajor=1 -X {version}.gitMinor=37 \
         -X helm.sh/helm/v4/internal/version.version={HELM_VERSION}"
    );
    // Prometheus finds its targets in a file here: without the clients of thirty clouds it is built in half the time.
    let tags = if tool.module == "prometheus" { "remove_all_sd" } else { "" };
    let start = Instant::now();
    let mut child = Command::new("go")
        .current_dir(module)
        .env("CGO_ENABLED", "0")
        .args(["build", "-mod=readonly", "-trimpath", "-tags", tags, "-ldflags", &flags, "-o"])
        .arg(&partial)
        .arg(package)
        .stdin(Stdio::null())
        .spawn()
        .map_err(|error| {
            Error::new(format!("cannot run `go`, which builds {name}; install Go 1.26"), error)
        })?;
    let mut told = start;
    let status = loop {
        match child.try_wait().map_err(|error| Error::new(name, error))? {
            Some(status) => break status,
            None => thread::sleep(Duration::from_millis(100)),
        }
        if told.elapsed() >= PROGRESS {
            told = Instant::now();
            eprintln!("  still building {name}, {} s", start.elapsed().as_secs());
        }
    };
    if !status.success() {
        return Err(Error::new(format!("go build of {name}"), status));
    }
    fs::rename(&partial, binary).map_err(|error| Error::new(binary.display(), error))
}
