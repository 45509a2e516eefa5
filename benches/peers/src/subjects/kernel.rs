//! The kernel: sockets over the loopback of a network namespace of its own, on one core. An application that waits for nothing:
//! no epoll. The loopback makes no checksums, and neither copies nor queues a packet between the ends.

use crate::ends::{End, Ends, PORT, Packet, SERVER, Setup};
use anyhow::{Context, Result, bail};
use socket2::{Domain, SockAddr, Socket, Type};
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::{AsRawFd, FromRawFd};
use std::time::{Duration, Instant};

pub struct Kernel {
    setup: Setup,
    listeners: Vec<Socket>,
    turn: usize,
    conns: Vec<Option<[Socket; 2]>>,
    free: Vec<usize>,
    /// Accepted, and not yet told whose they are.
    accepted: Vec<(Socket, SocketAddr)>,
    /// Where foreign packets come from, and when the next are due.
    tun: Option<(File, Instant)>,
}

impl Kernel {
    fn connecting(&mut self, nonblocking: bool) -> Result<(Socket, usize)> {
        let index = self.turn % self.listeners.len();
        self.turn += 1;
        let client = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        if self.setup.buffer > Setup::SMALL {
            client.set_send_buffer_size(self.setup.buffer)?;
        }
        client.set_nonblocking(nonblocking)?;
        match client.connect(&SocketAddr::from((SERVER, PORT + index as u16)).into()) {
            Err(e) if e.raw_os_error() != Some(libc::EINPROGRESS) => return Err(e).context("connect"),
            _ => {}
        }
        client.set_nonblocking(true)?;
        Ok((client, index))
    }

    fn keep(&mut self, pair: [Socket; 2]) -> usize {
        let at = self.free.pop().unwrap_or(self.conns.len());
        match self.conns.get_mut(at) {
            Some(slot) => *slot = Some(pair),
            None => self.conns.push(Some(pair)),
        }
        at
    }

    fn socket(&mut self, conn: usize, end: End) -> Result<&mut Socket> {
        let pair = self.conns.get_mut(conn).and_then(Option::as_mut).context("closed")?;
        Ok(match end {
            End::Client => &mut pair[0],
            End::Server => &mut pair[1],
        })
    }

    fn accept(&self, index: usize) -> Result<Option<(Socket, SockAddr)>> {
        match self.listeners[index].accept() {
            Ok((socket, peer)) => {
                socket.set_nonblocking(true)?;
                Ok(Some((socket, peer)))
            }
            Err(e) if e.kind() == ErrorKind::WouldBlock => Ok(None),
            Err(e) => Err(e).context("accept"),
        }
    }
}

impl Ends for Kernel {
    type Conn = usize;
    type Begun = (Option<Socket>, usize);

    fn new(setup: Setup) -> Result<Kernel> {
        namespace(&setup)?;
        let mut listeners = Vec::new();
        for port in 0..setup.ports {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
            if setup.buffer > Setup::SMALL {
                socket.set_recv_buffer_size(setup.buffer)?;
            }
            socket.bind(&SocketAddr::from((SERVER, PORT + port)).into())?;
            socket.listen(setup.backlog as i32)?;
            socket.set_nonblocking(true)?;
            listeners.push(socket);
        }
        let (conns, free, accepted) = (Vec::new(), Vec::new(), Vec::new());
        Ok(Kernel {
            setup,
            listeners,
            turn: 0,
            conns,
            free,
            accepted,
            tun: None,
        })
    }

    fn open(&mut self) -> Result<usize> {
        let (client, index) = self.connecting(false)?;
        let (server, _) = self.accept(index)?.context("not accepted")?;
        Ok(self.keep([client, server]))
    }

    fn send(&mut self, conn: usize, end: End, data: &[u8]) -> Result<usize> {
        match self.socket(conn, end)?.write(data) {
            Err(e) if e.kind() == ErrorKind::WouldBlock => Ok(0),
            sent => sent.context("send"),
        }
    }

    fn recv(&mut self, conn: usize, end: End, buf: &mut [u8]) -> Result<usize> {
        match self.socket(conn, end)?.read(buf) {
            Err(e) if e.kind() == ErrorKind::WouldBlock => Ok(0),
            got => got.context("recv"),
        }
    }

    fn carry(&mut self) -> Result<()> {
        Ok(())
    }

    fn close(&mut self, conn: usize) -> Result<()> {
        let [client, server] = self.conns[conn].take().context("closed")?;
        self.free.push(conn);
        drop(client);
        drop(server);
        Ok(())
    }

    fn pass(&mut self, time: Duration) -> Result<()> {
        // Only a flood has a pace; it doesn't make up for long delays.
        if let Some((_, due)) = &mut self.tun {
            let now = Instant::now();
            *due = (*due + time).max(now - Duration::from_millis(100));
            std::thread::sleep(due.saturating_duration_since(now));
        }
        Ok(())
    }

    fn time_wait(&self) -> Option<Duration> {
        None
    }

    fn most(&self) -> u64 {
        let mut files = libc::rlimit {
            rlim_cur: 0,
            rlim_max: 0,
        };
        // SAFETY: `files` is a valid rlimit to write to.
        unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut files) };
        files.rlim_cur.saturating_sub(100) / 2
    }

    /// What the slabs take, when the kernel has done with what it frees late: another namespace's sockets, say.
    fn memory(&self) -> u64 {
        let mut bytes = slabs();
        for _ in 0..20 {
            std::thread::sleep(Duration::from_millis(300));
            match slabs() {
                same if same == bytes => break,
                other => bytes = other,
            }
        }
        bytes
    }

    fn inject(&mut self, packets: &[Packet]) -> Result<()> {
        let (tun, _) = match &mut self.tun {
            Some(tun) => tun,
            none => none.insert((tun()?, Instant::now())),
        };
        // Its answers fill the device's queue and are dropped there.
        for packet in packets {
            tun.write_all(packet).context("TUN")?;
        }
        Ok(())
    }

    fn begin(&mut self) -> Result<Self::Begun> {
        let (client, index) = self.connecting(true)?;
        Ok((Some(client), index))
    }

    fn finish(&mut self, begun: &mut Self::Begun) -> Result<Option<usize>> {
        let (client, index) = begun;
        if let Some((socket, peer)) = self.accept(*index)? {
            self.accepted.push((socket, peer.as_socket().context("no address")?));
        }
        let Some(socket) = client else { bail!("finished") };
        if let Some(error) = socket.take_error()? {
            return Err(error).context("connect");
        }
        let name = socket.local_addr()?.as_socket();
        let Some(at) = self.accepted.iter().position(|(_, peer)| Some(*peer) == name) else {
            return Ok(None);
        };
        let (server, _) = self.accepted.swap_remove(at);
        let pair = client.take().map(|client| [client, server]).context("finished")?;
        Ok(Some(self.keep(pair)))
    }
}

/// Bytes of the kernel's slabs of sockets, half-open ones and TIME_WAITs, and of their inodes, files and names.
fn slabs() -> u64 {
    const SLABS: [&str; 6] = [
        "TCP",
        "request_sock_TCP",
        "tw_sock_TCP",
        "sock_inode_cache",
        "filp",
        "dentry",
    ];
    let slabs = std::fs::read_to_string("/proc/slabinfo").unwrap_or_default();
    let bytes = slabs.lines().filter_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let number = |at: usize| fields.get(at)?.parse::<u64>().ok();
        let ours = SLABS.contains(fields.first()?);
        ours.then_some(number(5)? * number(14)? * 4096)
    });
    bytes.sum()
}

/// Moves this process to a network namespace of its own, on one core, and sets that up.
fn namespace(setup: &Setup) -> Result<()> {
    // SAFETY: `set` is valid, and its size is given; the process has one thread.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(0, &mut set);
        libc::sched_setaffinity(0, size_of_val(&set), &set);
        let files = libc::rlimit {
            rlim_cur: 1 << 20,
            rlim_max: 1 << 20,
        };
        if libc::setrlimit(libc::RLIMIT_NOFILE, &files) != 0 {
            let mut files = std::mem::zeroed::<libc::rlimit>();
            libc::getrlimit(libc::RLIMIT_NOFILE, &mut files);
            files.rlim_cur = files.rlim_max;
            libc::setrlimit(libc::RLIMIT_NOFILE, &files);
        }
    }
    // SAFETY: only flags are given.
    let unshared = unsafe {
        libc::unshare(libc::CLONE_NEWNET) == 0 || libc::unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWNET) == 0
    };
    if !unshared {
        return Err(std::io::Error::last_os_error())
            .context("unshare: a network namespace needs root or user namespaces");
    }
    let net = Net::new()?;
    net.up("lo")?;
    net.address("lo:1", SERVER, Ipv4Addr::BROADCAST)?;
    net.mtu("lo", setup.mtu)?;
    if setup.mtu <= 1500 {
        net.no_segmentation_offload("lo")?;
    }
    for (name, value) in [
        ("core/somaxconn", setup.backlog.to_string()),
        ("ipv4/tcp_max_tw_buckets", setup.hold.to_string()),
        ("ipv4/ip_local_port_range", "1024 65535".into()),
    ] {
        std::fs::write(format!("/proc/sys/net/{name}"), value).with_context(|| name.to_string())?;
    }
    Ok(())
}

/// A TUN that all foreign addresses lie behind.
fn tun() -> Result<File> {
    const TUNSETIFF: libc::c_ulong = 0x4004_54ca;
    let file = File::options()
        .read(true)
        .write(true)
        .open("/dev/net/tun")
        .context("/dev/net/tun")?;
    let mut request = named("tun0");
    request.ifr_ifru.ifru_flags = (libc::IFF_TUN | libc::IFF_NO_PI) as i16;
    // SAFETY: TUNSETIFF reads and writes one ifreq.
    check(
        unsafe { libc::ioctl(file.as_raw_fd(), TUNSETIFF, &mut request) },
        "TUNSETIFF",
    )?;
    let net = Net::new()?;
    net.address("tun0", Ipv4Addr::new(11, 0, 0, 1), Ipv4Addr::new(255, 0, 0, 0))?;
    net.up("tun0")?;
    Ok(file)
}

/// Interfaces, as ioctls set them up.
struct Net(File);

impl Net {
    fn new() -> Result<Net> {
        // SAFETY: a new descriptor is made, and owned by the File alone.
        let fd = unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
        check(fd, "socket")?;
        // SAFETY: as above.
        Ok(Net(unsafe { File::from_raw_fd(fd) }))
    }

    fn set(&self, what: libc::c_ulong, request: &mut libc::ifreq, name: &str) -> Result<()> {
        // SAFETY: all these requests read and write one ifreq, and what it points to.
        check(unsafe { libc::ioctl(self.0.as_raw_fd(), what, request) }, name)
    }

    fn up(&self, name: &str) -> Result<()> {
        let mut request = named(name);
        request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as i16;
        self.set(libc::SIOCSIFFLAGS, &mut request, name)
    }

    fn mtu(&self, name: &str, mtu: usize) -> Result<()> {
        let mut request = named(name);
        request.ifr_ifru.ifru_mtu = mtu as i32;
        self.set(libc::SIOCSIFMTU, &mut request, name)
    }

    fn address(&self, name: &str, addr: Ipv4Addr, mask: Ipv4Addr) -> Result<()> {
        for (what, ip) in [(libc::SIOCSIFADDR, addr), (libc::SIOCSIFNETMASK, mask)] {
            let mut request = named(name);
            let inet = SockAddr::from(SocketAddr::from((ip, 0)));
            // SAFETY: the storage holds a sockaddr_in, which is as long as a sockaddr.
            request.ifr_ifru.ifru_addr = unsafe { *inet.as_ptr().cast() };
            self.set(what, &mut request, name)?;
        }
        Ok(())
    }

    /// Each packet for itself: no super-packets.
    fn no_segmentation_offload(&self, name: &str) -> Result<()> {
        const SIOCETHTOOL: libc::c_ulong = 0x8946;
        // ETHTOOL_STSO, ETHTOOL_SGSO, ETHTOOL_SGRO
        for command in [0x1f_u32, 0x24, 0x2c] {
            let mut value = [command, 0];
            let mut request = named(name);
            request.ifr_ifru.ifru_data = value.as_mut_ptr().cast();
            self.set(SIOCETHTOOL, &mut request, "ethtool")?;
        }
        Ok(())
    }
}

fn named(name: &str) -> libc::ifreq {
    // SAFETY: all zeroes is a valid ifreq.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    request
}

fn check(result: libc::c_int, what: &str) -> Result<()> {
    match result {
        0.. => Ok(()),
        _ => Err(std::io::Error::last_os_error()).with_context(|| what.to_string()),
    }
}
