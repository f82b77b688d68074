//! Tests of the request parser; error texts are those of redis-server 7.0.15.

use super::*;

const OPEN: RequestLimits = RequestLimits {
    max_bulk: limits::BULK_BYTES_MAX_DEFAULT,
    max_args: limits::REQUEST_ARGS_MAX,
    max_inline: limits::INLINE_BYTES_MAX,
    auth_required: false,
};

type Request = Vec<Vec<u8>>;

/// Feeds `pieces` to one parser: the requests found, and the error that ended it if one did.
fn feed<'p>(
    pieces: impl IntoIterator<Item = &'p [u8]>,
    limits: &RequestLimits,
) -> (Vec<Request>, Option<ProtocolError>) {
    let mut parser = RequestParser::default();
    let (mut buf, mut args, mut requests) = (Vec::new(), Vec::new(), Vec::new());
    for piece in pieces {
        buf.extend_from_slice(piece);
        loop {
            let (consumed, source) = match parser.next(&buf, limits, &mut args) {
                Err(error) => return (requests, Some(error)),
                Ok(Step::Incomplete { wanted }) => {
                    assert!(wanted > 0 && wanted <= limits.max_bulk + 2);
                    assert!(args.is_empty());
                    break;
                }
                Ok(Step::Request { consumed }) => (consumed, buf.as_slice()),
                Ok(Step::Inline { consumed }) => (consumed, parser.inline_text()),
            };
            if !args.is_empty() {
                requests.push(args.iter().map(|arg| arg.of(source).to_vec()).collect());
            }
            buf.drain(..consumed);
        }
    }
    (requests, None)
}

fn one(bytes: &[u8]) -> Vec<Request> {
    let (requests, error) = feed([bytes], &OPEN);
    assert_eq!(error, None);
    requests
}

fn error_of(bytes: &[u8], limits: &RequestLimits) -> String {
    let whole = feed([bytes], limits);
    let split = feed(bytes.chunks(1), limits);
    assert_eq!(whole, split);
    whole.1.unwrap_or_else(|| panic!("no error: {}", bytes.escape_ascii())).to_string()
}

#[test]
fn whole_requests() {
    assert_eq!(
        one(b"*2\r\n$3\r\nGET\r\n$16\r\n0123456789abcdef\r\n"),
        [[b"GET".to_vec(), b"0123456789abcdef".to_vec()]]
    );
    let pipeline = b"*1\r\n$4\r\nPING\r\n\r\n*0\r\n*-1\r\nget a\n*1\r\n$0\r\n\r\n";
    assert_eq!(
        one(pipeline),
        [vec![b"PING".to_vec()], vec![b"get".to_vec(), b"a".to_vec()], vec![vec![]]]
    );
    let long = [b"*1\r\n$1234567\r\n".to_vec(), vec![b'x'; 1_234_567], b"\r\n".to_vec()].concat();
    assert_eq!(one(&long), [[vec![b'x'; 1_234_567]]]);
}

#[test]
fn as_lenient_as_redis() {
    // What stands behind a length or an argument is skipped unread.
    assert_eq!(one(b"*1\rX$4\rYPINGZZ"), [[b"PING".to_vec()]]);
    assert_eq!(one(b"ping\n"), [[b"ping".to_vec()]]);
    assert_eq!(one(b"ping\r\r\n"), [[b"ping".to_vec()]]);
}

#[test]
fn errors_in_the_words_of_redis() {
    let text = |tail: &str| format!("ERR Protocol error: {tail}");
    for (bytes, tail) in [
        (&b"*a\r\n"[..], "invalid multibulk length"),
        (b"*\r\n", "invalid multibulk length"),
        (b"* 1\r\n", "invalid multibulk length"),
        (b"*01\r\n", "invalid multibulk length"),
        (b"*+1\r\n", "invalid multibulk length"),
        (b"*-0\r\n", "invalid multibulk length"),
        (b"*3000000000\r\n", "invalid multibulk length"),
        (b"*1048577\r\n", "invalid multibulk length"),
        (b"*99999999999999999999999\r\n", "invalid multibulk length"),
        (b"*1\r\n$a\r\n", "invalid bulk length"),
        (b"*1\r\n$-1\r\n", "invalid bulk length"),
        (b"*1\r\n$\r\n", "invalid bulk length"),
        (b"*1\r\n$02\r\n", "invalid bulk length"),
        (b"*1\r\n$536870913\r\n", "invalid bulk length"),
        (b"*1\r\n$2000000000000\r\n", "invalid bulk length"),
        (b"*3\r\n$3\r\nSET\r\n$1\r\nx\r\nfooz\r\n", "expected '$', got 'f'"),
        (b"*1\r\n\r\n", "expected '$', got '\r'"),
        (b"*1\r\n*1\r\n", "expected '$', got '*'"),
        (b"set \"a\r\n", "unbalanced quotes in request"),
        (b"set 'a'b c\r\n", "unbalanced quotes in request"),
    ] {
        assert_eq!(error_of(bytes, &OPEN), text(tail), "{}", bytes.escape_ascii());
    }
}

#[test]
fn lines_without_end_are_bounded() {
    for (head, tail) in [
        (&b"a"[..], "too big inline request"),
        (b"*", "too big mbulk count string"),
        (b"*1\r\n$", "too big bulk count string"),
        (b"\0", "too big inline request"),
        (b"*\0", "too big mbulk count string"),
        (b"$\0", "too big inline request"),
        // A NUL hides the end of the line.
        (b"get\0\r\n", "too big inline request"),
        (b"*1\0\r\n", "too big mbulk count string"),
        (b"*1\r\n$1\0\r\n", "too big bulk count string"),
    ] {
        let bytes = [head, &vec![b'1'; limits::INLINE_BYTES_MAX]].concat();
        let expected = format!("ERR Protocol error: {tail}");
        assert_eq!(error_of(&bytes, &OPEN), expected, "{}", head.escape_ascii());
        // With nearly as many bytes there is still hope.
        let (requests, error) = feed([&bytes[..limits::INLINE_BYTES_MAX]], &OPEN);
        assert_eq!((requests.len(), error), (0, None));
    }
}

#[test]
fn before_authentication_little_is_allowed() {
    let closed = RequestLimits { auth_required: true, ..OPEN };
    assert_eq!(
        error_of(b"*11\r\n", &closed),
        "ERR Protocol error: unauthenticated multibulk length"
    );
    assert_eq!(
        error_of(b"*1\r\n$16385\r\n", &closed),
        "ERR Protocol error: unauthenticated bulk length"
    );
    let allowed = [b"*1\r\n$16384\r\n".to_vec(), vec![b'x'; 16_384], b"\r\n".to_vec()].concat();
    assert_eq!(feed([allowed.as_slice()], &closed).0.len(), 1);
    assert_eq!(feed([&b"*10\r\n"[..]], &closed).1, None);
}

#[test]
fn progress_is_kept_and_not_repeated() {
    let mut parser = RequestParser::default();
    let mut args = Vec::new();
    let step = parser.next(b"*2\r\n$3\r\nSET\r\n$100000\r\nab", &OPEN, &mut args);
    assert_eq!(step, Ok(Step::Incomplete { wanted: 100_000 }));
    assert!(parser.is_mid_request());
    // A resumed parse does not look at what it has understood: only the length counts.
    let mut buf = vec![b'?'; 22 + 100_002];
    buf[22..].fill(b'v');
    let step = parser.next(&buf, &OPEN, &mut args);
    assert_eq!(step, Ok(Step::Request { consumed: buf.len() }));
    assert_eq!(args, [ArgRange { start: 8, end: 11 }, ArgRange { start: 22, end: 100_022 }]);
    assert!(!parser.is_mid_request());
}

#[test]
fn a_line_cut_at_its_end_leaves_nothing_behind() {
    let pieces = [&b"*0\r"[..], b"\n\n", b"*1\r", b"\n$4\r", b"\nPING\r", b"\n\n*0\r\n"];
    assert_eq!(feed(pieces, &OPEN), (vec![vec![b"PING".to_vec()]], None));
}

#[test]
fn a_declared_length_reserves_nothing() {
    let mut parser = RequestParser::default();
    let mut args = Vec::new();
    let step = parser.next(b"*1048576\r\n$536870912\r\n", &OPEN, &mut args);
    assert_eq!(step, Ok(Step::Incomplete { wanted: 536_870_914 }));
    assert!(args.capacity() < 100 && parser.memory() < 1000);
}

mod properties {
    use super::*;
    use crate::encode_command;
    use proptest::prelude::*;

    /// Bytes of many requests, good and odd, in a row.
    fn stream() -> impl Strategy<Value = Vec<u8>> {
        let word = proptest::collection::vec(any::<u8>(), 0..40);
        let multibulk = proptest::collection::vec(word, 0..6).prop_map(|args| {
            let mut out = Vec::new();
            encode_command(&mut out, &args);
            out
        });
        let line = "[ -~]{0,20}\r?\n".prop_map(String::into_bytes);
        let noise = proptest::collection::vec(
            prop_oneof![
                Just(b'*'),
                Just(b'$'),
                Just(b'\r'),
                Just(b'\n'),
                0x2f..0x34u8,
                any::<u8>()
            ],
            0..8,
        );
        let part = prop_oneof![6 => multibulk, 2 => line, 1 => noise];
        proptest::collection::vec(part, 0..6).prop_map(|parts| parts.concat())
    }

    proptest! {
        #[test]
        fn any_split_gives_the_same_requests(
            bytes in stream(),
            cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..6),
            auth_required in any::<bool>(),
        ) {
            let limits = RequestLimits { max_inline: 64, max_args: 12, max_bulk: 30, auth_required };
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let pieces = cuts.windows(2).map(|pair| &bytes[pair[0]..pair[1]]);
            let whole = feed([bytes.as_slice()], &limits);
            prop_assert_eq!(&whole, &feed(pieces, &limits));
            prop_assert_eq!(&whole, &feed(bytes.chunks(1), &limits));
        }

        #[test]
        fn what_was_encoded_is_found(
            commands in proptest::collection::vec(
                proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..200), 1..8), 0..8)
        ) {
            let mut bytes = Vec::new();
            for command in &commands {
                encode_command(&mut bytes, command);
            }
            prop_assert_eq!(one(&bytes), commands);
        }
    }
}
