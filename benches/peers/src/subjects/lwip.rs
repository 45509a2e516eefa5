//! lwIP as Debian builds it, driven through its raw API, the fastest of the three it has; see lwip.c. It takes a local port for
//! one connection at a time, whatever the other end: one listening port does.

use crate::ends::{CLIENT, End, Ends, PORT, Packet, SERVER, Setup};
use anyhow::{Result, bail, ensure};
use std::ffi::{c_int, c_void};
use std::net::Ipv4Addr;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// lwip.c's `struct end`.
#[repr(C)]
pub struct Handle {
    _private: [u8; 0],
}

unsafe extern "C" {
    fn peers_lwip_init(client: u32, server: u32);
    fn peers_lwip_listen(port: u16) -> c_int;
    fn peers_lwip_connect(server: u32, port: u16, error: *mut c_int) -> Option<NonNull<Handle>>;
    fn peers_lwip_accept(client: NonNull<Handle>, dead: *mut c_int) -> Option<NonNull<Handle>>;
    fn peers_lwip_send(end: NonNull<Handle>, data: *const c_void, len: usize) -> c_int;
    fn peers_lwip_recv(end: NonNull<Handle>, buf: *mut c_void, size: usize) -> c_int;
    fn peers_lwip_close(end: NonNull<Handle>) -> c_int;
    fn peers_lwip_carry();
    fn peers_lwip_inject(packet: *const c_void, len: u16);
    fn peers_lwip_tick(ticks: u32);
}

pub struct Lwip {
    /// Time that no tick was given for yet.
    since: Duration,
}

const TICK: Duration = Duration::from_millis(250);

fn raw(addr: Ipv4Addr) -> u32 {
    u32::from_ne_bytes(addr.octets())
}

impl Lwip {
    fn connect(&mut self) -> Result<NonNull<Handle>> {
        let mut error = 0;
        // SAFETY: lwIP was initialised, and has one thread.
        match unsafe { peers_lwip_connect(raw(SERVER), PORT, &mut error) } {
            Some(end) => Ok(end),
            None => bail!("tcp_connect: {}", name(error)),
        }
    }

    fn accept(&mut self, client: NonNull<Handle>) -> Result<Option<NonNull<Handle>>> {
        let mut dead = 0;
        // SAFETY: `client` is of `connect`, and not closed.
        let server = unsafe { peers_lwip_accept(client, &mut dead) };
        ensure!(dead == 0, "refused");
        Ok(server)
    }
}

fn name(error: c_int) -> String {
    match error {
        -1 => "ERR_MEM".into(),
        -4 => "ERR_RTE".into(),
        -2 => "ERR_BUF: no port is free".into(),
        -8 => "ERR_USE".into(),
        other => format!("error {other}"),
    }
}

impl Ends for Lwip {
    type Conn = [NonNull<Handle>; 2];
    type Begun = NonNull<Handle>;

    fn new(setup: Setup) -> Result<Lwip> {
        static ONCE: AtomicBool = AtomicBool::new(false);
        ensure!(setup.mtu == 1500, "Debian's build has TCP_MSS 1460");
        if !ONCE.swap(true, Ordering::Relaxed) {
            // SAFETY: called once, before all else of lwIP.
            let error = unsafe {
                peers_lwip_init(raw(CLIENT), raw(SERVER));
                peers_lwip_listen(PORT)
            };
            ensure!(error == 0, "listen: {}", name(error));
        }
        Ok(Lwip { since: Duration::ZERO })
    }

    fn open(&mut self) -> Result<Self::Conn> {
        let client = self.connect()?;
        self.carry()?;
        match self.accept(client)? {
            Some(server) => Ok([client, server]),
            None => bail!("not accepted"),
        }
    }

    fn send(&mut self, conn: Self::Conn, end: End, data: &[u8]) -> Result<usize> {
        // SAFETY: the end is open; the pointer and length are of one slice.
        match unsafe { peers_lwip_send(conn[end as usize], data.as_ptr().cast(), data.len()) } {
            n @ 0.. => Ok(n as usize),
            error => bail!("tcp_write: {}", name(error)),
        }
    }

    fn recv(&mut self, conn: Self::Conn, end: End, buf: &mut [u8]) -> Result<usize> {
        // SAFETY: as in `send`.
        match unsafe { peers_lwip_recv(conn[end as usize], buf.as_mut_ptr().cast(), buf.len()) } {
            n @ 0.. => Ok(n as usize),
            error => bail!("closed: {}", name(error)),
        }
    }

    fn carry(&mut self) -> Result<()> {
        // SAFETY: lwIP was initialised, and has one thread.
        unsafe { peers_lwip_carry() };
        Ok(())
    }

    fn close(&mut self, conn: Self::Conn) -> Result<()> {
        for end in conn {
            // SAFETY: each end is closed once: a work forgets what it closes.
            let error = unsafe { peers_lwip_close(end) };
            ensure!(error == 0, "tcp_close: {}", name(error));
            self.carry()?;
        }
        Ok(())
    }

    fn pass(&mut self, time: Duration) -> Result<()> {
        self.since += time;
        let ticks = (self.since.as_micros() / TICK.as_micros()) as u32;
        if ticks > 0 {
            self.since -= TICK * ticks;
            // SAFETY: lwIP was initialised, and has one thread.
            unsafe { peers_lwip_tick(ticks) };
            self.carry()?;
        }
        Ok(())
    }

    fn time_wait(&self) -> Option<Duration> {
        Some(Duration::from_secs(120))
    }

    fn inject(&mut self, packets: &[Packet]) -> Result<()> {
        for packet in packets {
            // SAFETY: the pointer and length are of one packet.
            unsafe { peers_lwip_inject(packet.as_ptr().cast(), packet.len() as u16) };
        }
        self.carry()
    }

    fn begin(&mut self) -> Result<Self::Begun> {
        let begun = self.connect()?;
        self.carry()?;
        Ok(begun)
    }

    fn finish(&mut self, begun: &mut Self::Begun) -> Result<Option<Self::Conn>> {
        Ok(self.accept(*begun)?.map(|server| [*begun, server]))
    }
}
