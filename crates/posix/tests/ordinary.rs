//! Programs that know nothing of estab, preloaded, and a C program that does, against the kernel's TCP across a TUN. Each
//! test is in a network of its own.
#![cfg(target_os = "linux")]

use std::path::PathBuf;
use std::process::{Command, Output};

/// The library as cargo has just built it, beside this test.
fn library() -> PathBuf {
    let test = std::env::current_exe().expect("a test's path");
    test.with_file_name("libestab_posix.so")
}

/// Runs a script in a network of its own with tun0, whose kernel side is 10.9.0.1. `$LIB` is the library, `$SRC` this
/// crate, `estab …` a command whose sockets are on a stack at 10.9.0.2; the working directory is empty.
fn in_own_network(script: &str) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let prelude = "set -eu
        ip link set lo up
        ip tuntap add tun0 mode tun multi_queue
        ip addr add 10.9.0.1/24 dev tun0
        ip link set tun0 up
        plan='tun=tun0 local=10.9.0.2/24 gateway=10.9.0.1'
        estab() { LD_PRELOAD=$LIB ESTAB_STACK=$plan exec timeout 60 \"$@\"; }
        # Waits until a command succeeds; 10 s at most.
        until_ok() { for _ in $(seq 100); do \"$@\" >/dev/null 2>&1 && return; sleep 0.1; done; \"$@\"; }
        ";
    let root = is_root();
    let mut command = Command::new("unshare");
    command.args(if root { &["-n", "-m"][..] } else { &["-r", "-n", "-m"] });
    command.args(["timeout", "120", "bash", "-c", &format!("{prelude}{script}")]);
    command.env("LIB", library()).env("SRC", env!("CARGO_MANIFEST_DIR"));
    let out: Output = command.current_dir(&folder).output().expect("unshare");
    let text = format!(
        "{}{}",
        String::from_utf8_lossy(&out.stdout),
        String::from_utf8_lossy(&out.stderr)
    );
    if !out.status.success() && text.contains("unshare failed") && std::env::var_os("CI").is_none() {
        eprintln!("not run, no namespaces here: {text}");
        return;
    }
    assert!(out.status.success(), "{text}");
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Python's server: a listener, accept, poll and sendfile; five clients of the kernel's at once.
#[test]
fn a_server_serves_from_a_stack_of_its_own() {
    in_own_network(
        r#"
        head -c 20000000 /dev/urandom >big
        (estab python3 -m http.server 8000 --bind 10.9.0.2 >server.log 2>&1) &
        server=$!
        until_ok curl -sS -m 5 -o /dev/null http://10.9.0.2:8000/
        clients=()
        for i in 1 2 3 4 5; do
            curl -sS -m 30 -o got$i http://10.9.0.2:8000/big & clients+=($!)
        done
        wait "${clients[@]}"
        for i in 1 2 3 4 5; do cmp big got$i; done
        # The kernel has no such listener: it was estab's.
        ! ss -Htln sport = :8000 | grep .
        kill $server
        "#,
    );
}

/// curl: a connect that doesn't wait, SO_ERROR after poll, refusals.
#[test]
fn a_client_connects_from_a_stack_of_its_own() {
    in_own_network(
        r#"
        head -c 20000000 /dev/urandom >big
        python3 -m http.server 8001 --bind 10.9.0.1 >server.log 2>&1 & server=$!
        until_ok curl -sS -m 5 -o /dev/null http://10.9.0.1:8001/
        (estab curl -sS -m 30 -o got http://10.9.0.1:8001/big)
        cmp big got
        grep -q '^10.9.0.2 ' server.log
        status=0; (estab curl -sS -m 5 http://10.9.0.1:81/ 2>/dev/null) || status=$?
        [ $status = 7 ]
        kill $server
        "#,
    );
}

/// A plan that can't be used fails the program's sockets, and says why; it doesn't fall back to the kernel's.
#[test]
fn a_bad_plan_is_told() {
    in_own_network(
        r#"
        plan='tun=tun0 local=10.9.0.2'
        ! (estab python3 -c 'import socket; socket.socket()' 2>said)
        grep -q 'local=10.9.0.2.* is not an address with a prefix length' said
        grep -q 'Network is down' said
        "#,
    );
}

/// dup(2), threads and datagrams; a child of fork(2) has no stack and is told so.
#[test]
fn descriptors_behave_as_descriptors() {
    in_own_network(
        r#"
        cat >it.py <<'EOF'
import os, select, socket, threading
a = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
a.bind(('10.9.0.2', 53))
b = a.dup()
b.setblocking(False)
assert os.get_blocking(a.fileno()) is False, 'a duplicate shares O_NONBLOCK'
assert select.select([b], [], [], 0)[0] == []
listener = socket.create_server(('10.9.0.2', 99))
got = []
thread = threading.Thread(target=lambda: got.append(listener.accept()[0].recv(9)))
thread.start()
print('ready', flush=True)
a.close()
assert select.select([b], [], [], 10)[0] == [b], 'the duplicate keeps the socket'
data, peer = b.recvfrom(100)
assert (data, peer[0]) == (b'ping', '10.9.0.1'), (data, peer)
b.sendto(b'pong', peer)
thread.join()
assert got == [b'stream'], got
child = os.fork()
if child == 0:
    try:
        listener.accept()
    except OSError as e:
        os._exit(0 if e.errno == 100 else 1)
    os._exit(2)
assert os.waitpid(child, 0)[1] == 0, 'ENETDOWN in a child'
EOF
        (estab python3 it.py >said 2>&1) & it=$!
        until_ok grep -q ready said
        python3 - <<'EOF'
import socket
u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
u.settimeout(10)
u.sendto(b'ping', ('10.9.0.2', 53))
assert u.recv(9) == b'pong'
socket.create_connection(('10.9.0.2', 99), 10).send(b'stream')
EOF
        wait $it || { cat said; exit 1; }
        "#,
    );
}

#[test]
fn a_c_program_uses_the_header() {
    in_own_network(
        r#"
        gcc -Wall -Wextra -Werror -o echo "$SRC/tests/c/echo.c" -I "$SRC/include" "$LIB"
        LD_LIBRARY_PATH=$(dirname "$LIB") timeout 60 ./echo >said 2>&1 & echo=$!
        until_ok grep -q ready said
        head -c 3000000 /dev/urandom >sent
        python3 - <<'EOF'
import socket, threading
s = socket.create_connection(('10.9.0.2', 7), 20)
sent = open('sent', 'rb').read()
def send():
    s.sendall(sent)
    s.shutdown(socket.SHUT_WR)
threading.Thread(target=send).start()
got = b''
while part := s.recv(65536):
    got += part
assert got == sent, (len(got), len(sent))
EOF
        wait $echo || { cat said; exit 1; }
        "#,
    );
}
