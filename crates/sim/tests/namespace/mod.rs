//! A network namespace of a test's own, with a TUN behind which the kernel's TCP is 10.9.0.1.

use estab_device::{Offloads, Tun, TunConfig};
use std::process::Command;

/// Runs a test that [`tun`] may keep from running: in a thread of its own, since the namespace goes with it.
pub(crate) fn within(test: impl FnOnce() -> Result<(), String> + Send + 'static) {
    let result = std::thread::spawn(test).join().expect("both ends end in order");
    if let Err(why) = result {
        assert!(std::env::var_os("CI").is_none(), "can't run: {why}");
        eprintln!("skipped: {why} (needs root)");
    }
}

fn sh(command: &str) {
    let status = Command::new("sh")
        .args(["-ec", command])
        .status()
        .expect("sh can be run");
    assert!(status.success(), "{command}: {status}");
}

/// A TUN in a new network namespace that the calling thread enters for good, or why there is none.
pub(crate) fn tun() -> Result<Tun, String> {
    use rustix::thread::{UnshareFlags, unshare_unsafe};
    // SAFETY: a network namespace is the thread's own affair; nothing in memory is unshared.
    unsafe { unshare_unsafe(UnshareFlags::NEWNET) }.map_err(|e| format!("no network namespace: {e}"))?;
    let offloads = Offloads {
        csum: false,
        tso: false,
        uso: false,
    };
    let config = TunConfig {
        name: "tun0".into(),
        layer: Default::default(),
        mtu: 1500,
        offloads,
        persist: false,
    };
    let tun = Tun::open(&config, 1)
        .map_err(|e| format!("/dev/net/tun: {e}"))?
        .remove(0);
    sh("ip link set lo up; ip link set tun0 up mtu 1500; ip addr add 10.9.0.1/24 dev tun0");
    Ok(tun)
}
