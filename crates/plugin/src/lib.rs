//! `kubectl roomrobot`: what waits, why, and what to type. For people and for scripts.
//!
//! Reads the API server with the user's own rights, and writes only in `release`. Nothing here decides what the operator
//! does: `plan` asks the operator's own engine, and every explanation comes from [`roomrobot_core::explain`] and
//! [`roomrobot_core::codes`].
//!
//! - [`cli`]: arguments and exit codes
//! - [`cluster`]: reads of the API server
//! - [`complete`]: completion in a shell
//! - [`output`]: tables, JSON, YAML, colours
//! - one module for each command: [`why`], [`list`], [`forecast`] (`plan`), [`doctor`], [`release`], [`requests`]

pub mod cli;
pub mod cluster;
pub mod complete;
pub mod doctor;
pub mod forecast;
pub mod list;
pub mod output;
pub mod release;
pub mod requests;
pub mod why;

/// Why a command could not be carried out: a sentence for a person.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Error(pub String);

impl From<kube::Error> for Error {
    fn from(error: kube::Error) -> Self {
        Self(roomrobot_client::errors::explain(&error))
    }
}

/// A result of the plugin.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What a command found, as an exit code that scripts can use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Finding {
    /// Nothing waits, nothing is wrong: 0.
    Fine,
    /// Something waits, and goes on by itself: 3.
    Waits,
    /// A person must act: 4.
    NeedsAPerson,
}

impl Finding {
    /// The exit code.
    #[must_use]
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Fine => 0,
            Self::Waits => 3,
            Self::NeedsAPerson => 4,
        }
    }
}
