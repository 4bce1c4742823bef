//! Good neighbours: what one tenant does costs another nothing.

mod probes;
