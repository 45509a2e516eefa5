//! From what people write to a key: dots or slashes, with /proc/sys/ in front or not, and typing errors.

use super::{Key, all};

/// The key called `name`: `net.ipv4.tcp_sack`, `net/ipv4/tcp_sack` or `/proc/sys/net/ipv4/tcp_sack`;
/// `net.ipv4.conf.eth0.rp_filter` finds `net.ipv4.conf.*.rp_filter`.
pub fn lookup(name: &str) -> Option<&'static Key> {
    let name = strip(name);
    all().find(|key| matches(key.name, name))
}

/// The keys whose names look most like `name`, the likeliest first: the same name in another place
/// (`tcp_sack`, `net.core.tcp_sack`) or one with few letters wrong.
pub fn suggestions(name: &str) -> [Option<&'static Key>; 3] {
    let name = strip(name);
    let leaf = last(name);
    let mut best: [Option<(usize, &'static Key)>; 3] = [None; 3];
    for key in all() {
        let distance = if same(last(key.name), leaf) {
            0
        } else {
            // A letter in four may be wrong, and the fewer the better.
            let whole = distance(key.name, name);
            let part = distance(last(key.name), leaf) + 1;
            let distance = whole.min(part);
            if distance * 4 > leaf.len().max(4) {
                continue;
            }
            distance
        };
        let mut candidate = Some((distance, key));
        for slot in &mut best {
            match (*slot, candidate) {
                (Some((there, _)), Some((here, _))) if there <= here => {}
                _ => core::mem::swap(slot, &mut candidate),
            }
        }
    }
    best.map(|slot| slot.map(|(_, key)| key))
}

fn strip(name: &str) -> &str {
    let name = name.trim();
    let name = name
        .strip_prefix("/proc/sys")
        .filter(|rest| rest.starts_with(['/', '.']))
        .unwrap_or(name);
    name.trim_start_matches(['/', '.'])
}

fn last(name: &str) -> &str {
    name.rsplit(['.', '/']).next().unwrap_or(name)
}

fn dotted(byte: u8) -> u8 {
    if byte == b'/' { b'.' } else { byte }
}

fn same(a: &str, b: &str) -> bool {
    a.len() == b.len() && a.bytes().zip(b.bytes()).all(|(a, b)| dotted(a) == dotted(b))
}

/// The pattern's `*` stands for one or more characters: interface names may hold dots.
fn matches(pattern: &str, name: &str) -> bool {
    let Some((before, after)) = pattern.split_once('*') else {
        return same(pattern, name);
    };
    name.len() > before.len() + after.len()
        && name.get(..before.len()).is_some_and(|start| same(start, before))
        && name.get(name.len() - after.len()..).is_some_and(|end| same(end, after))
}

/// Letters to add, drop, change or swap with their neighbour to make one name of the other
/// (optimal string alignment, three rows of bytes; names longer than the rows are far from everything).
fn distance(a: &str, b: &str) -> usize {
    const LONGEST: usize = 80;
    let (a, b) = (a.as_bytes(), b.as_bytes());
    if a.len() > LONGEST || b.len() > LONGEST {
        return usize::MAX / 8;
    }
    let mut before = [0usize; LONGEST + 1];
    let mut above = [0usize; LONGEST + 1];
    let mut row = [0usize; LONGEST + 1];
    for (j, cell) in above.iter_mut().enumerate() {
        *cell = j;
    }
    for i in 1..=a.len() {
        row[0] = i;
        for j in 1..=b.len() {
            let (x, y) = (dotted(a[i - 1]), dotted(b[j - 1]));
            row[j] = (above[j] + 1)
                .min(row[j - 1] + 1)
                .min(above[j - 1] + usize::from(x != y));
            if i > 1 && j > 1 && x == dotted(b[j - 2]) && dotted(a[i - 2]) == y {
                row[j] = row[j].min(before[j - 2] + 1);
            }
        }
        (before, above, row) = (above, row, before);
    }
    above[b.len()]
}
