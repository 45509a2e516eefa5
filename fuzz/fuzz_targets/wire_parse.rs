//! All parsers, on anything.
#![no_main]

#[path = "../../crates/wire/tests/everything/mod.rs"]
mod everything;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    // IPv4's header checksum keeps a fuzzer out of most of what lies behind it.
    let mut repaired = bytes.to_vec();
    repair_ipv4_checksum(&mut repaired);
    everything::read(&repaired);
    everything::read(bytes);
});

fn repair_ipv4_checksum(bytes: &mut [u8]) {
    let header_len = usize::from(bytes.first().copied().unwrap_or(0) & 15) * 4;
    if let Some(header) = bytes.get_mut(..header_len)
        && header_len >= estab_wire::ip::ipv4::HEADER_LEN
    {
        header[10..12].fill(0);
        let sum = estab_wire::checksum::checksum(header);
        header[10..12].copy_from_slice(&sum.to_be_bytes());
    }
}
