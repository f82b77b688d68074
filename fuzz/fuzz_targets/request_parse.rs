//! Requests from hostile bytes: however the bytes are split, the same requests and the same error
//! come out, places stay inside of the buffer, and little memory is held.
#![no_main]

use larder_protocol::{ProtocolError, RequestLimits, RequestParser, Step};
use libfuzzer_sys::fuzz_target;

type Outcome = (Vec<Vec<Vec<u8>>>, Option<ProtocolError>);

fn feed<'p>(pieces: impl Iterator<Item = &'p [u8]>, limits: &RequestLimits) -> Outcome {
    let mut parser = RequestParser::default();
    let (mut buf, mut args, mut requests) = (Vec::new(), Vec::new(), Vec::new());
    for piece in pieces {
        buf.extend_from_slice(piece);
        loop {
            let (consumed, source) = match parser.next(&buf, limits, &mut args) {
                Err(error) => return (requests, Some(error)),
                Ok(Step::Incomplete { wanted }) => {
                    assert!(wanted > 0 && wanted <= limits.max_bulk + 2);
                    break;
                }
                Ok(Step::Request { consumed }) => (consumed, buf.as_slice()),
                Ok(Step::Inline { consumed }) => (consumed, parser.inline_text()),
            };
            assert!(consumed > 0 && consumed <= buf.len());
            assert!(args.iter().all(|arg| arg.start <= arg.end && arg.end <= source.len()));
            requests.push(args.iter().map(|arg| arg.of(source).to_vec()).collect());
            buf.drain(..consumed);
        }
        assert!(parser.memory() <= 4096 + 64 * buf.len().max(1024));
    }
    (requests, None)
}

fuzz_target!(|input: (bool, u8, Vec<u8>)| {
    let (auth_required, step, bytes) = input;
    let limits = RequestLimits { max_inline: 256, max_args: 64, max_bulk: 4096, auth_required };
    let whole = feed(std::iter::once(bytes.as_slice()), &limits);
    assert_eq!(whole, feed(bytes.chunks(usize::from(step) + 1), &limits));
    assert_eq!(whole, feed(bytes.chunks(1), &limits));
});
