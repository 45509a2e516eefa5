//! One HTTP/JSON API per running stack, on a Unix socket: the CLI, a web page and Prometheus all use it.
//!
//! | request | answer |
//! |---|---|
//! | `GET /v1/about` | [`About`] |
//! | `GET /v1/sockets` | [`Sockets`]: every connection, request, listener and TIME_WAIT |
//! | `GET /v1/counters` | [`Counters`]: by nstat's names |
//! | `GET /v1/sysctl/NAME` | [`Sysctl`] |
//! | `PUT /v1/sysctl/NAME` | sets it to the request's body; [`Sysctl`] |
//!
//! Whoever runs a stack implements [`Inspect`] and calls [`serve`]; a [`Client`] asks.
//! The socket has mode 0600 and lies in a folder of mode 0700 (see [`path`]).
#![forbid(unsafe_code)]

mod client;
pub mod path;
mod server;

pub use client::{Client, ClientError};
pub use server::{Server, serve};

use estab_proto::SockDiag;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The version of the JSON shapes; it grows when a field changes its meaning or goes.
pub const SCHEMA: u32 = 1;

/// What a running stack tells of itself.
pub trait Inspect: Send + Sync + 'static {
    /// Every socket, request, connection and TIME_WAIT.
    fn sockets(&self) -> Vec<SockDiag>;
    /// Every counter that is not zero, by nstat's name.
    fn counters(&self) -> BTreeMap<String, u64>;
    /// A sysctl's value, or `None` when there is no such key.
    fn sysctl(&self, name: &str) -> Option<String>;
    /// Sets a sysctl, or says why not.
    fn set_sysctl(&self, name: &str, value: &str) -> Result<(), String>;
}

/// Who answers.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct About {
    /// [`SCHEMA`]
    pub schema: u32,
    /// What runs the stack: `gateway`.
    pub role: String,
    /// Its process.
    pub pid: u32,
    /// estab's version.
    pub version: String,
    /// What it was started for: the command line.
    pub command: Vec<String>,
}

/// Every socket of a stack.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Sockets {
    /// [`SCHEMA`]
    pub schema: u32,
    /// Every connection, request, listener and TIME_WAIT.
    pub sockets: Vec<SockDiag>,
}

/// The counters that are not zero.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Counters {
    /// [`SCHEMA`]
    pub schema: u32,
    /// By nstat's name.
    pub counters: BTreeMap<String, u64>,
}

/// One sysctl.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Sysctl {
    /// [`SCHEMA`]
    pub schema: u32,
    /// Its name, with dots.
    pub name: String,
    /// Its value, as /proc/sys shows it.
    pub value: String,
}

/// Why a request was refused; the body of an answer that is not 200.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Refusal {
    /// One sentence.
    pub error: String,
}
