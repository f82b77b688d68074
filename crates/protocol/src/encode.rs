//! Requests to bytes, for tests, tools and clients. Knows nothing of what a command means.

use larder_base::number;

/// Appends the request made of `args` as a multibulk, the form that every Redis server reads.
pub fn encode_command(out: &mut Vec<u8>, args: &[impl AsRef<[u8]>]) {
    // Room once, not bit by bit: this stands on the way of every write that is recorded.
    out.reserve(args.iter().map(|arg| arg.as_ref().len() + HEAD_BYTES).sum::<usize>() + HEAD_BYTES);
    header(out, b'*', args.len());
    for arg in args {
        let arg = arg.as_ref();
        header(out, b'$', arg.len());
        out.extend_from_slice(arg);
        out.extend_from_slice(b"\r\n");
    }
}

/// About what an argument takes besides its own bytes.
const HEAD_BYTES: usize = 10;

/// Appends a type byte, a length and the end of the line.
fn header(out: &mut Vec<u8>, kind: u8, len: usize) {
    match u8::try_from(len) {
        Ok(digit @ ..10) => out.extend_from_slice(&[kind, b'0' + digit, b'\r', b'\n']),
        Ok(two @ 10..100) => {
            out.extend_from_slice(&[kind, b'0' + two / 10, b'0' + two % 10, b'\r', b'\n']);
        }
        _ => {
            out.push(kind);
            number::write_u64(out, len as u64);
            out.extend_from_slice(b"\r\n");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_a_multibulk() {
        let mut out = Vec::new();
        encode_command(&mut out, &["SET", "k", ""]);
        assert_eq!(out, b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$0\r\n\r\n");
        for len in [9, 10, 57, 99, 100, 255, 256, 4000] {
            let (mut out, text) = (Vec::new(), "x".repeat(len));
            encode_command(&mut out, &[&text]);
            assert_eq!(out, format!("*1\r\n${len}\r\n{text}\r\n").as_bytes());
        }
    }
}
