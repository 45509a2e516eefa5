//! The child's side of a launch: it makes the namespaces, sets up the guest's network and becomes the command.

use std::ffi::{OsStr, OsString};
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::process::Command;

use estab_device::{Layer, Tun, TunConfig};
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags};
use rustix::process::{Pid, Signal};
use rustix::thread::UnshareFlags;

use super::guest::{MAX_QUEUES, REPORT_MAX, restore_signals};
use super::{LaunchConfig, LaunchError, error, mounts, netlink};

/// What the parent tells the child.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Reply {
    /// The id maps are written.
    Mapped = 1,
    /// Become the command.
    Go = 2,
}

/// What the child tells the parent.
pub(super) enum Report {
    /// The namespaces are there; the user namespace, if there is one, wants id maps.
    Unshared { user: bool },
    /// The guest is ready, with these warnings; the TUN's queues come along.
    Ready(Vec<String>),
    /// It can't be done.
    Failed(Failure),
}

/// Where and how a step failed.
pub(super) struct Failure {
    stage: Stage,
    errno: i32,
    step: String,
}

/// What was being done, as far as it changes the explanation.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Unshare = b'u' as isize,
    Tun = b't' as isize,
    SetUp = b's' as isize,
    Exec = b'x' as isize,
}

impl Report {
    fn encode(&self) -> Vec<u8> {
        match self {
            Self::Unshared { user } => vec![b'U', u8::from(*user)],
            Self::Ready(warnings) => {
                let mut bytes = vec![b'R'];
                bytes.extend_from_slice(warnings.join("\n").as_bytes());
                bytes.truncate(REPORT_MAX);
                bytes
            }
            Self::Failed(failure) => {
                let mut bytes = vec![b'F', failure.stage as u8];
                bytes.extend_from_slice(&failure.errno.to_ne_bytes());
                bytes.extend_from_slice(failure.step.as_bytes());
                bytes.truncate(REPORT_MAX);
                bytes
            }
        }
    }

    /// `None` for no bytes: the child closed its socket.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let (kind, rest) = bytes.split_first()?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Some(match (kind, rest) {
            (b'U', user) => Self::Unshared { user: user == [1] },
            (b'R', rest) => Self::Ready(text(rest).lines().map(str::to_owned).collect()),
            (_, [stage, a, b, c, d, step @ ..]) => {
                let stage = match stage {
                    b'u' => Stage::Unshare,
                    b't' => Stage::Tun,
                    b'x' => Stage::Exec,
                    _ => Stage::SetUp,
                };
                Self::Failed(Failure {
                    stage,
                    errno: i32::from_ne_bytes([*a, *b, *c, *d]),
                    step: text(step),
                })
            }
            _ => return None,
        })
    }
}

impl Failure {
    /// The failure for people.
    pub(super) fn explain(self, command: &OsStr) -> LaunchError {
        let cause = io::Error::from_raw_os_error(self.errno);
        match self.stage {
            Stage::Unshare => error::user_namespace(&cause, &error::sysctl),
            Stage::Tun => error::tun(cause, &error::sysctl),
            Stage::SetUp => error::set_up(self.step, cause, &error::sysctl),
            Stage::Exec => error::exec(command, cause),
        }
    }
}

fn failed(stage: Stage, step: &str, cause: &io::Error) -> Failure {
    Failure {
        stage,
        errno: cause.raw_os_error().unwrap_or(libc::EIO),
        step: step.into(),
    }
}

/// The whole life of the child: ends as the command, or ends.
pub(super) fn main(
    config: &LaunchConfig,
    command: &[OsString],
    control: OwnedFd,
    parent: Pid,
    signals: &libc::sigset_t,
) -> ! {
    // A panic must not unwind into the caller's code, which goes on in the parent.
    let _ = std::panic::catch_unwind(AssertUnwindSafe(|| {
        if let Err(failure) = live(config, command, &control, parent, signals) {
            let _ = send(&control, &Report::Failed(failure), &[]);
        }
    }));
    // SAFETY: _exit ends this process; what the parent has buffered or registered at exit stays the parent's.
    unsafe { libc::_exit(127) }
}

fn live(
    config: &LaunchConfig,
    command: &[OsString],
    control: &OwnedFd,
    parent: Pid,
    signals: &libc::sigset_t,
) -> Result<(), Failure> {
    let told = |cause: io::Error| failed(Stage::SetUp, "talk to the parent", &cause);
    let user = unshare().map_err(|err| failed(Stage::Unshare, "", &err))?;
    send(control, &Report::Unshared { user }, &[]).map_err(told)?;
    if receive(control).map_err(told)? != Some(Reply::Mapped as u8) {
        return Ok(());
    }
    let mut warnings = Vec::new();
    let tuns = set_up(config, &mut warnings)?;
    send(control, &Report::Ready(warnings), &tuns).map_err(told)?;
    drop(tuns);
    // Only now: unshare cleared it. A parent that ended before is one that the kernel will not tell of.
    let _ = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
    if rustix::process::getppid() != Some(parent) {
        return Ok(());
    }
    if receive(control).map_err(told)? != Some(Reply::Go as u8) {
        return Ok(());
    }
    restore_signals(signals);
    let (name, args) = command.split_first().expect("launch refuses an empty command");
    // With a uid other than 0, exec takes the capabilities that set_up needed.
    // `estab ss` within the guest then asks this gateway's stack, whichever others run.
    let gateway = std::os::unix::process::parent_id().to_string();
    let cause = Command::new(name).args(args).env("ESTAB_PID", gateway).exec();
    Err(failed(Stage::Exec, "", &cause))
}

/// Makes the namespaces. Where no user namespace is to be had, root does without: it gains nothing by one but
/// less power over the machine. Returns whether there is one.
fn unshare() -> io::Result<bool> {
    let flags = UnshareFlags::NEWNET | UnshareFlags::NEWNS;
    // SAFETY: descriptors stay shared (no UnshareFlags::FILES), and there is one thread.
    let unshare = |flags| unsafe { rustix::thread::unshare_unsafe(flags) };
    match unshare(flags | UnshareFlags::NEWUSER) {
        Ok(()) => Ok(true),
        Err(_) if rustix::process::geteuid().is_root() && unshare(flags).is_ok() => Ok(false),
        Err(err) => Err(err.into()),
    }
}

/// The network, its sysctls and the files in /etc.
fn set_up(config: &LaunchConfig, warnings: &mut Vec<String>) -> Result<Vec<Tun>, Failure> {
    let step = |step: &'static str| move |cause: io::Error| failed(Stage::SetUp, step, &cause);
    let tun = TunConfig {
        name: config.name.clone(),
        layer: Layer::Ip,
        mtu: config.mtu,
        offloads: config.offloads,
        persist: true,
    };
    let tuns = Tun::open(&tun, config.queues.clamp(1, MAX_QUEUES))
        .map_err(|cause| failed(Stage::Tun, "open /dev/net/tun", &cause))?;
    let name = tuns.first().map_or(config.name.as_str(), |tun| tun.name());
    // Before the interface comes up, or the kernel has sent its solicitations.
    let mut sysctls = vec![
        // Without a gateway the TUN has no carrier; what still runs then is told, rather than kept waiting.
        (
            format!("net.ipv4.conf.{name}.ignore_routes_with_linkdown"),
            "1".to_owned(),
        ),
        (
            format!("net.ipv6.conf.{name}.ignore_routes_with_linkdown"),
            "1".to_owned(),
        ),
        (format!("net.ipv6.conf.{name}.accept_ra"), "0".to_owned()),
        (format!("net.ipv6.conf.{name}.addr_gen_mode"), "1".to_owned()),
    ];
    if config.ipv6.is_none() {
        sysctls.push((format!("net.ipv6.conf.{name}.disable_ipv6"), "1".to_owned()));
    }
    for (key, value) in &sysctls {
        // A kernel without IPv6 has none of them.
        let _ = set_sysctl(key, value);
    }
    for (key, value) in &config.sysctls {
        if let Err(err) = set_sysctl(key, value) {
            warnings.push(format!("cannot set {key} to {value} in the guest: {err}"));
        }
    }
    allow_ping(warnings);
    netlink::configure(config, name, warnings).map_err(|(step, cause)| failed(Stage::SetUp, step, &cause))?;
    mounts::set_up(config, warnings).map_err(step("make the guest's mounts its own"))?;
    Ok(tuns)
}

/// `key` with dots, as sysctl(8) takes it; an interface's name may hold dots itself, as in sysctl.conf with `/`.
pub(crate) fn set_sysctl(key: &str, value: &str) -> io::Result<()> {
    let path = if key.contains('/') {
        key.to_owned()
    } else {
        key.replace('.', "/")
    };
    std::fs::write(Path::new("/proc/sys").join(path), value)
}

/// Lets the guest's groups open ping sockets. The range takes only gids that the namespace maps.
fn allow_ping(warnings: &mut Vec<String>) {
    const KEY: &str = "net.ipv4.ping_group_range";
    let own = rustix::process::getegid().as_raw();
    let all = set_sysctl(KEY, "0 2147483647");
    if let Err(err) = all.or_else(|_| set_sysctl(KEY, &format!("{own} {own}"))) {
        warnings.push(format!("cannot set {KEY} in the guest: {err}; ping needs root there"));
    }
}

/// Writes the maps of the child's user namespace (user_namespaces(7)): all ids for root, else the caller's own, as
/// itself or (`root`) as 0.
pub(super) fn write_id_maps(child: Pid, root: bool) -> Result<(), LaunchError> {
    let proc = format!("/proc/{}", child.as_raw_nonzero());
    let write = |file: &str, text: &str| {
        std::fs::write(format!("{proc}/{file}"), text)
            .map_err(|cause| LaunchError::step(format!("write the guest's {file}"), cause))
    };
    let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
    if uid.is_root() {
        let all = |file: &str| identity(&std::fs::read_to_string(format!("/proc/self/{file}")).unwrap_or_default());
        if write("uid_map", &all("uid_map")).is_ok() {
            return write("gid_map", &all("gid_map"));
        }
    }
    let inside = |id: u32| if root { 0 } else { id };
    // Without CAP_SETGID outside, a gid map is taken only once setgroups is denied (since Linux 3.19).
    write("setgroups", "deny")?;
    write("uid_map", &format!("{} {} 1", inside(uid.as_raw()), uid.as_raw()))?;
    write("gid_map", &format!("{} {} 1", inside(gid.as_raw()), gid.as_raw()))
}

/// An id map's own ids, each mapped to itself.
fn identity(map: &str) -> String {
    let extents = map.lines().filter_map(|line| {
        let mut fields = line.split_whitespace();
        let (first, count) = (fields.next()?, fields.nth(1)?);
        Some(format!("{first} {first} {count}\n"))
    });
    extents.collect()
}

fn send(control: &OwnedFd, report: &Report, tuns: &[Tun]) -> io::Result<()> {
    let bytes = report.encode();
    let fds: Vec<_> = tuns.iter().map(AsFd::as_fd).collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_QUEUES))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(&fds)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    rustix::net::sendmsg(control, &[IoSlice::new(&bytes)], &mut ancillary, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// The parent's next word; `None` when it is gone.
fn receive(control: &OwnedFd) -> io::Result<Option<u8>> {
    let mut byte = [0];
    loop {
        return match rustix::net::recv(control, &mut byte[..], RecvFlags::empty()) {
            Ok((0, _)) => Ok(None),
            Ok(_) => Ok(Some(byte[0])),
            Err(rustix::io::Errno::INTR) => continue,
            Err(err) => Err(err.into()),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_of_all_ids_keeps_the_holes_of_a_container() {
        assert_eq!(identity("         0          0 4294967295\n"), "0 0 4294967295\n");
        assert_eq!(identity("0 100000 1000\n1001 1001 1\n"), "0 0 1000\n1001 1001 1\n");
    }

    #[test]
    fn reports_survive_the_socket() {
        let failure = failed(Stage::Tun, "open it", &io::Error::from_raw_os_error(libc::EACCES));
        let Some(Report::Failed(back)) = Report::decode(&Report::Failed(failure).encode()) else {
            panic!("no failure")
        };
        assert!(back.stage == Stage::Tun && back.errno == libc::EACCES && back.step == "open it");
        let warnings = vec!["one".to_owned(), "two".to_owned()];
        let Some(Report::Ready(back)) = Report::decode(&Report::Ready(warnings.clone()).encode()) else {
            panic!("not ready")
        };
        assert_eq!(back, warnings);
        for user in [false, true] {
            let back = Report::decode(&Report::Unshared { user }.encode());
            assert!(matches!(back, Some(Report::Unshared { user: same }) if same == user));
        }
        assert!(Report::decode(b"").is_none());
    }
}
