//! The parent's side of a launch: fork, id maps, the TUN's descriptors, signals and the exit status.

use std::ffi::OsString;
use std::io::{self, IoSliceMut};
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use estab_device::Tun;
use rustix::event::{PollFd, PollFlags};
use rustix::net::{AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendFlags};
use rustix::net::{SocketFlags, SocketType};
use rustix::process::{Pid, PidfdFlags, Signal, WaitId, WaitIdOptions};

use super::child::{self, Reply, Report};
use super::{LaunchConfig, LaunchError};

/// Queues, and so descriptors in one message (the kernel's limit is 253).
pub(super) const MAX_QUEUES: usize = 64;
/// The longest report of the child, bytes.
pub(super) const REPORT_MAX: usize = 8192;

/// Signals that end or concern the command and must not end the gateway before it.
const FORWARDED: [i32; 7] = [
    libc::SIGINT,
    libc::SIGTERM,
    libc::SIGHUP,
    libc::SIGQUIT,
    libc::SIGWINCH,
    libc::SIGUSR1,
    libc::SIGUSR2,
];

/// A command in its namespaces. Dropping it kills a command that is still there.
#[derive(Debug)]
pub struct Guest {
    /// The TUN's queues, to be taken.
    pub tuns: Vec<Tun>,
    /// What could not be set up and can be done without, one line each.
    pub warnings: Vec<String>,
    command: OsString,
    pid: Pid,
    pidfd: OwnedFd,
    control: Option<OwnedFd>,
    signals: Signals,
    status: Option<ExitStatus>,
}

/// Makes the namespaces and the TUN, with the command waiting for [`Guest::start`]. From here until the guest is
/// dropped SIGINT, SIGTERM and the like are blocked in this thread and in those it starts: they are for the command.
/// The command is killed when this thread ends (PR_SET_PDEATHSIG): launch from the main one.
///
/// # Errors
/// See [`LaunchError`]; nothing is left behind then. A missing command shows only at [`Guest::start`].
pub fn launch(config: &LaunchConfig, command: &[OsString]) -> Result<Guest, LaunchError> {
    super::check(config)?;
    let Some(name) = command.first().filter(|name| !name.is_empty()) else {
        return Err(LaunchError::Config("no command given".into()));
    };
    if std::fs::read_dir("/proc/self/task").is_ok_and(|tasks| tasks.count() > 1) {
        return Err(LaunchError::Threads);
    }
    let signals = Signals::block().map_err(|err| LaunchError::step("take over signals", err))?;
    let (ours, theirs) =
        rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
            .map_err(|err| LaunchError::step("make a socket pair", err))?;
    let parent = rustix::process::getpid();
    // SAFETY: this process has one thread (checked above), so the child may go on as any process would.
    let pid = unsafe { libc::fork() };
    if pid < 0 {
        return Err(LaunchError::step("fork", io::Error::last_os_error()));
    }
    let Some(pid) = Pid::from_raw(pid) else {
        drop(ours);
        child::main(config, command, theirs, parent, &signals.old)
    };
    drop(theirs);
    let pidfd = match rustix::process::pidfd_open(pid, PidfdFlags::empty()) {
        Ok(pidfd) => pidfd,
        Err(err) => {
            // Without its socket the child ends; it is reaped, since nothing else will do it.
            drop(ours);
            let _ = rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::empty());
            return Err(LaunchError::step("watch the child (pidfd_open)", err));
        }
    };
    let mut guest = Guest {
        tuns: Vec::new(),
        warnings: Vec::new(),
        command: name.clone(),
        pid,
        pidfd,
        control: Some(ours),
        signals,
        status: None,
    };
    guest.set_up(config)?;
    Ok(guest)
}

impl Guest {
    /// Serves the child until its TUN is here.
    fn set_up(&mut self, config: &LaunchConfig) -> Result<(), LaunchError> {
        loop {
            let mut fds = Vec::new();
            match self.report(&mut fds)? {
                Some(Report::Unshared { user }) => {
                    if user {
                        child::write_id_maps(self.pid, config.root)?;
                    }
                    self.reply(Reply::Mapped)?;
                }
                Some(Report::Ready(warnings)) => {
                    self.warnings = warnings;
                    let tuns = fds
                        .into_iter()
                        .map(|fd| Tun::from_fd(fd, config.mtu))
                        .collect::<io::Result<_>>();
                    self.tuns = tuns.map_err(|err| LaunchError::step("use the guest's TUN", err))?;
                    return Ok(());
                }
                Some(Report::Failed(failure)) => return Err(failure.explain(&self.command)),
                None => {
                    let gone = io::Error::from(io::ErrorKind::UnexpectedEof);
                    return Err(LaunchError::step(
                        "set up the guest's namespaces: the child ended",
                        gone,
                    ));
                }
            }
        }
    }

    /// Lets the command begin; returns once it runs.
    ///
    /// # Errors
    /// [`LaunchError::NotFound`], [`LaunchError::NotExecutable`].
    pub fn start(&mut self) -> Result<(), LaunchError> {
        self.reply(Reply::Go)?;
        let report = self.report(&mut Vec::new())?;
        self.control = None;
        match report {
            Some(Report::Failed(failure)) => Err(failure.explain(&self.command)),
            // The socket was closed by exec.
            _ => Ok(()),
        }
    }

    /// The next report of the child; `None` when it closed its socket.
    fn report(&self, fds: &mut Vec<OwnedFd>) -> Result<Option<Report>, LaunchError> {
        let Some(control) = &self.control else { return Ok(None) };
        let mut bytes = [0; REPORT_MAX];
        let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_QUEUES))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let len = loop {
            let mut parts = [IoSliceMut::new(&mut bytes)];
            match rustix::net::recvmsg(control, &mut parts, &mut ancillary, RecvFlags::CMSG_CLOEXEC) {
                Ok(message) => break message.bytes,
                Err(rustix::io::Errno::INTR) => {}
                // The child died with a reply of ours unread.
                Err(rustix::io::Errno::CONNRESET) => break 0,
                Err(err) => return Err(LaunchError::step("hear from the child", err)),
            }
        };
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = message {
                fds.extend(rights);
            }
        }
        Ok(Report::decode(&bytes[..len]))
    }

    fn reply(&self, reply: Reply) -> Result<(), LaunchError> {
        let Some(control) = &self.control else { return Ok(()) };
        match rustix::net::send(control, &[reply as u8], SendFlags::NOSIGNAL) {
            // A child that is gone shows at the next report.
            Ok(_) | Err(rustix::io::Errno::PIPE) => Ok(()),
            Err(err) => Err(LaunchError::step("talk to the child", err)),
        }
    }

    /// The command's process id.
    pub fn pid(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    /// Readable once the command has ended; see [`Guest::try_wait`].
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// Readable when signals arrived for the command; see [`Guest::forward_signals`].
    pub fn signalfd(&self) -> BorrowedFd<'_> {
        self.signals.fd.as_fd()
    }

    /// Hands on what arrived. Signals from the terminal reach the command by themselves, being in the same process
    /// group, and are not sent twice.
    pub fn forward_signals(&self) {
        while let Some((number, from_kernel)) = self.signals.take() {
            if let (false, Some(signal)) = (from_kernel, Signal::from_named_raw(number)) {
                // It fails only when the command has ended.
                let _ = rustix::process::pidfd_send_signal(&self.pidfd, signal);
            }
        }
    }

    /// The command's exit status, once it has ended.
    ///
    /// # Errors
    /// Those of `waitid`: none in practice.
    pub fn try_wait(&mut self) -> io::Result<Option<ExitStatus>> {
        if self.status.is_none() {
            let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
            let ended = rustix::process::waitid(WaitId::PidFd(self.pidfd.as_fd()), options)?;
            self.status = ended.map(|status| {
                let code = status.exit_status().map(|code| (code & 0xff) << 8);
                ExitStatus::from_raw(code.or(status.terminating_signal()).unwrap_or_default())
            });
        }
        Ok(self.status)
    }

    /// Waits for the command to end, handing signals on meanwhile.
    ///
    /// # Errors
    /// Those of `poll` and `waitid`: none in practice.
    pub fn wait(&mut self) -> io::Result<ExitStatus> {
        loop {
            self.forward_signals();
            if let Some(status) = self.try_wait()? {
                return Ok(status);
            }
            let mut fds = [
                PollFd::new(&self.pidfd, PollFlags::IN),
                PollFd::new(&self.signals.fd, PollFlags::IN),
            ];
            match rustix::event::poll(&mut fds, None) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(err) => return Err(err.into()),
            }
        }
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        if self.status.is_none() {
            // A child that waits for the go-ahead ends without its socket; a command is killed.
            let _ = rustix::process::pidfd_send_signal(&self.pidfd, Signal::KILL);
            let _ = rustix::process::waitid(WaitId::PidFd(self.pidfd.as_fd()), WaitIdOptions::EXITED);
        }
    }
}

/// An exit status as a shell gives it: the code, or 128 and the signal's number.
pub fn exit_code(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(255)
}

/// Signals blocked in this thread and readable from a descriptor instead; unblocked when dropped.
#[derive(Debug)]
struct Signals {
    fd: OwnedFd,
    old: libc::sigset_t,
}

impl Signals {
    fn block() -> io::Result<Self> {
        // SAFETY: sigset_t is plain data that sigemptyset fills; the sets outlive the calls that use them; signalfd
        // returns a new descriptor that nothing else owns.
        unsafe {
            let mut set: libc::sigset_t = std::mem::zeroed();
            let mut old: libc::sigset_t = std::mem::zeroed();
            libc::sigemptyset(&raw mut set);
            for signal in FORWARDED {
                libc::sigaddset(&raw mut set, signal);
            }
            let fd = libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK);
            if fd < 0 {
                return Err(io::Error::last_os_error());
            }
            let fd = OwnedFd::from_raw_fd(fd);
            match libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, &raw mut old) {
                0 => Ok(Self { fd, old }),
                errno => Err(io::Error::from_raw_os_error(errno)),
            }
        }
    }

    /// The next signal's number, and whether the kernel itself sent it (the terminal: ^C, a new window size).
    fn take(&self) -> Option<(i32, bool)> {
        let mut bytes = [0; size_of::<libc::signalfd_siginfo>()];
        let len = rustix::io::read(&self.fd, &mut bytes).ok()?;
        // struct signalfd_siginfo (signalfd(2)): u32 ssi_signo, s32 ssi_errno, s32 ssi_code.
        let word = |at: usize| i32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        (len == bytes.len()).then(|| (word(0), word(8) == libc::SI_KERNEL))
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        while self.take().is_some() {}
        restore_signals(&self.old);
    }
}

/// Sets this thread's signal mask.
pub(super) fn restore_signals(mask: &libc::sigset_t) {
    // SAFETY: `mask` is a set that pthread_sigmask filled.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, mask, std::ptr::null_mut()) };
}
