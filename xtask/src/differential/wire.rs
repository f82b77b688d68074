//! A connection that hands out replies as raw bytes, so that equal ones need not be understood. It knows
//! nothing of commands.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::ops::Range;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::process::Server;

/// A connection.
pub struct Wire {
    stream: TcpStream,
    received: Vec<u8>,
    /// Bytes of `received` already handed out.
    taken: usize,
    port: u16,
}

impl Wire {
    /// Connects to a server.
    pub fn open(server: &Server, wait: Duration) -> Result<Wire> {
        let stream = TcpStream::connect(("127.0.0.1", server.port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(wait))?;
        Ok(Wire { stream, received: Vec::new(), taken: 0, port: server.port })
    }

    /// Forgets the replies handed out so far; their ranges mean nothing any more.
    pub fn forget(&mut self) {
        self.received.drain(..self.taken);
        self.taken = 0;
    }

    /// Sends requests.
    pub fn send(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(self.stream.write_all(bytes)?)
    }

    /// Where the next reply or push stands; `None` if the server closed the connection.
    pub fn next(&mut self) -> Result<Option<Range<usize>>> {
        loop {
            if let Some(end) = frame_end(&self.received, self.taken)? {
                let range = self.taken..end;
                self.taken = end;
                return Ok(Some(range));
            }
            let mut buffer = [0; 65_536];
            match self.stream.read(&mut buffer) {
                Ok(0) => return Ok(None),
                Ok(count) => self.received.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return Ok(None),
                // This process was held up and goes on.
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error).context("no reply in time"),
            }
        }
    }

    /// The next reply or push; an error if there will be none.
    pub fn frame(&mut self) -> Result<Range<usize>> {
        self.next()?.with_context(|| format!("port {} closed the connection", self.port))
    }

    /// The bytes of a reply handed out.
    pub fn bytes(&self, range: &Range<usize>) -> &[u8] {
        &self.received[range.clone()]
    }
}

/// Where the reply that begins at `from` ends, if it is whole.
pub fn frame_end(buf: &[u8], from: usize) -> Result<Option<usize>> {
    let (mut at, mut pending) = (from, 1_usize);
    while pending > 0 {
        let rest = buf.get(at..).unwrap_or(&[]);
        let Some(len) = rest.iter().position(|byte| *byte == b'\n') else { return Ok(None) };
        pending -= 1;
        let number = |head: &[u8]| -> Result<i64> {
            let text = std::str::from_utf8(&head[1..len - 1])?;
            text.parse().with_context(|| format!("not RESP: {}", head[..len].escape_ascii()))
        };
        at += len + 1;
        match rest[0] {
            b'+' | b'-' | b':' | b',' | b'(' | b'#' | b'_' => {}
            b'$' | b'=' | b'!' => {
                if let Ok(bytes) = usize::try_from(number(rest)?) {
                    at += bytes + 2;
                }
            }
            b'*' | b'~' | b'>' => pending += usize::try_from(number(rest)?).unwrap_or(0),
            b'%' => pending += 2 * usize::try_from(number(rest)?).unwrap_or(0),
            b'|' => pending += 1 + 2 * usize::try_from(number(rest)?).unwrap_or(0),
            _ => bail!("not RESP: {}", rest[..len].escape_ascii()),
        }
    }
    Ok((at <= buf.len()).then_some(at))
}

/// Whether a frame is a message that belongs to no command: a push, or a message in RESP2.
pub fn is_message(frame: &[u8]) -> bool {
    const MESSAGES: &[&[u8]] = &[
        b">3\r\n$7\r\nmessage\r\n",
        b">4\r\n$8\r\npmessage\r\n",
        b">3\r\n$8\r\nsmessage\r\n",
        b">2\r\n$10\r\ninvalidate\r\n",
    ];
    matches!(frame.first(), Some(b'*' | b'>'))
        && MESSAGES.iter().any(|start| frame.get(1..).is_some_and(|f| f.starts_with(&start[1..])))
}

/// Whether a message came by a pattern. One client's patterns are met in any order.
pub fn is_by_pattern(frame: &[u8]) -> bool {
    frame.get(1..).is_some_and(|frame| frame.starts_with(b"4\r\n$8\r\npmessage\r\n"))
}

/// The elements of an array's frame.
pub fn elements(frame: &[u8]) -> Result<Vec<Range<usize>>> {
    let mut parts = Vec::new();
    if frame.first() != Some(&b'*') {
        return Ok(parts);
    }
    let Some(head) = frame.iter().position(|byte| *byte == b'\n') else { return Ok(parts) };
    let mut at = head + 1;
    while at < frame.len() {
        let end = frame_end(frame, at)?.context("an array that is cut")?;
        parts.push(at..end);
        at = end;
    }
    Ok(parts)
}
