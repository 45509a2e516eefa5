//! An axum server and a hyper client, each on a stack of its own, a pipe in memory between them.
//!
//! `cargo run -p estab-tokio --features axum --example axum_and_hyper`

use axum::{Router, routing::get};
use estab_tokio::{Stack, TcpListener, TcpStream}; // was: tokio::net::{TcpListener, TcpStream}
use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;

type Error = Box<dyn std::error::Error>;

#[tokio::main]
async fn main() -> Result<(), Error> {
    let (left, right) = estab_device::Pipe::pair(1500, 1024, true);
    let server = Stack::builder().address("10.0.0.1/24").on_pipe(left)?;
    let client = Stack::builder().address("10.0.0.2/24").on_pipe(right)?;

    let listener = server.scope(TcpListener::bind("10.0.0.1:80")).await?;
    let router = Router::new().route("/", get(|| async { "hello from axum over estab\n" }));
    tokio::spawn(async move { axum::serve(listener, router).await });

    let stream = client.scope(TcpStream::connect("10.0.0.1:80")).await?;
    println!("connected: {stream:?}");
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let request = hyper::Request::builder()
        .uri("/")
        .header("host", "10.0.0.1")
        .body(Empty::<Bytes>::new())?;
    let response = sender.send_request(request).await?;
    println!("{}", response.status());
    print!(
        "{}",
        String::from_utf8_lossy(&response.into_body().collect().await?.to_bytes())
    );
    Ok(())
}
