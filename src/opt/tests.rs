//! Passes on small networks.
