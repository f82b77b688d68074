//! A file system of its own for a server under test, whose power can be cut: an ext4 in a file, mounted through a loop
//! device. A cut throws away what was not forced to disk, the journal's open transaction included, and refuses
//! everything from then on, as a machine does that loses its power. Needs root and a kernel that lets it.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, ensure};

/// See the head of this file.
pub struct Volume {
    image: PathBuf,
    folder: PathBuf,
}

/// Stops the file system at once, without writing its journal (EXT4_IOC_SHUTDOWN with "no log flush").
const CUT: &str = "import fcntl, os, struct, sys\n\
    folder = os.open(sys.argv[1], os.O_RDONLY)\n\
    os.write(1, b'!')\n\
    os.read(0, 1)\n\
    fcntl.ioctl(folder, 0x8004587D, struct.pack('I', 2))\n";

impl Volume {
    /// A fresh one of this many MiB.
    pub fn create(megabytes: u64) -> Result<Volume> {
        let name = format!("larder-volume-{}", std::process::id());
        let image = std::env::temp_dir().join(format!("{name}.img"));
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&folder)?;
        std::fs::File::create(&image)?.set_len(megabytes << 20)?;
        let volume = Volume { image, folder };
        tool("mkfs.ext4", &["-q", "-F", text(&volume.image)?])?;
        volume.mount()?;
        Ok(volume)
    }

    /// Where it is mounted.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Cuts the power; returns a moment right before. What a server says later need not be true: an fsync that is under
    /// way in the moment of the cut may succeed without effect, and a machine without power would not tell anybody.
    pub fn cut(&self) -> Result<Instant> {
        let mut child = Command::new("python3")
            .args(["-c", CUT, text(&self.folder)?])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("python3 does not start")?;
        let (mut answer, mut ready) = ([0], false);
        if let Some(out) = &mut child.stdout {
            ready = out.read_exact(&mut answer).is_ok();
        }
        let moment = Instant::now();
        drop(child.stdin.take());
        let done = child.wait()?;
        ensure!(ready && done.success(), "the file system could not be stopped");
        Ok(moment)
    }

    /// Turns the power on again; nobody may have files open in it.
    pub fn revive(&self) -> Result<()> {
        tool("umount", &[text(&self.folder)?])?;
        self.mount()
    }

    fn mount(&self) -> Result<()> {
        tool("mount", &["-o", "loop", text(&self.image)?, text(&self.folder)?])
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        // Whatever is left of it is in the folder for temporary files.
        let _ = Command::new("umount").arg(&self.folder).stderr(Stdio::null()).status();
        let _ = std::fs::remove_file(&self.image);
        let _ = std::fs::remove_dir(&self.folder);
    }
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().context("a folder's name")
}

fn tool(program: &str, args: &[&str]) -> Result<()> {
    let output = Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("{program} does not start"))?;
    ensure!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}
