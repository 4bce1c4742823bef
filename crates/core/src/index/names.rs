//! Texts that many robots share, each kept once.

use std::{collections::HashSet, sync::Arc};

/// So many names are kept before those that nobody holds any more are looked for.
pub const LEAST_NAMES: usize = 256;

/// Names of namespaces and applications. Tenants choose them, in any number.
#[derive(Debug)]
pub(super) struct Names {
    all: HashSet<Arc<str>>,
    /// With so many, those that nobody holds any more are let go.
    most: usize,
}

impl Default for Names {
    fn default() -> Self {
        Self { all: HashSet::new(), most: LEAST_NAMES }
    }
}

impl Names {
    /// The one copy of `text`.
    pub(super) fn intern(&mut self, text: &Arc<str>) -> Arc<str> {
        if let Some(known) = self.all.get(text) {
            return Arc::clone(known);
        }
        self.all.insert(Arc::clone(text));
        Arc::clone(text)
    }

    /// Lets go of names that nobody holds any more, now and then.
    pub(super) fn forget(&mut self) {
        if self.all.len() >= self.most {
            self.all.retain(|name| Arc::strong_count(name) > 1);
            self.most = (2 * self.all.len()).max(LEAST_NAMES);
        }
    }

    pub(super) fn len(&self) -> usize {
        self.all.len()
    }
}
