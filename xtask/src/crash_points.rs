//! As many simulated crash points of the append-only file as are asked for: each a life on a simulated disk that fails
//! at one operation, and one outcome of a power cut after it. What a life is, `persist::aof::trial` knows.

use std::time::Instant;

use anyhow::{Result, bail};
use larder_persist::aof::trial::{Tally, try_all};

/// Tries as many points as the arguments say, from a seed on.
pub fn run(args: &[String]) -> Result<()> {
    let number = |at: usize, default: u64| args.get(at).map_or(Ok(default), |text| text.parse());
    let (wanted, mut seed) = (number(0, 100_000)?, number(1, 1)?);
    let (mut tally, begun) = (Tally::default(), Instant::now());
    while tally.points < wanted {
        if let Err(text) = try_all(seed, 4, &mut tally) {
            bail!("{text}");
        }
        seed += 1;
    }
    println!(
        "{} crash points ({} lives with an error or a short write among them), {} torn ends: nothing promised \
         was lost, nothing invented; {:.0} s",
        tally.points,
        tally.faults,
        tally.torn,
        begun.elapsed().as_secs_f64()
    );
    Ok(())
}
