//! Developer tasks of the workspace: `cargo xtask <task>`.
fn main() {}
