//! Commands launched in namespaces, as root and as nobody, behind a mirror instead of a stack.
//!
//! A binary of its own kind: run with `launch`, it is a small gateway that launches a command (which libtest, being
//! threaded, can't be); with `inside`, it is such a command. Without them it runs the tests.

mod common;

use std::ffi::OsString;
use std::io::{Read, Write};
use std::net::{IpAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitCode};
use std::sync::{Arc, Mutex};

use common::{as_nobody, both, host_dir, in_host_with, is_root, skip, start_and_await, stdout};
use estab_device::{Device, Rx, RxCsum, Tun, Tx, TxCsum};
use estab_gateway::ns::{self, LaunchConfig};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, Signal};

const TESTS: &[(&str, fn())] = &[
    (
        "the_guest_has_addresses_routes_and_names",
        the_guest_has_addresses_routes_and_names,
    ),
    ("the_guest_may_have_one_family", the_guest_may_have_one_family),
    ("every_tcp_byte_and_ping_passes", every_tcp_byte_and_ping_passes),
    ("the_command_is_who_the_caller_is", the_command_is_who_the_caller_is),
    (
        "the_command_may_be_root_of_its_namespace",
        the_command_may_be_root_of_its_namespace,
    ),
    ("exit_statuses_come_through", exit_statuses_come_through),
    ("signals_reach_the_command", signals_reach_the_command),
    ("the_command_dies_with_the_gateway", the_command_dies_with_the_gateway),
    (
        "what_outlives_the_gateway_finds_the_network_unreachable",
        what_outlives_the_gateway_finds_the_network_unreachable,
    ),
    ("the_host_is_left_as_it_was", the_host_is_left_as_it_was),
    (
        "each_obstacle_is_named_with_its_way_out",
        each_obstacle_is_named_with_its_way_out,
    ),
    ("guests_nest", guests_nest),
    ("queues_are_all_used", queues_are_all_used),
];

fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().skip(1).collect();
    match args.first().and_then(|arg| arg.to_str()) {
        Some("launch") => launch(&args[1..]),
        Some("inside") => inside(),
        _ => run_tests(&args),
    }
}

/// As libtest would: all tests, or those whose name holds the argument.
fn run_tests(args: &[OsString]) -> ExitCode {
    let exact = args.iter().any(|arg| arg == "--exact");
    let filters: Vec<&str> = args
        .iter()
        .filter_map(|arg| arg.to_str())
        .filter(|arg| !arg.starts_with('-'))
        .collect();
    let wanted = |name: &str| {
        filters.is_empty()
            || filters
                .iter()
                .any(|&filter| if exact { name == filter } else { name.contains(filter) })
    };
    let mut failed = 0;
    for (name, body) in TESTS.iter().filter(|(name, _)| wanted(name)) {
        let result = std::panic::catch_unwind(|| in_host_with(name, &["--exact", name], body));
        println!("test {name} ... {}", if result.is_ok() { "ok" } else { "FAILED" });
        failed += usize::from(result.is_err());
    }
    ExitCode::from(u8::from(failed > 0))
}

// The small gateway: `launch [mtu=N] [queues=N] [-4] [-6] [root] -- CMD`.

fn launch(args: &[OsString]) -> ExitCode {
    let mut config = LaunchConfig::detect();
    let split = args.iter().position(|arg| arg == "--").expect("a command after --");
    for arg in args[..split].iter().map(|arg| arg.to_str().expect("ASCII")) {
        match arg.split_once('=').unwrap_or((arg, "")) {
            ("mtu", value) => config.mtu = value.parse().expect("a number"),
            ("queues", value) => config.queues = value.parse().expect("a number"),
            ("-4", _) => config.ipv6 = None,
            ("-6", _) => config.ipv4 = None,
            ("root", _) => config.root = true,
            _ => panic!("what is {arg}?"),
        }
    }
    config.name_hosts();
    let result = ns::launch(&config, &args[split + 1..]).and_then(|mut guest| {
        for warning in &guest.warnings {
            eprintln!("warning: {warning}");
        }
        let used = Arc::new(Mutex::new(0));
        for tun in guest.tuns.drain(..) {
            let used = Arc::clone(&used);
            std::thread::spawn(move || mirror(tun, &used));
        }
        guest.start()?;
        let status = guest.wait().expect("the command can be waited for");
        if config.queues > 1 {
            println!("queues used: {}", used.lock().expect("no panic there"));
        }
        Ok(ns::exit_code(status))
    });
    ExitCode::from(result.unwrap_or_else(|err| {
        eprintln!("estab: {err}");
        err.exit_code()
    }))
}

/// Sends each packet back with its addresses exchanged: every address is the guest itself.
fn mirror(mut tun: Tun, used: &Mutex<usize>) {
    let mut buf = vec![0; tun.recv_max()];
    let mut first = true;
    loop {
        while let Some(rx) = tun.recv(&mut buf).expect("the TUN is there") {
            if std::mem::take(&mut first) {
                *used.lock().expect("no panic there") += 1;
            }
            let (at, len) = if buf[0] >> 4 == 4 { (12, 4) } else { (8, 16) };
            let (src, dst) = buf[at..at + 2 * len].split_at_mut(len);
            src.swap_with_slice(dst);
            tun.send(&buf[..rx.len], to_tx(rx)).expect("the TUN takes what it gave");
        }
        poll(&mut [PollFd::new(&tun.as_fd(), PollFlags::IN)], None).expect("poll");
    }
}

fn to_tx(rx: Rx) -> Tx {
    let csum = match rx.csum {
        RxCsum::Partial { start, offset } => TxCsum::Partial { start, offset },
        RxCsum::Verified | RxCsum::Unchecked => TxCsum::Full,
    };
    Tx {
        csum,
        gso_size: rx.gso_size,
    }
}

/// A command in the guest: connects to addresses elsewhere, which the mirror makes our own, and pings them.
fn inside() -> ExitCode {
    for (local, remote) in [("10.0.2.15", "198.51.100.7"), ("fd65:7374:6162::15", "2001:db8::7")] {
        let (local, remote): (IpAddr, IpAddr) = (local.parse().unwrap(), remote.parse().unwrap());
        let listener = TcpListener::bind((local, 0)).expect("the guest has its address at once");
        let port = listener.local_addr().unwrap().port();
        let data: Vec<u8> = (0..4_u32 << 20)
            .map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8)
            .collect();
        let expected = data.clone();
        let receiver = std::thread::spawn(move || {
            let mut received = Vec::new();
            listener.accept().unwrap().0.read_to_end(&mut received).unwrap();
            received
        });
        TcpStream::connect((remote, port)).unwrap().write_all(&data).unwrap();
        assert!(receiver.join().unwrap() == expected);
        ping(remote);
    }
    println!("all passed");
    ExitCode::SUCCESS
}

/// One echo request through a ping socket, which needs no capability but ping_group_range.
fn ping(remote: IpAddr) {
    use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketType, ipproto};
    let (family, protocol, request) = match remote {
        IpAddr::V4(_) => (AddressFamily::INET, ipproto::ICMP, 8),
        IpAddr::V6(_) => (AddressFamily::INET6, ipproto::ICMPV6, 128),
    };
    let socket = rustix::net::socket(family, SocketType::DGRAM, Some(protocol)).expect("a ping socket");
    let to = std::net::SocketAddr::new(remote, 0);
    let echo = [request, 0, 0, 0, 0, 0, 0, 1, b'e', b's', b't'];
    rustix::net::sendto(&socket, &echo, SendFlags::empty(), &to).expect("a route");
    let mut answer = [0; 64];
    let (len, _) = rustix::net::recv(&socket, &mut answer[..], RecvFlags::empty()).expect("an answer");
    assert_eq!(answer[8..len], *b"est");
}

// The tests.

/// This binary as the small gateway around `sh -c script`.
fn gateway(options: &[&str], command: &[&str]) -> Command {
    let mut gateway = Command::new(host_dir().join("test"));
    gateway.arg("launch").args(options).arg("--").args(command);
    gateway
}

fn script(text: &str) -> Command {
    gateway(&[], &["sh", "-c", text])
}

/// Runs `check` with commands as they are and, where that is root, as nobody too.
fn as_each(check: impl Fn(&dyn Fn(Command) -> Command)) {
    check(&|command| command);
    if is_root() {
        check(&|command| as_nobody(&command));
    }
}

fn the_guest_has_addresses_routes_and_names() {
    as_each(|who| {
        let text = stdout(&mut who(script(
            "ip -o link; ip -o addr; ip route; ip -6 route; cat /etc/resolv.conf /etc/hosts; ls /sys/class/net; \
             cat /proc/sys/net/ipv4/tcp_tw_reuse",
        )));
        for expected in [
            "lo: <LOOPBACK,UP,LOWER_UP>",
            "estab0: <POINTOPOINT,MULTICAST,NOARP,UP,LOWER_UP> mtu 65520",
            "inet 10.0.2.15/24",
            "inet6 fd65:7374:6162::15/64",
            "default via 10.0.2.1 dev estab0",
            "default via fd65:7374:6162::1 dev estab0",
            "nameserver 10.0.2.1\nnameserver fd65:7374:6162::1\nsearch example.org example.net\noptions ndots:2\n",
            "10.0.2.1 gateway.estab\n10.0.2.2 host.estab\n",
            "fd65:7374:6162::1 gateway.estab\nfd65:7374:6162::2 host.estab\n",
            "localhost",
            // sysfs shows the guest's interfaces, not the host's.
            "host.estab\nestab0\nlo\n1",
        ] {
            assert!(text.contains(expected), "`{expected}` is not in\n{text}");
        }
        for unexpected in ["192.0.2.53", "tentative", "eth0", "warning"] {
            assert!(!text.contains(unexpected), "`{unexpected}` is in\n{text}");
        }
    });
}

fn the_guest_may_have_one_family() {
    let show = [
        "sh",
        "-c",
        "ip -o addr show dev estab0; grep ^nameserver /etc/resolv.conf; grep -c estab /etc/hosts",
    ];
    let v4 = stdout(&mut gateway(&["-4", "mtu=600"], &show));
    assert!(v4.contains("inet 10.0.2.15/24") && !v4.contains("inet6"), "{v4}");
    assert!(v4.ends_with("nameserver 10.0.2.1\n2"), "{v4}");
    let v6 = stdout(&mut gateway(&["-6", "mtu=1280"], &show));
    assert!(
        v6.contains("inet6 fd65:7374:6162::15/64") && !v6.contains("inet 10"),
        "{v6}"
    );
    assert!(v6.ends_with("nameserver fd65:7374:6162::1\n2"), "{v6}");
}

fn every_tcp_byte_and_ping_passes() {
    let this = host_dir().join("test");
    as_each(|who| {
        for mtu in ["mtu=1500", "mtu=65520"] {
            let inside = [this.to_str().unwrap(), "inside"];
            assert_eq!(stdout(&mut who(gateway(&[mtu], &inside))), "all passed");
        }
    });
}

fn the_command_is_who_the_caller_is() {
    let show = "id -u; id -g; grep CapEff /proc/self/status; cat /proc/sys/net/ipv4/ping_group_range";
    if is_root() {
        let nobody = stdout(&mut as_nobody(&script(show)));
        assert_eq!(nobody, "65534\n65534\nCapEff:\t0000000000000000\n65534\t65534");
        let root = stdout(&mut script(show));
        assert!(root.starts_with("0\n0\nCapEff:\t00000"), "{root}");
        assert!(root.ends_with("0\t2147483647"), "{root}");
        // All ids are there: files of others show their owners.
        let file = host_dir().join("owned");
        std::fs::write(&file, "").unwrap();
        std::os::unix::fs::chown(&file, Some(1234), Some(567)).unwrap();
        assert_eq!(
            stdout(&mut gateway(&[], &["stat", "-c", "%u %g", file.to_str().unwrap()])),
            "1234 567"
        );
    } else {
        skip("only root can become nobody");
    }
}

fn the_command_may_be_root_of_its_namespace() {
    as_each(|who| {
        let text = stdout(&mut who(gateway(
            &["root"],
            &["sh", "-c", "id -u; ip link set estab0 mtu 1400 && echo set"],
        )));
        assert_eq!(text, "0\nset");
    });
}

fn exit_statuses_come_through() {
    let dir = host_dir();
    let not_executable = dir.join("plain");
    std::fs::write(&not_executable, "text").unwrap();
    let no_interpreter = dir.join("script");
    std::fs::write(&no_interpreter, "#!/no/such/shell\n").unwrap();
    std::fs::set_permissions(&no_interpreter, PermissionsExt::from_mode(0o755)).unwrap();
    as_each(|who| {
        let run = |command: &[&str]| {
            let output = who(gateway(&[], command)).output().unwrap();
            (
                output.status.code().unwrap(),
                String::from_utf8_lossy(&output.stderr).into_owned(),
            )
        };
        assert_eq!(run(&["true"]), (0, String::new()));
        assert_eq!(run(&["sh", "-c", "exit 77"]).0, 77);
        assert_eq!(run(&["sh", "-c", "kill -TERM $$"]).0, 128 + 15);
        assert_eq!(run(&["sh", "-c", "kill -KILL $$"]).0, 128 + 9);
        assert_eq!(
            run(&["no-such-command"]),
            (127, "estab: no-such-command: command not found\n".into())
        );
        assert_eq!(run(&["/no/such"]), (127, "estab: /no/such: command not found\n".into()));
        let (code, text) = run(&[not_executable.to_str().unwrap()]);
        assert!(code == 126 && text.contains("Permission denied"), "{code} {text}");
        let (code, text) = run(&[no_interpreter.to_str().unwrap()]);
        assert!(code == 126 && text.contains("interpreter"), "{code} {text}");
        let (code, text) = run(&["/etc"]);
        assert!(code == 126 && text.contains("cannot be executed"), "{code} {text}");
    });
}

fn pid_of(child: &std::process::Child) -> Pid {
    Pid::from_raw(child.id().try_into().unwrap()).unwrap()
}

fn signals_reach_the_command() {
    as_each(|who| {
        for (signal, name) in [
            (Signal::TERM, "TERM"),
            (Signal::INT, "INT"),
            (Signal::HUP, "HUP"),
            (Signal::USR1, "USR1"),
        ] {
            // The wait ends by the trap; its pipe is the other way out.
            let trap = format!("trap 'exit 42' {name}; echo ready; read never");
            // A signal that this test's own caller ignores (nohup, say) could not be trapped.
            let reset = ["env", "--default-signal=TERM,INT,HUP,USR1", "sh", "-c", &trap];
            let mut command = who(gateway(&[], &reset));
            command.stdin(std::process::Stdio::piped());
            let mut child = start_and_await(&mut command, "ready");
            // setpriv has become the gateway by now.
            rustix::process::kill_process(pid_of(&child), signal).unwrap();
            let stdin = child.stdin.take();
            assert_eq!(child.wait().unwrap().code(), Some(42), "{name}");
            drop(stdin);
        }
        // A command that catches nothing ends by the signal, and the gateway says so.
        let mut child = start_and_await(
            &mut who(gateway(&[], &["sh", "-c", "echo ready; exec sleep 1000"])),
            "ready",
        );
        rustix::process::kill_process(pid_of(&child), Signal::TERM).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(128 + 15));
    });
}

fn the_command_dies_with_the_gateway() {
    as_each(|who| {
        let file = host_dir().join("pid");
        std::fs::write(&file, "").unwrap();
        std::fs::set_permissions(&file, PermissionsExt::from_mode(0o666)).unwrap();
        let text = format!("echo $$ > {}; echo ready; exec sleep 1000", file.display());
        let mut child = start_and_await(&mut who(script(&text)), "ready");
        let pid: i32 = std::fs::read_to_string(&file).unwrap().trim().parse().unwrap();
        let command = rustix::process::pidfd_open(Pid::from_raw(pid).unwrap(), PidfdFlags::empty()).unwrap();
        child.kill().unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some(9));
        // Readable once it has ended.
        poll(&mut [PollFd::new(&command, PollFlags::IN)], None).unwrap();
    });
}

fn what_outlives_the_gateway_finds_the_network_unreachable() {
    as_each(|who| {
        // The loops end by themselves if the routes never go; the pipe is open until then.
        let outlives = "ip route get 198.51.100.7 >/dev/null && echo before; \
                        (i=0; while [ $i -lt 200 ] && ip route get 198.51.100.7 >/dev/null 2>&1; do \
                         sleep 0.05; i=$((i+1)); done; ip route get 198.51.100.7; ip route get 2001:db8::7) 2>&1 &";
        let text = stdout(&mut who(script(outlives)));
        assert!(text.starts_with("before\n"), "{text}");
        assert_eq!(text.matches("Network is unreachable").count(), 2, "{text}");
    });
}

fn the_host_is_left_as_it_was() {
    let before = (
        stdout(&mut Command::new("mount")),
        stdout(Command::new("ip").arg("addr")),
    );
    as_each(|who| {
        let meanwhile = format!(
            "nsenter --version >/dev/null; grep -c estab /proc/{}/mounts",
            std::process::id()
        );
        stdout(&mut who(script(&format!(
            "{meanwhile}; mount | grep -q 'estab on /etc/resolv.conf'"
        ))));
    });
    let after = (
        stdout(&mut Command::new("mount")),
        stdout(Command::new("ip").arg("addr")),
    );
    assert_eq!(before, after);
    assert_eq!(
        std::fs::read_to_string("/etc/resolv.conf").unwrap(),
        common::RESOLV_CONF
    );
}

fn each_obstacle_is_named_with_its_way_out() {
    let refused = |mut command: Command| {
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(125), "{}", both(&output));
        let text = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        assert_eq!(text.lines().count(), 1, "one line: {text}");
        text
    };
    for (option, expected) in [
        ("mtu=1279", "1280 to 65535"),
        ("mtu=70000", "1280 to 65535"),
        ("queues=0", "1 to 64"),
    ] {
        let text = refused(gateway(&[option], &["true"]));
        assert!(text.contains(expected), "{text}");
    }
    // In a user namespace of its own, the limits are its to set.
    let limited = |limits: &str| {
        let mut command = Command::new("unshare");
        let text = format!("for file in {limits}; do echo 0 > /proc/sys/user/$file; done; exec \"$0\" launch -- true");
        command
            .args(["--user", "--map-root-user", "sh", "-c", &text])
            .arg(host_dir().join("test"));
        command
    };
    let text = refused(limited("max_user_namespaces max_net_namespaces"));
    assert!(
        text.contains("user.max_user_namespaces = 0") && text.contains("sysctl -w"),
        "{text}"
    );
    let text = refused(limited("max_net_namespaces"));
    assert!(text.contains("user.max_net_namespaces = 0"), "{text}");
    // Root needs no user namespace.
    assert_eq!(limited("max_user_namespaces").status().unwrap().code(), Some(0));

    if !is_root() {
        return skip("only root can change /dev/net/tun");
    }
    let tun = |mode| std::fs::set_permissions("/dev/net/tun", PermissionsExt::from_mode(mode)).unwrap();
    tun(0o600);
    let text = refused(as_nobody(&gateway(&[], &["true"])));
    assert!(
        text.contains("(mode 0600)") && text.contains("chmod 0666 /dev/net/tun"),
        "{text}"
    );
    tun(0o666);
    // An empty folder over /dev/net.
    let empty = host_dir().join("empty");
    std::fs::create_dir(&empty).unwrap();
    rustix::mount::mount_bind(&empty, "/dev/net").unwrap();
    let text = refused(gateway(&[], &["true"]));
    assert!(
        text.contains("/dev/net/tun is missing") && text.contains("modprobe tun"),
        "{text}"
    );
    rustix::mount::unmount("/dev/net", rustix::mount::UnmountFlags::empty()).unwrap();
    assert_eq!(gateway(&[], &["true"]).status().unwrap().code(), Some(0));
}

fn guests_nest() {
    let this = host_dir().join("test");
    as_each(|who| {
        let inner = format!("{} launch -- ip -o addr show dev estab0", this.display());
        let text = stdout(&mut who(script(&inner)));
        // The outer guest has 10.0.2.0/24 and the first ULA network.
        assert!(
            text.contains("inet 10.101.116.15/24") && text.contains("inet6 fd65:7374:6162:1::15/64"),
            "{text}"
        );
    });
}

fn queues_are_all_used() {
    let this = host_dir().join("test");
    let twenty = format!(
        "for i in 1 2 3 4 5 6 7 8 9 10; do {} inside || exit 1; done",
        this.display()
    );
    let text = stdout(&mut gateway(&["queues=2"], &["sh", "-c", &twenty]));
    assert!(text.ends_with("queues used: 2"), "{text}");
}
