//! `http://gateway.estab/`: a page about the gateway, served over estab's own TCP.

use crate::core::{Core, Owner, Stats};
use crate::table::{Key, Table};
use estab_engine::proto::State;
use estab_engine::{OpenId, RecvFlags, SendFlags, Shutdown, SockError, SocketId};
use std::fmt::Write;
use std::sync::Arc;

/// Pages being served at once; more are refused.
const MAX_PAGES: usize = 64;
/// The longest request, headers included.
const MAX_REQUEST: usize = 8192;

pub(crate) struct Pages {
    table: Table<Page>,
    /// The figures of every worker.
    all: Vec<Arc<Stats>>,
}

struct Page {
    id: SocketId,
    request: Vec<u8>,
    /// What is left to be written; `None` while the request is being read.
    response: Option<Vec<u8>>,
    ended: bool,
}

impl Pages {
    pub(crate) fn new(all: Vec<Arc<Stats>>) -> Pages {
        Pages {
            table: Table::new(),
            all,
        }
    }

    pub(crate) fn open(&mut self, core: &mut Core, open: OpenId) {
        if self.table.len() >= MAX_PAGES {
            return core.stack.open_reset(core.now, open);
        }
        if let Ok(id) = core.stack.open_accept(core.now, open) {
            let key = self.table.insert(Page {
                id,
                request: Vec::new(),
                response: None,
                ended: false,
            });
            core.own(id, Owner::Page(key));
        }
    }

    /// The page's socket is ready for something.
    pub(crate) fn event(&mut self, core: &mut Core, key: Key) {
        let Some(page) = self.table.get_mut(key) else { return };
        let id = page.id;
        let Err(end) = page.serve(core, &self.all) else { return };
        self.table.remove(key);
        core.disown(id);
        if let Ok(sock) = core.sock(id) {
            match end {
                End::Done => sock.close(),
                End::Failed => sock.abort(),
            }
        }
    }
}

/// Why a page is over.
enum End {
    Done,
    Failed,
}

impl Page {
    /// Goes on as far as it can now.
    fn serve(&mut self, core: &mut Core, all: &[Arc<Stats>]) -> Result<(), End> {
        let mut buf = [0; 2048];
        loop {
            if let Some(left) = &mut self.response {
                let mut sock = core.sock(self.id).map_err(|_| End::Failed)?;
                while !left.is_empty() {
                    match sock.send(left, SendFlags::default()) {
                        Ok(taken) => drop(left.drain(..taken)),
                        Err(SockError::EAGAIN) => return Ok(()),
                        Err(_) => return Err(End::Failed),
                    }
                }
                if !self.ended {
                    sock.shutdown(Shutdown::Write).map_err(|_| End::Failed)?;
                    self.ended = true;
                }
            }
            match core
                .sock(self.id)
                .and_then(|mut sock| sock.recv(&mut buf, RecvFlags::default()))
            {
                // Closing before the client has would answer its last bytes with a reset.
                Ok(0) if self.ended => return Err(End::Done),
                Ok(0) => self.response = Some(respond(&self.request, core, all)),
                Ok(_) if self.response.is_some() => {}
                Ok(len) => {
                    self.request.extend_from_slice(&buf[..len]);
                    let whole = self.request.windows(4).any(|end| end == b"\r\n\r\n");
                    if whole || self.request.len() > MAX_REQUEST {
                        self.response = Some(respond(&self.request, core, all));
                    }
                }
                Err(SockError::EAGAIN) => return Ok(()),
                Err(_) => return Err(End::Failed),
            }
        }
    }
}

/// The whole response to a request, of which the first line matters.
fn respond(request: &[u8], core: &Core, all: &[Arc<Stats>]) -> Vec<u8> {
    let line = request.split(|b| *b == b'\r').next().unwrap_or_default();
    let mut words = line.split(|b| *b == b' ');
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let http = words.next().is_some_and(|version| version.starts_with(b"HTTP/1."));
    let (status, body) = match (method, path) {
        _ if !http => ("400 Bad Request", page("That was not HTTP/1.", "")),
        (b"GET" | b"HEAD", b"/") => ("200 OK", page("It works.", &figures(core, all))),
        (b"GET" | b"HEAD", _) => ("404 Not Found", page("There is one page here: /", "")),
        _ => ("405 Method Not Allowed", page("This page can be read only.", "")),
    };
    let mut out = format!(
        "HTTP/1.1 {status}\r\nServer: estab/{}\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: {}\r\n\
         Cache-Control: no-store\r\nConnection: close\r\n\r\n",
        env!("CARGO_PKG_VERSION"),
        body.len()
    );
    if method != b"HEAD" {
        out.push_str(&body);
    }
    out.into_bytes()
}

fn page(heading: &str, content: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=en>\n<meta charset=utf-8>\n<title>estab gateway</title>\n\
         <meta name=viewport content=\"width=device-width\">\n\
         <style>body{{font:16px/1.5 system-ui,sans-serif;max-width:40em;margin:2em auto;padding:0 1em}}\
         table{{border-collapse:collapse}}td{{padding:.1em 1em .1em 0}}td+td{{text-align:right}}</style>\n\
         <h1>{heading}</h1>\n\
         <p>This page came over estab {}, a TCP/IP stack in userspace: no kernel knows this connection's other end.</p>\n\
         {content}</html>\n",
        env!("CARGO_PKG_VERSION")
    )
}

/// What the gateway is doing, as tables.
fn figures(core: &Core, all: &[Arc<Stats>]) -> String {
    let sum = |of: fn(&Stats) -> u64| all.iter().map(|stats| of(stats)).sum::<u64>();
    let rows = [
        ("threads", all.len() as u64),
        ("connections carried", sum(|s| Stats::get(&s.connections))),
        ("connections open", sum(|s| Stats::get(&s.open))),
        ("UDP flows open", sum(|s| Stats::get(&s.flows))),
        ("bytes to the host", sum(|s| Stats::get(&s.bytes_out))),
        ("bytes to the guest", sum(|s| Stats::get(&s.bytes_in))),
        ("seconds running", core.now.millis() / 1000),
    ];
    let mut out = String::from("<table>\n");
    for (name, value) in rows {
        // Writing to a String does not fail.
        let _ = writeln!(out, "<tr><td>{name}<td>{value}");
    }
    out.push_str("</table>\n<p>TCP connections of the thread that served you, by state:</p>\n<table>\n");
    for (state, count) in by_state(core) {
        let _ = writeln!(out, "<tr><td>{}<td>{count}", state.netstat());
    }
    out.push_str("</table>\n");
    out
}

fn by_state(core: &Core) -> Vec<(State, u64)> {
    let mut counts: Vec<(State, u64)> = Vec::new();
    for diag in core.stack.diag(core.now).filter(|diag| diag.protocol == 6) {
        match counts.iter_mut().find(|(state, _)| *state == diag.state) {
            Some((_, count)) => *count += 1,
            None => counts.push((diag.state, 1)),
        }
    }
    counts
}
