//! The asking side, blocking: what a command-line tool needs.

use crate::{About, Counters, Refusal, Sockets, Sysctl, path};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long a stack may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Asks one running stack.
#[derive(Clone, Debug)]
pub struct Client {
    socket: PathBuf,
}

/// Why a stack could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody runs one.
    #[error("no estab stack is running (looked in {}): start one with `estab gateway -- CMD`", .0.display())]
    None(PathBuf),
    /// There are several and none was named.
    #[error("several estab stacks are running: name one with --pid ({})", list(.0))]
    Several(Vec<u32>),
    /// There is none with that process number.
    #[error("no estab stack runs in process {0}; running: {list}", list = list(.1))]
    NoSuch(u32, Vec<u32>),
    /// The socket failed.
    #[error("{}: {}", .0.display(), .1)]
    Io(PathBuf, io::Error),
    /// The stack did not answer in time.
    #[error("{}: no answer within {} s", .0.display(), PATIENCE.as_secs())]
    Silent(PathBuf),
    /// The answer was not HTTP or not the JSON expected.
    #[error("{}: not an answer this version understands: {}", .0.display(), .1)]
    Garbled(PathBuf, String),
    /// The stack said no.
    #[error("{0}")]
    Refused(String),
}

fn list(pids: &[u32]) -> String {
    match pids {
        [] => "none".to_string(),
        _ => pids.iter().map(u32::to_string).collect::<Vec<_>>().join(", "),
    }
}

impl Client {
    /// The stack that process `pid` runs, or the only one there is.
    pub fn find(dir: &Path, pid: Option<u32>) -> Result<Client, ClientError> {
        let sockets = path::list(dir).map_err(|e| ClientError::Io(dir.to_path_buf(), e))?;
        // A refused connect means that its process is gone without having tidied up.
        let mut alive: Vec<PathBuf> = sockets
            .into_iter()
            .filter(|s| std::os::unix::net::UnixStream::connect(s).is_ok())
            .collect();
        let pids = || alive.iter().filter_map(|s| path::pid_of(s)).collect::<Vec<_>>();
        if let Some(pid) = pid {
            let found = alive.iter().find(|socket| path::pid_of(socket) == Some(pid));
            return match found {
                Some(socket) => Ok(Client { socket: socket.clone() }),
                None => Err(ClientError::NoSuch(pid, pids())),
            };
        }
        match alive.len() {
            0 => Err(ClientError::None(dir.to_path_buf())),
            1 => Ok(Client {
                socket: alive.remove(0),
            }),
            _ => Err(ClientError::Several(pids())),
        }
    }

    /// Who answers.
    pub fn about(&self) -> Result<About, ClientError> {
        self.ask(Method::GET, "/v1/about", String::new())
    }

    /// Every connection, request, listener and TIME_WAIT.
    pub fn sockets(&self) -> Result<Sockets, ClientError> {
        self.ask(Method::GET, "/v1/sockets", String::new())
    }

    /// The counters that are not zero.
    pub fn counters(&self) -> Result<Counters, ClientError> {
        self.ask(Method::GET, "/v1/counters", String::new())
    }

    /// A sysctl's value.
    pub fn sysctl(&self, name: &str) -> Result<Sysctl, ClientError> {
        self.ask(Method::GET, &format!("/v1/sysctl/{name}"), String::new())
    }

    /// Sets a sysctl.
    pub fn set_sysctl(&self, name: &str, value: &str) -> Result<Sysctl, ClientError> {
        self.ask(Method::PUT, &format!("/v1/sysctl/{name}"), value.to_string())
    }

    fn ask<T: DeserializeOwned>(&self, method: Method, url: &str, body: String) -> Result<T, ClientError> {
        let io_error = |e| ClientError::Io(self.socket.clone(), e);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(io_error)?;
        let exchange = async { tokio::time::timeout(PATIENCE, self.exchange(method, url, body)).await };
        let (status, bytes) = runtime
            .block_on(exchange)
            .map_err(|_| ClientError::Silent(self.socket.clone()))??;
        if status == StatusCode::OK {
            return serde_json::from_slice(&bytes).map_err(|e| self.garbled(e));
        }
        match serde_json::from_slice::<Refusal>(&bytes) {
            Ok(refusal) => Err(ClientError::Refused(refusal.error)),
            Err(_) => Err(self.garbled(status)),
        }
    }

    async fn exchange(&self, method: Method, url: &str, body: String) -> Result<(StatusCode, Bytes), ClientError> {
        let stream = tokio::net::UnixStream::connect(&self.socket)
            .await
            .map_err(|e| ClientError::Io(self.socket.clone(), e))?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|e| self.garbled(e))?;
        let request = Request::builder()
            .method(method)
            .uri(url)
            .header("host", "estab")
            .body(Full::new(Bytes::from(body)))
            .map_err(|e| self.garbled(e))?;
        let answer = async {
            let response = sender.send_request(request).await.map_err(|e| self.garbled(e))?;
            let status = response.status();
            let bytes = response
                .into_body()
                .collect()
                .await
                .map_err(|e| self.garbled(e))?
                .to_bytes();
            Ok((status, bytes))
        };
        tokio::pin!(answer, connection);
        loop {
            tokio::select! {
                answer = &mut answer => return answer,
                ended = &mut connection => ended.map_err(|e| self.garbled(e))?,
            }
        }
    }

    fn garbled(&self, what: impl std::fmt::Display) -> ClientError {
        ClientError::Garbled(self.socket.clone(), what.to_string())
    }
}
