//! Who is measured, and how each is started.

use crate::host::{self, SERVER, run, wait_for};
use crate::server::SOCKS;
use anyhow::{Context, Result, bail};
use std::io::{BufRead, BufReader, Write};
use std::net::Ipv4Addr;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// The ways to be a gateway.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Veth,
    Estab,
    Pasta,
    Slirp,
    Tun2proxy,
    Hev,
}

/// A gateway that can be started.
pub struct Subject {
    pub name: String,
    kind: Kind,
    /// Its program; what to install where there is none.
    program: Result<PathBuf, String>,
}

/// estab, the peers and those named by `peers`; only those of `only`, if it names any.
pub fn all(estab: &Path, peers: &[String], only: &[String]) -> Result<Vec<Subject>> {
    let found = |name: &str, install: &str| {
        let paths = std::env::var_os("PATH").unwrap_or_default();
        let mut candidates = std::env::split_paths(&paths).map(|dir| dir.join(name));
        candidates
            .find(|path| path.is_file())
            .ok_or(format!("not found: {install}"))
    };
    let subject = |name: &str, kind, program| Subject {
        name: name.into(),
        kind,
        program,
    };
    let built = match estab.is_file() {
        true => Ok(estab.to_path_buf()),
        false => Err(format!("no {}: cargo build --release -p estab", estab.display())),
    };
    let mut subjects = vec![
        subject("veth", Kind::Veth, Ok(PathBuf::new())),
        subject("estab", Kind::Estab, built),
        subject("pasta", Kind::Pasta, found("pasta", "apt-get install passt")),
        subject(
            "slirp4netns",
            Kind::Slirp,
            found("slirp4netns", "apt-get install slirp4netns"),
        ),
        subject(
            "tun2proxy",
            Kind::Tun2proxy,
            found("tun2proxy-bin", "cargo install tun2proxy"),
        ),
    ];
    for peer in peers {
        let (name, path) = peer
            .split_once('=')
            .with_context(|| format!("--peer {peer}: expected NAME=PATH"))?;
        let kinds = [
            ("estab", Kind::Estab),
            ("pasta", Kind::Pasta),
            ("slirp4netns", Kind::Slirp),
            ("tun2proxy", Kind::Tun2proxy),
            ("hev", Kind::Hev),
        ];
        let Some((_, kind)) = kinds.iter().find(|(prefix, _)| name.starts_with(prefix)) else {
            bail!("--peer {name}: expected a name that begins with estab, pasta, slirp4netns, tun2proxy or hev");
        };
        subjects.retain(|s| s.name != name);
        subjects.push(subject(name, *kind, Ok(path.into())));
    }
    subjects.retain(|s| only.is_empty() || only.contains(&s.name));
    Ok(subjects)
}

/// How long a work may take.
const PATIENCE_MS: i32 = 25_000;

/// A gateway at work and its guest. Dropping it ends both.
pub struct Running {
    /// The gateway; a veth pair has no process.
    gateway: Option<Child>,
    guest: Option<Child>,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
}

impl Subject {
    /// Whether there is a process to measure.
    pub fn has_process(&self) -> bool {
        self.kind != Kind::Veth
    }

    /// Starts it for a guest; `mtu` is the guest's, or the one at its best where not given.
    pub fn start(&self, mtu: Option<u32>) -> Result<Running> {
        let program = match &self.program {
            Ok(program) => program,
            Err(why) => bail!("{why}"),
        };
        let this = std::env::current_exe()?;
        let command = |words: &[String]| {
            let mut command = Command::new(program);
            command
                .args(words)
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .stdin(Stdio::null());
            command
        };
        if let Some(mut whole) = self.whole_command(program, mtu) {
            let gateway = whole.arg(this).arg("guest").arg(SERVER.to_string());
            let gateway = gateway
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::null())
                .spawn()?;
            return Running::new(Some(gateway), None);
        }
        // The others attach to a namespace that is there.
        let mut guest = Command::new("unshare");
        guest
            .args(["--net", "--"])
            .arg(this)
            .arg("guest")
            .arg(SERVER.to_string());
        let guest = guest.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let pid = guest.id();
        let mut running = Running::new(None, Some(guest))?;
        let inside = |line: &str| run(&format!("nsenter --target {pid} --net {line}"));
        inside("ip link set lo up")?;
        let mtu_words = |name: &str, default: u32| [name.to_string(), mtu.unwrap_or(default).to_string()];
        match self.kind {
            Kind::Veth => {
                run(&format!("ip link add veth{pid} type veth peer name guest0 netns {pid}"))?;
                run(&format!("ip address add 10.9.0.1/30 dev veth{pid}"))?;
                run(&format!("ip link set veth{pid} up"))?;
                for line in ["ip address add 10.9.0.2/30 dev guest0", "ip link set guest0 up"] {
                    inside(line)?;
                }
                inside("ip route add default via 10.9.0.1")?;
            }
            Kind::Slirp => {
                let mut words = vec!["--configure".into()];
                words.extend(mtu_words("--mtu", 65520));
                words.extend([pid.to_string(), "guest0".into()]);
                running.gateway = Some(command(&words).spawn()?);
                wait_for("slirp4netns's route", || {
                    let routes = std::fs::read_to_string(format!("/proc/{pid}/net/route"));
                    routes.is_ok_and(|routes| routes.contains("guest0\t00000000"))
                })?;
            }
            Kind::Tun2proxy | Kind::Hev => {
                let words = match self.kind {
                    Kind::Hev => vec![hev_config(pid, mtu)?],
                    _ => {
                        let proxy = format!("socks5://{SERVER}:{SOCKS}");
                        let mut words = vec!["--proxy".into(), proxy, "--tun".into(), format!("tun{pid}")];
                        words.extend([
                            "--max-sessions".into(),
                            "20000".into(),
                            "--verbosity".into(),
                            "off".into(),
                        ]);
                        words.extend(mtu_words("--mtu", 1500));
                        words
                    }
                };
                running.gateway = Some(command(&words).spawn()?);
                let link = format!("/proc/sys/net/ipv4/conf/tun{pid}");
                wait_for("the TUN", || Path::new(&link).exists())?;
                // The queue stays with the gateway; the interface goes to the guest.
                run(&format!("ip link set tun{pid} netns {pid}"))?;
                inside(&format!("ip address add 10.8.0.2/24 dev tun{pid}"))?;
                inside(&format!(
                    "ip link set tun{pid} mtu {} up",
                    mtu.unwrap_or(self.best_mtu())
                ))?;
                inside(&format!("ip route add default dev tun{pid}"))?;
            }
            Kind::Estab | Kind::Pasta => {}
        }
        Ok(running)
    }

    /// Whether it can answer a published port itself, or stands for the kernel that does.
    pub fn meets_floods(&self) -> bool {
        matches!(self.kind, Kind::Estab | Kind::Veth)
    }

    /// Starts estab with a SYN proxy, on one thread.
    pub fn start_shield(&self, at: Ipv4Addr, port: u16) -> Result<Running> {
        let mut gateway = Command::new(self.program()?);
        gateway
            .args(["gateway", "--threads", "1", "--syn-proxy", "-p"])
            .arg(format!("{at}:{port}:{port}"))
            .arg("--")
            .arg(std::env::current_exe()?)
            .arg("guest")
            .arg(SERVER.to_string());
        let gateway = gateway.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        Running::new(Some(gateway), None)
    }

    /// Sets a sysctl of the estab that runs as `pid`.
    pub fn set_sysctl(&self, pid: u32, setting: &str) -> Result<()> {
        let mut estab = Command::new(self.program()?);
        let status = estab
            .args(["sysctl", "-w", setting])
            .env("ESTAB_PID", pid.to_string())
            .stdout(Stdio::null())
            .status()?;
        anyhow::ensure!(status.success(), "estab sysctl -w {setting}: {status}");
        Ok(())
    }

    fn best_mtu(&self) -> u32 {
        if self.kind == Kind::Hev { 8500 } else { 1500 }
    }

    /// The command line that runs a command in a network of its own, for those that can.
    pub fn whole_command(&self, program: &Path, mtu: Option<u32>) -> Option<Command> {
        let mut command = Command::new(program);
        match self.kind {
            Kind::Estab => {
                command.arg("gateway");
                mtu.map(|mtu| command.args(["--mtu", &mtu.to_string()]));
                command.arg("--");
            }
            Kind::Pasta => {
                command.args(["--config-net", "--quiet", "--foreground"]);
                // As nobody, which it becomes where root runs it, it may not map users.
                command.args(["--runas", "0:0"]);
                for ports in ["-t", "-u", "-T", "-U"] {
                    command.args([ports, "none"]);
                }
                mtu.map(|mtu| command.args(["--mtu", &mtu.to_string()]));
                command.arg("--");
            }
            _ => return None,
        }
        Some(command)
    }

    /// Its program, if it is there.
    pub fn program(&self) -> Result<&Path> {
        match &self.program {
            Ok(program) => Ok(program),
            Err(why) => bail!("{why}"),
        }
    }
}

/// Writes hev-socks5-tunnel's configuration; the file's name.
fn hev_config(pid: u32, mtu: Option<u32>) -> Result<String> {
    let path = std::env::temp_dir().join(format!("gateway-bench-hev-{pid}.yml"));
    let mtu = mtu.unwrap_or(8500);
    let text = format!(
        "tunnel:\n  name: tun{pid}\n  mtu: {mtu}\n  ipv4: 10.8.0.2\nsocks5:\n  address: {SERVER}\n  port: {SOCKS}\n  udp: tcp\n\
         misc:\n  log-level: error\n"
    );
    std::fs::write(&path, text)?;
    Ok(path.display().to_string())
}

impl Running {
    fn new(mut gateway: Option<Child>, mut guest: Option<Child>) -> Result<Running> {
        let child = guest.as_mut().or(gateway.as_mut()).context("nothing started")?;
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take().context("no output")?);
        let mut running = Running {
            gateway,
            guest,
            stdin,
            stdout: BufReader::new(stdout),
        };
        match running.line()?.as_str() {
            "ready" => Ok(running),
            other => bail!("the guest said {other:?}"),
        }
    }

    /// The gateway's process.
    pub fn pid(&self) -> Option<u32> {
        self.gateway.as_ref().map(Child::id)
    }

    fn line(&mut self) -> Result<String> {
        let mut output = libc::pollfd {
            fd: self.stdout.get_ref().as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        };
        // SAFETY: `output` is one valid pollfd. Nothing is buffered: the guest says one line at a time.
        if unsafe { libc::poll(&mut output, 1, PATIENCE_MS) } == 0 {
            bail!("nothing heard of the guest for {} s", PATIENCE_MS / 1000);
        }
        let mut line = String::new();
        self.stdout.read_line(&mut line)?;
        Ok(line.trim_end().to_string())
    }

    /// Has the guest do a work; its figures.
    pub fn ask(&mut self, work: &str) -> Result<Vec<f64>> {
        let stdin = self.stdin.as_mut().context("the guest is gone")?;
        writeln!(stdin, "{work}")?;
        let line = self.line()?;
        if let Some(why) = line.strip_prefix("failed: ") {
            bail!("{why}");
        }
        line.split_whitespace().map(|word| Ok(word.parse()?)).collect()
    }

    /// CPU seconds of the gateway.
    pub fn cpu(&self) -> f64 {
        self.pid().map_or(0.0, host::cpu_seconds)
    }

    /// Resident bytes of the gateway.
    pub fn rss(&self) -> f64 {
        self.pid().map_or(0.0, host::rss)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // The guest ends when it has nothing more to read, and a gateway that runs it after it.
        drop(self.stdin.take());
        if let Some(guest) = &mut self.guest {
            end(guest);
            if let Some(gateway) = &mut self.gateway {
                let _ = gateway.kill();
            }
        }
        self.gateway.iter_mut().for_each(end);
    }
}

/// Waits for a process that should be ending.
fn end(child: &mut Child) {
    if wait_for("its end", || !matches!(child.try_wait(), Ok(None))).is_err() {
        let _ = child.kill();
        let _ = child.wait();
    }
}
