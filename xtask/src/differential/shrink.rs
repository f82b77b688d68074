//! The fewest events that still end in a difference, found by leaving out ever smaller runs of them, each
//! time on emptied servers.

use std::time::{Duration, Instant};

use anyhow::Result;

use super::event::{Event, name};
use super::stage::{Difference, Servers, Stage};
use super::waivers::Waivers;

const PATIENCE: Duration = Duration::from_secs(20);
const WAIT: Duration = Duration::from_secs(2);

/// Plays events from the beginning.
fn replay(
    events: &[Event],
    version: &'static str,
    servers: &Servers,
    waivers: &Waivers,
) -> Result<Option<Difference>> {
    let lanes = 1 + events.iter().map(|event| event.lane).max().unwrap_or(0);
    let mut stage = Stage::open(servers, waivers, version, lanes, WAIT)?;
    // A script that lost the end of a silence gets no reply: it is not what is sought.
    let found = stage.play(events).unwrap_or(None);
    stage.close().ok();
    Ok(found)
}

/// Shrinks; `None` if the difference does not come again.
pub fn shrink(
    mut events: Vec<Event>,
    shown: &str,
    version: &'static str,
    servers: &Servers,
    waivers: &Waivers,
) -> Result<Option<(Vec<Event>, String)>> {
    let until = Instant::now() + PATIENCE;
    let differs = |events: &[Event]| -> Result<Option<(usize, String)>> {
        let found = replay(events, version, servers, waivers)?;
        // Another difference, met on the way, is not the one to show.
        Ok(found.filter(|found| name(&found.words) == shown).map(|found| (found.at, found.text())))
    };
    let Some((at, mut text)) = differs(&events)? else { return Ok(None) };
    events.truncate(at + 1);
    let mut run = events.len() / 2;
    while run > 0 && Instant::now() < until {
        let mut from = 0;
        while from < events.len() && Instant::now() < until {
            let mut shorter = events.clone();
            shorter.drain(from..(from + run).min(events.len()));
            if let Some((at, shorter_text)) = differs(&shorter)? {
                shorter.truncate(at + 1);
                events = shorter;
                text = shorter_text;
            } else {
                from += run;
            }
        }
        run /= 2;
    }
    Ok(Some((events, text)))
}
