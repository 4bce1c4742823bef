//! Installs and uses the operator on the cluster of KUBECONFIG as a user does, and checks it: `make e2e`.

use clap::Parser;
use e2e::image::build;
use e2e::{cluster::Cluster, jobs, plugin, pods, release, room_engine::RoomEngine};
use std::{fs, path::PathBuf, process::ExitCode};
use testbed::{Error, Result, report::Report, tool::Tool};

/// Installs the operator with Helm on the cluster of KUBECONFIG, uses it, and removes it again.
///
/// The cluster must not have the kind RoomRobot yet. Nothing is called outside of it: the room engine is a simulator in a Pod.
#[derive(Parser)]
struct Args {
    /// A command that takes the path of an image archive and brings the image to the cluster's nodes, such as
    /// `kind load image-archive`. Not needed where both images are given and can be pulled.
    #[arg(long, env = "E2E_LOAD", default_value = "")]
    load: String,

    /// The operator's image; empty to build it.
    #[arg(long, env = "E2E_IMAGE", default_value = "")]
    image: String,

    /// The simulator's image; empty to build it.
    #[arg(long, env = "E2E_SIMULATOR_IMAGE", default_value = "")]
    simulator_image: String,

    /// The cargo profile of the operator's binary.
    #[arg(long, env = "E2E_PROFILE", default_value = "release")]
    profile: String,

    /// The architecture of the cluster's nodes.
    #[arg(long, env = "E2E_ARCH", default_value = build::architecture())]
    arch: String,

    /// Leaves everything in the cluster at the end, and after a failure.
    #[arg(long, env = "E2E_KEEP")]
    keep: bool,

    /// Removes what an earlier run left, and ends.
    #[arg(long)]
    clean: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    let cluster = match Cluster::connect().await {
        Ok(cluster) => cluster,
        Err(error) => {
            eprintln!("e2e: {error}");
            return ExitCode::FAILURE;
        }
    };
    if args.clean {
        return match cluster.tidy().await {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("e2e: {error}");
                ExitCode::FAILURE
            }
        };
    }
    let mut report = Report::default();
    let mut end = tokio::select! {
        end = run(&args, &cluster, &mut report) => end,
        _ = tokio::signal::ctrl_c() => Err(Error("stopped by Ctrl-C".to_owned())),
    };
    if end.is_err() {
        println!("{}", pods::tell_all(&cluster));
    }
    if args.keep {
        println!("Everything is left in the cluster; `e2e --clean` removes it.");
    } else if report.touched() {
        let tidy = report.step("All that this run made is removed from the cluster", async {
            cluster.tidy().await?;
            Ok(Vec::new())
        });
        let tidy = tidy.await;
        end = end.and(tidy);
    }
    print!("{}", report.summary(&end));
    report.exit_code(&end)
}

async fn run(args: &Args, cluster: &Cluster, report: &mut Report) -> Result<()> {
    let mut images = (args.image.clone(), args.simulator_image.clone());
    report.step("A cluster to try on", cluster.prepare()).await?;
    report
        .step("The images are built and brought to the cluster", async { bring(args, &mut images) })
        .await?;
    let (image, simulator) = images;
    let engine = RoomEngine(cluster);
    report.step("The room engine's simulator runs as a Pod", engine.start(&simulator)).await?;
    report
        .step("Installed with Helm, the application among its values", release::install(cluster, &image))
        .await?;
    report.step("Two Pods are Running and Ready; one leads", pods::healthy(cluster, 2)).await?;
    report
        .step("The kernel confines the operator as its Pod asks", pods::confinement(cluster, &simulator))
        .await?;
    report.step("`helm test` passes", async { release::test(cluster) }).await?;
    report
        .step(
            "The main job: four robots, four answers, the RequestId of each in its last status",
            jobs::main_job(cluster, &engine),
        )
        .await?;
    report
        .step("`kubectl roomrobot why` tells the quota from the leader's Pod", plugin::quota(cluster))
        .await?;
    report
        .step(
            "A drain of 500 while the leader's Pod is deleted: one call each",
            jobs::drain(cluster, &engine),
        )
        .await?;
    report.step("`kubectl delete namespace` with robots in it", jobs::namespace(cluster, &engine)).await?;
    // An upgrade replaces the Pods, and their logs go with them.
    report.step("Logs and objects have no secret so far", pods::logs(cluster, 2)).await?;
    report
        .step(
            "`helm upgrade` and `helm rollback` with robots at rest and one leaving",
            release::upgrade(cluster, &engine, &image),
        )
        .await?;
    report
        .step("Logs and objects have no secret, and no container was ever restarted", pods::logs(cluster, 2))
        .await?;
    report
        .step("`helm uninstall` stops while robots are left, and names them", release::guard(cluster))
        .await?;
    report.step("`helm uninstall` is clean once they are gone", release::uninstall(cluster, &engine)).await
}

/// Builds what is not given, and brings it to the cluster.
fn bring(args: &Args, (image, simulator): &mut (String, String)) -> Result<Vec<String>> {
    let folder = PathBuf::from("target/e2e");
    fs::create_dir_all(&folder).map_err(|error| Error::new(folder.display(), error))?;
    let folder = fs::canonicalize(&folder).map_err(|error| Error::new(folder.display(), error))?;
    let mut built = Vec::new();
    // A tag of its own for every run: a node never takes an older image for this one.
    let tag = format!("e2e-{:08x}", fastrand::u32(..));
    if image.is_empty() {
        *image = format!("localhost/roomrobot-operator:{tag}");
        built.push(build::operator(image, &args.arch, &args.profile, &folder)?);
    }
    if simulator.is_empty() {
        *simulator = format!("localhost/room-engine-simulator:{tag}");
        built.push(build::simulator(simulator, &args.arch, "image", &folder)?);
    }
    let mut words = args.load.split_whitespace();
    match words.next() {
        None if built.is_empty() => {}
        None => return Err(Error("set E2E_LOAD to a command that brings an image archive to the cluster's nodes, such as \"kind load image-archive\"; docs/e2e.md has one for each kind of cluster".to_owned())),
        Some(program) => {
            let loader = Tool::new(program, "E2E_LOAD names it").with(&words.collect::<Vec<_>>());
            for image in &built {
                loader.run(&[&image.archive])?;
            }
        }
    }
    Ok(vec![format!("operator {image}, profile {}", args.profile), format!("simulator {simulator}")])
}
