//! No input makes a parser panic, and what it makes of it is consistent.
use proptest::prelude::*;

mod everything;
mod samples;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn random_bytes(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        everything::read(&bytes);
    }

    #[test]
    fn random_bytes_that_claim_to_be_ip(
        version in prop::sample::select(vec![0x45u8, 0x46, 0x4f, 0x60]),
        mut bytes in prop::collection::vec(any::<u8>(), 1..200),
    ) {
        bytes[0] = version;
        everything::read(&bytes);
    }

    /// Sound packets with a few bytes changed or missing, and the IPv4 checksum put right so that parsing goes on.
    #[test]
    fn mutated_packets(
        (_, mut bytes) in prop::sample::select(samples::all()),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len() + 1));
        }
        samples::repair_ipv4_checksum(&mut bytes);
        everything::read(&bytes);
    }
}

#[test]
fn every_sample_cut_anywhere() {
    for (_, bytes) in samples::all() {
        for len in 0..=bytes.len() {
            everything::read(&bytes[..len]);
        }
    }
}
