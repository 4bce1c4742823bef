//! Places on the path of a deletion where a test build can end the process, to prove what a crash there costs.
//!
//! In a release, which has no debug assertions, a point is nothing.

/// A place on the path, in its order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Point {
    /// A call was decided on; nothing was sent.
    BeforeCall,
    /// The answer is here; nobody was told.
    AfterCall,
    /// The status is decided on; nothing was written.
    BeforeStatus,
    /// The status is stored; nobody was told.
    AfterStatus,
    /// The finalizer is to be removed; nothing was written.
    BeforeFinalizer,
    /// The finalizer is removed; nobody was told.
    AfterFinalizer,
}

impl Point {
    /// Every point.
    pub const ALL: [Self; 6] = [
        Self::BeforeCall,
        Self::AfterCall,
        Self::BeforeStatus,
        Self::AfterStatus,
        Self::BeforeFinalizer,
        Self::AfterFinalizer,
    ];

    /// The point as it is named in `ROOMROBOT_CRASH_AT`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BeforeCall => "before-call",
            Self::AfterCall => "after-call",
            Self::BeforeStatus => "before-status",
            Self::AfterStatus => "after-status",
            Self::BeforeFinalizer => "before-finalizer",
            Self::AfterFinalizer => "after-finalizer",
        }
    }

    /// Ends the process here if `ROOMROBOT_CRASH_AT` names this point, as a SIGKILL would.
    #[cfg(debug_assertions)]
    pub fn pass(self) {
        if std::env::var("ROOMROBOT_CRASH_AT").is_ok_and(|at| at == self.as_str()) {
            std::process::abort();
        }
    }

    /// Nothing: this is no test build.
    #[cfg(not(debug_assertions))]
    #[inline(always)]
    pub const fn pass(self) {}
}
