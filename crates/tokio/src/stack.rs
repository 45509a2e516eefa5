//! The handle of a running stack, how to start one, and which one new sockets open on.

use crate::driver::{self, Link};
use crate::legacy::Legacy;
use crate::shared::Shared;
use estab_device::Device;
use estab_engine::{Config, CsumTx, IfaceConfig, IfaceId, Medium};
use std::cell::RefCell;
use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::{Arc, OnceLock};
use std::task::Poll;
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::sync::Notify;

/// A running stack. Clones are the same stack; it runs until the last clone and the last socket are gone and its
/// connections are through.
pub struct Stack {
    pub(crate) shared: Arc<Shared>,
}

thread_local! {
    static ENTERED: RefCell<Vec<Stack>> = const { RefCell::new(Vec::new()) };
}
static DEFAULT: OnceLock<Stack> = OnceLock::new();

impl Stack {
    /// What a stack needs to know before it starts.
    pub fn builder() -> Builder {
        Builder {
            addresses: Vec::new(),
            gateways: Vec::new(),
            seed: None,
            memory: 1 << 30,
            mtu: None,
            timewaits: None,
        }
    }

    /// Makes this stack the one on which sockets open wherever no other is entered.
    ///
    /// # Errors
    /// There is a default already: the stack comes back.
    pub fn set_default(self) -> Result<(), Stack> {
        DEFAULT.set(self)
    }

    /// Until the guard is dropped, sockets that this thread opens are this stack's. In async code that may move
    /// between threads use [`Stack::scope`].
    pub fn enter(&self) -> Entered {
        ENTERED.with(|stacks| stacks.borrow_mut().push(self.clone()));
        Entered {
            _of_this_thread: std::marker::PhantomData,
        }
    }

    /// Runs `future`; the sockets that it opens are this stack's.
    pub async fn scope<F: Future>(&self, future: F) -> F::Output {
        let mut future = pin!(future);
        std::future::poll_fn(|cx| -> Poll<F::Output> {
            let _entered = self.enter();
            future.as_mut().poll(cx)
        })
        .await
    }

    /// The stack on which a socket opens now.
    pub(crate) fn current() -> io::Result<Stack> {
        let entered = ENTERED.with(|stacks| stacks.borrow().last().cloned());
        entered.or_else(|| DEFAULT.get().cloned()).ok_or_else(|| {
            io::Error::other(
                "no estab stack here: open the socket within Stack::scope or Stack::enter, or call Stack::set_default",
            )
        })
    }

    /// Works with the engine itself: sysctls, counters, `diag`.
    pub fn with_engine<T>(&self, f: impl FnOnce(estab_engine::Instant, &mut estab_engine::Stack) -> T) -> T {
        let now = self.shared.now();
        let result = f(now, &mut self.shared.lock().engine);
        self.shared.kick.notify_one();
        result
    }
}

impl Clone for Stack {
    fn clone(&self) -> Stack {
        self.shared.lock().held += 1;
        Stack {
            shared: Arc::clone(&self.shared),
        }
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        self.shared.lock().held -= 1;
        self.shared.kick.notify_one();
    }
}

impl std::fmt::Debug for Stack {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stack").finish_non_exhaustive()
    }
}

/// The guard of [`Stack::enter`]. Guards end in the reverse order of their beginning.
#[derive(Debug)]
#[must_use = "the stack is entered only while the guard lives"]
pub struct Entered {
    _of_this_thread: std::marker::PhantomData<*const ()>,
}

impl Drop for Entered {
    fn drop(&mut self) {
        let stack = ENTERED.with(|stacks| stacks.borrow_mut().pop());
        drop(stack);
    }
}

/// A stack about to start.
#[derive(Clone, Debug)]
pub struct Builder {
    addresses: Vec<String>,
    gateways: Vec<String>,
    seed: Option<[u8; 32]>,
    memory: u64,
    mtu: Option<u32>,
    timewaits: Option<PathBuf>,
}

impl Builder {
    /// Gives the stack an address with its prefix: `10.0.0.1/24`, `fd00::1/64`. May be repeated.
    pub fn address(mut self, cidr: &str) -> Builder {
        self.addresses.push(cidr.to_string());
        self
    }

    /// The way to everywhere else: a neighbour's address. May be given once per family.
    pub fn gateway(mut self, addr: &str) -> Builder {
        self.gateways.push(addr.to_string());
        self
    }

    /// All randomness comes from `seed`, for runs that repeat; without it the system's.
    pub fn seed(mut self, seed: [u8; 32]) -> Builder {
        self.seed = Some(seed);
        self
    }

    /// Bytes of memory that the defaults Linux scales by RAM are scaled by; 1 GiB if not given.
    pub fn memory(mut self, bytes: u64) -> Builder {
        self.memory = bytes;
        self
    }

    /// Largest IP packet, at most what the device carries.
    pub fn mtu(mut self, bytes: u32) -> Builder {
        self.mtu = Some(bytes);
        self
    }

    /// The stack takes over the TIME_WAITs that its predecessor on the same addresses left in `file`, and leaves its own there
    /// when it ends, with the runtime at the latest: no old segment is taken for new. A file is taken once; there need be
    /// none. Where `estab.tcp_quiet_time` is set it holds only until they are taken over.
    pub fn timewaits(mut self, file: impl Into<PathBuf>) -> Builder {
        self.timewaits = Some(file.into());
        self
    }

    /// Starts the stack on one end of a pipe in memory. Must be called within a runtime.
    ///
    /// # Errors
    /// An address that can't be read, or no entropy.
    pub fn on_pipe(self, pipe: estab_device::Pipe) -> io::Result<Stack> {
        let ready = Arc::new(Notify::new());
        let hook = Arc::clone(&ready);
        pipe.on_ready(move || hook.notify_one());
        self.start(pipe, Link::Notified(ready))
    }

    /// Starts the stack on a TUN queue. Must be called within a runtime with I/O enabled.
    ///
    /// # Errors
    /// An address that can't be read, no entropy, or a descriptor that can't be polled.
    #[cfg(target_os = "linux")]
    #[allow(unsafe_code)]
    pub fn on_tun(self, tun: estab_device::Tun) -> io::Result<Stack> {
        use std::os::fd::AsFd;
        let fd = tun.as_fd().try_clone_to_owned()?;
        // SAFETY: the registration owns the descriptor, so that it stays open and the same as long as it is watched.
        let fd = unsafe { tokio::io::unix::AsyncFd::register(fd)? };
        self.start(tun, Link::Fd(fd))
    }

    /// Starts the stack on any device; `ready` is notified when it has packets, or room after `WouldBlock`.
    ///
    /// # Errors
    /// An address that can't be read, or no entropy.
    pub fn on_device(self, device: impl Device + Send + 'static, ready: Arc<Notify>) -> io::Result<Stack> {
        self.start(device, Link::Notified(ready))
    }

    fn start(self, device: impl Device + Send + 'static, link: Link) -> io::Result<Stack> {
        let mut seed = [0; 32];
        match self.seed {
            Some(given) => seed = given,
            None => getrandom::fill(&mut seed).map_err(io::Error::other)?,
        }
        let unix_time = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
        let config = Config {
            seed,
            memory: self.memory,
            unix_time,
        };
        let iface = IfaceConfig {
            name: "estab0",
            mtu: self.mtu.unwrap_or(u32::MAX).min(device.mtu()),
            medium: Medium::Ip,
            gso_max_size: device.gso_max_size(),
            csum_offload: device.csum_offload(),
            transparent: false,
        };
        let shared = Arc::new(Shared::new(|now| estab_engine::Stack::new(now, config)));
        let iface = configure(&mut shared.lock().engine, iface, &self.addresses, &self.gateways)?;
        shared.lock().held = 1;
        let legacy = match self.timewaits {
            Some(file) => Some(Legacy::of(&shared, file)?),
            None => None,
        };
        tokio::spawn(driver::run(Arc::clone(&shared), device, link, iface, legacy));
        Ok(Stack { shared })
    }
}

fn configure(
    engine: &mut estab_engine::Stack,
    iface: IfaceConfig,
    addresses: &[String],
    gateways: &[String],
) -> io::Result<IfaceId> {
    let wrong = |text: String| io::Error::new(io::ErrorKind::InvalidInput, text);
    let refused = |what: &str, e| wrong(format!("{what}: {e}"));
    let iface = engine.add_iface(iface);
    for cidr in addresses {
        let bad = || {
            wrong(format!(
                "{cidr:?} is not an address with a prefix length, like 10.0.0.1/24 or fd00::1/64"
            ))
        };
        let (addr, prefix) = cidr.split_once('/').ok_or_else(bad)?;
        let (addr, prefix): (IpAddr, u8) = (addr.parse().map_err(|_| bad())?, prefix.parse().map_err(|_| bad())?);
        engine.add_addr(iface, addr, prefix).map_err(|e| refused(cidr, e))?;
    }
    for gateway in gateways {
        let via: IpAddr = gateway
            .parse()
            .map_err(|_| wrong(format!("{gateway:?} is not an IP address")))?;
        let everywhere = match via {
            IpAddr::V4(_) => IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED),
            IpAddr::V6(_) => IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED),
        };
        engine
            .add_route(everywhere, 0, Some(via), iface)
            .map_err(|e| refused(gateway, e))?;
    }
    Ok(iface)
}

/// What the device is told of a packet's checksum.
pub(crate) fn tx_csum(csum: CsumTx) -> estab_device::TxCsum {
    match csum {
        CsumTx::Full => estab_device::TxCsum::Full,
        CsumTx::Partial { start, offset } => estab_device::TxCsum::Partial { start, offset },
    }
}
