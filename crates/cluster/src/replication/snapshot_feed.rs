//! Where a snapshot ends within the bytes of a link: after an announced length, or before a mark of
//! 40 random bytes that may be cut anywhere between two reads. It does not look into the snapshot.

use memchr::memmem;

/// Bytes of the mark that ends a snapshot of unknown length.
pub const MARK_LEN: usize = 40;

/// What a feed made of some bytes.
#[derive(Debug, PartialEq, Eq)]
pub enum Fed {
    /// All of them belong to the snapshot or were kept back; more must follow.
    More,
    /// The snapshot is complete; this many of the given bytes come after it.
    End {
        /// Bytes at the end of the input that are not part of it.
        rest: usize,
    },
}

/// Cuts a snapshot out of a link's bytes. See the head of this file.
#[derive(Debug)]
pub struct SnapshotFeed {
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Length { left: u64 },
    Mark { mark: [u8; MARK_LEN], held: Vec<u8> },
}

impl SnapshotFeed {
    /// Reads the announcement: `$<length>` or `$EOF:<40 bytes>`, without its line end. `None` if it is neither.
    #[must_use]
    pub fn announced(line: &[u8]) -> Option<SnapshotFeed> {
        let text = line.strip_prefix(b"$")?;
        if let Some(mark) = text.strip_prefix(b"EOF:") {
            let mark: [u8; MARK_LEN] = mark.try_into().ok()?;
            return Some(SnapshotFeed { kind: Kind::Mark { mark, held: Vec::new() } });
        }
        let left = larder_base::number::parse_u64(text)?;
        Some(SnapshotFeed { kind: Kind::Length { left } })
    }

    /// Whether the sender waits for an acknowledgement before it goes on with the stream (diskless).
    #[must_use]
    pub fn is_diskless(&self) -> bool {
        matches!(self.kind, Kind::Mark { .. })
    }

    /// Takes the next bytes; what belongs to the snapshot is appended to `out`. At most 39 bytes are kept
    /// back between calls.
    pub fn feed(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Fed {
        match &mut self.kind {
            Kind::Length { left } => {
                let here = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                out.extend_from_slice(bytes.get(..here).unwrap_or(&[]));
                *left = left.saturating_sub(here as u64);
                if *left == 0 { Fed::End { rest: bytes.len() - here } } else { Fed::More }
            }
            Kind::Mark { mark, held } => feed_to_mark(mark, held, bytes, out),
        }
    }
}

fn feed_to_mark(mark: &[u8; MARK_LEN], held: &mut Vec<u8>, bytes: &[u8], out: &mut Vec<u8>) -> Fed {
    // The mark may begin in what was held back: look where both meet first.
    if !held.is_empty() {
        let before = held.len();
        held.extend_from_slice(bytes.get(..bytes.len().min(MARK_LEN - 1)).unwrap_or(&[]));
        if let Some(at) = memmem::find(held, mark) {
            out.extend_from_slice(held.get(..at).unwrap_or(&[]));
            let used = (at + MARK_LEN).saturating_sub(before);
            held.clear();
            return Fed::End { rest: bytes.len().saturating_sub(used) };
        }
        if bytes.len() < MARK_LEN {
            // Still a seam: keep the last 39 bytes of what there is.
            let keep = held.len().saturating_sub(MARK_LEN - 1);
            out.extend(held.drain(..keep));
            return Fed::More;
        }
        out.extend_from_slice(held.get(..before).unwrap_or(&[]));
        held.clear();
    }
    if let Some(at) = memmem::find(bytes, mark) {
        out.extend_from_slice(bytes.get(..at).unwrap_or(&[]));
        return Fed::End { rest: bytes.len() - at - MARK_LEN };
    }
    let keep = bytes.len().saturating_sub(MARK_LEN - 1);
    let (sure, tail) = bytes.split_at_checked(keep).unwrap_or((bytes, &[]));
    out.extend_from_slice(sure);
    held.extend_from_slice(tail);
    Fed::More
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MARK: &[u8; MARK_LEN] = b"abababababababababababababababababababac";

    /// Feeds `all` in pieces of the given sizes, round and round; returns the snapshot and what came after.
    fn cut(line: &[u8], all: &[u8], sizes: &[usize]) -> (Vec<u8>, Option<Vec<u8>>) {
        let mut feed = SnapshotFeed::announced(line).expect("announcement");
        let (mut out, mut at, mut turn) = (Vec::new(), 0, 0);
        while at < all.len() {
            let size = sizes[turn % sizes.len()].min(all.len() - at);
            turn += 1;
            if let Fed::End { rest } = feed.feed(&all[at..at + size], &mut out) {
                return (out, Some(all[at + size - rest..].to_vec()));
            }
            at += size;
        }
        (out, None)
    }

    proptest! {
        #[test]
        fn any_split_finds_the_mark(
            // Letters of the mark, so that false beginnings are frequent.
            body in "[abc]{0,200}", tail in "[abc]{0,60}", sizes in proptest::collection::vec(1usize..60, 1..6),
        ) {
            prop_assume!(memmem::find(body.as_bytes(), MARK).is_none());
            let mut all = body.clone().into_bytes();
            all.extend_from_slice(MARK);
            all.extend_from_slice(tail.as_bytes());
            let at = memmem::find(&all, MARK).unwrap_or(0);
            let line = [b"$EOF:".as_slice(), MARK].concat();
            let (snapshot, rest) = cut(&line, &all, &sizes);
            prop_assert_eq!(&snapshot[..], &all[..at]);
            prop_assert_eq!(rest, Some(all[at + MARK_LEN..].to_vec()));
        }

        #[test]
        fn any_split_counts_the_length(
            body in proptest::collection::vec(any::<u8>(), 1..200), tail in proptest::collection::vec(any::<u8>(), 0..40),
            sizes in proptest::collection::vec(1usize..60, 1..6),
        ) {
            let all = [body.clone(), tail.clone()].concat();
            let (snapshot, rest) = cut(format!("${}", body.len()).as_bytes(), &all, &sizes);
            prop_assert_eq!(snapshot, body);
            prop_assert_eq!(rest, Some(tail));
        }
    }

    #[test]
    fn announcements_are_checked() {
        for line in [&b"$EOF:short"[..], b"$-1", b"+OK", b"$12x", b""] {
            assert!(SnapshotFeed::announced(line).is_none(), "{}", line.escape_ascii());
        }
        assert!(!SnapshotFeed::announced(b"$0").expect("length").is_diskless());
    }
}
