//! Linux's `struct tcp_info` (include/uapi/linux/tcp.h) byte for byte, as of 6.18: 280 bytes.

use estab_engine::proto::diag::BbrInfo;
use estab_engine::proto::{State, TcpInfo};

/// `struct tcp_bbr_info` (include/uapi/linux/inet_diag.h): 20 bytes.
pub(crate) fn bbr(info: BbrInfo) -> Vec<u8> {
    let words = [
        info.bw as u32,
        (info.bw >> 32) as u32,
        info.min_rtt,
        info.pacing_gain,
        info.cwnd_gain,
    ];
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

/// Its size.
pub(crate) const SIZE: usize = 280;

/// The structure for a connection in `state`.
pub(crate) fn bytes(state: State, info: &TcpInfo) -> [u8; SIZE] {
    let mut out = Layout {
        bytes: [0; SIZE],
        at: 0,
    };
    out.put([
        state as u8,
        info.ca_state,
        info.retransmits,
        info.probes,
        info.backoff,
        info.options,
        info.snd_wscale & 15 | info.rcv_wscale << 4,
        u8::from(info.delivery_rate_app_limited) | info.fastopen_client_fail << 1,
    ]);
    let words = [
        info.rto,
        info.ato,
        info.snd_mss,
        info.rcv_mss,
        info.unacked,
        info.sacked,
        info.lost,
        info.retrans,
        0, // fackets
        info.last_data_sent,
        info.last_ack_sent,
        info.last_data_recv,
        info.last_ack_recv,
        info.pmtu,
        info.rcv_ssthresh,
        info.rtt,
        info.rttvar,
        info.snd_ssthresh,
        info.snd_cwnd,
        info.advmss,
        info.reordering,
        info.rcv_rtt,
        info.rcv_space,
        info.total_retrans,
    ];
    words.iter().for_each(|word| out.put(word.to_ne_bytes()));
    for long in [
        info.pacing_rate,
        info.max_pacing_rate,
        info.bytes_acked,
        info.bytes_received,
    ] {
        out.put(long.to_ne_bytes());
    }
    let words = [
        info.segs_out,
        info.segs_in,
        info.notsent_bytes,
        info.min_rtt,
        info.data_segs_in,
        info.data_segs_out,
    ];
    words.iter().for_each(|word| out.put(word.to_ne_bytes()));
    for long in [
        info.delivery_rate,
        info.busy_time,
        info.rwnd_limited,
        info.sndbuf_limited,
    ] {
        out.put(long.to_ne_bytes());
    }
    out.put(info.delivered.to_ne_bytes());
    out.put(info.delivered_ce.to_ne_bytes());
    out.put(info.bytes_sent.to_ne_bytes());
    out.put(info.bytes_retrans.to_ne_bytes());
    for word in [
        info.dsack_dups,
        info.reord_seen,
        info.rcv_ooopack,
        info.snd_wnd,
        info.rcv_wnd,
        info.rehash,
    ] {
        out.put(word.to_ne_bytes());
    }
    out.put(info.total_rto.to_ne_bytes());
    out.put(info.total_rto_recoveries.to_ne_bytes());
    out.put(info.total_rto_time.to_ne_bytes());
    for word in [
        info.received_ce,
        info.delivered_e1_bytes,
        info.delivered_e0_bytes,
        info.delivered_ce_bytes,
        info.received_e1_bytes,
        info.received_e0_bytes,
        info.received_ce_bytes,
    ] {
        out.put(word.to_ne_bytes());
    }
    out.bytes
}

struct Layout {
    bytes: [u8; SIZE],
    at: usize,
}

impl Layout {
    fn put<const N: usize>(&mut self, field: [u8; N]) {
        self.bytes[self.at..self.at + N].copy_from_slice(&field);
        self.at += N;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// libc declares the older part of the structure: every field it knows must lie where it has it.
    #[test]
    fn fields_lie_where_the_kernel_has_them() {
        let info = TcpInfo {
            rto: 1,
            rtt: 2,
            snd_cwnd: 3,
            total_retrans: 4,
            pacing_rate: 5,
            bytes_received: 6,
            min_rtt: 7,
            delivery_rate: 8,
            delivered: 9,
            bytes_retrans: 10,
            snd_wscale: 7,
            rcv_wscale: 9,
            rehash: 11,
            total_rto_time: 12,
            received_ce: 13,
            received_ce_bytes: 14,
            ..Default::default()
        };
        let bytes = bytes(State::Established, &info);
        let word = |at: usize| u32::from_ne_bytes(bytes[at..at + 4].try_into().unwrap());
        let long = |at: usize| u64::from_ne_bytes(bytes[at..at + 8].try_into().unwrap());
        assert_eq!((bytes[0], bytes[6]), (1, 0x97));
        assert_eq!((word(8), word(68), word(80), word(100)), (1, 2, 3, 4));
        assert_eq!(
            (long(104), long(128), word(148), long(160), word(192), long(208)),
            (5, 6, 7, 8, 9, 10)
        );
        assert_eq!((word(236), word(244)), (11, 12));
        assert_eq!((word(248), word(272)), (13, 14));
    }
}
