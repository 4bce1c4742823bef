//! Builds the operator's image and checks it: what is in it, and that it runs as a cluster runs it: `make image`.

use clap::Parser;
use e2e::image::{
    build::{self, BUNDLE, Image},
    container::{Container, Content, Settings},
    dns::{self, Names},
};
use kube::{Api, Client, api::DeleteParams};
use roomrobot_core::crd::RoomRobot;
use serde_json::json;
use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};
use testbed::{
    Error, Result,
    control_plane::{ControlPlane, OPERATOR_NAMESPACE, free_port, wait_for},
    observe::{Departures, all_ready, condition, told},
    operator::account_token,
    report::{Report, ensure},
    simulator::Simulator,
    tls::Front,
};

/// The most that the image may have, unpacked.
const LIMIT: u64 = 11_000_000;

/// How long anything may take that should not take long.
const PATIENCE: Duration = Duration::from_secs(30);

const SDK_APP_ID: u32 = 1_400_000_000;
const KEY: &str = "a-key-for-the-check-of-the-image";
const NAMESPACE: &str = "event";

/// Names that only the name server of this check knows.
const NAMES: &[&str] = &["kubernetes.default.svc.cluster.local", "room-engine.test"];

/// Builds the operator's image with buildah and checks it by running it with runc.
#[derive(Parser)]
struct Args {
    /// The cargo profile of the binary; the size is checked for `release`.
    #[arg(long, default_value = "release")]
    profile: String,

    /// The architecture; one of another machine is built, and looked at, but not run.
    #[arg(long, default_value = build::architecture())]
    arch: String,

    /// The name and tag of the image.
    #[arg(long, default_value = "localhost/roomrobot-operator:dev")]
    name: String,

    /// The folder that the archive goes to.
    #[arg(long, default_value = "target/image")]
    folder: PathBuf,

    /// Checks the image in this archive, as `docker save` writes it, in place of building one.
    #[arg(long)]
    archive: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    let mut report = Report::default();
    let end = check(&args, &mut report).await;
    print!("{}", report.summary(&end));
    report.exit_code(&end)
}

async fn check(args: &Args, report: &mut Report) -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        return Err(Error(
            "this needs root: buildah's chroot, runc, and a name server on port 53 of 127.0.0.77".to_owned(),
        ));
    }
    fs::create_dir_all(&args.folder).map_err(|error| Error::new(args.folder.display(), error))?;
    let folder = fs::canonicalize(&args.folder).map_err(|error| Error::new(args.folder.display(), error))?;
    let image = if let Some(archive) = &args.archive {
        Image { name: args.name.clone(), archive: archive.clone() }
    } else {
        let mut built = None;
        report
            .step("The image is built by the last stage of deploy/Dockerfile, from a static binary", async {
                let image = build::operator(&args.name, &args.arch, &args.profile, &folder)?;
                let facts = vec![format!("{} in {}", image.name, image.archive.display())];
                built = Some(image);
                Ok(facts)
            })
            .await?;
        built.ok_or_else(|| Error("no image".to_owned()))?
    };
    let temporary = tempfile::tempdir().map_err(|error| Error::new("temporary folder", error))?;
    let content = Content::of(&image, temporary.path())?;
    report
        .step("It has the program and the CA certificates, and nothing else", async {
            what_is_in_it(&content, args)
        })
        .await?;
    if args.arch != build::architecture() {
        return Ok(());
    }

    let world = World::start(temporary.path(), &content).await?;
    for (user, trusted) in [(65532, false), (12345, true)] {
        let name =
            format!("User {user}: it starts without a capability and with a root that it cannot write");
        let mut running = None;
        report
            .step(&name, async {
                let container = world.run(&content, user, trusted).await?;
                let facts = confinement(&container, user)?;
                running = Some(container);
                Ok(facts)
            })
            .await?;
        let container: Container = running.ok_or_else(|| Error("no container".to_owned()))?;
        let name = format!(
            "User {user}: the API server by name, with the mounted token; a robot is removed, the room engine being found by name"
        );
        report.step(&name, removal(&world, user)).await?;
        if trusted {
            report
                .step(
                    "An https endpoint whose authority is in the image's file of CA certificates is called",
                    over_tls(&world, "tls-65532"),
                )
                .await?;
        } else {
            report
                .step(
                    "An https endpoint of an unknown authority is refused, and the condition says so",
                    refused(&world, "tls-65532"),
                )
                .await?;
        }
        let name = format!("User {user}: SIGTERM ends it in good order");
        report
            .step(&name, async {
                let log = container.log();
                let status = container.terminate(Duration::from_secs(20)).await?;
                ensure(status.success(), || format!("{status}; {log}"))?;
                ensure(!log.contains(KEY) && !log.contains("usersig="), || {
                    "its log has a secret".to_owned()
                })?;
                Ok(vec![format!("{status}; its log has {} lines", log.lines().count())])
            })
            .await?;
    }
    report
        .step("Without CA certificates it says so and does not start", without_roots(&world, &content))
        .await
}

fn what_is_in_it(content: &Content, args: &Args) -> Result<Vec<String>> {
    let names: Vec<&str> = content.files.iter().map(|(name, _)| name.as_str()).collect();
    ensure(names == [BUNDLE, "/roomrobot-operator"], || format!("it has {names:?}"))?;
    let total: u64 = content.files.iter().map(|(_, size)| size).sum();
    if args.profile == "release" {
        ensure(total <= LIMIT, || format!("it has {total} bytes; {LIMIT} are allowed: {:?}", content.files))?;
    }
    let bundle = fs::read_to_string(content.root.join(BUNDLE.trim_start_matches('/')))
        .map_err(|error| Error::new(BUNDLE, error))?;
    let authorities = bundle.matches("BEGIN CERTIFICATE").count();
    ensure(authorities >= 100, || format!("it knows {authorities} authorities only"))?;
    let config = |path: &str| content.config.pointer(path).cloned().unwrap_or_default();
    ensure(config("/config/User") == "65532:65532", || format!("its user is {}", config("/config/User")))?;
    ensure(config("/config/Entrypoint") == json!(["/roomrobot-operator"]), || {
        format!("its entry point is {}", config("/config/Entrypoint"))
    })?;
    ensure(config("/architecture") == args.arch.as_str(), || {
        format!("it is for {}", config("/architecture"))
    })?;
    let mut facts: Vec<String> =
        content.files.iter().map(|(name, size)| format!("{size:>10}  {name}")).collect();
    facts.push(format!(
        "{total:>10}  bytes unpacked; {authorities} certificate authorities; profile {}",
        args.profile
    ));
    Ok(facts)
}

/// What the containers meet: an API server, a room engine over http and https, a name server.
struct World {
    plane: ControlPlane,
    client: Client,
    names: Names,
    simulator: Simulator,
    tls: Front,
    account: PathBuf,
    folder: PathBuf,
    /// The image's CA certificates and the authority of `tls`.
    bundle: PathBuf,
}

impl World {
    async fn start(folder: &Path, content: &Content) -> Result<Self> {
        let plane = ControlPlane::start().await?;
        plane.install_rights()?;
        plane.install_crds().await?;
        let simulator = Simulator::local().await?;
        simulator.add_app(SDK_APP_ID, KEY);
        // The API server's own certificate: its authority is one that no public bundle has.
        let certificate = plane.folder().join("certificates/apiserver.crt");
        let tls = Front::start(
            &certificate,
            &plane.folder().join("certificates/apiserver.key"),
            simulator.address(),
        )
        .await?;
        let names = Names::serve(NAMES).await?;

        let why = |error: std::io::Error| Error::new(folder.display(), error);
        let account = folder.join("account");
        fs::create_dir_all(&account).map_err(why)?;
        fs::write(account.join("token"), account_token(&plane).await?).map_err(why)?;
        fs::write(account.join("namespace"), OPERATOR_NAMESPACE).map_err(why)?;
        fs::copy(&certificate, account.join("ca.crt")).map_err(why)?;
        fs::write(folder.join("hosts"), "127.0.0.1 localhost\n").map_err(why)?;
        // As the kubelet writes it.
        let resolv = format!(
            "search {OPERATOR_NAMESPACE}.svc.cluster.local svc.cluster.local cluster.local\nnameserver {}\noptions ndots:5\n",
            dns::ADDRESS
        );
        fs::write(folder.join("resolv.conf"), resolv).map_err(why)?;
        let bundle = folder.join("bundle.crt");
        let mut authorities = fs::read(content.root.join(BUNDLE.trim_start_matches('/'))).map_err(why)?;
        authorities.extend(fs::read(&certificate).map_err(why)?);
        fs::write(&bundle, authorities).map_err(why)?;

        plane.kubectl_apply(&objects(&simulator, &tls))?;
        let client = plane.client().await?;
        Ok(Self { plane, client, names, simulator, tls, account, folder: folder.to_owned(), bundle })
    }

    /// Runs the image, with the authority of the https endpoint among the image's if `trusted`, until it is ready.
    async fn run(&self, content: &Content, user: u32, trusted: bool) -> Result<Container> {
        let bundle = trusted.then(|| self.bundle.clone());
        let (container, port) = self.spawn(content, user, bundle).await?;
        let url = format!("http://127.0.0.1:{port}/readyz");
        let ready = wait_for(PATIENCE, "/readyz", || async {
            reqwest::get(&url).await.is_ok_and(|answer| answer.status().is_success())
        });
        ready.await.map_err(|error| Error::new(error, container.log()))?;
        Ok(container)
    }

    async fn spawn(&self, content: &Content, user: u32, bundle: Option<PathBuf>) -> Result<(Container, u16)> {
        let port = free_port()?;
        let mut mounts = vec![
            (self.folder.join("hosts"), "/etc/hosts"),
            (self.folder.join("resolv.conf"), "/etc/resolv.conf"),
            (self.account.clone(), "/var/run/secrets/kubernetes.io/serviceaccount"),
        ];
        mounts.extend(bundle.map(|bundle| (bundle, BUNDLE)));
        let env = [
            "KUBERNETES_SERVICE_HOST=kubernetes.default.svc".to_owned(),
            format!("KUBERNETES_SERVICE_PORT={}", self.plane.port()),
            format!("ROOMROBOT_LISTEN=127.0.0.1:{port}"),
            format!("ROOMROBOT_ALLOW_ENDPOINT={},{}", self.plain_endpoint(), self.tls_endpoint()),
        ];
        let settings = Settings { user, args: &["run"], env: &env, mounts: &mounts };
        Ok((Container::start(content, &settings, self.plane.guardian()).await?, port))
    }

    fn plain_endpoint(&self) -> String {
        plain_endpoint(&self.simulator)
    }

    fn tls_endpoint(&self) -> String {
        tls_endpoint(&self.tls)
    }

    /// Creates a RoomRobot of `application` with a robot in its room.
    fn add(&self, name: &str, application: &str) -> Result<()> {
        self.simulator.add_members(SDK_APP_ID, name, ["robot"]);
        self.plane.kubectl_apply(&format!(
            "apiVersion: roomrobot.dev/v1alpha1\nkind: RoomRobot\nmetadata:\n  name: {name}\n  namespace: {NAMESPACE}\n\
             spec:\n  roomId: {name}\n  memberAccount: robot\n  applicationRef:\n    name: {application}\n"
        ))?;
        Ok(())
    }

    fn robots(&self) -> Api<RoomRobot> {
        Api::namespaced(self.client.clone(), NAMESPACE)
    }
}

fn plain_endpoint(simulator: &Simulator) -> String {
    format!("http://room-engine.test:{}", simulator.address().port())
}

fn tls_endpoint(tls: &Front) -> String {
    // A name that the API server's certificate is for.
    format!("https://kubernetes.default.svc:{}", tls.port)
}

fn objects(simulator: &Simulator, tls: &Front) -> String {
    let application = |name: &str, endpoint: &str| {
        json!({"apiVersion": "roomrobot.dev/v1alpha1", "kind": "RtcApplication", "metadata": {"name": name},
            "spec": {"sdkAppId": SDK_APP_ID, "endpoint": endpoint, "credentials": {"secretRef": {"name": "rtc-key"}}}})
    };
    json!({"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}},
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "rtc-key", "namespace": OPERATOR_NAMESPACE}, "stringData": {"secretKey": KEY}},
        application("plain", &plain_endpoint(simulator)), application("tls", &tls_endpoint(tls)),
    ]})
    .to_string()
}

/// What the kernel says of the process.
fn confinement(container: &Container, user: u32) -> Result<Vec<String>> {
    let status = container.proc("status")?;
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
        line.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    let same = format!("{user} {user} {user} {user}");
    for (name, expected) in [
        ("Uid:", same.as_str()),
        ("Gid:", &same),
        ("CapPrm:", "0000000000000000"),
        ("CapEff:", "0000000000000000"),
        ("CapBnd:", "0000000000000000"),
        ("NoNewPrivs:", "1"),
    ] {
        ensure(field(name) == expected, || format!("{name} {} and not {expected}", field(name)))?;
    }
    let mounts = container.proc("mounts")?;
    let root = mounts.lines().find(|line| line.split(' ').nth(1) == Some("/")).unwrap_or_default();
    let options = root.split(' ').nth(3).unwrap_or_default();
    ensure(options.split(',').any(|option| option == "ro"), || format!("its root is mounted so: {root}"))?;
    Ok(vec![format!("uid {user}, CapEff 0, CapBnd 0, NoNewPrivs 1, / mounted {options}")])
}

async fn removal(world: &World, user: u32) -> Result<Vec<String>> {
    let name = format!("plain-{user}");
    world.add(&name, "plain")?;
    if user == 65532 {
        world.add("tls-65532", "tls")?;
        all_ready(&world.client, NAMESPACE, 2, PATIENCE).await?;
    } else {
        let api = world.robots();
        wait_for(PATIENCE, "the operator to take charge", || async {
            api.get(&name)
                .await
                .is_ok_and(|robot| condition(&robot, "Ready").is_some_and(|ready| ready.status == "True"))
        })
        .await?;
    }
    let departures = Departures::watch(&world.client, NAMESPACE).await?;
    world.robots().delete(&name, &DeleteParams::default()).await.map_err(told)?;
    departures.wait(1, PATIENCE).await?;
    let calls = world.simulator.calls_about(&name, "robot");
    ensure(calls.len() == 1 && calls.iter().all(|call| call.code == Some(0)), || {
        format!("the room engine got {calls:?}")
    })?;
    let asked = world.names.asked();
    for name in NAMES {
        ensure(asked.iter().any(|asked| asked == name), || {
            format!("nobody asked for {name}; asked was {asked:?}")
        })?;
    }
    Ok(vec![format!("one call, ErrorCode 0; the name server was asked for {}", NAMES.join(" and "))])
}

async fn refused(world: &World, name: &str) -> Result<Vec<String>> {
    let robots = world.robots();
    robots.delete(name, &DeleteParams::default()).await.map_err(told)?;
    let mut said = String::new();
    for _ in 0..300 {
        let robot = robots.get(name).await.map_err(told)?;
        if let Some(waits) = condition(&robot, "RobotDeleted").filter(|waits| waits.reason == "Unreachable") {
            said = waits.message;
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    ensure(said.contains("certificate is not trusted"), || format!("the condition says {said:?}"))?;
    ensure(world.simulator.calls_about(name, "robot").is_empty(), || "the call went through".to_owned())?;
    Ok(vec![format!("Unreachable: {said}")])
}

/// The robot that waited for its certificate to be trusted goes.
async fn over_tls(world: &World, name: &str) -> Result<Vec<String>> {
    let robots = world.robots();
    let gone = wait_for(PATIENCE, "the deletion over https", || async {
        robots.get_opt(name).await.is_ok_and(|robot| robot.is_none())
    });
    if let Err(error) = gone.await {
        let robot = robots.get(name).await.map_err(told)?;
        return Err(Error::new(error, format!("{:?}", condition(&robot, "RobotDeleted"))));
    }
    let calls = world.simulator.calls_about(name, "robot");
    ensure(calls.len() == 1 && calls.iter().all(|call| call.code == Some(0)), || {
        format!("the room engine got {calls:?}")
    })?;
    Ok(vec![format!(
        "the robot that waited is removed: one call over https, ErrorCode 0; the file is {BUNDLE}"
    )])
}

async fn without_roots(world: &World, content: &Content) -> Result<Vec<String>> {
    let empty = world.folder.join("empty.crt");
    fs::write(&empty, "").map_err(|error| Error::new(empty.display(), error))?;
    let (mut container, _) = world.spawn(content, 65532, Some(empty)).await?;
    let status = container.ended(PATIENCE).await?;
    let log = container.log();
    ensure(!status.success() && log.contains("cannot set up TLS"), || format!("{status}: {log}"))?;
    Ok(vec![log.lines().last().unwrap_or_default().to_owned()])
}
