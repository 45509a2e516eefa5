//! Reading, and the urgent byte as Linux has it: one byte taken out of the stream, at which reads stop (RFC 6093).

use super::*;

impl Receiver {
    /// Bytes that can be read without passing the urgent mark (Linux: SIOCINQ, `tcp_inq`).
    pub(crate) fn readable(&self) -> usize {
        match self.mark() {
            Some(0) => self.queue.len() - self.hidden() as usize,
            Some(mark) => mark as usize,
            None => self.queue.len(),
        }
    }

    /// How far ahead the urgent byte is, if it is in the queue.
    fn mark(&self) -> Option<u32> {
        if self.urg == Urg::None {
            return None;
        }
        let ahead = self.urg_seq.0.wrapping_sub(self.copied_seq().0);
        (ahead < self.queue.len() as u32).then_some(ahead)
    }

    /// The next byte is the urgent one, and not for ordinary reading.
    fn hidden(&self) -> bool {
        self.mark() == Some(0) && !self.flags.has(Flags::OOB_INLINE)
    }

    /// The next read begins at the urgent mark (SIOCATMARK).
    pub(crate) fn at_mark(&self) -> bool {
        self.urg != Urg::None && self.urg_seq == self.copied_seq()
    }

    /// The urgent byte is here, for POLLPRI.
    pub(crate) fn urgent(&self) -> bool {
        matches!(self.urg, Urg::Here(_))
    }

    /// The urgent byte was announced and has not come.
    pub(crate) fn awaits_urgent(&self) -> bool {
        self.urg == Urg::Expected
    }

    /// What one read may take: first a byte to skip, then how many to read.
    fn span(&self) -> (usize, usize) {
        let skip = self.hidden() as usize;
        let n = match self.mark() {
            Some(mark) if mark > 0 => mark as usize,
            _ => self.queue.len() - skip,
        };
        (skip, n)
    }

    /// Copies bytes out; stops at the urgent mark. Without `peek` they are gone from the queue, and an ACK may be due:
    /// ask [`poll_ack`](Self::poll_ack) (Linux: `tcp_recvmsg`).
    pub(crate) fn read(&mut self, cx: &mut Cx, out: &mut [u8], peek: bool) -> usize {
        let (skip, n) = self.span();
        let n = n.min(out.len());
        if n > 0 {
            self.queue.copy_out(skip, &mut out[..n]);
        }
        if !peek {
            self.consume(cx, n);
        }
        n
    }

    /// The bytes that [`read`](Self::read) would give, in place, as up to `out.len()` slices; how many were filled.
    pub(crate) fn slices<'a>(&'a self, out: &mut [&'a [u8]]) -> usize {
        let (skip, n) = self.span();
        let filled = self.queue.slices(out);
        let (mut skip, mut left, mut kept) = (skip, n, 0);
        for i in 0..filled {
            let slice = &out[i][skip.min(out[i].len())..];
            let slice = &slice[..slice.len().min(left)];
            skip = 0;
            if !slice.is_empty() {
                out[kept] = slice;
                (left, kept) = (left - slice.len(), kept + 1);
            }
        }
        kept
    }

    /// Takes bytes that were seen by [`slices`](Self::slices) from the queue; at most what one read may take.
    pub(crate) fn consume(&mut self, cx: &mut Cx, n: usize) {
        let (skip, most) = self.span();
        let n = n.min(most);
        self.space_adjust(cx, (skip + n).min(usize::from(self.rcv_mss)));
        if n > 0 || (skip > 0 && most == 0) {
            self.remove(cx, skip + n);
        }
        self.cleanup(cx, n);
    }

    fn remove(&mut self, cx: &mut Cx, n: usize) {
        let held = self.held();
        self.queue.consume(cx.pool, n);
        self.uncharge(n, held);
        if self.queue.is_empty() {
            self.tailroom = 0;
        }
        if self.urg != Urg::None && self.copied_seq().after(self.urg_seq) {
            self.urg = Urg::None;
        }
    }

    /// MSG_OOB (Linux: `tcp_recv_urg`): the urgent byte; EINVAL where there is none, EAGAIN before it came.
    pub(crate) fn read_urgent(&mut self, peek: bool) -> crate::Result<u8> {
        match self.urg {
            _ if self.flags.has(Flags::OOB_INLINE) => Err(crate::SockError::EINVAL),
            Urg::None | Urg::Taken => Err(crate::SockError::EINVAL),
            Urg::Expected => Err(crate::SockError::EAGAIN),
            Urg::Here(byte) => {
                if !peek {
                    self.urg = Urg::Taken;
                }
                Ok(byte)
            }
        }
    }

    /// SO_OOBINLINE
    pub(crate) fn set_oob_inline(&mut self, on: bool) {
        self.flags.set(Flags::OOB_INLINE, on);
    }

    /// Looks at a segment's urgent pointer and takes the urgent byte if it has it; before [`data`](Self::data). `pointer` is the
    /// field where URG is set. True if there is news for the application (Linux: `tcp_urg`, `tcp_check_urg`).
    pub(crate) fn urg(&mut self, cx: &mut Cx, seq: SeqNum, payload: &[u8], pointer: Option<u16>) -> bool {
        let mut news = false;
        if let Some(pointer) = pointer {
            news = self.check_urg(cx, seq, pointer);
        }
        if self.urg == Urg::Expected {
            let at = self.urg_seq.0.wrapping_sub(seq.0) as usize;
            if let Some(byte) = payload.get(at) {
                self.urg = Urg::Here(*byte);
                news = true;
            }
        }
        news
    }

    fn check_urg(&mut self, cx: &mut Cx, seq: SeqNum, pointer: u16) -> bool {
        let mut ahead = u32::from(pointer);
        if ahead > 0 && cx.sysctl.tcp_stdurg == 0 {
            ahead -= 1;
        }
        let at = seq + ahead;
        if self.copied_seq().after(at) || at.before(self.rcv_nxt) || (self.urg != Urg::None && !at.after(self.urg_seq))
        {
            return false;
        }
        // The old urgent byte was never part of the stream: it must not be read as such when the mark moves on.
        if self.hidden() {
            self.remove(cx, 1);
        }
        self.urg = Urg::Expected;
        self.urg_seq = at;
        true
    }
}
