//! Reads a log before it is loaded and says up to which byte it may be: what follows was never promised to anybody.
//! It tells three things apart: an end that is missing, an end that a power cut left with holes (sectors
//! that were written but not yet forced to disk read as zeros, in any choice), and damage. Only the last is a
//! reason to refuse the log. It knows no file and no command.

use std::io::{self, BufRead, Seek, SeekFrom};

use super::log::{Item, LogError, LogReader, LogReason, NOTE, parse_checksum};
use crate::crc64::Crc64;

/// What a disk writes whole or not at all.
const SECTOR: u64 = 512;
/// A note of a checksum is no longer than this.
const NOTE_BYTES_MAX: usize = 64;

/// What a log holds, and how much of it is to be loaded.
#[derive(Debug)]
pub struct Scan {
    /// Everything before this byte is to be loaded.
    pub end: u64,
    /// The sum of the bytes before the end that no note has summed up.
    pub crc: Crc64,
    /// What the sums begin with.
    pub seed: Crc64,
    /// Notes with right checksums.
    pub verified: u64,
    /// The last of them ends here; the log's first byte, if there is none.
    pub verified_to: u64,
    /// Commands before the end; some of what is to be cut may be counted.
    pub commands: u64,
    /// Why there is more than what is to be loaded. It is torn in the sense of [`LogError::is_torn`].
    pub cut: Option<LogError>,
}

/// Reads a log whose first byte is number `offset` of its file.
///
/// # Errors
/// If it is damaged, or cannot be read.
pub fn scan<R: BufRead + Seek>(source: &mut R, offset: u64) -> Result<Scan, LogError> {
    let failed = |reason: io::Error| LogError { offset, whole: offset, reason: reason.into() };
    source.seek(SeekFrom::Start(offset)).map_err(failed)?;
    let mut reader = LogReader::skimming(&mut *source, offset);
    let mut commands = 0;
    let error = loop {
        match reader.next_item() {
            Ok(Some(Item::Command { .. })) => commands += 1,
            Ok(Some(
                Item::Verified { .. } | Item::Timestamp(_) | Item::Place(_) | Item::Note(_),
            )) => {}
            Ok(None) => break None,
            Err(error) if matches!(error.reason, LogReason::Io(_)) => return Err(error),
            Err(error) => break Some(error),
        }
    };
    let mut scan = Scan {
        end: reader.whole(),
        crc: reader.whole_crc(),
        seed: reader.seed(),
        verified: reader.verified(),
        verified_to: reader.unverified(),
        commands,
        cut: None,
    };
    let len = reader.offset();
    let is_noted = scan.verified > 0;
    // A clean end is what it seems unless it is where a sector ends, where data may be missing without a trace.
    let may_lack = is_noted && scan.verified_to < len && len.is_multiple_of(SECTOR);
    if error.is_none() && !may_lack {
        return Ok(scan);
    }
    let survey = Survey::make(source, scan.verified_to, scan.seed).map_err(failed)?;
    if let Some(error) = error.as_ref().filter(|_| survey.claimed > scan.verified_to) {
        // A note behind says that what breaks here was on disk.
        return Err(again(error));
    }
    let hole = if is_noted { survey.first_hole } else { survey.zeros_from };
    if let Some(hole) = hole {
        return up_to(source, offset, hole, scan).map_err(failed);
    }
    match error {
        Some(error) if error.is_torn() => {
            scan.cut = Some(error);
            Ok(scan)
        }
        Some(error) => Err(error),
        None => Ok(scan),
    }
}

/// The same scan, for nothing but what is whole before the hole.
fn up_to<R: BufRead + Seek>(
    source: &mut R,
    offset: u64,
    hole: u64,
    mut scan: Scan,
) -> io::Result<Scan> {
    source.seek(SeekFrom::Start(offset))?;
    let mut reader =
        LogReader::skimming(io::Read::take(source, hole.saturating_sub(offset)), offset);
    while let Ok(Some(_)) = reader.next_item() {}
    scan.end = reader.whole();
    scan.crc = reader.whole_crc();
    scan.cut = Some(LogError { offset: hole, whole: scan.end, reason: LogReason::Unfinished });
    Ok(scan)
}

fn again(error: &LogError) -> LogError {
    // What breaks on disk is damage, even if it looks like an end that is missing.
    let reason = if error.is_torn() {
        LogReason::Format("what follows shows that this was whole on disk")
    } else {
        error.reason.copy()
    };
    LogError { offset: error.offset, whole: error.whole, reason }
}

/// What the bytes of a log's end look like, whatever they mean.
#[derive(Debug, Default)]
struct Survey {
    /// Where the zeros begin that cover a whole sector, the first such.
    first_hole: Option<u64>,
    /// Where the zeros begin that reach to the end.
    zeros_from: Option<u64>,
    /// How much of the file was on disk, by the notes that are right.
    claimed: u64,
}

impl Survey {
    fn make<R: BufRead + Seek>(source: &mut R, from: u64, seed: Crc64) -> io::Result<Survey> {
        source.seek(SeekFrom::Start(from))?;
        let mut survey = Survey::default();
        let mut notes = Notes { seed, crc: seed, before: seed, line: Vec::new(), claimed: 0 };
        let mut at = from;
        let mut zeros: Option<u64> = None;
        loop {
            let piece = match source.fill_buf() {
                Ok(piece) => piece,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            if piece.is_empty() {
                break;
            }
            for line in piece.split_inclusive(|byte| *byte == b'\n') {
                notes.take(line);
            }
            for byte in piece {
                match (byte, zeros) {
                    (0, None) => zeros = Some(at),
                    (0, Some(_)) => {}
                    (_, Some(since)) => {
                        survey.end_of_zeros(since, at);
                        zeros = None;
                    }
                    (_, None) => {}
                }
                at += 1;
            }
            let len = piece.len();
            source.consume(len);
        }
        if let Some(since) = zeros {
            survey.zeros_from = Some(since);
            // The last sector need not be full.
            survey.first_hole.get_or_insert(since);
        }
        survey.claimed = notes.claimed;
        Ok(survey)
    }

    fn end_of_zeros(&mut self, since: u64, end: u64) {
        // What was on disk before ends anywhere in its sector; of what follows, zeros may be the data's own.
        if (since + 1).next_multiple_of(SECTOR) <= end {
            self.first_hole.get_or_insert(since);
        }
    }
}

/// Finds the notes of checksums in bytes that cannot be read as a log.
struct Notes {
    seed: Crc64,
    /// Since the last line that looks like a note.
    crc: Crc64,
    /// The same, at the begin of this line.
    before: Crc64,
    /// The begin of a line that may be a note.
    line: Vec<u8>,
    claimed: u64,
}

impl Notes {
    /// Takes a line, or a part of one.
    fn take(&mut self, piece: &[u8]) {
        if self.line.is_empty() {
            self.before = self.crc;
        }
        let room = NOTE_BYTES_MAX.saturating_sub(self.line.len());
        self.line.extend_from_slice(piece.get(..room.min(piece.len())).unwrap_or_default());
        self.crc.update(piece);
        if piece.last() != Some(&b'\n') {
            return;
        }
        let line = std::mem::take(&mut self.line);
        let note = line.strip_prefix(NOTE).and_then(|text| text.strip_suffix(b"\r\n"));
        let Some((sum, lasting)) = note.and_then(parse_checksum) else { return };
        if self.before == sum {
            self.claimed = self.claimed.max(lasting);
        }
        self.crc = self.seed;
    }
}
