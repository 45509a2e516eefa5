//! ss's filters: what passes, and what is said of a filter that is wrong.

use estab_doctor::filter::Filter;
use estab_doctor::socket::Socket;
use estab_proto::{SockDiag, State};

fn parse(text: &str) -> Result<Filter, String> {
    Filter::parse(&[text.to_string()]).map_err(|err| err.to_string())
}

fn socket(state: State, local: &str, remote: &str) -> Socket {
    Socket::from(SockDiag {
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
    })
}

fn passes(filter: &str, local: &str, remote: &str) -> bool {
    parse(filter)
        .unwrap()
        .passes(&socket(State::Established, local, remote))
}

#[test]
fn ports_addresses_and_words_combine_as_in_ss() {
    let (local, remote) = ("10.1.2.3:443", "192.0.2.7:50000");
    for yes in [
        "",
        "sport = :443",
        "sport = 443",
        "sport eq :443",
        "sport=:443",
        "sport = :https",
        "dport > :1024",
        "dport ge 50000 and dport le 50000",
        "src 10.0.0.0/8",
        "src = 10.1.2.3",
        "src 10.1.2.3:443",
        "src *:443",
        "dst != 192.0.2.8",
        "not dst 10.0.0.0/8",
        "sport = :80 or sport = :443",
        "sport = :80 and dst 1.2.3.4 or src 10.0.0.0/8",
        "! ( sport = :80 || dport < :50000 )",
        "sport = :443 dport = :50000",
        "dst 0.0.0.0/0",
    ] {
        assert!(passes(yes, local, remote), "{yes}");
    }
    for no in [
        "sport = :80",
        "sport != :443",
        "dport < :1024",
        "src 10.2.0.0/16",
        "src 10.1.2.3:80",
        "dst fd00::/8",
        "sport = :443 and ( dst 10.0.0.0/8 or dst 172.16.0.0/12 )",
    ] {
        assert!(!passes(no, local, remote), "{no}");
    }
}

#[test]
fn ipv6_and_mapped_ipv4_addresses_match() {
    assert!(passes("dst [fd00::1]:443", "[fd00::2]:9", "[fd00::1]:443"));
    assert!(passes("dst fd00::/8", "[fd00::2]:9", "[fd00::1]:443"));
    assert!(!passes("dst fe80::/10", "[fd00::2]:9", "[fd00::1]:443"));
    let mapped = "[::ffff:10.0.0.1]:443";
    for filter in ["dst 10.0.0.0/8", "dst [::ffff:10.0.0.1]:443"] {
        assert!(passes(filter, "[::ffff:10.0.0.9]:9", mapped), "{filter}");
    }
}

#[test]
fn states_add_up_and_exclude_takes_away() {
    let shown = |filter: &str| {
        let filter = parse(filter).unwrap();
        let passes = |state: &State| filter.passes(&socket(*state, "10.0.0.1:1", "10.0.0.2:2"));
        State::ALL
            .iter()
            .filter(|s| passes(s))
            .map(|s| s.netstat())
            .collect::<Vec<_>>()
            .join(" ")
    };
    assert_eq!(shown("state time-wait"), "TIME_WAIT");
    assert_eq!(shown("state FIN_WAIT1 state fin-wait-2"), "FIN_WAIT1 FIN_WAIT2");
    assert_eq!(shown("state bucket"), "SYN_RECV TIME_WAIT");
    assert_eq!(
        shown("state synchronized exclude established exclude bucket"),
        "FIN_WAIT1 FIN_WAIT2 CLOSE_WAIT CLOSING LAST_ACK"
    );
    assert_eq!(
        shown("state connected"),
        "SYN_SENT SYN_RECV ESTABLISHED FIN_WAIT1 FIN_WAIT2 CLOSE_WAIT CLOSING LAST_ACK TIME_WAIT"
    );
    assert_eq!(
        shown("exclude big exclude syn-recv"),
        "TIME_WAIT",
        "exclude alone begins with all"
    );
    assert_eq!(shown("state established dport = :2"), "ESTABLISHED");
}

#[test]
fn a_wrong_filter_is_told_what_is_wrong() {
    for (filter, wrong) in [
        ("sprot = :80", "`sprot` is no word of a filter"),
        ("state foo", "`foo` is no state"),
        ("state", "`state` wants a state after it"),
        ("sport =", "`sport` wants a port after it"),
        ("sport = :nosuchservice", "`nosuchservice` is no port"),
        ("sport = :70000", "`70000` is no port"),
        ("sport =< :80", "`=<` compares nothing"),
        ("dst 10.0.0.0/33", "0 to 32 bits"),
        ("dst example.org", "`example.org` is no address"),
        ("dst > 10.0.0.1", "addresses are equal or not"),
        ("( sport = :80", "a `(` without its `)`"),
        ("sport = :80 )", "a `)` without its `(`"),
        ("sport = :80 and", "ends too soon"),
        ("sport = :80 state listening", "`state` stands before"),
    ] {
        let said = parse(filter).unwrap_err();
        assert!(said.contains(wrong), "{filter}: {said}");
    }
    let deep = "(".repeat(100_000);
    assert!(parse(&deep).unwrap_err().contains("too many parentheses"));
    assert!(parse(&"not ".repeat(100_000)).unwrap_err().contains("too many"));
}
