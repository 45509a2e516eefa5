//! The host's servers: an echo, a web server that closes, and the SOCKS proxy that some peers need.

use anyhow::Result;
use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::thread;

/// Sends back what comes.
pub const ECHO: u16 = 7;
/// Answers one request and closes.
pub const WEB: u16 = 80;
/// SOCKS 5, CONNECT only.
pub const SOCKS: u16 = 1080;

const PAGE: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nok\n";

/// Starts them on threads that last as long as the process.
pub fn start() -> Result<()> {
    raise_descriptor_limit();
    let listen = |port| TcpListener::bind((Ipv4Addr::UNSPECIFIED, port));
    let (echo, web, socks) = (listen(ECHO)?, listen(WEB)?, listen(SOCKS)?);
    thread::spawn(move || serve_echo(&echo));
    for _ in 0..2 {
        let web = web.try_clone()?;
        thread::spawn(move || serve_web(&web));
    }
    thread::spawn(move || {
        for client in socks.incoming().flatten() {
            let stack = thread::Builder::new().stack_size(256 * 1024);
            let _ = stack.spawn(move || drop(proxy(client)));
        }
    });
    Ok(())
}

/// As many descriptors as the system lets this process have.
pub fn raise_descriptor_limit() {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: `limit` is a valid rlimit to write and read.
    unsafe {
        libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit);
        limit.rlim_cur = limit.rlim_max;
        libc::setrlimit(libc::RLIMIT_NOFILE, &limit);
    }
}

/// One thread for all connections: many of them are idle.
fn serve_echo(listener: &TcpListener) {
    // SAFETY: epoll_create1 has no preconditions.
    let epoll = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
    let watch = |fd: i32| {
        let mut event = libc::epoll_event {
            events: libc::EPOLLIN as u32,
            u64: fd as u64,
        };
        // SAFETY: both descriptors are open, and `event` outlives the call.
        unsafe { libc::epoll_ctl(epoll, libc::EPOLL_CTL_ADD, fd, &mut event) };
    };
    watch(listener.as_raw_fd());
    let mut open: HashMap<u64, TcpStream> = HashMap::new();
    let mut buf = [0; 4096];
    loop {
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; 64];
        // SAFETY: `events` has room for 64.
        let n = unsafe { libc::epoll_wait(epoll, events.as_mut_ptr(), 64, -1) };
        for event in &events[..n.max(0) as usize] {
            let fd = event.u64;
            if fd == listener.as_raw_fd() as u64 {
                if let Ok((client, _)) = listener.accept() {
                    let _ = client.set_nodelay(true);
                    watch(client.as_raw_fd());
                    open.insert(client.as_raw_fd() as u64, client);
                }
                continue;
            }
            let Some(client) = open.get_mut(&fd) else { continue };
            let goes_on = match client.read(&mut buf) {
                Ok(n) if n > 0 => client.write_all(&buf[..n]).is_ok(),
                _ => false,
            };
            if !goes_on {
                open.remove(&fd);
            }
        }
    }
}

fn serve_web(listener: &TcpListener) {
    let mut buf = [0; 4096];
    for mut client in listener.incoming().flatten() {
        // wrk's request comes in one piece.
        if client.read(&mut buf).is_ok_and(|n| n > 0) {
            let _ = client.write_all(PAGE);
        }
    }
}

/// One client of the proxy (RFC 1928).
fn proxy(mut client: TcpStream) -> std::io::Result<()> {
    let mut buf = [0; 512];
    client.read_exact(&mut buf[..2])?;
    let methods = usize::from(buf[1]);
    client.read_exact(&mut buf[..methods])?;
    client.write_all(&[5, 0])?;
    client.read_exact(&mut buf[..10])?;
    let to = SocketAddr::from(([buf[4], buf[5], buf[6], buf[7]], u16::from_be_bytes([buf[8], buf[9]])));
    // CONNECT to an IPv4 address.
    let server = match (buf[1], buf[3]) {
        (1, 1) => TcpStream::connect(to),
        _ => Err(std::io::ErrorKind::Unsupported.into()),
    };
    let code = if server.is_ok() { 0 } else { 5 };
    client.write_all(&[5, code, 0, 1, 0, 0, 0, 0, 0, 0])?;
    let server = server?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (from, to) = (client.try_clone()?, server.try_clone()?);
    let stack = thread::Builder::new().stack_size(256 * 1024);
    let up = stack.spawn(move || carry(from, to))?;
    carry(server, client);
    let _ = up.join();
    Ok(())
}

fn carry(mut from: TcpStream, mut to: TcpStream) {
    let mut buf = vec![0; 128 * 1024];
    while let Ok(n) = from.read(&mut buf) {
        if n == 0 || to.write_all(&buf[..n]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}
