//! DUMP payloads: one value, the version of its form and a checksum. It knows no key.

use larder_store::{Payload, Thresholds, Value};

use super::encode::{Output, kind_of};
use super::input::Input;
use super::write::{WriteError, check_version};
use super::{Error, Reason, Version, decode};
use crate::crc64::Crc64;

/// Version and checksum, at the end.
const FOOTER_BYTES: usize = 10;

/// Why a payload is refused; the words are Redis's.
#[derive(Debug, thiserror::Error)]
pub enum DumpError {
    /// Too short, of a version that we do not read, or not what was dumped.
    #[error("DUMP payload version or checksum are wrong")]
    Footer,
    /// The value contradicts itself; the reason tells the place.
    #[error("Bad data format")]
    Format(#[source] Error),
}

/// A value as DUMP gives it.
///
/// # Errors
/// If the version has no form for it.
pub fn dump(payload: &Payload<'_>, version: Version) -> Result<Vec<u8>, WriteError> {
    check_version(version)?;
    let mut out = Output::new(Vec::new(), false, true);
    out.put(&[kind_of(payload, version)?])?;
    out.value(payload, version)?;
    let mut bytes = out.into_sink()?;
    bytes.extend_from_slice(&version.number().to_le_bytes());
    let checksum = Crc64::of(&bytes);
    bytes.extend_from_slice(&checksum.to_le_bytes());
    Ok(bytes)
}

/// The value in a payload, for RESTORE: fully checked, whatever the checksum says.
///
/// # Errors
/// If the payload is not whole, or contradicts itself.
pub fn restore(payload: &[u8], limits: &Thresholds) -> Result<Value, DumpError> {
    read_payload(payload, limits, true)
}

/// The same, but for the checksum: for tests, which damage payloads.
///
/// # Errors
/// As [`restore`].
pub fn restore_unsummed(payload: &[u8], limits: &Thresholds) -> Result<Value, DumpError> {
    read_payload(payload, limits, false)
}

fn read_payload(payload: &[u8], limits: &Thresholds, judges_sum: bool) -> Result<Value, DumpError> {
    let split = payload.len().checked_sub(FOOTER_BYTES).ok_or(DumpError::Footer)?;
    let (value, footer) = payload.split_at(split);
    let (number, checksum) = footer.split_at(2);
    let (Some(number), Some(checksum)) = (number.first_chunk::<2>(), checksum.first_chunk::<8>())
    else {
        return Err(DumpError::Footer);
    };
    let summed = payload.get(..split + 2).unwrap_or_default();
    let version = Version::from_number(u16::from_le_bytes(*number)).ok_or(DumpError::Footer)?;
    if judges_sum && Crc64::of(summed) != u64::from_le_bytes(*checksum) {
        return Err(DumpError::Footer);
    }
    read_value(value, version, limits).map_err(DumpError::Format)
}

fn read_value(bytes: &[u8], version: Version, limits: &Thresholds) -> Result<Value, Error> {
    let mut input = Input::new(bytes);
    let kind = input.byte()?;
    let value = decode::value(&mut input, kind, version, limits)?;
    if value.as_ref().is_empty() {
        return Err(input.error(Reason::Invalid("an empty collection")));
    }
    if input.offset() != bytes.len() as u64 {
        return Err(input.error(Reason::Invalid("bytes behind the value")));
    }
    Ok(value)
}
