//! Where control sockets lie: `$XDG_RUNTIME_DIR/estab/`, else a folder of the user's own under /tmp, mode 0700.

use std::fs::{self, DirBuilder};
use std::io::{self, Error, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

/// The folder for this user's sockets; it may not exist yet.
pub fn dir() -> PathBuf {
    match std::env::var_os("XDG_RUNTIME_DIR") {
        Some(runtime) if Path::new(&runtime).is_absolute() => Path::new(&runtime).join("estab"),
        _ => PathBuf::from(format!("/tmp/estab-{}", rustix::process::geteuid().as_raw())),
    }
}

/// Makes the folder, or checks that the one that is there belongs to this user alone.
pub fn prepare(dir: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(dir) {
        Err(e) if e.kind() == ErrorKind::AlreadyExists => {}
        other => return other,
    }
    let found = fs::symlink_metadata(dir)?;
    let mine = found.is_dir() && found.uid() == rustix::process::geteuid().as_raw() && found.mode() & 0o077 == 0;
    if mine {
        return Ok(());
    }
    let text = format!(
        "{} is not a folder that belongs to you alone (mode 0700): remove it, or set XDG_RUNTIME_DIR",
        dir.display()
    );
    Err(Error::new(ErrorKind::PermissionDenied, text))
}

/// The socket of process `pid` in the part `role`.
pub fn socket(dir: &Path, role: &str, pid: u32) -> PathBuf {
    dir.join(format!("{role}-{pid}.sock"))
}

/// The process a socket's name tells.
pub fn pid_of(socket: &Path) -> Option<u32> {
    socket.file_stem()?.to_str()?.rsplit_once('-')?.1.parse().ok()
}

/// The sockets in `dir`, by name. What a crashed process left behind is among them: its connect is refused.
pub fn list(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(dir) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let mut sockets: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|e| e == "sock"))
        .collect();
    sockets.sort();
    Ok(sockets)
}
