//! A look inside a running gateway, from any thread.

use crate::worker::{Inbox, Message, Side};
use estab_engine::proto::SockDiag;
use estab_engine::{Instant, Stack, SysctlError};
use std::collections::BTreeMap;
use std::sync::{Arc, mpsc};
use std::time::Duration;

/// A worker that is busy answers between two packets; one that takes longer than this is gone.
const PATIENCE: Duration = Duration::from_secs(5);

/// Asks the workers of a gateway.
#[derive(Clone)]
pub struct GatewayHandle {
    inboxes: Arc<[Inbox]>,
}

impl GatewayHandle {
    pub(crate) fn new(inboxes: Arc<[Inbox]>) -> GatewayHandle {
        GatewayHandle { inboxes }
    }

    pub(crate) fn each(&self, f: impl FnMut(&Inbox)) {
        self.inboxes.iter().for_each(f);
    }

    /// Runs `question` on each worker's stack, in its thread, and on its SYN proxy's if there is one; the answers in the
    /// workers' order, without those of workers that have stopped.
    pub fn ask<T: Send + 'static>(
        &self,
        question: impl Fn(&mut Stack, Instant) -> T + Clone + Send + 'static,
    ) -> Vec<T> {
        let answers = self.ask_each(question).into_iter();
        answers.map(|(_, answer)| answer).collect()
    }

    fn ask_each<T: Send + 'static>(
        &self,
        question: impl Fn(&mut Stack, Instant) -> T + Clone + Send + 'static,
    ) -> Vec<(Side, T)> {
        let ask = |(side, inbox): (Side, &Inbox)| {
            let (answer, answers) = mpsc::sync_channel(1);
            let question = question.clone();
            let call = move |stack: &mut Stack, now: Instant| {
                // Who asked may have given up.
                let _ = answer.send((side, question(stack, now)));
            };
            inbox.put(Message::Call(side, Box::new(call)));
            answers
        };
        let sides = [Side::Guest, Side::Clients].into_iter();
        let stacks = sides.flat_map(|side| self.inboxes.iter().map(move |inbox| (side, inbox)));
        let pending: Vec<_> = stacks.map(ask).collect();
        pending
            .into_iter()
            .filter_map(|answers| answers.recv_timeout(PATIENCE).ok())
            .collect()
    }

    /// Every socket, request, connection and TIME_WAIT of every stack; `id` has the stack's number in its top byte.
    /// What each worker has alike, its listeners and unconnected sockets, stands there once.
    pub fn diag(&self) -> Vec<SockDiag> {
        let mut last = None;
        let mut all = Vec::new();
        let stacks = self.ask_each(|stack, now| stack.diag(now).collect::<Vec<_>>());
        for (number, (side, diags)) in stacks.into_iter().enumerate() {
            let first = last.replace(side) != Some(side);
            let shown = diags.into_iter().filter(|diag| first || diag.remote.port() != 0);
            all.extend(shown.map(|diag| SockDiag {
                id: diag.id | (number as u64) << 56,
                ..diag
            }));
        }
        all
    }

    /// Sets a sysctl of every worker's stack, or says why none takes it.
    ///
    /// # Errors
    /// [`SysctlError`]; the workers are alike, so either all take the value or none.
    pub fn set_sysctl(&self, name: &str, value: &str) -> Result<(), SysctlError> {
        let (name, value) = (name.to_string(), value.to_string());
        self.ask(move |stack, _| stack.set_sysctl(&name, &value))
            .into_iter()
            .collect()
    }

    /// A sysctl's value as /proc/sys prints it; `None` when the stacks have none of that name.
    pub fn sysctl(&self, name: &str) -> Option<String> {
        let name = name.to_string();
        self.ask(move |stack, _| stack.sysctl(&name)).into_iter().next()?
    }

    /// Every counter that is not zero, by nstat's name, summed over the workers. Packets that were discarded count
    /// under their reason.
    pub fn counters(&self) -> BTreeMap<String, u64> {
        let all = self.ask(|stack, _| {
            let mib = stack.counters();
            let linux = mib.iter().map(|(counter, n)| (counter.name(), n));
            let drops = mib.drops().map(|(reason, n)| (reason.name(), n));
            linux.chain(drops).filter(|(_, n)| *n > 0).collect::<Vec<_>>()
        });
        let mut sums = BTreeMap::new();
        for (name, n) in all.into_iter().flatten() {
            *sums.entry(name.to_string()).or_default() += n;
        }
        sums
    }
}
