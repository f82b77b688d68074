//! Starts the real program and sends it pipelines whose replies are read late or never. It must never touch a server that it did
//! not start.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test stops where it is surprised"
)]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

mod harness;

use harness::{Folder, Server};

/// Many client libraries send a whole pipeline before they read its first reply. More of it than the kernel holds on its way.
const REQUESTS: usize = 300_000;
const TEXT: &str = "forty bytes that come back as they came.";

#[test]
fn a_long_pipeline_is_served_before_its_replies_are_read() {
    let folder = Folder::new("pipeline");
    let server = Server::in_folder(&folder, &[]);
    let mut stream = TcpStream::connect(("127.0.0.1", server.port)).unwrap();
    stream.set_write_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let request = format!("*2\r\n$4\r\nECHO\r\n${}\r\n{TEXT}\r\n", TEXT.len());
    stream.write_all(request.repeat(REQUESTS).as_bytes()).unwrap();
    let reply = format!("${}\r\n{TEXT}\r\n", TEXT.len());
    let mut replies = vec![0; reply.len() * REQUESTS];
    stream.read_exact(&mut replies).unwrap();
    assert!(replies == reply.repeat(REQUESTS).as_bytes());
}
