//! Builds the images with buildah, without a registry: what goes in was built outside.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};
use testbed::{Error, Result, tool::Tool};

/// Where the image has the CA certificates: where Debian and many others have them.
pub const BUNDLE: &str = "/etc/ssl/certs/ca-certificates.crt";

/// Where Debian's package ca-certificates has them. Not the machine's own bundle, which may have authorities that only
/// this machine shall trust.
const AUTHORITIES: &str = "/usr/share/ca-certificates/mozilla";

/// A built image.
#[derive(Clone, Debug)]
pub struct Image {
    /// Its name and tag.
    pub name: String,
    /// The archive that it is in, as `docker load` and `ctr images import` take it.
    pub archive: PathBuf,
}

/// The root of the repository.
#[must_use]
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The architecture of this machine, as images name it.
#[must_use]
pub fn architecture() -> &'static str {
    if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" }
}

/// The operator's image, by the last stage of its Dockerfile.
///
/// # Errors
/// If it cannot be built.
pub fn operator(name: &str, arch: &str, profile: &str, folder: &Path) -> Result<Image> {
    let stage = folder.join("operator");
    let out = empty(&stage.join("out"))?;
    install(&static_binary(arch, profile, "roomrobot-operator")?, &out.join("roomrobot-operator"), 0o755)?;
    let bundle = out.join(BUNDLE.trim_start_matches('/'));
    let why = |error: std::io::Error| Error::new(bundle.display(), error);
    fs::create_dir_all(bundle.with_file_name("")).map_err(why)?;
    fs::write(&bundle, authorities()?).map_err(why)?;
    let file = repository().join("deploy/Dockerfile");
    let context = format!("build={}", stage.display());
    build(name, arch, &file, &["--build-context", &context], &repository(), &folder.join("operator.tar"))
}

/// The image of the simulator and of what looks into Pods, for e2e only.
///
/// # Errors
/// If it cannot be built.
pub fn simulator(name: &str, arch: &str, profile: &str, folder: &Path) -> Result<Image> {
    let stage = folder.join("simulator");
    let out = empty(&stage.join("out"))?;
    for binary in ["room-engine-simulator", "show-file"] {
        install(&static_binary(arch, profile, binary)?, &out.join(binary), 0o755)?;
    }
    let file = repository().join("crates/e2e/images/simulator.Dockerfile");
    build(name, arch, &file, &[], &stage, &folder.join("simulator.tar"))
}

fn authorities() -> Result<String> {
    let why =
        |error: std::io::Error| Error::new(format!("{AUTHORITIES} (apt-get install ca-certificates)"), error);
    let entries = fs::read_dir(AUTHORITIES).map_err(why)?.collect::<Result<Vec<_>, _>>().map_err(why)?;
    let mut paths: Vec<PathBuf> = entries.iter().map(fs::DirEntry::path).collect();
    paths.sort();
    paths.iter().map(|path| fs::read_to_string(path).map_err(why)).collect()
}

fn static_binary(arch: &str, profile: &str, binary: &str) -> Result<PathBuf> {
    eprintln!("building {binary} for {arch}, profile {profile} ...");
    let script = repository().join("deploy/static-binary");
    let output = Tool::new(&script.display().to_string(), "it is part of the repository")
        .command(&[arch, profile, binary])
        .stderr(std::process::Stdio::inherit())
        .output()
        .map_err(|error| Error::new(script.display(), error))?;
    if !output.status.success() {
        return Err(Error::new(format!("cannot build {binary}"), output.status));
    }
    let path = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    // Relative to the repository, unless CARGO_TARGET_DIR says otherwise.
    Ok(repository().join(path))
}

fn build(
    name: &str,
    arch: &str,
    file: &Path,
    args: &[&str],
    context: &Path,
    archive: &Path,
) -> Result<Image> {
    let hint = "`make image` and `make e2e` build with it; apt-get install buildah";
    let storage = archive.with_file_name("storage");
    let buildah = Tool::new("buildah", hint).with(&[
        "--root",
        &storage.join("root").display().to_string(),
        "--runroot",
        &storage.join("run").display().to_string(),
        "--storage-driver",
        "vfs",
    ]);
    let file = file.display().to_string();
    let platform = format!("linux/{arch}");
    let mut all =
        vec!["build", "--isolation", "chroot", "--quiet", "--timestamp", "0", "--platform", &platform];
    all.extend(["--file", &file, "--tag", name]);
    all.extend(args);
    let context = context.display().to_string();
    all.push(&context);
    buildah.run(&all)?;
    // It does not write over an archive.
    let _ = fs::remove_file(archive);
    buildah.run(&["push", "--quiet", name, &format!("docker-archive:{}:{name}", archive.display())])?;
    let removed = fs::remove_dir_all(&storage);
    removed.map_err(|error| Error::new(storage.display(), error))?;
    Ok(Image { name: name.to_owned(), archive: archive.to_owned() })
}

fn empty(folder: &Path) -> Result<PathBuf> {
    let _ = fs::remove_dir_all(folder);
    fs::create_dir_all(folder).map_err(|error| Error::new(folder.display(), error))?;
    Ok(folder.to_owned())
}

fn install(from: &Path, to: &Path, mode: u32) -> Result<()> {
    let why = |error: std::io::Error| Error::new(from.display(), error);
    fs::copy(from, to).map_err(why)?;
    fs::set_permissions(to, fs::Permissions::from_mode(mode)).map_err(why)
}
