//! Programs written for tokio::net find what they know: on two stacks with a pipe between them, on virtual time.

use estab_engine::proto::State;
use estab_tokio::{Stack, TcpListener, TcpSocket, TcpStream, UdpSocket};
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

fn pair() -> (Stack, Stack) {
    let (a, b) = estab_device::Pipe::pair(1500, 256, true);
    let stack = |n: u8, pipe| {
        let builder = Stack::builder().seed([n; 32]);
        builder
            .address(&format!("10.0.0.{n}/24"))
            .address(&format!("fd00::{n}/64"))
            .on_pipe(pipe)
            .unwrap()
    };
    (stack(1, a), stack(2, b))
}

async fn connected(server: &Stack, client: &Stack, addr: &str) -> (TcpStream, TcpStream) {
    let listener = server.scope(TcpListener::bind(addr)).await.unwrap();
    let connect = client.scope(TcpStream::connect(addr));
    let (accepted, connected) = tokio::join!(listener.accept(), connect);
    (accepted.unwrap().0, connected.unwrap())
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 31 + i / 251) as u8).collect()
}

/// Connections, requests and listeners that a stack still knows, TIME_WAITs apart.
fn alive(stack: &Stack) -> Vec<State> {
    stack.with_engine(|now, engine| {
        engine
            .diag(now)
            .map(|s| s.state)
            .filter(|s| *s != State::TimeWait)
            .collect()
    })
}

fn in_all(stack: &Stack) -> usize {
    stack.with_engine(|now, engine| engine.diag(now).count())
}

#[tokio::test(start_paused = true)]
async fn megabytes_pass_both_ways_at_once_and_end_in_order() {
    let (a, b) = pair();
    for addr in ["10.0.0.1:80", "[fd00::1]:80"] {
        let (server, client) = connected(&a, &b, addr).await;
        assert_eq!(server.local_addr().unwrap(), client.peer_addr().unwrap());
        let data = pattern(3_000_000);
        let swap = |stream: TcpStream, data: Vec<u8>| async move {
            let (mut read, mut write) = stream.into_split();
            let sender = tokio::spawn(async move {
                write.write_all(&data).await.unwrap();
                write.shutdown().await.unwrap();
            });
            let mut got = Vec::new();
            read.read_to_end(&mut got).await.unwrap();
            sender.await.unwrap();
            got
        };
        let (at_server, at_client) = tokio::join!(
            tokio::spawn(swap(server, data.clone())),
            tokio::spawn(swap(client, data.clone()))
        );
        assert!(at_server.unwrap() == data && at_client.unwrap() == data);
    }
}

#[tokio::test(start_paused = true)]
async fn a_dropped_stream_delivers_what_was_written() {
    let (a, b) = pair();
    let (mut server, mut client) = connected(&a, &b, "10.0.0.1:80").await;
    let data = pattern(50_000);
    client.write_all(&data).await.unwrap();
    drop(client);
    let mut got = Vec::new();
    server.read_to_end(&mut got).await.unwrap();
    assert!(got == data);
}

#[tokio::test(start_paused = true)]
async fn after_half_close_the_other_half_goes_on() {
    let (a, b) = pair();
    let (mut server, mut client) = connected(&a, &b, "10.0.0.1:80").await;
    client.write_all(b"question").await.unwrap();
    client.shutdown().await.unwrap();
    let mut question = String::new();
    server.read_to_string(&mut question).await.unwrap();
    let answer = pattern(1_000_000);
    let writer = tokio::spawn({
        let answer = answer.clone();
        async move { server.write_all(&answer).await.unwrap() }
    });
    let mut got = Vec::new();
    client.read_to_end(&mut got).await.unwrap();
    writer.await.unwrap();
    assert!(question == "question" && got == answer);
}

#[tokio::test(start_paused = true)]
async fn a_zero_linger_and_unread_data_reset() {
    let (a, b) = pair();
    let (mut server, client) = connected(&a, &b, "10.0.0.1:80").await;
    client.set_linger(Some(Duration::ZERO)).unwrap();
    assert_eq!(client.linger().unwrap(), Some(Duration::ZERO));
    drop(client);
    assert_eq!(
        server.read(&mut [0; 10]).await.unwrap_err().kind(),
        ErrorKind::ConnectionReset
    );

    let (server, mut client) = connected(&a, &b, "10.0.0.1:81").await;
    client.write_all(b"never read").await.unwrap();
    server.readable().await.unwrap();
    drop(server);
    assert_eq!(
        client.read(&mut [0; 10]).await.unwrap_err().kind(),
        ErrorKind::ConnectionReset
    );
}

#[tokio::test(start_paused = true)]
async fn a_closed_port_refuses_and_a_silent_host_times_out() {
    let (a, b) = pair();
    let refused = b.scope(TcpStream::connect("10.0.0.1:80")).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    let started = tokio::time::Instant::now();
    let silent = b.scope(TcpStream::connect("10.0.0.77:80")).await.unwrap_err();
    assert_eq!(silent.kind(), ErrorKind::TimedOut);
    assert_eq!(
        started.elapsed().as_secs(),
        131,
        "SYNs at 0,1,2,3,4,5,7,11,19,35,67 s, then 64 s more"
    );
    drop(a);
}

#[tokio::test(start_paused = true)]
async fn nothing_stays_behind_but_time_waits_that_expire() {
    let (a, b) = pair();
    let listener = a.scope(TcpListener::bind("10.0.0.1:80")).await.unwrap();
    let server = tokio::spawn(async move {
        for _ in 0..500 {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_all(b"bye").await.unwrap();
        }
        listener
    });
    let before = b.with_engine(|_, engine| engine.memory_used());
    for _ in 0..500 {
        let mut stream = b.scope(TcpStream::connect("10.0.0.1:80")).await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "bye");
    }
    drop(server.await.unwrap());
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!((alive(&a), alive(&b)), (vec![], vec![]));
    assert_eq!(
        in_all(&a) + in_all(&b),
        500,
        "each connection leaves one TIME_WAIT, at the side that closed first"
    );
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!((in_all(&a), in_all(&b)), (0, 0));
    assert!(b.with_engine(|_, engine| engine.memory_used()) <= before + 4096);
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_never_reads_holds_the_writer_back() {
    let (a, b) = pair();
    let (server, client) = connected(&a, &b, "10.0.0.1:80").await;
    let chunk = [7; 65536];
    let mut written = 0;
    while tokio::time::timeout(Duration::from_secs(10), client.writable())
        .await
        .is_ok()
    {
        while let Ok(n) = client.try_write(&chunk) {
            written += n;
        }
    }
    assert!((100_000..20_000_000).contains(&written), "{written}");
    drop(server);
}

#[tokio::test(start_paused = true)]
async fn options_and_socket_errors_are_tokio_s() {
    let (a, b) = pair();
    let (server, client) = connected(&a, &b, "10.0.0.1:80").await;
    assert!(!client.nodelay().unwrap());
    client.set_nodelay(true).unwrap();
    assert!(client.nodelay().unwrap());
    assert_eq!(client.try_read(&mut [0; 1]).unwrap_err().kind(), ErrorKind::WouldBlock);
    assert!(client.info().unwrap().snd_mss > 1_000);
    let occupied = {
        let _on = a.enter();
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("10.0.0.1:80".parse().unwrap())
    };
    assert_eq!(occupied.unwrap_err().kind(), ErrorKind::AddrInUse);
    let no_stack = TcpStream::connect("10.0.0.1:80").await.unwrap_err();
    assert!(no_stack.to_string().contains("Stack::scope"), "{no_stack}");
    drop(server);
}

#[tokio::test(start_paused = true)]
async fn datagrams_and_their_errors_arrive() {
    let (a, b) = pair();
    let server = a.scope(UdpSocket::bind("10.0.0.1:53")).await.unwrap();
    let client = b.scope(UdpSocket::bind("10.0.0.2:0")).await.unwrap();
    client.send_to(b"who", "10.0.0.1:53").await.unwrap();
    let mut buf = [0; 10_000];
    let (n, from) = server.recv_from(&mut buf).await.unwrap();
    assert_eq!((&buf[..n], from), (&b"who"[..], client.local_addr().unwrap()));
    let large = pattern(8_000);
    server.send_to(&large, from).await.unwrap();
    let (n, from) = client.recv_from(&mut buf).await.unwrap();
    assert_eq!(
        (&buf[..n], from),
        (&large[..], "10.0.0.1:53".parse::<SocketAddr>().unwrap()),
        "in fragments"
    );
    client.connect("10.0.0.1:54").await.unwrap();
    client.send(b"nobody").await.unwrap();
    assert_eq!(
        client.recv(&mut buf).await.unwrap_err().kind(),
        ErrorKind::ConnectionRefused
    );
}

#[tokio::test(start_paused = true)]
async fn ports_that_run_out_are_told_with_the_destination() {
    let (a, b) = pair();
    b.with_engine(|_, engine| engine.set_sysctl("net.ipv4.ip_local_port_range", "40000 40000"))
        .unwrap();
    let (_server, _client) = connected(&a, &b, "10.0.0.1:80").await;
    let error = b.scope(TcpStream::connect("10.0.0.1:80")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AddrNotAvailable);
    assert!(error.to_string().contains("towards 10.0.0.1:80"), "{error}");
    // Towards another destination the port is free.
    let (_server, _client) = connected(&a, &b, "10.0.0.1:81").await;
}

#[tokio::test(start_paused = true)]
async fn a_stack_leaves_its_time_waits_to_the_next() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("timewaits");
    let start = |pipe| {
        let builder = Stack::builder().seed([1; 32]).address("10.0.0.1/24");
        builder.timewaits(&file).on_pipe(pipe)
    };
    let (near, far) = estab_device::Pipe::pair(1500, 256, true);
    let a = start(near).unwrap();
    let b = Stack::builder()
        .seed([2; 32])
        .address("10.0.0.2/24")
        .on_pipe(far)
        .unwrap();
    let (mut server, client) = connected(&a, &b, "10.0.0.1:80").await;
    server.shutdown().await.unwrap();
    tokio::time::sleep(Duration::from_millis(10)).await;
    drop((client, server, a));
    let left = async {
        while !file.exists() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), left).await.unwrap();
    let (near, _far) = estab_device::Pipe::pair(1500, 256, true);
    let next = start(near).unwrap();
    let states: Vec<State> = next.with_engine(|now, engine| engine.diag(now).map(|s| s.state).collect());
    assert_eq!(states, [State::TimeWait]);
    assert!(!file.exists(), "it is taken once");
    std::fs::write(&file, "something else").unwrap();
    let (near, _far) = estab_device::Pipe::pair(1500, 256, true);
    let error = start(near).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidData);
    assert!(error.to_string().contains("timewaits: no TIME_WAITs"), "{error}");
}
