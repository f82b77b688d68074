//! `cargo xtask cities`: examples/cities run for a bounded time on a server of its own. It knows nothing of what the
//! application does: it makes its Python, starts the server and stops it.

use std::process::Command;

use anyhow::{Context, Result};

use crate::foreign;
use crate::process::Server;

/// Runs it; what is neither `--subject` nor `--peer` goes to the application.
pub fn run(args: &[String]) -> Result<()> {
    let (mut servers, mut more) =
        (vec![("Larder".to_owned(), foreign::subject(args)?)], Vec::new());
    let mut words = args.iter();
    while let Some(word) = words.next() {
        match word.as_str() {
            "--subject" => {
                words.next();
            }
            "--peer" => {
                let peer = words.next().context("--peer wants a program")?;
                servers.push((peer.clone(), peer.clone()));
            }
            other => more.push(other.to_owned()),
        }
    }
    let folder = foreign::root().join("examples/cities");
    let python = foreign::python("cities", &folder.join("requirements.txt"))?;
    for (name, program) in servers {
        let server = Server::start(&program)?;
        let mut application = Command::new(&python);
        application.arg(folder.join("cities.py")).args(["--name", &name, "--port"]);
        application.arg(server.port.to_string()).arg("--database");
        application.arg(foreign::root().join("target/cities/cities.sqlite")).args(&more);
        foreign::run(&mut application)?;
    }
    Ok(())
}
