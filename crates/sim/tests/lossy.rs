//! estab and the kernel's TCP on two ends of a bad link, on real time: nothing is lost.
//!
//! The kernel's end is a TUN in a network namespace of the test's own. `ESTAB_LOSSY_MB=100` moves more than CI's 10.

#![cfg(target_os = "linux")]

mod namespace;

use estab_device::Pipe;
use estab_sim::{Bridge, LinkConfig};
use estab_tokio::{Stack, TcpStream};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

fn bad_link(seed: u64) -> LinkConfig {
    LinkConfig {
        delay: Duration::from_millis(20),
        loss: 0.02,
        reorder: 0.05,
        seed,
        ..Default::default()
    }
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len as u64)
        .map(|i| (i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8)
        .collect()
}

fn exchange(megabytes: usize) -> Result<(), String> {
    let tun = namespace::tun()?;
    let data = pattern(megabytes << 20);
    let listener = TcpListener::bind("10.9.0.1:80").map_err(|e| e.to_string())?;
    let answer = data.clone();
    // The kernel's side: takes everything, then sends the same back.
    let kernel = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut got = Vec::new();
        stream.read_to_end(&mut got).unwrap();
        stream.write_all(&answer).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        got
    });
    let (near, far) = Pipe::pair(1500, 4096, false);
    let bridge = Bridge::start(far, tun, bad_link(1), bad_link(2)).map_err(|e| e.to_string())?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    // The stack stays until the bridge has stopped: a late packet must find it.
    let (back, _stack) = runtime.block_on(async {
        let stack = Stack::builder().address("10.9.0.2/24").on_pipe(near).unwrap();
        let mut stream = stack.scope(TcpStream::connect("10.9.0.1:80")).await.unwrap();
        stream.write_all(&data).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut back = Vec::new();
        stream.read_to_end(&mut back).await.unwrap();
        (back, stack)
    });
    let there = kernel.join().unwrap();
    let (out, home) = bridge.stop().map_err(|e| e.to_string())?;
    assert!(there == data, "estab → Linux");
    assert!(back == data, "Linux → estab");
    assert!(
        out.lost > 0 && home.lost > 0 && out.reordered > 0 && home.reordered > 0,
        "{out:?} {home:?}"
    );
    Ok(())
}

#[test]
fn estab_and_linux_understand_each_other_over_a_bad_link() {
    let megabytes = std::env::var("ESTAB_LOSSY_MB").map_or(10, |mb| mb.parse().expect("ESTAB_LOSSY_MB is a number"));
    namespace::within(move || exchange(megabytes));
}
