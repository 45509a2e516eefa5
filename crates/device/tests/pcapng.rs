//! What the tap writes is what a wire would show, read back by parsers that are not ours.

mod common;

use std::io::{self, Write};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::{Packet, pattern, skip};
use estab_device::{Device, Direction, LinkType, Pcapng, Pipe, Tap, Tx, TxCsum};
use pcap_parser::pcapng::Block;
use pcap_parser::{PcapBlockOwned, PcapNGReader, traits::PcapReaderIterator};

/// A file in memory.
#[derive(Clone, Default)]
struct Bytes(Arc<Mutex<Vec<u8>>>);

impl Write for Bytes {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Read {
    interfaces: Vec<(i32, String, u8)>,
    /// Interface, nanoseconds, flags, data.
    packets: Vec<(u32, u64, u32, Vec<u8>)>,
}

fn read(bytes: &[u8]) -> Read {
    let mut out = Read {
        interfaces: Vec::new(),
        packets: Vec::new(),
    };
    let mut reader = PcapNGReader::new(1 << 20, bytes).expect("a section header");
    loop {
        match reader.next() {
            Ok((consumed, block)) => {
                match block {
                    PcapBlockOwned::NG(Block::InterfaceDescription(block)) => {
                        let name = block.options.iter().find(|option| option.code.0 == 2).expect("if_name");
                        let name = String::from_utf8_lossy(&name.value[..name.len.into()]).into_owned();
                        out.interfaces.push((block.linktype.0, name, block.if_tsresol));
                    }
                    PcapBlockOwned::NG(Block::EnhancedPacket(block)) => {
                        let time = u64::from(block.ts_high) << 32 | u64::from(block.ts_low);
                        let flags = &block
                            .options
                            .iter()
                            .find(|option| option.code.0 == 2)
                            .expect("epb_flags")
                            .value;
                        let flags = u32::from_ne_bytes(flags[..4].try_into().unwrap());
                        assert_eq!(block.caplen, block.origlen);
                        out.packets
                            .push((block.if_id, time, flags, block.data[..block.caplen as usize].to_vec()));
                    }
                    PcapBlockOwned::NG(Block::SectionHeader(_)) => {}
                    _ => panic!("unexpected block"),
                }
                reader.consume(consumed);
            }
            Err(pcap_parser::PcapError::Eof) => return out,
            Err(pcap_parser::PcapError::Incomplete(_)) => {
                reader.refill().unwrap();
            }
            Err(err) => panic!("{err:?}"),
        }
    }
}

fn quiet(err: io::Error) {
    panic!("{err}");
}

#[test]
fn both_directions_of_a_device_are_recorded() {
    let file = Bytes::default();
    let (device, mut peer) = Pipe::pair(9000, 8, true);
    let mut tap = Tap::new(device, Pcapng::new(file.clone(), quiet), "estab0", LinkType::Raw);
    let packet = Packet::new("10.0.0.1", "10.0.0.2", pattern(5));
    let partial = TxCsum::Partial { start: 20, offset: 16 };

    peer.send(
        &packet.partial(),
        Tx {
            csum: partial,
            gso_size: None,
        },
    )
    .unwrap();
    let mut buf = [0; 9000];
    let rx = tap.recv(&mut buf).unwrap().unwrap();
    assert_eq!(buf[..rx.len], packet.partial(), "the tap changes nothing on its way");
    tap.send(
        &packet.partial(),
        Tx {
            csum: partial,
            gso_size: None,
        },
    )
    .unwrap();
    drop(tap);

    let read = read(&file.0.lock().unwrap());
    assert_eq!(read.interfaces, [(101, "estab0".to_owned(), 9)]);
    let flags: Vec<u32> = read.packets.iter().map(|packet| packet.2).collect();
    assert_eq!(flags, [1, 2], "inbound, then outbound");
    for (_, _, _, data) in &read.packets {
        assert_ne!(*data, packet.partial(), "the checksum was completed");
        assert!(estab_wire::tcp::checksum_ok(packet.src, packet.dst, &data[20..]));
    }
}

#[test]
fn a_refused_packet_is_not_recorded() {
    let file = Bytes::default();
    let (device, _peer) = Pipe::pair(1500, 1, false);
    let mut tap = Tap::new(device, Pcapng::new(file.clone(), quiet), "p", LinkType::Raw);
    tap.send(b"one", Tx::default()).unwrap();
    tap.send(b"two", Tx::default()).unwrap_err();
    drop(tap);
    assert_eq!(read(&file.0.lock().unwrap()).packets.len(), 1);
}

#[test]
fn super_packets_are_written_as_segments_with_the_time_given() {
    let file = Bytes::default();
    let pcapng = Pcapng::new(file.clone(), quiet);
    let first = pcapng.interface("a", LinkType::Raw, 1500);
    let second = pcapng.interface("b", LinkType::Ethernet, 1500);
    assert_eq!((first, second), (0, 1));
    let packet = Packet::new("fd00::1", "fd00::2", pattern(4000));
    let mut frame = vec![0; 14];
    frame.extend_from_slice(&packet.partial());
    let time = Duration::new(1_800_000_000, 123_456_789);
    pcapng.record(second, Direction::Outbound, time, &frame, Some((54, 16)), Some(1428));
    pcapng.flush();

    let read = read(&file.0.lock().unwrap());
    let lengths: Vec<usize> = read.packets.iter().map(|packet| packet.3.len()).collect();
    assert_eq!(lengths, [14 + 72 + 1428, 14 + 72 + 1428, 14 + 72 + 1144]);
    for (interface, nanos, _, data) in &read.packets {
        assert_eq!((*interface, *nanos), (1, 1_800_000_000_123_456_789));
        assert!(estab_wire::tcp::checksum_ok(packet.src, packet.dst, &data[54..]));
    }
}

#[test]
fn a_full_disk_is_reported_once_and_stops_no_traffic() {
    struct Full;
    impl Write for Full {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::StorageFull.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Err(io::ErrorKind::StorageFull.into())
        }
    }
    let errors = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&errors);
    let (device, mut peer) = Pipe::pair(1500, 64, false);
    let pcapng = Pcapng::new(Full, move |err| seen.lock().unwrap().push(err.kind()));
    let mut tap = Tap::new(device, pcapng, "p", LinkType::Raw);
    for _ in 0..3 {
        tap.send(b"packet", Tx::default()).unwrap();
        tap.flush();
    }
    assert_eq!(*errors.lock().unwrap(), [io::ErrorKind::StorageFull]);
    let mut buf = [0; 16];
    for _ in 0..3 {
        assert_eq!(peer.recv(&mut buf).unwrap().unwrap().len, 6);
    }
}

#[test]
fn a_capture_is_its_owners_alone() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.pcapng");
    let _pcapng = Pcapng::create(&path, quiet).unwrap();
    assert_eq!(std::fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn tshark_finds_nothing_wrong() {
    if Command::new("tshark").arg("--version").output().is_err() {
        return skip("no tshark");
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.pcapng");
    let pcapng = Pcapng::create(&path, quiet).unwrap();
    let interface = pcapng.interface("estab0", LinkType::Raw, 1500);
    for (src, dst) in [("10.0.0.1", "10.0.0.2"), ("fd00::1", "fd00::2")] {
        for tcp in [true, false] {
            let mut packet = Packet::new(src, dst, pattern(4000));
            packet.tcp = tcp;
            packet.flags = 0x19;
            let partial = Some((packet.transport() as u16, if tcp { 16 } else { 6 }));
            let frame = packet.partial();
            pcapng.record(
                interface,
                Direction::Inbound,
                Duration::from_secs(1),
                &frame,
                partial,
                Some(1400),
            );
        }
    }
    drop(pcapng);
    let output = Command::new("tshark")
        .args([
            "-n",
            "-o",
            "tcp.check_checksum:TRUE",
            "-o",
            "udp.check_checksum:TRUE",
            "-o",
            "ip.check_checksum:TRUE",
        ])
        .args([
            "-T",
            "fields",
            "-e",
            "_ws.expert.severity",
            "-e",
            "_ws.malformed",
            "-e",
            "tcp.checksum.status",
        ])
        .args([
            "-e",
            "udp.checksum.status",
            "-e",
            "frame.interface_name",
            "-e",
            "frame.packet_flags_direction",
            "-r",
        ])
        .arg(&path)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split('\t').collect()).collect();
    assert_eq!(lines.len(), 12, "{text}{}", String::from_utf8_lossy(&output.stderr));
    for line in &lines {
        let good = [line[2], line[3]]
            .into_iter()
            .filter(|status| !status.is_empty())
            .all(|status| status == "1");
        // Severities: 0x400000 is a note, 0x600000 a warning, 0x800000 an error; the FINs here are chats.
        let calm = line[0]
            .split(',')
            .all(|severity| !severity.starts_with("6291456") && !severity.starts_with("8388608"));
        assert!(good && calm && line[1].is_empty(), "{line:?}");
        // 1 or 0x00000001, by version.
        assert!(line[4] == "estab0" && line[5].ends_with('1'), "{line:?}");
    }
}
