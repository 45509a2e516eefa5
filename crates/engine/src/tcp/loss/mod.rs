//! Detecting loss and recovering from it (RFC 6675, RFC 8985, RFC 9937, RFC 5682; Linux: the state machine around
//! `tcp_fastretrans_alert`). The functions work on the `Sender`, whose records they tag.
//!
//! | file | what |
//! |---|---|
//! | `rto.rs` | RTT and retransmission timeout (RFC 6298) |
//! | `scoreboard.rs` | what SACK blocks tell (RFC 2018, RFC 2883), reordering |
//! | `rack.rs` `tlp.rs` | loss by time, and probing the tail (RFC 8985) |
//! | `recovery.rs` | the states Open, Disorder, CWR, Recovery, Loss; NewReno (RFC 6582) |
//! | `prr.rs` | how the window comes down (RFC 9937) |
//! | `frto.rs` `undo.rs` | recoveries that were needless (RFC 5682, RFC 4015) |

pub(crate) mod frto;
pub(crate) mod min_filter;
pub(crate) mod prr;
pub(crate) mod rack;
pub(crate) mod recovery;
pub(crate) mod rto;
pub(crate) mod scoreboard;
pub(crate) mod tlp;
pub(crate) mod undo;

/// What a sender is busy with (Linux: `enum tcp_ca_state`, `tcpi_ca_state`).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub(crate) enum CaState {
    /// All is well.
    Open,
    /// SACKs or duplicate ACKs: perhaps a loss, perhaps reordering.
    Disorder,
    /// The window comes down because of congestion marks.
    Cwr,
    /// Fast recovery.
    Recovery,
    /// Recovery after a timeout.
    Loss,
}

/// What an ACK brought (Linux: `FLAG_…` of tcp_input.c).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct AckFlags(u16);

impl AckFlags {
    /// The segment occupied sequence space.
    pub(crate) const DATA: AckFlags = AckFlags(1);
    /// It updated the window.
    pub(crate) const WIN_UPDATE: AckFlags = AckFlags(1 << 1);
    /// New data was acknowledged.
    pub(crate) const DATA_ACKED: AckFlags = AckFlags(1 << 2);
    /// Some of it was retransmitted.
    pub(crate) const RETRANS_DATA_ACKED: AckFlags = AckFlags(1 << 3);
    /// New data was selectively acknowledged.
    pub(crate) const DATA_SACKED: AckFlags = AckFlags(1 << 4);
    /// ECN-Echo.
    pub(crate) const ECE: AckFlags = AckFlags(1 << 5);
    /// A retransmission was found lost.
    pub(crate) const LOST_RETRANS: AckFlags = AckFlags(1 << 6);
    /// Data sent once, before the recovery point, was (s)acked.
    pub(crate) const ORIG_SACKED: AckFlags = AckFlags(1 << 7);
    /// SND.UNA moved.
    pub(crate) const UNA_ADVANCED: AckFlags = AckFlags(1 << 8);
    /// A DSACK for something we sent twice.
    pub(crate) const DSACKING: AckFlags = AckFlags(1 << 9);
    /// The timer is to be set anew.
    pub(crate) const SET_TIMER: AckFlags = AckFlags(1 << 10);
    /// SND.UNA points to data that was SACKed: the receiver took it back.
    pub(crate) const RENEGING: AckFlags = AckFlags(1 << 11);
    /// The receiver may have delayed this ACK.
    pub(crate) const MAYBE_DELAYED: AckFlags = AckFlags(1 << 12);
    /// The DSACK is for a tail loss probe.
    pub(crate) const DSACK_TLP: AckFlags = AckFlags(1 << 13);

    /// Not a duplicate ACK.
    pub(crate) const NOT_DUP: AckFlags = AckFlags(Self::DATA.0 | Self::WIN_UPDATE.0 | Self::DATA_ACKED.0);
    /// The congestion state may change.
    pub(crate) const ALERT: AckFlags = AckFlags(Self::DATA_SACKED.0 | Self::ECE.0 | Self::DSACKING.0);
    /// Something was delivered.
    pub(crate) const PROGRESS: AckFlags = AckFlags(Self::DATA_ACKED.0 | Self::DATA_SACKED.0);

    /// At least one bit of `other` is set.
    pub(crate) const fn any(self, other: AckFlags) -> bool {
        self.0 & other.0 != 0
    }

    pub(crate) const fn union(self, other: AckFlags) -> AckFlags {
        AckFlags(self.0 | other.0)
    }

    pub(crate) fn set(&mut self, other: AckFlags) {
        self.0 |= other.0;
    }

    pub(crate) fn clear(&mut self, other: AckFlags) {
        self.0 &= !other.0;
    }
}

/// What to send after an ACK in recovery.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum Rexmit {
    #[default]
    None,
    /// What is lost.
    Lost,
    /// New data, to see whether the timeout was spurious (F-RTO).
    New,
}

/// What the walk over SACK blocks and acknowledged records gathers (Linux: `tcp_sacktag_state`).
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct SackState {
    /// The time of the ACK.
    pub(crate) now: crate::Instant,
    /// When the first and the last never-retransmitted record that is SACKed now was sent.
    pub(crate) first: Option<crate::Instant>,
    pub(crate) last: Option<crate::Instant>,
    /// The lowest sequence number that filled a hole without having been retransmitted.
    pub(crate) reord: estab_proto::SeqNum,
    /// Segments delivered out of order, or twice.
    pub(crate) delivered: u32,
    /// Bytes SACKed now, less those that were before and are acknowledged now.
    pub(crate) sacked_bytes: u32,
    pub(crate) flags: AckFlags,
    pub(crate) rate: crate::tcp::snd::rate::Sample,
}
