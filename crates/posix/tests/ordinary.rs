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

/// SO_LINGER: what was written has arrived when close(2) returns, even if the process is gone with it; a peer that falls
/// silent holds it up no longer than that.
#[test]
fn close_lingers_until_the_peer_has_all() {
    in_own_network(
        r#"
        cat >server.py <<'END'
import socket
listener = socket.create_server(("10.9.0.1", 8002))
open("listening", "w").close()
peer, _ = listener.accept()
total = 0
while data := peer.recv(65536):
    total += len(data)
open("total", "w").write(str(total))
silent, _ = listener.accept()
silent.recv(1)
END
        cat >client.py <<'END'
import os, socket, struct, sys, time
seconds = int(sys.argv[1])
s = socket.create_connection(("10.9.0.1", 8002))
s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, seconds))
if seconds == 20:
    s.sendall(b"x" * 1000000)
    s.close()
    os._exit(0)
open("connected", "w").close()
while not os.path.exists("cut"):
    time.sleep(0.05)
s.send(b"x")
began = time.monotonic()
s.close()
open("lingered", "w").write(str(time.monotonic() - began >= 1))
os._exit(0)
END
        python3 server.py & server=$!
        until_ok test -e listening
        (estab python3 client.py 20)
        until_ok grep -qx 1000000 total
        (estab python3 client.py 1) & client=$!
        until_ok test -e connected
        ip addr del 10.9.0.1/24 dev tun0
        touch cut
        wait $client
        grep -qx True lingered
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

/// A stack that ends leaves its TIME_WAITs to the next on its address: what the kernel's peer still sends is answered as
/// before, and a port in TIME_WAIT needs SO_REUSEADDR. Without the file, the peer would be reset.
#[test]
fn time_waits_outlive_the_process() {
    in_own_network(
        r#"
        plan="$plan timewaits=kept estab.tcp_quiet_time=1 estab.tcp_msl_ms=10000"
        cat >peer.py <<'EOF'
import socket, sys
s = socket.create_connection(('10.9.0.2', 7), 30)
assert s.recv(9) == b'bye' and s.recv(9) == b''
print('read', flush=True)
sys.stdin.readline()
s.close()
EOF
        cat >serve.py <<'EOF'
import socket
with socket.create_server(('10.9.0.2', 7)) as listener:
    print('ready', flush=True)
    s, _ = listener.accept()
    s.sendall(b'bye')
    s.close()
EOF
        # The first start finds no file and is quiet for one MSL.
        (estab python3 serve.py >said 2>&1) & first=$!
        until_ok grep -q ready said
        ! python3 -c 'import socket; socket.create_connection(("10.9.0.2", 7), 1)' 2>/dev/null
        mkfifo word
        python3 peer.py <word >heard 2>&1 & peer=$!
        exec 9>word
        wait $first || { cat said; exit 1; }
        until_ok grep -q read heard
        # The peer has not closed: what is left is FIN_WAIT_2.
        grep -q '^estab timewaits 2 at ' kept
        grep -q '^10.9.0.2:7 10.9.0.1:' kept
        [ "$(stat -c %a kept)" = 600 ]
        cat >next.py <<'EOF'
import errno, os, socket
s = socket.socket()
assert not os.path.exists('kept'), 'it is taken once'
try:
    s.bind(('10.9.0.2', 7))
    raise SystemExit('a TIME_WAIT holds its port')
except OSError as e:
    assert e.errno == errno.EADDRINUSE, e
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind(('10.9.0.2', 7))
s.listen()
print('ready', flush=True)
s.accept()[0].close()
EOF
        (estab python3 next.py >said 2>&1) & second=$!
        until_ok grep -q ready said
        # The kernel's FIN is acknowledged by who knows of the connection only what the file says.
        echo >&9
        wait $peer || { cat heard; exit 1; }
        until_ok sh -c '! ss -Htan dport = :7 | grep -q .'
        # A reset would have ended it as well, and been counted.
        awk '/^Tcp: [0-9]/ { exit $9 != 0 }' /proc/net/snmp
        python3 -c 'import socket; socket.create_connection(("10.9.0.2", 7), 5).recv(1)'
        wait $second || { cat said; exit 1; }
        # What is no such file is told of, and left alone.
        for text in 'user nginx;' 'estab timewaits 1 at 5' 'estab timewaits 2 at 5 
junk'; do
            printf '%s' "$text" >kept
            ! (estab python3 -c 'import socket; socket.socket()' 2>said)
            grep -E 'timewaits=kept: (no TIME_WAITs that|TIME_WAITs of version 1|line 2 is damaged)' said || { cat said; exit 1; }
            [ "$(cat kept)" = "$text" ]
        done
        "#,
    );
}

/// Segments signed by the kernel's TCP and by estab's (RFC 2385), each as server and as client; a wrong key is silence.
/// Kernels without TCP_MD5SIG have nothing to say here.
#[test]
fn the_kernel_and_estab_believe_each_others_signatures() {
    in_own_network(
        r#"
        cat >signed.py <<'EOF'
import errno, socket, struct, sys
TCP_MD5SIG = 14
def sign(s, peer, key):
    addr = struct.pack('=HH4s120x', socket.AF_INET, 0, socket.inet_aton(peer))
    s.setsockopt(socket.IPPROTO_TCP, TCP_MD5SIG, struct.pack('=128sBBHi80s', addr, 0, 0, len(key), 0, key))
def server(address, peer, key):
    listener = socket.create_server((address, 179))
    sign(listener, peer, key)
    print('ready', flush=True)
    s, _ = listener.accept()
    got = b''
    while part := s.recv(65536):
        got += part
    s.sendall(got[::-1])
    s.close()
def client(address, peer, key):
    s = socket.socket()
    s.settimeout(10 if key == b'secret' else 2.5)
    sign(s, peer, key)
    s.bind((address, 0))
    data = bytes(range(256)) * 4000
    s.connect((peer, 179))
    s.sendall(data)
    s.shutdown(socket.SHUT_WR)
    got = b''
    while part := s.recv(65536):
        got += part
    assert got == data[::-1], len(got)
if sys.argv[1] == 'probe':
    try:
        sign(socket.socket(), '10.9.0.2', b'x')
    except OSError as e:
        sys.exit(e.errno == errno.ENOPROTOOPT)
    sys.exit(0)
globals()[sys.argv[1]](sys.argv[2], sys.argv[3], sys.argv[4].encode())
EOF
        python3 signed.py probe || { echo 'not run: this kernel has no TCP_MD5SIG'; exit 0; }
        (estab python3 signed.py server 10.9.0.2 10.9.0.1 secret >said 2>&1) & server=$!
        until_ok grep -q ready said
        ! python3 signed.py client 10.9.0.1 10.9.0.2 guess 2>/dev/null
        python3 signed.py client 10.9.0.1 10.9.0.2 secret
        wait $server || { cat said; exit 1; }
        python3 signed.py server 10.9.0.1 10.9.0.2 secret >said 2>&1 & server=$!
        until_ok grep -q ready said
        ! (estab python3 signed.py client 10.9.0.2 10.9.0.1 guess 2>/dev/null)
        (estab python3 signed.py client 10.9.0.2 10.9.0.1 secret)
        wait $server || { cat said; exit 1; }
        nstat -asz TcpExtTCPMD5Failure | awk '/MD5Failure/ { exit $2 == 0 }'
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
