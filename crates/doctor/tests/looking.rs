//! The table and the census read as ss and netstat print them.

use estab_doctor::census::Census;
use estab_doctor::filter::Filter;
use estab_doctor::socket::Socket;
use estab_doctor::ss::{Select, View, render};
use estab_doctor::states::{ARROWS, diagram};
use estab_proto::diag::{BbrInfo, CcName};
use estab_proto::state::allowed;
use estab_proto::{SockDiag, State, TcpInfo, TimerInfo, TimerKind};

fn socket(state: State, local: &str, remote: &str) -> SockDiag {
    SockDiag {
        protocol: 6,
        state,
        local: local.parse().unwrap(),
        remote: remote.parse().unwrap(),
        recv_q: 0,
        send_q: 0,
        timer: None,
        id: 1,
        orphan: false,
        info: None,
    }
}

fn sockets() -> Vec<SockDiag> {
    let timer = |kind, ms: u64, retries| {
        Some(TimerInfo {
            kind,
            expires_in_ns: ms * 1_000_000,
            retries,
        })
    };
    vec![
        SockDiag {
            send_q: 128,
            ..socket(State::Listen, "0.0.0.0:80", "0.0.0.0:0")
        },
        SockDiag {
            timer: timer(TimerKind::Retransmit, 1_200, 2),
            info: Some(TcpInfo {
                rtt: 3_100,
                rttvar: 1_500,
                rto: 204_000,
                snd_cwnd: 10,
                ..Default::default()
            }),
            ..socket(State::Established, "10.0.2.2:80", "10.0.2.100:40000")
        },
        SockDiag {
            timer: timer(TimerKind::TimeWait, 59_000, 0),
            ..socket(State::TimeWait, "[fd00::2]:80", "[fd00::100]:4")
        },
        SockDiag {
            protocol: 17,
            ..socket(State::Closed, "10.0.2.2:53", "0.0.0.0:0")
        },
    ]
}

#[test]
fn the_table_has_ss_s_columns_and_words() {
    let all = Select {
        all: true,
        ..Default::default()
    };
    let rows: Vec<Socket> = sockets().into_iter().map(Socket::from).collect();
    let view = View {
        timers: true,
        info: true,
        netid: true,
        state: true,
        ..Default::default()
    };
    let none = Filter::default();
    insta::assert_snapshot!(render(rows.iter().filter(|s| all.shows(s, &none)), view, None));
}

#[test]
fn bbr_tells_what_it_knows_as_ss_prints_it() {
    let mut diag = socket(State::Established, "10.0.2.2:80", "10.0.2.100:40000");
    diag.info = Some(TcpInfo {
        cc: CcName::new("bbr"),
        bbr: Some(BbrInfo {
            bw: 12_500_000,
            min_rtt: 40_123,
            pacing_gain: 709,
            cwnd_gain: 512,
        }),
        ..Default::default()
    });
    let view = View {
        info: true,
        ..Default::default()
    };
    let text = render([Socket::from(diag)].iter(), view, None);
    let bbr = "bbr:(bw:100000000bps,mrtt:40.123,pacing_gain:2.76953,cwnd_gain:2)";
    assert!(text.contains(bbr), "{text}");
}

#[test]
fn selection_is_ss_s() {
    let shown = |select: Select| {
        sockets()
            .into_iter()
            .filter(|s| select.shows(&Socket::from(*s), &Filter::default()))
            .map(|s| s.state)
            .collect::<Vec<_>>()
    };
    use State::*;
    assert_eq!(shown(Select::default()), [Established]);
    assert_eq!(
        shown(Select {
            listening: true,
            ..Default::default()
        }),
        [Listen, Closed]
    );
    assert_eq!(
        shown(Select {
            listening: true,
            tcp: true,
            ..Default::default()
        }),
        [Listen]
    );
    assert_eq!(
        shown(Select {
            all: true,
            ipv6: true,
            ..Default::default()
        }),
        [TimeWait]
    );
}

#[test]
fn the_census_prints_what_netstat_and_awk_print() {
    let census = Census::of(&sockets());
    assert_eq!(census.to_string(), "LISTEN 1\nESTABLISHED 1\nTIME_WAIT 1\n");
    assert_eq!(census.count(State::Closed), 0, "a UDP socket is no TCP state");
    assert_eq!(census.total(), 3);
}

#[test]
fn the_diagram_has_every_state_with_its_count_and_only_arrows_of_the_table() {
    for (from, on, to) in ARROWS {
        assert!(allowed(from, on, to), "{from} {on:?} {to}");
    }
    let mut census = Census::default();
    for (state, n) in State::ALL.into_iter().zip(1..) {
        census.add_many(state, n * 1_111);
    }
    insta::assert_snapshot!(diagram(&census));
}

#[test]
fn a_census_goes_through_json() {
    let census = Census::of(&sockets());
    let json = serde_json::to_string(&census).unwrap();
    assert_eq!(serde_json::from_str::<Census>(&json).unwrap(), census);
}
