//! A sorted array of distinct integers in a blob, 2, 4 or 8 bytes each: the smallest form of a set. The
//! blob's form is 1, 2 or 3 for the three widths. It knows no threshold.

use super::packed::Blob;

/// The narrowest form that holds a value.
fn form_of(value: i64) -> u32 {
    if i16::try_from(value).is_ok() {
        1
    } else if i32::try_from(value).is_ok() {
        2
    } else {
        3
    }
}

#[inline]
fn width(form: u32) -> usize {
    1 << form
}

#[inline]
fn piece(value: i64, form: u32) -> ([u8; 8], usize) {
    (value.to_le_bytes(), width(form))
}

/// The value with this index; `None` past the end.
#[inline]
pub(super) fn get(blob: &Blob, index: usize) -> Option<i64> {
    let at = index.checked_mul(width(blob.form()))?;
    let rest = blob.bytes().get(at..)?;
    match blob.form() {
        1 => rest.first_chunk::<2>().map(|bytes| i64::from(i16::from_le_bytes(*bytes))),
        2 => rest.first_chunk::<4>().map(|bytes| i64::from(i32::from_le_bytes(*bytes))),
        _ => rest.first_chunk::<8>().map(|bytes| i64::from_le_bytes(*bytes)),
    }
}

/// The index of a value, or where it would belong.
pub(super) fn search(blob: &Blob, value: i64) -> Result<usize, usize> {
    let (mut low, mut high) = (0, blob.count());
    while low < high {
        let middle = low + (high - low) / 2;
        match get(blob, middle) {
            Some(here) if here < value => low = middle + 1,
            Some(here) if here == value => return Ok(middle),
            _ => high = middle,
        }
    }
    Err(low)
}

/// Adds a value; false if it is there.
pub(super) fn insert(blob: &mut Blob, value: i64) -> bool {
    let Err(index) = search(blob, value) else { return false };
    let form = form_of(value).max(blob.form());
    if form != blob.form() && blob.count() > 0 {
        widen(blob, form);
    }
    let count = blob.count() + 1;
    let (bytes, width) = piece(value, form);
    blob.splice(index * width, 0, &[bytes.get(..width).unwrap_or_default()]);
    blob.set_count(count, form);
    true
}

/// Takes a value out; false if it is not there.
pub(super) fn remove(blob: &mut Blob, value: i64) -> bool {
    let Ok(index) = search(blob, value) else { return false };
    let (form, count) = (blob.form(), blob.count());
    blob.splice(index * width(form), width(form), &[]);
    blob.set_count(count - 1, form);
    true
}

fn widen(blob: &mut Blob, form: u32) {
    let mut bytes = Vec::with_capacity((blob.count() + 1) * width(form));
    for value in iter(blob) {
        let (wide, width) = piece(value, form);
        bytes.extend_from_slice(wide.get(..width).unwrap_or_default());
    }
    let count = blob.count();
    let mut fresh = Blob::new();
    fresh.splice(0, 0, &[&bytes]);
    fresh.set_count(count, form);
    *blob = fresh;
}

/// All values, ascending.
pub(super) fn iter(blob: &Blob) -> impl Iterator<Item = i64> + '_ {
    (0..blob.count()).filter_map(|index| get(blob, index))
}
