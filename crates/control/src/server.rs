//! The answering side: a thread of its own with a one-threaded runtime, away from the packets.

use crate::{About, Counters, Inspect, Refusal, SCHEMA, Sockets, Sysctl, path};
use axum::extract::{Path as UrlPath, State};
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A running API; dropping it removes the socket. Its thread ends with the process.
#[derive(Debug)]
pub struct Server {
    socket: PathBuf,
}

impl Server {
    /// Where it listens.
    pub fn socket(&self) -> &Path {
        &self.socket
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Gone already or not removable: nothing more can be done on the way out.
        let _ = fs::remove_file(&self.socket);
    }
}

/// Answers for `stack` on a socket in `dir` named after `about`'s role and process.
///
/// # Errors
/// The folder can't be made or isn't this user's alone, or the socket can't be bound.
pub fn serve(dir: &Path, about: About, stack: Arc<dyn Inspect>) -> io::Result<Server> {
    path::prepare(dir)?;
    let socket = path::socket(dir, &about.role, about.pid);
    // A socket with our own process number can only be a dead one's.
    match fs::remove_file(&socket) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let listener = UnixListener::bind(&socket)?;
    fs::set_permissions(&socket, Permissions::from_mode(0o600))?;
    listener.set_nonblocking(true)?;
    let router = router(about, stack);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build()?;
    std::thread::Builder::new().name("control".into()).spawn(move || {
        runtime.block_on(async {
            if let Ok(listener) = tokio::net::UnixListener::from_std(listener) {
                // axum retries failed accepts itself and only ends with the process.
                let _ = axum::serve(listener, router).await;
            }
        });
    })?;
    Ok(Server { socket })
}

type Stack = Arc<dyn Inspect>;
type Answer<T> = Result<Json<T>, (StatusCode, Json<Refusal>)>;

fn router(about: About, stack: Stack) -> Router {
    Router::new()
        .route("/v1/about", get(move || async move { Json(about) }))
        .route("/v1/sockets", get(sockets))
        .route("/v1/counters", get(counters))
        .route("/v1/sysctl/{name}", get(sysctl).put(set_sysctl))
        .with_state(stack)
}

async fn sockets(State(stack): State<Stack>) -> Json<Sockets> {
    Json(Sockets {
        schema: SCHEMA,
        sockets: stack.sockets(),
    })
}

async fn counters(State(stack): State<Stack>) -> Json<Counters> {
    Json(Counters {
        schema: SCHEMA,
        counters: stack.counters(),
    })
}

async fn sysctl(State(stack): State<Stack>, UrlPath(name): UrlPath<String>) -> Answer<Sysctl> {
    match stack.sysctl(&name) {
        Some(value) => Ok(Json(Sysctl {
            schema: SCHEMA,
            name,
            value,
        })),
        None => {
            let error = format!("{name}: this stack has no such sysctl");
            Err((StatusCode::NOT_FOUND, Json(Refusal { error })))
        }
    }
}

async fn set_sysctl(State(stack): State<Stack>, UrlPath(name): UrlPath<String>, value: String) -> Answer<Sysctl> {
    if let Err(error) = stack.set_sysctl(&name, value.trim()) {
        return Err((StatusCode::BAD_REQUEST, Json(Refusal { error })));
    }
    sysctl(State(stack), UrlPath(name)).await
}
