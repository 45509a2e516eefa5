//! A network namespace's connections carried out through the host's sockets.

pub mod ns;
