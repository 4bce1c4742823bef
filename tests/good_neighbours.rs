//! Promise 8: what one tenant stores, names or deletes costs another neither memory, nor its turn, nor its terminal.

mod memory;
mod probes;
mod turns;
