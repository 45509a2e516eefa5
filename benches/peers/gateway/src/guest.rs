//! The guest's end: reads one work a line, does it, and prints its figures, or why not.

use crate::{host, server};
use anyhow::{Context, Result, bail};
use std::io::{BufRead, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

/// Longest a connection may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Serves until standard input ends.
pub fn serve(to: Ipv4Addr) -> Result<()> {
    server::raise_descriptor_limit();
    host::wide_port_range();
    let mut held = Vec::new();
    println!("ready");
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let words: Vec<&str> = line.split_whitespace().collect();
        let number = |n: usize| words.get(n).and_then(|w| w.parse::<u64>().ok()).unwrap_or(1);
        let echo = SocketAddr::from((to, server::ECHO));
        let figures = match words.first().copied().unwrap_or_default() {
            "iperf" => iperf(to, number(1), number(2), words.last() == Some(&"down")),
            "wrk" => wrk(to, number(1)),
            "connect" => connect(echo, number(1)),
            "rr" => request_reply(echo, number(1)),
            "reach" => open(echo).map(|_| Vec::new()),
            "idle" => (0..number(1))
                .map(|_| open(echo))
                .collect::<Result<_>>()
                .map(|all: Vec<_>| {
                    held = all;
                    Vec::new()
                }),
            "drop" => {
                held.clear();
                Ok(Vec::new())
            }
            other => bail!("no such work: {other}"),
        };
        match figures {
            Ok(figures) => println!("{}", figures.iter().map(f64::to_string).collect::<Vec<_>>().join(" ")),
            Err(err) => println!("failed: {}", format!("{err:#}").replace('\n', " ")),
        }
    }
    Ok(())
}

/// Gbit/s, and Gbit received in all.
fn iperf(to: Ipv4Addr, seconds: u64, streams: u64, down: bool) -> Result<Vec<f64>> {
    let mut iperf = Command::new("timeout");
    iperf
        .arg((seconds + 5).to_string())
        .args(["iperf3", "-J", "-c"])
        .arg(to.to_string());
    iperf.args(["-t", &seconds.to_string(), "-P", &streams.to_string()]);
    if down {
        iperf.arg("-R");
    }
    let out = iperf.output().context("cannot run iperf3")?;
    let json: serde_json::Value = serde_json::from_slice(&out.stdout).context("iperf3 said nothing in time")?;
    if let Some(error) = json["error"].as_str() {
        bail!("iperf3: {error}");
    }
    let sum = &json["end"]["sum_received"];
    let figure = |name: &str| sum[name].as_f64().with_context(|| format!("iperf3 told no {name}"));
    Ok(vec![figure("bits_per_second")? / 1e9, figure("bytes")? * 8.0 / 1e9])
}

/// Connections per second, how many in all, and how many failed.
fn wrk(to: Ipv4Addr, seconds: u64) -> Result<Vec<f64>> {
    let out = Command::new("timeout")
        .arg((seconds + 5).to_string())
        .args(["wrk", "-t2", "-c16", &format!("-d{seconds}"), "-H", "Connection: close"])
        .arg(format!("http://{to}:{}/", server::WEB))
        .output()
        .context("cannot run wrk")?;
    let text = String::from_utf8_lossy(&out.stdout);
    let number_after = |what: &str| {
        let rest = &text[text.find(what)? + what.len()..];
        rest.split_whitespace()
            .next()?
            .trim_end_matches(',')
            .parse::<f64>()
            .ok()
    };
    let rate = number_after("Requests/sec:").with_context(|| format!("wrk said {text:?}"))?;
    let total = text
        .lines()
        .find_map(|l| l.trim().split_once(" requests in")?.0.parse().ok());
    let errors = ["Socket errors: connect", "read", "write", "timeout"];
    let failed: f64 = match text.contains("Socket errors") {
        true => errors.iter().filter_map(|what| number_after(what)).sum(),
        false => 0.0,
    };
    Ok(vec![rate, total.unwrap_or(0.0), failed])
}

fn open(echo: SocketAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&echo, PATIENCE)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// The time that each `op` took within `seconds`, µs, in order of size.
fn timed(seconds: u64, mut op: impl FnMut() -> Result<()>) -> Result<Vec<f64>> {
    let begin = Instant::now();
    let mut times = Vec::new();
    while begin.elapsed() < Duration::from_secs(seconds) {
        let one = Instant::now();
        op()?;
        times.push(one.elapsed().as_nanos() as f64 / 1000.0);
    }
    times.sort_by(f64::total_cmp);
    Ok(times)
}

fn percentile(sorted: &[f64], p: usize) -> f64 {
    sorted
        .get((sorted.len() * p / 100).min(sorted.len().saturating_sub(1)))
        .copied()
        .unwrap_or(f64::NAN)
}

fn connect(echo: SocketAddr, seconds: u64) -> Result<Vec<f64>> {
    let times = timed(seconds, || {
        let mut stream = open(echo)?;
        stream.write_all(b"x")?;
        Ok(stream.read_exact(&mut [0])?)
    })?;
    Ok(vec![percentile(&times, 50)])
}

fn request_reply(echo: SocketAddr, seconds: u64) -> Result<Vec<f64>> {
    let mut stream = open(echo)?;
    let mut buf = [0; 64];
    let times = timed(seconds, || {
        stream.write_all(&buf)?;
        Ok(stream.read_exact(&mut buf)?)
    })?;
    Ok(vec![percentile(&times, 50), percentile(&times, 99)])
}
