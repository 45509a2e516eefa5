//! TCP options: what is read from a list, and how one is written.
use estab_wire::tcp::{AccEcn, FastOpen, OptionIter, OptionWriter, Options, RawOption, SackBlocks, Timestamps, kind};
use proptest::prelude::*;

fn syn(bytes: &[u8]) -> Options {
    Options::parse(bytes, true)
}

#[test]
fn a_linux_syn() {
    let bytes = [2, 4, 5, 0xb4, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 1, 3, 3, 7];
    let options = Options {
        mss: Some(1460),
        window_scale: Some(7),
        sack_permitted: true,
        timestamps: Some(Timestamps { val: 1, ecr: 0 }),
        ..Options::default()
    };
    assert_eq!(syn(&bytes), options);
    let mut buf = [0; 40];
    assert_eq!(options.write(&mut buf), Some(20));
    assert_eq!(buf[..20], bytes, "and written as Linux writes it");
}

#[test]
fn only_a_syn_negotiates() {
    let bytes = [2, 4, 5, 0xb4, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 1, 3, 3, 7, 34, 2];
    let options = Options::parse(&bytes, false);
    assert_eq!(
        options,
        Options {
            timestamps: Some(Timestamps { val: 1, ecr: 0 }),
            ..Options::default()
        }
    );
}

/// As Linux's tcp_parse_options: what came before a bad length stays, what comes after it is not looked at.
#[test]
fn a_bad_length_ends_the_list() {
    for (name, tail) in [
        ("0", &[99u8, 0, 3, 3, 7][..]),
        ("1", &[99, 1, 3, 3, 7]),
        ("beyond the end", &[99, 6, 3, 3, 7]),
        ("missing", &[99]),
        ("a window scale cut", &[3, 3]),
    ] {
        let bytes = [&[2, 4, 5, 0xb4], tail].concat();
        let options = syn(&bytes);
        assert_eq!((options.mss, options.window_scale), (Some(1460), None), "length {name}");
    }
}

#[test]
fn what_is_not_known_or_of_a_wrong_length_is_passed_over() {
    let table: &[(&str, &[u8])] = &[
        ("unknown kind", &[99, 4, 1, 2]),
        ("unknown kind without data", &[99, 2]),
        ("MSS of 3 bytes", &[2, 5, 5, 5, 5]),
        ("MSS 0", &[2, 4, 0, 0]),
        ("window scale of 2 bytes", &[3, 4, 7, 7]),
        ("SACK permitted with data", &[4, 3, 0]),
        ("timestamps cut short", &[8, 6, 1, 1, 1, 1]),
        ("SACK without blocks", &[5, 2]),
        ("SACK with half a block", &[5, 6, 1, 1, 1, 1]),
        (
            "SACK with a block and a half",
            &[5, 14, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3],
        ),
        ("odd cookie", &[34, 7, 1, 2, 3, 4, 5]),
        ("short cookie", &[34, 4, 1, 2]),
        (
            "long cookie",
            &[34, 20, 1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9],
        ),
        ("another experiment", &[254, 4, 0xf9, 0x88]),
        ("an experiment without number", &[254, 3, 0xf9]),
        ("short MD5", &[19, 4, 1, 2]),
        ("TCP-AO", &[29, 4, 1, 2]),
    ];
    for (name, bytes) in table {
        let bytes = [*bytes, &[1, 3, 3, 7]].concat();
        assert_eq!(
            syn(&bytes),
            Options {
                window_scale: Some(7),
                ..Options::default()
            },
            "{name}"
        );
    }
}

#[test]
fn the_list_ends_where_it_says() {
    assert_eq!(syn(&[0, 2, 4, 5, 0xb4]), Options::default());
    assert_eq!(syn(&[1, 1, 0, 3, 3, 7]), Options::default());
}

#[test]
fn the_last_of_a_kind_counts() {
    assert_eq!(syn(&[2, 4, 1, 0, 2, 4, 2, 0]).mss, Some(512));
    let mut twice = vec![1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2];
    twice.extend([8, 10, 0, 0, 0, 3, 0, 0, 0, 4]);
    assert_eq!(syn(&twice).timestamps, Some(Timestamps { val: 3, ecr: 4 }));
}

#[test]
fn sack_blocks() {
    let mut bytes = vec![1, 1, 5, 34];
    for n in 1..=8u32 {
        bytes.extend(n.to_be_bytes());
    }
    let options = Options::parse(&bytes, false);
    assert_eq!(*options.sack, [(1, 2), (3, 4), (5, 6), (7, 8)]);
    let mut buf = [0; 40];
    assert_eq!(options.write(&mut buf), Some(36));
    assert_eq!(buf[..36], bytes);

    let mut sack = options.sack;
    assert!(!sack.push(9, 10));
    sack.truncate(3);
    assert_eq!(*sack, [(1, 2), (3, 4), (5, 6)]);
    assert_eq!(sack, [(1, 2), (3, 4), (5, 6)].into_iter().collect::<SackBlocks>());
}

#[test]
fn fast_open_in_both_its_forms() {
    let request = syn(&[34, 2, 1, 1]).fast_open.unwrap();
    assert!(request.is_request() && !request.experimental);
    let request = syn(&[254, 4, 0xf9, 0x89]).fast_open.unwrap();
    assert!(request.is_request() && request.experimental);

    let options = syn(&[34, 10, 1, 2, 3, 4, 5, 6, 7, 8, 1, 1]);
    assert_eq!(options.fast_open.unwrap().cookie(), [1, 2, 3, 4, 5, 6, 7, 8]);
    let mut buf = [0; 40];
    assert_eq!(options.write(&mut buf), Some(12));
    assert_eq!(buf[..12], [34, 10, 1, 2, 3, 4, 5, 6, 7, 8, 1, 1]);

    let options = syn(&[254, 8, 0xf9, 0x89, 1, 2, 3, 4]);
    assert_eq!(options.fast_open, FastOpen::with_cookie(&[1, 2, 3, 4], true));
    assert_eq!(options.write(&mut buf), Some(8));
    assert_eq!(buf[..8], [254, 8, 0xf9, 0x89, 1, 2, 3, 4]);

    for len in [1, 2, 3, 5, 17, 18] {
        assert_eq!(FastOpen::with_cookie(&[0; 20][..len], false), None, "{len} bytes");
    }
}

#[test]
fn md5_is_read_and_written_first_or_last() {
    let options = Options {
        md5: Some([7; 16]),
        window_scale: Some(2),
        ..Options::default()
    };
    let mut buf = [0; 40];
    assert_eq!(options.write(&mut buf), Some(24));
    assert_eq!(buf[..4], [1, 1, 19, 18]);
    assert_eq!(syn(&buf[..24]), options);
    let options = Options {
        timestamps: Some(Timestamps::default()),
        md5_last: true,
        ..options
    };
    assert_eq!(options.write(&mut buf), Some(36));
    assert_eq!((&buf[..4], &buf[16..20]), (&[1, 1, 8, 10][..], &[1, 1, 19, 18][..]));
}

#[test]
fn a_writer_tells_when_something_did_not_fit() {
    let mut buf = [0xaa; 12];
    let mut writer = OptionWriter::new(&mut buf[..11]);
    writer.mss(1460).nops(1).window_scale(7);
    assert_eq!(writer.len(), 8);
    assert_eq!(writer.timestamps(1, 2).finish(), None);
    assert_eq!(writer.nops(1).finish(), None, "and goes on telling");
    assert_eq!(buf[11], 0xaa);

    let mut buf = [0; 100];
    assert_eq!(OptionWriter::new(&mut buf).nops(40).finish(), Some(40));
    assert_eq!(
        OptionWriter::new(&mut buf).nops(41).finish(),
        None,
        "a header has room for 40"
    );
    assert_eq!(OptionWriter::new(&mut buf).option(99, &[0; 300]).finish(), None);
    assert_eq!(OptionWriter::new(&mut buf).sack(&[(0, 1); 40]).finish(), None);
    assert_eq!(OptionWriter::new(&mut buf).sack_permitted().pad().finish(), Some(4));
    assert!(OptionWriter::new(&mut buf).is_empty());

    let everything = Options {
        md5: Some([0; 16]),
        timestamps: Some(Timestamps::default()),
        ..syn(&[34, 10, 1, 2, 3, 4, 5, 6, 7, 8])
    };
    assert_eq!((everything.encoded_len(), everything.write(&mut buf)), (44, None));
}

#[test]
fn raw_options_come_in_their_order() {
    let bytes = [1, 99, 3, 7, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2, 4, 2, 77, 9, 1];
    let mut iter = OptionIter::new(&bytes);
    let kinds: Vec<_> = iter
        .by_ref()
        .map(|RawOption { kind, data }| (kind, data.len()))
        .collect();
    assert_eq!(
        kinds,
        [
            (kind::NOP, 0),
            (99, 1),
            (kind::TIMESTAMPS, 8),
            (kind::SACK_PERMITTED, 0)
        ]
    );
    assert_eq!(iter.rest(), [77, 9, 1], "what can't be read is there to be shown");
}

fn options() -> impl Strategy<Value = Options> {
    let cookie = prop::sample::select(vec![0usize, 4, 6, 8, 16]);
    (
        prop::option::of(1u16..),
        prop::option::of(any::<u8>()),
        any::<bool>(),
        prop::option::of(any::<(u32, u32)>()),
        prop::collection::vec(any::<(u32, u32)>(), 0..=4),
        prop::option::of((cookie, any::<[u8; 16]>(), any::<bool>())),
        prop::option::of(any::<[u8; 16]>()),
        prop::option::of((any::<bool>(), prop::collection::vec(any::<u32>(), 0..=3))),
    )
        .prop_map(
            |(mss, window_scale, sack_permitted, timestamps, sack, fast_open, md5, accecn)| Options {
                mss,
                window_scale,
                sack_permitted,
                timestamps: timestamps.map(|(val, ecr)| Timestamps { val, ecr }),
                sack: sack.into_iter().collect(),
                fast_open: fast_open.and_then(|(len, cookie, exp)| FastOpen::with_cookie(&cookie[..len], exp)),
                md5,
                accecn: accecn.map(|(ect1_first, counters)| AccEcn::new(ect1_first, &counters)),
                ..Options::default()
            },
        )
}

proptest! {
    #[test]
    fn what_is_written_is_read(options in options()) {
        let mut buf = [0; 64];
        let len = options.write(&mut buf);
        let encoded = options.encoded_len();
        prop_assert_eq!(len, (encoded <= 40).then_some(encoded));
        if let Some(len) = len {
            prop_assert_eq!(len % 4, 0);
            prop_assert_eq!(syn(&buf[..len]), options);
        }
    }

    /// The short way through the commonest list comes to the same as the long way.
    /// The short way of the usual SYN is the long way of its options, whatever one of its bytes becomes.
    #[test]
    fn the_usual_syn_is_read_as_its_options_are(values: [u8; 11], at in 0..20usize, byte: u8) {
        let [m, n, a, b, c, d, e, f, g, h, shift] = values;
        let mut bytes = [2, 4, m, n, 4, 2, 8, 10, a, b, c, d, e, f, g, h, 1, 3, 3, shift];
        for _ in 0..2 {
            let padded = [&[1, 1, 1, 1], &bytes[..]].concat();
            prop_assert_eq!(syn(&bytes), syn(&padded));
            prop_assert_eq!(Options::parse(&bytes, false), Options::parse(&padded, false));
            bytes[at] = byte;
        }
    }

    #[test]
    fn timestamps_alone(val: u32, ecr: u32) {
        let mut buf = [0; 12];
        OptionWriter::new(&mut buf).nops(2).timestamps(val, ecr);
        let short = Options::parse(&buf, false);
        let long = Options::parse(&[&buf[..], &[0]].concat(), false);
        prop_assert_eq!(short, long);
        prop_assert_eq!(short.timestamps, Some(Timestamps { val, ecr }));
    }

    #[test]
    fn any_list_is_read_to_its_end(bytes in prop::collection::vec(any::<u8>(), 0..=40)) {
        let options = syn(&bytes);
        prop_assert!(options.mss != Some(0));
        let mut iter = OptionIter::new(&bytes);
        let len = |option: RawOption<'_>| option.data.len() + if option.kind == kind::NOP { 1 } else { 2 };
        let read: usize = iter.by_ref().map(len).sum();
        prop_assert_eq!(read + iter.rest().len(), bytes.len());
    }
}

/// The layouts of Linux's tcp_options_write: bytes over a multiple of four take the place of another option's padding.
#[test]
fn accurate_ecn_stands_behind_the_timestamps_and_uses_up_padding() {
    let ts = Some(Timestamps { val: 1, ecr: 2 });
    let counters = [0x01_0203, 0x04_0506, 0x07_0809];
    let with = |fields: usize, options: Options| Options {
        accecn: Some(AccEcn::new(true, &counters[..fields])),
        ..options
    };
    let written = |options: Options| {
        let mut buf = [0xee; 40];
        let len = options.write(&mut buf).unwrap();
        assert_eq!(len, options.encoded_len(), "{options:?}");
        assert_eq!(Options::parse(&buf[..len], options.mss.is_some()), options);
        buf[..len].to_vec()
    };
    let bare = Options::default();
    assert_eq!(written(with(3, bare)), [174, 11, 1, 2, 3, 4, 5, 6, 7, 8, 9, 1]);
    assert_eq!(written(with(2, bare)), [174, 8, 1, 2, 3, 4, 5, 6]);
    assert_eq!(written(with(1, bare)), [174, 5, 1, 2, 3, 1, 1, 1]);
    assert_eq!(written(with(0, bare)), [174, 2, 1, 1]);
    let sack = Options {
        sack: [(1, 2)].into_iter().collect(),
        ..bare
    };
    let blocks = [5, 10, 0, 0, 0, 1, 0, 0, 0, 2];
    assert_eq!(written(with(3, sack))[10..14], [9, 1, 1, 1]);
    assert_eq!(written(with(1, sack)), [&[174, 5, 1, 2, 3, 1][..], &blocks].concat());
    assert_eq!(written(with(0, sack)), [&[174, 2][..], &blocks].concat());
    let syn = Options {
        mss: Some(1460),
        window_scale: Some(8),
        sack_permitted: true,
        ..bare
    };
    assert_eq!(
        written(with(3, syn)),
        [
            2, 4, 5, 0xb4, 174, 11, 1, 2, 3, 4, 5, 6, 7, 8, 9, 1, 1, 1, 4, 2, 1, 3, 3, 8
        ]
    );
    assert_eq!(
        written(with(0, syn)),
        [2, 4, 5, 0xb4, 174, 2, 4, 2, 1, 3, 3, 8],
        "in SACK permitted's padding"
    );
    let stamped = Options { timestamps: ts, ..syn };
    assert_eq!(
        written(with(1, stamped))[16..],
        [174, 5, 1, 2, 3, 3, 3, 8],
        "in the scale's"
    );
    assert_eq!(
        written(with(0, stamped))[16..],
        [1, 3, 3, 8, 174, 2, 1, 1],
        "two bytes are too many for it"
    );
}

#[test]
fn accurate_ecn_is_read_in_either_order_and_length() {
    for (bytes, ect1_first, counters) in [
        (&[172u8, 2][..], false, &[][..]),
        (&[174, 5, 1, 2, 3], true, &[0x01_0203]),
        (&[172, 8, 1, 2, 3, 255, 255, 255], false, &[0x01_0203, 0xff_ffff]),
        (&[174, 11, 0, 0, 1, 0, 0, 2, 0, 0, 3], true, &[1, 2, 3]),
        (&[174, 4, 9, 9], true, &[]),
        (&[172, 14, 0, 0, 1, 0, 0, 2, 0, 0, 3, 0, 0, 4], false, &[1, 2, 3]),
    ] {
        let read = Options::parse(bytes, false).accecn.expect("an option");
        assert_eq!((read.ect1_first, read.counters()), (ect1_first, counters), "{bytes:?}");
    }
}
