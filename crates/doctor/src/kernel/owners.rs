//! Which process holds which socket: /proc/PID/fd. Without root only one's own processes can be read.

use serde::{Deserialize, Serialize};
use std::fs;
use std::path::Path;

/// A process and its descriptors.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Process {
    /// Its number.
    pub pid: u32,
    /// Its program: /proc/PID/comm.
    pub name: String,
    /// Open descriptors, sockets or not.
    pub fds: u64,
    /// RLIMIT_NOFILE's soft limit: one more and open, accept and socket fail with EMFILE.
    pub fd_limit: Option<u64>,
}

/// A process that holds a socket, by which descriptor.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Holder {
    process: u32,
    /// The descriptor's number.
    pub fd: u32,
}

/// The processes that hold sockets.
#[derive(Clone, Debug, Default)]
pub struct Owners {
    processes: Vec<Process>,
    /// Sorted by inode.
    holders: Vec<(u64, Holder)>,
    /// Processes whose descriptors may not be read.
    pub hidden: u32,
}

impl Owners {
    /// Reads `proc`, "/proc".
    pub fn read(proc: &Path) -> Owners {
        let mut owners = Owners::default();
        let Ok(entries) = fs::read_dir(proc) else {
            return owners;
        };
        for entry in entries.flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            owners.process(&entry.path(), pid);
        }
        owners.holders.sort_unstable();
        owners
    }

    fn process(&mut self, dir: &Path, pid: u32) {
        let fds = match fs::read_dir(dir.join("fd")) {
            Ok(fds) => fds,
            // Processes end while one looks.
            Err(err) => {
                // The kernel's own threads have no command line, and no sockets.
                let program = fs::read(dir.join("cmdline")).is_ok_and(|line| !line.is_empty());
                self.hidden += u32::from(program && err.kind() == std::io::ErrorKind::PermissionDenied);
                return;
            }
        };
        let index = self.processes.len() as u32;
        let (mut count, before) = (0, self.holders.len());
        for fd in fds.flatten() {
            count += 1;
            let Ok(target) = rustix::fs::readlink(fd.path(), Vec::with_capacity(32)) else {
                continue;
            };
            let inode = target
                .to_bytes()
                .strip_prefix(b"socket:[")
                .and_then(|rest| rest.strip_suffix(b"]"));
            let inode = inode.and_then(|digits| str::from_utf8(digits).ok()?.parse().ok());
            let number = fd.file_name().to_str().and_then(|name| name.parse().ok());
            if let (Some(inode), Some(fd)) = (inode, number) {
                self.holders.push((inode, Holder { process: index, fd }));
            }
        }
        if self.holders.len() > before {
            self.processes.push(Process {
                pid,
                name: fs::read_to_string(dir.join("comm"))
                    .unwrap_or_default()
                    .trim()
                    .to_owned(),
                fds: count,
                fd_limit: limit(&fs::read_to_string(dir.join("limits")).unwrap_or_default()),
            });
        }
    }

    /// Who holds the socket with this inode: several processes after a fork.
    pub fn of(&self, inode: u64) -> impl Iterator<Item = (&Process, u32)> {
        let start = match inode {
            0 => self.holders.len(),
            _ => self.holders.partition_point(|(at, _)| *at < inode),
        };
        self.holders[start..]
            .iter()
            .take_while(move |(at, _)| *at == inode)
            .filter_map(|(_, holder)| Some((self.processes.get(holder.process as usize)?, holder.fd)))
    }

    /// Every process that holds a socket of any kind.
    pub fn processes(&self) -> &[Process] {
        &self.processes
    }
}

/// The soft limit of open files; `None` if there is none.
fn limit(limits: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}
