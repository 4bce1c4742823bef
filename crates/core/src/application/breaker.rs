//! The state of an application's circuit breaker, as a metric shows it.

/// Whether calls go out, as a metric shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Breaker {
    /// They do.
    Closed,
    /// Few at a time, until the first verdict on these credentials.
    Trial,
    /// Refused: one probe a minute.
    Open,
    /// Suspended, or without what a call needs.
    Off,
}

impl Breaker {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Closed, Self::Trial, Self::Open, Self::Off];

    /// The state as a word for the metric's label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Trial => "trial",
            Self::Open => "open",
            Self::Off => "off",
        }
    }
}
