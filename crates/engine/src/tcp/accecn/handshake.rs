//! Asking for Accurate ECN, granting it, and falling back to RFC 3168's or to none (RFC 9768 §3.1, tables 2 to 4).

use super::codepoint::{CE, ECT0, ECT1, NOT_ECT};
use super::{AccEcn, Seen};
use crate::sysctl::Sysctls;
use estab_proto::TcpFlags;
use estab_wire::tcp::AccEcn as AccEcnOption;

/// Which ECN a connection asks for, or has.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum EcnMode {
    #[default]
    Off,
    /// RFC 3168
    Classic,
    /// RFC 9768
    Accurate,
}

impl EcnMode {
    /// What our SYN asks for (Linux: `tcp_ecn_send_syn`).
    pub(crate) fn asked(sysctl: &Sysctls) -> EcnMode {
        match sysctl.tcp_ecn {
            1 | 4 => EcnMode::Classic,
            3 => EcnMode::Accurate,
            _ => EcnMode::Off,
        }
    }

    /// What a SYN with `flags` is granted (Linux: `tcp_ecn_create_request`). Who knows RFC 3168 only takes no notice of AE.
    pub(crate) fn granted(sysctl: &Sysctls, flags: TcpFlags) -> EcnMode {
        match (sysctl.tcp_ecn, flags.ace()) {
            (0, _) | (_, 0) => EcnMode::Off,
            (_, 3) => EcnMode::Classic,
            (3.., _) => EcnMode::Accurate,
            (_, 7) => EcnMode::Classic,
            _ => EcnMode::Off,
        }
    }

    /// What the final ACK of a cookie's handshake has, whose SYN was granted ECN of either kind (RFC 9768 §5.1;
    /// Linux: `cookie_accecn_ok`).
    pub(crate) fn from_cookie(sysctl: &Sysctls, flags: TcpFlags) -> EcnMode {
        match sysctl.tcp_ecn >= 3 && flags.ace() > 1 {
            true => EcnMode::Accurate,
            false => EcnMode::Classic,
        }
    }

    /// What a SYN-ACK settles, where our SYN asked for `self` (Linux: `tcp_ecn_rcv_synack`).
    pub(crate) fn settled_by_synack(self, flags: TcpFlags) -> EcnMode {
        match (self, flags.ace()) {
            (EcnMode::Classic, 1 | 5) | (EcnMode::Accurate, 1) => EcnMode::Classic,
            (EcnMode::Accurate, 2..=6) => EcnMode::Accurate,
            _ => EcnMode::Off,
        }
    }

    /// What SYNs that crossed settle (Linux: `tcp_ecn_rcv_syn`).
    pub(crate) fn settled_by_syn(self, flags: TcpFlags) -> EcnMode {
        match (self, flags.ace()) {
            (EcnMode::Accurate, 1 | 2 | 4..) => EcnMode::Accurate,
            (EcnMode::Classic | EcnMode::Accurate, 3 | 7) => EcnMode::Classic,
            _ => EcnMode::Off,
        }
    }

    /// The bits of a SYN that asks for `self`.
    pub(crate) fn syn_flags(self) -> TcpFlags {
        match self {
            EcnMode::Off => TcpFlags::default(),
            EcnMode::Classic => TcpFlags::ECE | TcpFlags::CWR,
            EcnMode::Accurate => TcpFlags::ACE,
        }
    }

    /// The bits of a SYN-ACK that grants `self` to a SYN that came with the codepoint `syn`.
    pub(crate) fn synack_flags(self, syn: u8) -> TcpFlags {
        match self {
            EcnMode::Off => TcpFlags::default(),
            EcnMode::Classic => TcpFlags::ECE,
            EcnMode::Accurate => reflected(syn),
        }
    }
}

/// What a request remembers, in one byte: the ECN that its SYN-ACK grants, the codepoint that the SYN came with, and whether it
/// came again with its flags zeroed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct SynEcn(u8);

impl SynEcn {
    const CLASSIC: u8 = 4;
    const ACCURATE: u8 = 8;
    const BLEACHED: u8 = 16;

    /// For a SYN with `codepoint` that is granted `mode`.
    pub(crate) fn new(mode: EcnMode, codepoint: u8) -> SynEcn {
        SynEcn(match mode {
            EcnMode::Off => 0,
            EcnMode::Classic => Self::CLASSIC,
            EcnMode::Accurate => Self::ACCURATE | codepoint & CE,
        })
    }

    pub(crate) fn mode(self) -> EcnMode {
        match self.0 & (Self::CLASSIC | Self::ACCURATE) {
            0 => EcnMode::Off,
            Self::CLASSIC => EcnMode::Classic,
            _ => EcnMode::Accurate,
        }
    }

    pub(crate) fn codepoint(self) -> u8 {
        self.0 & CE
    }

    /// The SYN came again (Linux: `tcp_check_req`).
    pub(crate) fn again(&mut self, flags: TcpFlags, codepoint: u8) {
        if self.mode() == EcnMode::Accurate {
            let zeroed = if flags.ace() == 0 { Self::BLEACHED } else { 0 };
            self.0 = self.0 & !CE | codepoint & CE | zeroed;
        }
    }
}

/// The ACE field that tells which codepoint a SYN or SYN-ACK came with (RFC 9768, table 3).
pub(super) fn reflected(codepoint: u8) -> TcpFlags {
    TcpFlags::from_ace(match codepoint {
        ECT1 => 3,
        ECT0 => 4,
        CE => 6,
        _ => 2,
    })
}

/// The codepoint that an ACE field tells of; `None`: it is not one of [`reflected`]'s.
fn told(ace: u8) -> Option<u8> {
    match ace {
        2 => Some(NOT_ECT),
        3 => Some(ECT1),
        4 => Some(ECT0),
        6 => Some(CE),
        _ => None,
    }
}

impl AccEcn {
    /// For who opened: `flags` and `codepoint` are those of the SYN-ACK, `option` what it carried. The ACK of it repeats the
    /// codepoint.
    pub(crate) fn of_client(sysctl: &Sysctls, flags: TcpFlags, codepoint: u8, option: Option<AccEcnOption>) -> AccEcn {
        let mut new = AccEcn {
            syn: codepoint,
            reflect: true,
            ..AccEcn::default()
        };
        if let Some(option) = &option {
            new.meet(option);
            new.demand = 2;
        }
        if codepoint == CE && (flags.ace() == 5 || new.syn_came_unharmed(sysctl, flags)) {
            (new.received_ce, new.untold) = (1, 1);
        }
        new
    }

    /// For who was opened by a SYN.
    pub(crate) fn of_server(syn: SynEcn) -> AccEcn {
        let mut new = AccEcn {
            syn: syn.codepoint(),
            last: syn.codepoint(),
            demand: 1,
            ..AccEcn::default()
        };
        new.failed.ace = syn.0 & SynEcn::BLEACHED != 0;
        new
    }

    /// The ACK of our SYN-ACK, `bare` if without data; true: the SYN-ACK was marked (Linux: `tcp_accecn_third_ack`).
    pub(crate) fn third_ack(&mut self, sysctl: &Sysctls, flags: TcpFlags, bare: bool) -> bool {
        match told(flags.ace()) {
            None if flags.ace() == 0 => {
                // Neither a codepoint nor a count that is possible yet: the field was zeroed.
                (self.failed.ace, self.failed.option) = (true, true);
                false
            }
            Some(codepoint) if bare => self.syn_came_unharmed(sysctl, flags) && codepoint == CE,
            _ => false,
        }
    }

    /// Our SYN or SYN-ACK went without ECT: nobody may have given it a codepoint (RFC 9768 §3.2.2.3; Linux:
    /// `tcp_accecn_validate_syn_feedback`).
    fn syn_came_unharmed(&mut self, sysctl: &Sysctls, flags: TcpFlags) -> bool {
        let harmed = sysctl.tcp_ecn_fallback != 0 && told(flags.ace()) != Some(NOT_ECT);
        self.failed.ace |= harmed;
        !harmed
    }

    /// The peer's SYN-ACK came again: the ACK that answers it tells its codepoint.
    pub(crate) fn synack_again(&mut self, codepoint: u8) {
        (self.syn, self.reflect) = (codepoint, true);
    }

    /// The peer's option, until its counters were seen: those of ECT(0) and ECT(1) never begin with 0, unless somebody
    /// zeroed them (RFC 9768 §3.2.3.2.4; Linux: `tcp_accecn_option_init`).
    pub(crate) fn meet(&mut self, option: &AccEcnOption) {
        if self.seen >= Seen::Counters {
            return;
        }
        self.seen = match option.counters() {
            [] => Seen::Empty,
            [0, ..] | [_, _, 0] => Seen::Spoilt,
            _ => Seen::Counters,
        };
        self.failed.option |= self.seen == Seen::Spoilt;
    }
}
