//! The saves that were asked of a server, and whether what it loads is the last that was completed: each is preceded by a
//! mark of its own in the data, so that a file says which save it is.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use larder_protocol::response::Value;

use super::ledger::Cut;
use crate::process::{Client, Patience};

/// The key of the marks.
const MARK: &str = "save";

/// A save that was asked for.
struct Save {
    mark: u64,
    asked: Instant,
    /// When the server said that it had begun.
    begun: Option<Instant>,
    completed: bool,
}

/// See the head of this file.
#[derive(Default)]
pub struct Saves {
    /// The mark in the file that was loaded last.
    base: u64,
    next: u64,
    list: Vec<Save>,
}

impl Saves {
    /// Begins a save; true if it began.
    pub fn begin(&mut self, client: &mut Client) -> Result<bool> {
        self.next += 1;
        let mark = self.next;
        if let Value::Error(_) = client.call(&["SET", MARK, &mark.to_string()])? {
            // A disk that fails: nothing may be changed, but a save may bring it back. It will be the last mark's.
            return Ok(false);
        }
        self.list.push(Save { mark, asked: Instant::now(), begun: None, completed: false });
        let answer = client.call(&["BGSAVE"])?;
        let began = matches!(answer, Value::Simple(_));
        match self.list.last_mut() {
            Some(save) if began => save.begun = Some(Instant::now()),
            // Another one runs: no file may bear this mark.
            _ => drop(self.list.pop()),
        }
        Ok(began)
    }

    /// Saves once more what the last save failed to save, without a mark of its own: where nothing may be changed.
    pub fn again(&mut self, client: &mut Client) -> Result<()> {
        let answer = client.call(&["BGSAVE"])?;
        ensure!(matches!(answer, Value::Simple(_)), "BGSAVE is refused: {answer:?}");
        if let Some(last) = self.list.last_mut() {
            last.begun = Some(Instant::now());
        }
        Ok(())
    }

    /// The server ended in order, with a save that has no mark: goes on from what there is.
    pub fn forget(&mut self, client: &mut Client) -> Result<()> {
        self.base = mark(client)?;
        self.list.clear();
        Ok(())
    }

    /// Waits until the save that runs has ended; whether it succeeded.
    pub fn wait(&mut self, client: &mut Client) -> Result<bool> {
        let mut patience = Patience::of(Duration::from_secs(5));
        loop {
            let Value::Bulk(info) = client.call(&["INFO", "persistence"])? else {
                bail!("INFO is no text")
            };
            let info = String::from_utf8_lossy(&info).into_owned();
            if info.contains("rdb_bgsave_in_progress:0") {
                let ok = info.contains("rdb_last_bgsave_status:ok");
                if let Some(last) = self.list.last_mut().filter(|save| save.begun.is_some()) {
                    last.completed |= ok;
                }
                return Ok(ok);
            }
            ensure!(patience.nap(Duration::from_millis(1)), "a save does not end");
        }
    }

    /// Whether what was loaded is what the last completed save saw, or a later one that nobody could be told of.
    pub fn settle(&mut self, client: &mut Client, cut: &Cut) -> Result<()> {
        let mark = mark(client)?;
        let completed = self.list.iter().filter(|save| save.completed).map(|save| save.mark).max();
        let owed = completed.unwrap_or(self.base);
        ensure!(mark >= owed, "save {mark} was loaded, though {owed} was completed");
        if mark == self.base {
            ensure!(!cut.moved, "the file of save {mark} holds other data than at the last start");
        } else {
            let save = self.list.iter().find(|save| save.mark == mark);
            let save = save.with_context(|| format!("save {mark} was never begun"))?;
            ensure!(
                cut.earliest_out.is_none_or(|moment| moment >= save.asked),
                "save {mark} lacks a write that was acknowledged before it was asked for"
            );
            ensure!(
                save.begun.is_none_or(|begun| cut.latest_in.is_none_or(|sent| sent <= begun)),
                "save {mark} holds a write that was sent after it had begun"
            );
        }
        self.base = mark;
        self.list.clear();
        Ok(())
    }
}

/// The mark of what was loaded.
fn mark(client: &mut Client) -> Result<u64> {
    match client.call(&["GET", MARK])? {
        Value::Bulk(text) => Ok(String::from_utf8_lossy(&text).parse()?),
        Value::Null => Ok(0),
        other => bail!("the mark is {other:?}"),
    }
}
