//! Developer tasks of the workspace: `cargo xtask <task>`. What CI runs is what a developer runs.

mod aof_matrix;
mod bad_input;
mod ci;
mod cities;
mod clients;
mod compare;
mod conformance;
mod crash;
mod crash_points;
mod differential;
mod endure;
mod faults;
mod flips;
mod foreign;
mod hit_ratio;
mod memory;
mod overcommit;
mod process;
mod propagation;
mod rdb_matrix;
mod replication;
mod resync;
mod saving;
mod sentinel;
mod stall;
mod tidy;
mod volume;

use anyhow::{Result, bail};

const USAGE: &str = "\
cargo xtask ci                                        the everyday gate
cargo xtask tidy                                      heads, lengths, unsafe, crate edges, licences
cargo xtask conformance [--subject PATH] [FAMILY ...] scripts played against Larder and redis-server
cargo xtask propagation [--subject PATH] [FAMILY ...] the same scripts: what is repeated to replicas, line by line
cargo xtask differential [--subject PATH] [--commands N | --seconds T] [--seed S] [--workers W] [--tiny]
      [--fields] [--peer PATH]  random commands compared; with --fields on deadlines of fields, beside a newer server
cargo xtask bad-input [--subject PATH] [ATTACK ...]   hostile and broken clients against the real program
cargo xtask clients [--subject PATH] [CLIENT ...]     real clients from their registries drive Larder
cargo xtask cities [--subject PATH] [--peer PROGRAM] [--seconds T] [--readers N]  a cache beside a database
cargo xtask rdb-matrix [--peer PATH] [--sets N] [--seed S] [--files FOLDER]  RDB files and payloads between us and a real server
cargo xtask crash [--subject PATH] [--rounds N] [--modes always,everysec,rdb] [--seed S] [--power]  killed under load, again and again, or
      their power cut (--power: as root, on an ext4 in a file)
cargo xtask faults [--subject PATH] [--count N] [--seed S]  a real server whose disk fails under load (needs cc)
cargo xtask flips [--subject PATH] [--all-bits] [rdb | aof | killed | plain | manifest ...]  every byte of files of ours flipped in turn
cargo xtask crash-points [N] [SEED]                   the append-only file on a simulated disk that fails at every moment
cargo xtask replication [--subject PATH] [--peer PROGRAM] [--minutes N | --restarts N] [--seed S]  chains with real servers, links cut, primaries moved; servers that come back
cargo xtask sentinel [--subject PATH] [--rounds N]    real sentinels let a replica of ours lead, and back
cargo xtask aof-matrix [--subject PATH] [--peer PATH] [--sets N] [--seed S]  append-only files between us and a real server
cargo xtask endure [--subject PATH] [connections | never-reads | pipeline | values]  what careless clients do
cargo xtask compare [--subject PATH] [--peer PATH] [--quick] [--workloads A,B] [--pipelines 1,16]
      [--connections N] [--workers N] [--peer-workers N] [--with OPTIONS] [--peer-with OPTIONS] [--replica] [--peer-replica]
      [--runs N] [--seconds T] [--keys N]  speed beside a peer
cargo xtask memory [--subject PATH] [--peer PATH ...] [--percent N]  bytes a key beside peers
cargo xtask stall [--subject PATH] [--shows insert,big,steady] [--percent N]  what clients feel meanwhile
cargo xtask resync [--subject PATH] [--peer PATH] [--keys N]  what copying to a replica costs
cargo xtask saving [--subject PATH] [--peer PATH] [--keys N] [--members N] [--rate N]  what BGSAVE and a start cost
cargo xtask overcommit [--subject PATH] [--policies A,B] [--seconds T]  each policy with twice what fits
cargo xtask hit-ratio [--subject PATH] [--traces FOLDER] [--requests N]  policies on real traces";

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.first().map(String::as_str) {
        Some("ci") => ci::run(),
        Some("conformance") => {
            let tally = conformance::run(args.get(1..).unwrap_or(&[]))?;
            println!("{} passed, {} failed", tally.passed, tally.failed);
            if tally.failed > 0 {
                bail!("Larder and redis-server differ");
            }
            Ok(())
        }
        Some("propagation") => propagation::run(args.get(1..).unwrap_or(&[])),
        Some("bad-input") => bad_input::run(args.get(1..).unwrap_or(&[])),
        Some("tidy") => tidy::run(),
        Some("clients") => clients::run(args.get(1..).unwrap_or(&[])),
        Some("cities") => cities::run(args.get(1..).unwrap_or(&[])),
        Some("hit-ratio") => hit_ratio::run(args.get(1..).unwrap_or(&[])),
        Some("memory") => memory::run(args.get(1..).unwrap_or(&[])),
        Some("overcommit") => overcommit::run(args.get(1..).unwrap_or(&[])),
        Some("resync") => resync::run(args.get(1..).unwrap_or(&[])),
        Some("saving") => saving::run(args.get(1..).unwrap_or(&[])),
        Some("stall") => stall::run(args.get(1..).unwrap_or(&[])),
        Some("compare") => compare::run(args.get(1..).unwrap_or(&[])),
        Some("rdb-matrix") => rdb_matrix::run(args.get(1..).unwrap_or(&[])),
        Some("aof-matrix") => aof_matrix::run(args.get(1..).unwrap_or(&[])),
        Some("crash") => crash::run(args.get(1..).unwrap_or(&[])),
        Some("faults") => faults::run(args.get(1..).unwrap_or(&[])),
        Some("flips") => flips::run(args.get(1..).unwrap_or(&[])),
        Some("crash-points") => crash_points::run(args.get(1..).unwrap_or(&[])),
        Some("replication") => replication::run(args.get(1..).unwrap_or(&[])),
        Some("sentinel") => sentinel::run(args.get(1..).unwrap_or(&[])),
        Some("endure") => endure::run(args.get(1..).unwrap_or(&[])),
        Some("differential") => {
            let outcome = differential::run(args.get(1..).unwrap_or(&[]))?;
            if outcome.failures > 0 {
                bail!("Larder and redis-server differ");
            }
            Ok(())
        }
        _ => bail!("unknown task\n{USAGE}"),
    }
}
