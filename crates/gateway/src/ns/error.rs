//! Why a command could not be launched: one line each, with the cause and the way out.

use std::ffi::OsStr;
use std::io;

/// Why a command could not be launched.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LaunchError {
    /// The configuration can't work.
    #[error("{0}")]
    Config(String),
    /// `fork` needs a process with one thread.
    #[error("the guest must be launched before any thread is started")]
    Threads,
    /// The kernel or its configuration forbids new user namespaces.
    #[error("{0}")]
    UserNamespace(String),
    /// /dev/net/tun is missing, unreadable or without its driver.
    #[error("{0}")]
    Tun(String),
    /// The command is in no folder of PATH, or does not exist: exit status 127.
    #[error("{0}: command not found")]
    NotFound(String),
    /// The command is there and can't be executed: exit status 126.
    #[error("{command}: cannot be executed: {cause}")]
    NotExecutable {
        /// The command as given.
        command: String,
        /// What `execve` said.
        cause: io::Error,
    },
    /// A step of the set-up failed in a way not foreseen.
    #[error("cannot {step}: {cause}")]
    Step {
        /// What was tried, to follow "cannot".
        step: String,
        /// What the kernel said.
        cause: io::Error,
    },
}

impl LaunchError {
    /// The exit status a shell would give: 127 for a command not found, 126 for one not executable, else 125, as
    /// `env` and `timeout` do for failures of their own.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::NotFound(_) => 127,
            Self::NotExecutable { .. } => 126,
            _ => 125,
        }
    }

    pub(crate) fn step(step: impl Into<String>, cause: impl Into<io::Error>) -> Self {
        Self::Step {
            step: step.into(),
            cause: cause.into(),
        }
    }
}

/// Reads a sysctl, given with slashes.
pub(super) fn sysctl(key: &str) -> Option<String> {
    Some(
        std::fs::read_to_string(format!("/proc/sys/{key}"))
            .ok()?
            .trim()
            .to_owned(),
    )
}

type Read<'a> = &'a dyn Fn(&str) -> Option<String>;

fn is(read: Read<'_>, key: &str, value: &str) -> bool {
    read(key).is_some_and(|found| found == value)
}

const APPARMOR: &str = "kernel/apparmor_restrict_unprivileged_userns";

/// Why `unshare` gave `cause` (unshare(2), user_namespaces(7)); `read` reads a sysctl.
pub(super) fn user_namespace(cause: &io::Error, read: Read<'_>) -> LaunchError {
    let forbids = |key: &str, value: &str, way_out: &str| {
        let name = key.replace('/', ".");
        let by_root = if key.contains("user") {
            ", or run estab as root"
        } else {
            ""
        };
        format!("{name} = {value} forbids new namespaces: as root, `sysctl -w {name}={way_out}`{by_root}")
    };
    let text = if is(read, "kernel/unprivileged_userns_clone", "0") {
        forbids("kernel/unprivileged_userns_clone", "0", "1")
    } else if let Some(key) = ["user", "net", "mnt"]
        .map(|kind| format!("user/max_{kind}_namespaces"))
        .into_iter()
        .find(|key| is(read, key, "0"))
    {
        forbids(&key, "0", "10000")
    } else if is(read, APPARMOR, "1") && cause.kind() == io::ErrorKind::PermissionDenied {
        forbids(APPARMOR, "1", "0")
    } else {
        match cause.raw_os_error() {
            Some(libc::ENOSPC) => "too many namespaces: user.max_user_namespaces, user.max_net_namespaces or \
                                   user.max_mnt_namespaces is reached; raise it, or end what holds them"
                .into(),
            Some(libc::EUSERS) => "user namespaces are nested too deeply (32 levels)".into(),
            Some(libc::EINVAL | libc::ENOSYS) => {
                "this kernel has no user or network namespaces (CONFIG_USER_NS, CONFIG_NET_NS)".into()
            }
            Some(libc::EPERM) => "new namespaces are not permitted here: in a container its seccomp profile forbids \
                                  them (try `--security-opt seccomp=unconfined`), in a chroot the kernel does"
                .into(),
            _ => format!("cannot make new namespaces: {cause}"),
        }
    };
    LaunchError::UserNamespace(text)
}

/// Why the TUN did not open.
pub(super) fn tun(cause: io::Error, read: Read<'_>) -> LaunchError {
    const NODE: &str = "/dev/net/tun";
    let text = match cause.raw_os_error() {
        Some(libc::ENOENT) => {
            format!(
                "{NODE} is missing: as root, `modprobe tun`; in a container, give it the device (`--device {NODE}`)"
            )
        }
        Some(libc::ENODEV | libc::ENXIO) => format!("{NODE} has no driver behind it: as root, `modprobe tun`"),
        Some(libc::EACCES) => {
            use std::os::unix::fs::MetadataExt;
            let mode = std::fs::metadata(NODE).map(|meta| format!(" (mode {:04o})", meta.mode() & 0o7777));
            format!(
                "{NODE} may not be opened by this user{}: as root, `chmod 0666 {NODE}`",
                mode.unwrap_or_default()
            )
        }
        Some(libc::EPERM) if is(read, APPARMOR, "1") => return set_up("make a TUN".into(), cause, read),
        Some(libc::EPERM) => format!("{NODE} is not permitted here: allow the device (cgroup, container) for estab"),
        _ => format!("cannot make a TUN from {NODE}: {cause}"),
    };
    LaunchError::Tun(text)
}

/// Why a later step failed. Under AppArmor's restriction the namespace is there, without capabilities.
pub(super) fn set_up(step: String, cause: io::Error, read: Read<'_>) -> LaunchError {
    if cause.kind() == io::ErrorKind::PermissionDenied && is(read, APPARMOR, "1") {
        return user_namespace(&cause, read);
    }
    LaunchError::step(step, cause)
}

/// Why `execvp` failed.
pub(super) fn exec(command: &OsStr, cause: io::Error) -> LaunchError {
    let name = command.to_string_lossy().into_owned();
    let is_path = command.as_encoded_bytes().contains(&b'/');
    match cause.raw_os_error() {
        // A script that is there, whose interpreter is not.
        Some(libc::ENOENT) if is_path && std::path::Path::new(command).exists() => {
            let cause = io::Error::new(io::ErrorKind::NotFound, "its interpreter or loader is missing");
            LaunchError::NotExecutable { command: name, cause }
        }
        Some(libc::ENOENT | libc::ENOTDIR) => LaunchError::NotFound(name),
        // What execvp says when a folder of PATH is closed to us, too, though the command is in none.
        Some(libc::EACCES) if !is_path && !in_path(command) => LaunchError::NotFound(name),
        _ => LaunchError::NotExecutable { command: name, cause },
    }
}

fn in_path(name: &OsStr) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(name).is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn forbidden(errno: i32, set: &[(&str, &str)]) -> String {
        let read = |key: &str| {
            set.iter()
                .find(|(name, _)| *name == key)
                .map(|(_, value)| (*value).to_owned())
        };
        user_namespace(&io::Error::from_raw_os_error(errno), &read).to_string()
    }

    #[test]
    fn what_forbids_namespaces_is_named() {
        let clone = forbidden(libc::EPERM, &[("kernel/unprivileged_userns_clone", "0")]);
        assert!(clone.starts_with("kernel.unprivileged_userns_clone = 0 "), "{clone}");
        let apparmor = forbidden(
            libc::EACCES,
            &[(APPARMOR, "1"), ("kernel/unprivileged_userns_clone", "1")],
        );
        assert!(
            apparmor.starts_with("kernel.apparmor_restrict_unprivileged_userns = 1 "),
            "{apparmor}"
        );
        let max = forbidden(
            libc::ENOSPC,
            &[("user/max_user_namespaces", "100"), ("user/max_net_namespaces", "0")],
        );
        assert!(max.starts_with("user.max_net_namespaces = 0 "), "{max}");
        assert!(forbidden(libc::ENOSPC, &[]).contains("too many namespaces"));
        assert!(forbidden(libc::EPERM, &[]).contains("seccomp"));
        assert!(forbidden(libc::EINVAL, &[]).contains("CONFIG_USER_NS"));
    }

    #[test]
    fn under_apparmor_a_later_refusal_has_the_same_cause() {
        let read = |key: &str| (key == APPARMOR).then(|| "1".to_owned());
        let refused = set_up("bring it up".into(), io::Error::from_raw_os_error(libc::EPERM), &read);
        assert!(refused.to_string().contains("apparmor"), "{refused}");
        let other = set_up("bring it up".into(), io::Error::from_raw_os_error(libc::EBUSY), &read);
        assert!(other.to_string().starts_with("cannot bring it up: "), "{other}");
    }
}
