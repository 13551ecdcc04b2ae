//! Trainers on small networks.
