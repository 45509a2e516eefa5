//! The eleven states told to people: what each means, when it is worth worry, and the state machine drawn with the
//! counts on it.

use crate::census::Census;
use estab_proto::State;
use estab_proto::state::{TRANSITIONS, Trigger};
use std::fmt::Write;

/// What `state` means to someone on call, and when it is worth worry.
pub const fn meaning(state: State) -> &'static str {
    match state {
        State::Closed => {
            "Bound to a port and neither listening nor connecting. Only sock_diag tells of these, since Linux 6.8; netstat can't."
        }
        State::Listen => "Waits for connections. Worry when Recv-Q is above Send-Q: the application does not accept.",
        State::SynSent => {
            "We asked and nobody answered yet. Worry when they stay: a firewall, a host that is down, or a full accept queue over there; after 131 s connect() fails."
        }
        State::SynRcvd => {
            "We answered a SYN and the last ACK is missing. Worry when there are hundreds: a flood, SYN-ACKs that get lost, or our accept queue is full."
        }
        State::Established => {
            "Open both ways, also when nothing flows. Worry when the number only grows, or peers vanish without keepalive."
        }
        State::FinWait1 => {
            "We closed; the FIN, or data before it, is not acknowledged. Worry when they stay: the peer is gone or takes nothing."
        }
        State::FinWait2 => {
            "We closed, the peer has not. Without a process it ends after tcp_fin_timeout (60 s); held after shutdown() it waits for ever."
        }
        State::CloseWait => {
            "The peer closed, our application has not. Worry when they stay for seconds: the application leaks; no timer and no sysctl ends them."
        }
        State::Closing => "Both closed at once; our FIN is not acknowledged. Rare, and over in moments.",
        State::LastAck => {
            "The peer closed first, then we; our FIN is not acknowledged. Worry when they pile up: peers are gone before they answer."
        }
        State::TimeWait => {
            "We closed first; the 60 s after which the ports are safe to use again. Harmless on a server. A client runs out of ports at some 28,000 to one destination."
        }
    }
}

/// Where ss and netstat tell of different sockets, and why.
pub const DIFFERENCES: &str = "ss -ant and netstat -ant list the same TCP connections, with one exception: sockets that \
are bound but neither listen nor connect (CLOSE here, bound-inactive to iproute2's ss -B) are only in sock_diag, since Linux \
6.8; /proc/net/tcp, which netstat reads, has no list of them. Without -a they differ: ss -tn leaves out TIME_WAIT and \
SYN_RECV, which netstat -tn lists. /proc/net/sockstat differs from both: its tw also counts orphaned FIN_WAIT_2s in \
their last 60 s, and in a network namespace its orphan, alloc and mem are the whole host's.";

/// The arrows of the picture; its digits name them.
pub const ARROWS: [(State, Trigger, State); 14] = [
    (State::Closed, Trigger::PassiveOpen, State::Listen),
    (State::Closed, Trigger::ActiveOpen, State::SynSent),
    (State::Listen, Trigger::RcvSyn, State::SynRcvd),
    (State::SynSent, Trigger::RcvSyn, State::SynRcvd),
    (State::SynSent, Trigger::RcvSynAck, State::Established),
    (State::SynRcvd, Trigger::RcvAckOfSyn, State::Established),
    (State::Established, Trigger::Close, State::FinWait1),
    (State::Established, Trigger::RcvFin, State::CloseWait),
    (State::FinWait1, Trigger::RcvAckOfFin, State::FinWait2),
    (State::FinWait1, Trigger::RcvFin, State::Closing),
    (State::CloseWait, Trigger::Close, State::LastAck),
    (State::FinWait2, Trigger::RcvFin, State::TimeWait),
    (State::Closing, Trigger::RcvAckOfFin, State::TimeWait),
    (State::LastAck, Trigger::RcvAckOfFin, State::Closed),
];

/// Braces are filled in: a state with its count, or an arrow's label by its letter.
const PICTURE: &str = "                          +--------------------+
                          |{CLOSE             }|
                          +--------------------+
        {>a                  }|              |{b                   }
                              v              v
    +--------------------+                        +--------------------+
    |{LISTEN            }|                        |{SYN_SENT          }|
    +--------------------+                        +--------------------+
              |{c            }      {d            } |       |{e           }
              v                .--------------------'       |
    +--------------------+     |                            |
    |{SYN_RECV          }|<----'                            |
    +--------------------+                                  |
              |{f              }                            |
              |           +--------------------+            |
              '---------->|{ESTABLISHED       }|<-----------'
                          +--------------------+
        {>g                  }|              |{h                   }
                              v              v
    +--------------------+                        +--------------------+
    |{FIN_WAIT1         }|                        |{CLOSE_WAIT        }|
    +--------------------+                        +--------------------+
       |{i           }  |{j          }                      |{k          }
       v                '-------.                           v
    +--------------------+  +--------------------+  +--------------------+
    |{FIN_WAIT2         }|  |{CLOSING           }|  |{LAST_ACK          }|
    +--------------------+  +--------------------+  +--------------------+
       |{l           }          |{m          }              |{n          }
       v                        |                           v
    +--------------------+      |                         CLOSE
    |{TIME_WAIT         }|<-----'
    +--------------------+
       '----- 60 s -----> CLOSE
";

/// The state machine of RFC 9293, figure 5, with the counts of `census` on it; the labels come from the one table of
/// transitions: what happens, and after the colon what is sent.
pub fn diagram(census: &Census) -> String {
    let mut out = String::new();
    let mut rest = PICTURE;
    while let Some((before, after)) = rest.split_once('{') {
        out.push_str(before);
        let Some((slot, after)) = after.split_once('}') else {
            break;
        };
        // What fills a slot takes the place of its braces too.
        let width = slot.chars().count() + 2;
        let _ = match slot.trim().parse::<State>() {
            Ok(state) => write!(out, "{:^width$}", format!("{state} {}", census.count(state))),
            Err(_) => match slot.trim().strip_prefix('>') {
                Some(letter) => write!(out, "{:>width$}", label(letter) + " "),
                None => write!(out, "{:<width$}", format!(" {}", label(slot.trim()))),
            },
        };
        rest = after;
    }
    out.push_str(rest);
    out.lines().map(|line| format!("{}\n", line.trim_end())).collect()
}

fn label(letter: &str) -> String {
    let arrow = letter
        .bytes()
        .next()
        .and_then(|letter| ARROWS.get(usize::from(letter.checked_sub(b'a')?)));
    let known = |(from, on, to): &(State, Trigger, State)| {
        let found = TRANSITIONS
            .iter()
            .find(|t| t.from == *from && t.on == *on && t.to == *to)?;
        let happens = trigger(*on);
        Some(if found.sends.is_empty() {
            happens.to_owned()
        } else {
            format!("{happens}: {}", found.sends)
        })
    };
    arrow.and_then(known).unwrap_or_default()
}

const fn trigger(on: Trigger) -> &'static str {
    match on {
        Trigger::PassiveOpen => "listen",
        Trigger::ActiveOpen => "connect",
        Trigger::Close => "close",
        Trigger::Abort => "abort",
        Trigger::Send => "send",
        Trigger::RcvSyn => "SYN",
        Trigger::RcvSynAck => "SYN,ACK",
        Trigger::RcvAckOfSyn => "ACK of SYN",
        Trigger::RcvFin => "FIN",
        Trigger::RcvAckOfFin => "ACK of FIN",
        Trigger::RcvFinAckOfFin => "FIN,ACK",
        Trigger::RcvRst => "RST",
        Trigger::Timeout => "timeout",
    }
}
