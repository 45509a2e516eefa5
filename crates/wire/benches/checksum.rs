//! Throughput of checksums over cached data: an ACK's header, a segment, and a super-packet.
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use estab_wire::checksum::{Sum, copy_and_sum};

fn benches(c: &mut Criterion) {
    for (name, copy) in [("sum", false), ("copy_and_sum", true)] {
        let mut group = c.benchmark_group(name);
        for len in [40, 1460, 9000, 65_000] {
            let src: Vec<u8> = (0..len).map(|i| (i * 7 + i / 256) as u8).collect();
            let mut dst = vec![0u8; len];
            group.throughput(Throughput::Bytes(len as u64));
            group.bench_function(BenchmarkId::from_parameter(len), |b| {
                b.iter(|| {
                    if copy {
                        copy_and_sum(&mut dst, &src)
                    } else {
                        Sum::of(&src)
                    }
                })
            });
        }
        group.finish();
    }
    let mut group = c.benchmark_group("memcpy");
    for len in [1460, 65_000] {
        let src = vec![1u8; len];
        let mut dst = vec![0u8; len];
        group.throughput(Throughput::Bytes(len as u64));
        group.bench_function(BenchmarkId::from_parameter(len), |b| {
            b.iter(|| std::hint::black_box(&mut dst).copy_from_slice(std::hint::black_box(&src)))
        });
    }
    group.finish();
}

criterion_group!(all, benches);
criterion_main!(all);
