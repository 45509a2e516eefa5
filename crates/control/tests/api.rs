//! A client finds a running stack and gets what it asked for, or a sentence that says why not.

use estab_control::{About, Client, ClientError, Inspect, SCHEMA, path, serve};
use estab_proto::{SockDiag, State, TcpInfo, TimerInfo, TimerKind};
use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::{Arc, Mutex};

#[derive(Default)]
struct Stack {
    syn_retries: Mutex<String>,
}

impl Inspect for Stack {
    fn sockets(&self) -> Vec<SockDiag> {
        vec![SockDiag {
            protocol: 6,
            state: State::FinWait1,
            local: "10.0.2.2:80".parse().unwrap(),
            remote: "[fd00::1]:4000".parse().unwrap(),
            recv_q: 1,
            send_q: 2,
            timer: Some(TimerInfo {
                kind: TimerKind::Retransmit,
                expires_in_ns: 200_000_000,
                retries: 3,
            }),
            id: 9,
            orphan: true,
            info: Some(TcpInfo {
                rtt: 77,
                ..Default::default()
            }),
        }]
    }
    fn counters(&self) -> BTreeMap<String, u64> {
        BTreeMap::from([("TcpActiveOpens".to_string(), 5)])
    }
    fn sysctl(&self, name: &str) -> Option<String> {
        (name == "net.ipv4.tcp_syn_retries").then(|| self.syn_retries.lock().unwrap().clone())
    }
    fn set_sysctl(&self, _: &str, value: &str) -> Result<(), String> {
        value
            .parse::<u8>()
            .map_err(|_| format!("tcp_syn_retries: {value:?} is not a number from 1 to 127"))?;
        *self.syn_retries.lock().unwrap() = value.to_string();
        Ok(())
    }
}

fn start(dir: &Path, pid: u32) -> estab_control::Server {
    let about = About {
        schema: SCHEMA,
        role: "gateway".into(),
        pid,
        version: "0".into(),
        command: vec!["true".into()],
    };
    serve(dir, about, Arc::new(Stack::default())).unwrap()
}

#[test]
fn sockets_counters_and_sysctls_arrive_whole() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("estab");
    let server = start(&dir, 1);
    assert_eq!(server.socket().metadata().unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(dir.metadata().unwrap().permissions().mode() & 0o777, 0o700);
    let client = Client::find(&dir, None).unwrap();
    assert_eq!(client.about().unwrap().command, ["true"]);
    let sockets = client.sockets().unwrap().sockets;
    assert_eq!(sockets[0].state, State::FinWait1);
    assert_eq!(
        sockets[0].timer,
        Some(TimerInfo {
            kind: TimerKind::Retransmit,
            expires_in_ns: 200_000_000,
            retries: 3
        })
    );
    assert_eq!(sockets[0].info.unwrap().rtt, 77);
    assert_eq!(client.counters().unwrap().counters["TcpActiveOpens"], 5);
    assert_eq!(client.set_sysctl("net.ipv4.tcp_syn_retries", "4").unwrap().value, "4");
    assert_eq!(client.sysctl("net.ipv4.tcp_syn_retries").unwrap().value, "4");
    let refused = client.set_sysctl("net.ipv4.tcp_syn_retries", "many").unwrap_err();
    assert!(
        refused.to_string().contains("is not a number from 1 to 127"),
        "{refused}"
    );
    let unknown = client.sysctl("net.ipv4.nope").unwrap_err();
    assert!(unknown.to_string().contains("no such sysctl"), "{unknown}");
}

#[test]
fn a_client_says_which_stacks_run() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("estab");
    assert!(matches!(Client::find(&dir, None), Err(ClientError::None(_))));
    let one = start(&dir, 1);
    let two = start(&dir, 2);
    assert!(matches!(Client::find(&dir, None), Err(ClientError::Several(pids)) if pids == [1, 2]));
    assert!(Client::find(&dir, Some(2)).is_ok());
    assert!(matches!(Client::find(&dir, Some(3)), Err(ClientError::NoSuch(3, _))));
    drop(two);
    assert!(Client::find(&dir, None).is_ok());
    drop(one);
    assert!(matches!(Client::find(&dir, None), Err(ClientError::None(_))));
}

#[test]
fn a_folder_that_others_may_enter_is_refused() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("estab");
    std::fs::create_dir(&dir).unwrap();
    std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o755)).unwrap();
    let error = path::prepare(&dir).unwrap_err();
    assert!(error.to_string().contains("belongs to you alone"), "{error}");
}
