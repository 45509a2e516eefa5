//! The `estab` command.
fn main() {}
