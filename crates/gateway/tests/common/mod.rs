//! A stand-in for the host: a network and mount namespace with nothing in it but a loopback, a resolv.conf of its
//! own and a /dev/net/tun that anyone may open. Tests in it can't disturb the machine they run on.
#![allow(dead_code, unreachable_pub, reason = "each test file uses its part")]

use std::ffi::OsStr;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

/// The name of the test that runs inside, set there.
const INSIDE: &str = "ESTAB_TEST_HOST";

/// The stand-in's resolv.conf.
pub const RESOLV_CONF: &str = "nameserver 192.0.2.53\nsearch example.org example.net\noptions ndots:2\n";

/// Lays out the host, then becomes `"$@"`. $1 is a folder that becomes a tmpfs.
const SET_UP: &str = r#"
set -e
dir=$1; shift
mount --make-rprivate /
mount -t tmpfs -o mode=755 estab-test "$dir"
printf "$ESTAB_TEST_RESOLV_CONF" > "$dir/resolv.conf"
mount --bind "$dir/resolv.conf" /etc/resolv.conf
if mknod -m 666 "$dir/tun" c 10 200 2>/dev/null; then
    chmod 666 "$dir/tun"
    mount --bind "$dir/tun" /dev/net/tun
fi
cp "$ESTAB_TEST_EXE" "$dir/test"
ip link set lo up
exec "$dir/test" "$@"
"#;

/// Says that a test can't run here; where everything must run (CI=true), that is a failure.
pub fn skip(why: &str) {
    assert!(std::env::var("CI").as_deref() != Ok("true"), "can't run: {why}");
    eprintln!("skipped: {why}");
}

/// Whether this process is the machine's root, who can make device nodes and become anybody.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
        && std::fs::read_to_string("/proc/self/uid_map").is_ok_and(|map| map.contains("4294967295"))
}

/// A command that runs this test binary in a new host, with `args`.
fn host(dir: &Path, args: &[&str]) -> Command {
    let mut command = Command::new("unshare");
    if !is_root() {
        command.args(["--user", "--map-root-user"]);
    }
    command
        .args(["--net", "--mount", "sh", "-c", SET_UP, "sh"])
        .arg(dir)
        .args(args);
    command.env("ESTAB_TEST_RESOLV_CONF", RESOLV_CONF.replace('\n', "\\n"));
    command.env(
        "ESTAB_TEST_EXE",
        std::env::current_exe().expect("a test binary has a path"),
    );
    command
}

/// Why no host can be made here, if so.
fn obstacle() -> Option<String> {
    let mut probe = Command::new("unshare");
    if !is_root() {
        probe.args(["--user", "--map-root-user"]);
    }
    match probe.args(["--net", "--mount", "true"]).output() {
        Err(err) => return Some(format!("unshare: {err}")),
        Ok(output) if !output.status.success() => return Some("no new namespaces".into()),
        Ok(_) => {}
    }
    let tun = std::fs::metadata("/dev/net/tun").ok()?;
    (!is_root() && tun.permissions().mode() & 0o006 != 0o006).then(|| "/dev/net/tun does not open".into())
}

/// Runs `body` in a host of its own: in a second process of this test binary, that libtest tells to run `test` alone.
pub fn in_host(test: &str, body: impl FnOnce()) {
    in_host_with(test, &["--exact", test, "--nocapture"], body);
}

/// The same for a test binary without libtest, which is given `args` inside.
pub fn in_host_with(test: &str, args: &[&str], body: impl FnOnce()) {
    if std::env::var_os(INSIDE).as_deref() == Some(OsStr::new(test)) {
        return body();
    }
    if let Some(why) = obstacle() {
        return skip(&why);
    }
    let dir = tempfile::tempdir().expect("a folder for the test");
    std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755)).expect("it is ours");
    let output = host(dir.path(), args)
        .env(INSIDE, test)
        .output()
        .expect("unshare ran a moment ago");
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "in the host of `{test}`:\n{text}");
    if text.contains("skipped: ") {
        eprint!("{text}");
    }
}

/// The folder of this test's host, world-readable; gone with the host.
pub fn host_dir() -> PathBuf {
    std::env::current_exe()
        .expect("a test binary has a path")
        .parent()
        .expect("and a folder")
        .to_owned()
}

/// Makes `command` run as nobody (65534), without capabilities. Needs [`is_root`].
pub fn as_nobody(command: &Command) -> Command {
    let mut wrapped = Command::new("setpriv");
    wrapped.args([
        "--reuid=65534",
        "--regid=65534",
        "--clear-groups",
        "--inh-caps=-all",
        "--",
    ]);
    wrapped.arg(command.get_program()).args(command.get_args());
    for (key, value) in command.get_envs() {
        match value {
            Some(value) => wrapped.env(key, value),
            None => wrapped.env_remove(key),
        };
    }
    wrapped
}

/// What a command wrote to stdout, trimmed; it must succeed.
pub fn stdout(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|err| panic!("{command:?}: {err}"));
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}",
        output.status,
        both(&output)
    );
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// All that a command wrote.
pub fn both(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// Starts a command and waits until it has written `line`.
pub fn start_and_await(command: &mut Command, line: &str) -> Child {
    let mut child = command
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|err| panic!("{command:?}: {err}"));
    while hear(&mut child).unwrap_or_else(|| panic!("{command:?} ended before `{line}`")) != line {}
    child
}

/// The next line that a command writes to its pipe; `None` once it has ended.
pub fn hear(child: &mut Child) -> Option<String> {
    let out = child.stdout.as_mut().expect("a pipe was asked for");
    let mut line = Vec::new();
    let mut byte = [0];
    loop {
        match out.read(&mut byte).unwrap_or(0) {
            0 => return None,
            _ if byte == *b"\n" => return Some(String::from_utf8_lossy(&line).into_owned()),
            _ => line.push(byte[0]),
        }
    }
}
