//! Lists: packed elements, or a queue of packed chunks. When a list turns from one into the other
//! follows Redis 7.2. It knows no key, no reply and nobody who waits.

use std::collections::VecDeque;
use std::sync::Arc;

use super::packed::{Encoded, Form, FormMut, Linked, OneWord};
use super::{Text, Thresholds};

/// A chunk bounded by number is bounded by this many bytes, too.
const COUNTED_CHUNK_BYTES_MAX: usize = 8192;

/// A sequence of texts.
#[derive(Clone)]
pub struct List {
    word: OneWord<Linked, Chunks>,
}

/// The big form. No chunk is empty.
#[derive(Clone, Default)]
pub(super) struct Chunks {
    /// Shared with the snapshots that run: a chunk is copied when it changes meanwhile.
    chunks: VecDeque<Arc<Linked>>,
    len: usize,
}

/// An end of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The front (left).
    Front,
    /// The back (right).
    Back,
}

/// Bounds of one chunk.
#[derive(Clone, Copy)]
struct ChunkLimit {
    bytes: usize,
    count: usize,
}

impl ChunkLimit {
    fn of(limits: &Thresholds) -> ChunkLimit {
        match limits.list_size {
            size @ 1.. => ChunkLimit {
                bytes: COUNTED_CHUNK_BYTES_MAX,
                count: usize::try_from(size).unwrap_or(usize::MAX),
            },
            0 => ChunkLimit { bytes: COUNTED_CHUNK_BYTES_MAX, count: 1 },
            size => {
                let class = size.saturating_neg().clamp(1, 5) - 1;
                ChunkLimit { bytes: 4096 << class, count: usize::MAX }
            }
        }
    }

    #[inline]
    fn admits(self, chunk: &Linked, more: usize) -> bool {
        chunk.count() < self.count && chunk.end() + more <= self.bytes
    }
}

impl Chunks {
    /// Frees the last chunk, without counting; false when there was none.
    pub fn free_last(&mut self) -> bool {
        self.chunks.pop_back().is_some()
    }

    /// The chunk that holds an index, and the index in it; searched from the nearer end.
    fn locate(&self, index: usize) -> Option<(usize, usize)> {
        if index >= self.len {
            return None;
        }
        if index < self.len / 2 {
            let mut left = index;
            for (at, chunk) in self.chunks.iter().enumerate() {
                match left.checked_sub(chunk.count()) {
                    Some(rest) => left = rest,
                    None => return Some((at, left)),
                }
            }
            return None;
        }
        let mut start = self.len;
        for (at, chunk) in self.chunks.iter().enumerate().rev() {
            start -= chunk.count();
            if index >= start {
                return Some((at, index - start));
            }
        }
        None
    }

    fn push(&mut self, element: Encoded<'_>, end: End, limit: ChunkLimit) {
        let size = element.size_with_back();
        let near = match end {
            End::Front => self.chunks.front_mut(),
            End::Back => self.chunks.back_mut(),
        };
        self.len += 1;
        if let Some(chunk) = near.filter(|chunk| limit.admits(chunk, size)) {
            let at = if end == End::Front { 0 } else { chunk.end() };
            Arc::make_mut(chunk).insert(at, &[element]);
            return;
        }
        let mut chunk = Linked::new();
        chunk.push(&[element]);
        match end {
            End::Front => self.chunks.push_front(Arc::new(chunk)),
            End::Back => self.chunks.push_back(Arc::new(chunk)),
        }
    }

    /// Puts an element before the one at `position` (its end: after the last) of a chunk.
    fn insert(&mut self, at: usize, position: usize, element: Encoded<'_>, limit: ChunkLimit) {
        let Some(chunk) = self.chunks.get_mut(at) else { return };
        self.len += 1;
        let size = element.size_with_back();
        let chunk = Arc::make_mut(chunk);
        if limit.admits(chunk, size) {
            chunk.insert(position, &[element]);
            return;
        }
        let rest = chunk.split_off(position);
        let mut before = at;
        if chunk.count() == 0 {
            *chunk = rest;
        } else {
            before = at + 1;
            if rest.count() > 0 {
                self.chunks.insert(before, Arc::new(rest));
            }
        }
        // Now the element belongs between the chunks `before - 1` and `before`.
        let previous = before.checked_sub(1).and_then(|at| self.chunks.get_mut(at));
        if let Some(chunk) = previous.filter(|chunk| limit.admits(chunk, size)) {
            Arc::make_mut(chunk).push(&[element]);
            return;
        }
        if let Some(chunk) = self.chunks.get_mut(before).filter(|chunk| limit.admits(chunk, size)) {
            Arc::make_mut(chunk).insert(0, &[element]);
            return;
        }
        let mut chunk = Linked::new();
        chunk.push(&[element]);
        self.chunks.insert(before, Arc::new(chunk));
    }

    fn pop(&mut self, end: End) -> Option<Vec<u8>> {
        let chunk = match end {
            End::Front => self.chunks.front_mut(),
            End::Back => self.chunks.back_mut(),
        }?;
        let element = pop_packed(Arc::make_mut(chunk), end)?;
        self.len -= 1;
        if chunk.count() == 0 {
            match end {
                End::Front => self.chunks.pop_front(),
                End::Back => self.chunks.pop_back(),
            };
        }
        Some(element)
    }

    /// Removes `n` elements from one end.
    fn cut(&mut self, end: End, mut n: usize) {
        n = n.min(self.len);
        self.len -= n;
        while n > 0 {
            let chunk = match end {
                End::Front => self.chunks.front_mut(),
                End::Back => self.chunks.back_mut(),
            };
            let Some(chunk) = chunk else { return };
            if chunk.count() > n {
                cut_packed(Arc::make_mut(chunk), end, n);
                return;
            }
            n -= chunk.count();
            match end {
                End::Front => self.chunks.pop_front(),
                End::Back => self.chunks.pop_back(),
            };
        }
    }

    /// Joins neighbours that together fill at most half a chunk, and drops empty ones.
    fn tidy(&mut self, limit: ChunkLimit) {
        let mut tidy: VecDeque<Arc<Linked>> = VecDeque::with_capacity(self.chunks.len());
        for chunk in std::mem::take(&mut self.chunks) {
            if chunk.count() == 0 {
                continue;
            }
            match tidy.back_mut() {
                Some(last)
                    if last.end() + chunk.end() <= limit.bytes / 2
                        && last.count() + chunk.count() <= limit.count =>
                {
                    Arc::make_mut(last).append(&chunk);
                }
                _ => tidy.push_back(chunk),
            }
        }
        self.chunks = tidy;
    }
}

fn pop_packed(packed: &mut Linked, end: End) -> Option<Vec<u8>> {
    let view = packed.as_view();
    let at = match end {
        End::Front => 0,
        End::Back => view.before(packed.end())?,
    };
    let element = view.get(at)?.to_vec();
    packed.remove(at, 1);
    Some(element)
}

fn cut_packed(packed: &mut Linked, end: End, n: usize) {
    match end {
        End::Front => packed.remove(0, n),
        End::Back => {
            let at = packed.as_view().position(packed.count().saturating_sub(n));
            packed.remove(at, n);
        }
    }
}

/// Removes up to `max` elements equal to `element`, starting from one end.
fn remove_packed(packed: &mut Linked, element: &Encoded<'_>, max: usize, end: End) -> usize {
    let mut places = Vec::new();
    let mut at = 0;
    while let Some(found) = packed.as_view().find(element, at, 1) {
        places.push(found);
        if end == End::Front && places.len() == max {
            break;
        }
        at = packed.as_view().skip(found, 1);
    }
    // From behind, so that the places before stay right.
    let mut removed = 0;
    for at in places.into_iter().rev().take(max) {
        packed.remove(at, 1);
        removed += 1;
    }
    removed
}

impl List {
    /// Where its members begin, to fetch them ahead.
    #[inline]
    pub(crate) fn address(&self) -> *const u8 {
        self.word.address()
    }

    /// An empty list; allocates nothing.
    pub fn new() -> List {
        List { word: OneWord::small(Linked::new()) }
    }

    /// Number of elements.
    #[inline]
    pub fn len(&self) -> usize {
        match self.word.form() {
            Form::Small(packed) => packed.count(),
            Form::Big(chunks) => chunks.len,
        }
    }

    /// Whether there is no element.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds an element at one end.
    #[inline]
    pub fn push(&mut self, element: &[u8], end: End, limits: &Thresholds) {
        let limit = ChunkLimit::of(limits);
        let element = Encoded::text(element);
        if let FormMut::Small(packed) = self.word.form_mut()
            && limit.admits(packed, element.size_with_back())
        {
            let at = if end == End::Front { 0 } else { packed.end() };
            packed.insert(at, &[element]);
            return;
        }
        self.enlarge().push(element, end, limit);
    }

    /// Takes the element at one end out.
    pub fn pop(&mut self, end: End, limits: &Thresholds) -> Option<Vec<u8>> {
        match self.word.form_mut() {
            FormMut::Small(packed) => pop_packed(packed, end),
            FormMut::Big(chunks) => {
                let element = chunks.pop(end);
                self.shrink(limits);
                element
            }
        }
    }

    /// The element with this index, from the front.
    pub fn get(&self, index: usize) -> Option<Text<'_>> {
        let (chunk, index) = self.locate(index)?;
        let view = self.chunk(chunk)?.as_view();
        view.get(view.position(index))
    }

    /// Replaces the element with this index; false if there is none.
    pub fn set(&mut self, index: usize, element: &[u8], limits: &Thresholds) -> bool {
        let Some((at, inner)) = self.locate(index) else { return false };
        let limit = ChunkLimit::of(limits);
        let element = Encoded::text(element);
        let Some(chunk) = self.chunk(at) else { return false };
        let position = chunk.as_view().position(inner);
        let old = chunk.as_view().skip(position, 1) - position;
        let fits = chunk.end() - old + element.size_with_back() <= limit.bytes;
        let chunks = match self.word.form_mut() {
            // As since Redis 7.2: one element more would have to fit, too.
            FormMut::Small(packed) if limit.admits(packed, element.size_with_back()) => {
                packed.replace(position, 1, &[element]);
                return true;
            }
            FormMut::Small(_) => self.enlarge(),
            FormMut::Big(chunks) => chunks,
        };
        let Some(chunk) = chunks.chunks.get_mut(at).map(Arc::make_mut) else { return false };
        if fits || chunk.count() == 1 {
            chunk.replace(position, 1, &[element]);
        } else {
            chunk.remove(position, 1);
            chunks.len -= 1;
            chunks.insert(at, position, element, limit);
        }
        self.shrink(limits);
        true
    }

    /// Puts an element before (or after) the first one that equals `pivot`; false if none does.
    pub fn insert_beside(
        &mut self,
        pivot: &[u8],
        element: &[u8],
        after: bool,
        limits: &Thresholds,
    ) -> bool {
        let needle = Encoded::text(pivot);
        let mut found = None;
        for at in 0..self.chunk_count() {
            let Some(view) = self.chunk(at).map(Linked::as_view) else { continue };
            if let Some(position) = view.find(&needle, 0, 1) {
                found = Some((at, if after { view.skip(position, 1) } else { position }));
                break;
            }
        }
        let Some((at, position)) = found else { return false };
        let limit = ChunkLimit::of(limits);
        let element = Encoded::text(element);
        if let FormMut::Small(packed) = self.word.form_mut()
            && limit.admits(packed, element.size_with_back())
        {
            packed.insert(position, &[element]);
            return true;
        }
        self.enlarge().insert(at, position, element, limit);
        true
    }

    /// Removes up to `max` elements that equal `element`, starting from one end. Returns how many.
    pub fn remove(&mut self, element: &[u8], max: usize, from: End, limits: &Thresholds) -> usize {
        let needle = Encoded::text(element);
        let chunks = match self.word.form_mut() {
            FormMut::Small(packed) => return remove_packed(packed, &needle, max, from),
            FormMut::Big(chunks) => chunks,
        };
        let mut removed = 0;
        let mut sweep = |chunk: &mut Arc<Linked>| {
            if removed < max && chunk.as_view().find(&needle, 0, 1).is_some() {
                removed += remove_packed(Arc::make_mut(chunk), &needle, max - removed, from);
            }
        };
        match from {
            End::Front => chunks.chunks.iter_mut().for_each(&mut sweep),
            End::Back => chunks.chunks.iter_mut().rev().for_each(&mut sweep),
        }
        if removed > 0 {
            chunks.len -= removed;
            chunks.tidy(ChunkLimit::of(limits));
            self.shrink(limits);
        }
        removed
    }

    /// Keeps `len` elements from index `start` on and removes the others.
    pub fn trim(&mut self, start: usize, len: usize, limits: &Thresholds) {
        let start = start.min(self.len());
        let behind = (self.len() - start).saturating_sub(len);
        match self.word.form_mut() {
            FormMut::Small(packed) => {
                cut_packed(packed, End::Back, behind);
                cut_packed(packed, End::Front, start);
            }
            FormMut::Big(chunks) => {
                chunks.cut(End::Back, behind);
                chunks.cut(End::Front, start);
                self.shrink(limits);
            }
        }
    }

    /// All elements from the front.
    pub fn iter(&self) -> Forward<'_> {
        self.iter_from(0)
    }

    /// The elements from this index on.
    pub fn iter_from(&self, index: usize) -> Forward<'_> {
        let (chunk, inner) = self.locate(index).unwrap_or((self.chunk_count(), 0));
        let at = self.chunk(chunk).map_or(0, |chunk| chunk.as_view().position(inner));
        Forward { list: self, chunk, at }
    }

    /// The elements from this index down to the front; past the end: all of them.
    pub fn iter_back_from(&self, index: usize) -> Backward<'_> {
        let found = self.locate(index.min(self.len().saturating_sub(1)));
        let (chunk, inner) = found.unwrap_or((0, 0));
        let end = self.chunk(chunk).map_or(0, |chunk| {
            let view = chunk.as_view();
            view.skip(view.position(inner), 1)
        });
        Backward { list: self, chunk, end }
    }

    /// The indexes of elements equal to `element`, from one end, looking at `max` elements at most.
    pub fn positions(&self, element: &[u8], from: End, max: usize) -> impl Iterator<Item = usize> {
        let wanted = element.to_vec();
        let forward = (from == End::Front).then(|| self.iter().take(max).enumerate());
        let last = self.len().saturating_sub(1);
        let backward = (from == End::Back).then(|| {
            let back = self.iter_back_from(last).take(max).enumerate();
            back.map(move |(n, text)| (last - n, text))
        });
        let all = forward.into_iter().flatten().chain(backward.into_iter().flatten());
        all.filter(move |(_, text)| text.is(&wanted)).map(|(index, _)| index)
    }

    /// Takes the chunks of the big form out, to be freed one by one.
    pub(super) fn take_chunks(&mut self) -> Option<Chunks> {
        match self.word.form_mut() {
            FormMut::Small(_) => None,
            FormMut::Big(chunks) => Some(std::mem::take(chunks)),
        }
    }

    /// How OBJECT ENCODING calls the form.
    pub fn encoding_name(&self) -> &'static str {
        match self.word.form() {
            Form::Small(_) => "listpack",
            Form::Big(_) => "quicklist",
        }
    }

    /// Bytes held on the heap.
    pub fn memory_usage(&self) -> usize {
        match self.word.form() {
            Form::Small(packed) => packed.memory_usage(),
            Form::Big(chunks) => {
                /// So many chunks are looked at, spread evenly: a walk through all would hold others up.
                const SAMPLE: usize = 16;
                let stride = chunks.chunks.len().div_ceil(SAMPLE).max(1);
                let (mut sampled, mut bytes) = (0, 0);
                for chunk in chunks.chunks.iter().step_by(stride) {
                    sampled += 1;
                    bytes += chunk.memory_usage() + 24;
                }
                let held = (bytes * chunks.chunks.len()).checked_div(sampled).unwrap_or(0);
                held + chunks.chunks.capacity() * size_of::<Arc<Linked>>() + size_of::<Chunks>()
            }
        }
    }

    /// About how many allocations there are to free.
    pub fn deep_len(&self) -> usize {
        self.chunk_count()
    }

    fn chunk_count(&self) -> usize {
        match self.word.form() {
            Form::Small(_) => 1,
            Form::Big(chunks) => chunks.chunks.len(),
        }
    }

    #[inline]
    fn chunk(&self, at: usize) -> Option<&Linked> {
        match self.word.form() {
            Form::Small(packed) => (at == 0).then_some(packed),
            Form::Big(chunks) => chunks.chunks.get(at).map(|chunk| &**chunk),
        }
    }

    fn locate(&self, index: usize) -> Option<(usize, usize)> {
        match self.word.form() {
            Form::Small(packed) => (index < packed.count()).then_some((0, index)),
            Form::Big(chunks) => chunks.locate(index),
        }
    }

    /// The big form, converting if need be.
    fn enlarge(&mut self) -> &mut Chunks {
        self.word.enlarge(|packed| {
            let packed = std::mem::replace(packed, Linked::new());
            let mut chunks = Chunks { len: packed.count(), ..Chunks::default() };
            if chunks.len > 0 {
                chunks.chunks.push_back(Arc::new(packed));
            }
            Box::new(chunks)
        })
    }

    /// Back to the small form once it is a single chunk, at most half full (so that a list at the
    /// border does not turn back and forth).
    fn shrink(&mut self, limits: &Thresholds) {
        let FormMut::Big(chunks) = self.word.form_mut() else { return };
        if chunks.chunks.len() > 1 {
            return;
        }
        let limit = ChunkLimit::of(limits);
        let fits = chunks.chunks.front().is_none_or(|chunk| {
            chunk.end() <= limit.bytes / 2 && chunk.count() <= limit.count.div_ceil(2)
        });
        if fits {
            let packed = chunks.chunks.pop_front().map_or_else(Linked::new, Arc::unwrap_or_clone);
            self.word = OneWord::small(packed);
        }
    }
}

/// Elements towards the back.
#[derive(Clone)]
pub struct Forward<'a> {
    list: &'a List,
    chunk: usize,
    at: usize,
}

impl<'a> Iterator for Forward<'a> {
    type Item = Text<'a>;

    #[inline]
    fn next(&mut self) -> Option<Text<'a>> {
        loop {
            let view = self.list.chunk(self.chunk)?.as_view();
            if let Some((text, next)) = view.next(self.at) {
                self.at = next;
                return Some(text);
            }
            self.chunk += 1;
            self.at = 0;
        }
    }
}

/// Elements towards the front.
#[derive(Clone)]
pub struct Backward<'a> {
    list: &'a List,
    chunk: usize,
    end: usize,
}

impl<'a> Iterator for Backward<'a> {
    type Item = Text<'a>;

    #[inline]
    fn next(&mut self) -> Option<Text<'a>> {
        loop {
            let view = self.list.chunk(self.chunk)?.as_view();
            if let Some(at) = view.before(self.end) {
                self.end = at;
                return view.get(at);
            }
            self.chunk = self.chunk.checked_sub(1)?;
            self.end = self.list.chunk(self.chunk)?.end();
        }
    }
}
