//! The container images: built with buildah from static binaries, and run with runc for the checks of `make image`.

pub mod build;
pub mod container;
pub mod dns;
