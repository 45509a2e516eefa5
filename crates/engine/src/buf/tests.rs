use super::*;
use alloc::collections::BTreeMap;

fn bytes(from: usize, n: usize) -> Vec<u8> {
    (from..from + n).map(|i| (i * 31 + i / 251) as u8).collect()
}

#[test]
fn an_empty_queue_holds_no_memory() {
    let mut pool = Pool::default();
    let mut queue = ByteQueue::new();
    queue.push(&mut pool, &bytes(0, 100_000));
    assert!(queue.truesize() >= 100_000);
    queue.consume(&mut pool, 99_999);
    assert_eq!((queue.len(), queue.truesize()), (1, LARGE));
    queue.consume(&mut pool, 1);
    assert_eq!((queue.truesize(), queue.rest.capacity()), (0, 0));
}

#[test]
fn a_little_data_takes_a_small_chunk() {
    let mut pool = Pool::default();
    let mut queue = ByteQueue::new();
    queue.push(&mut pool, &[1; 100]);
    assert_eq!(queue.truesize(), SMALL);
    queue.push(&mut pool, &[1; SMALL]);
    queue.consume(&mut pool, usize::MAX);
    queue.push(&mut pool, &[1; 100]);
    assert_eq!(queue.truesize(), LARGE, "one that was busy gets a large one");
    queue.consume(&mut pool, usize::MAX);
    queue.push(&mut pool, &[1; 100]);
    assert_eq!(queue.truesize(), SMALL, "once");
}

#[test]
fn a_queue_at_work_allocates_nothing() {
    let mut pool = Pool::default();
    let mut queue = ByteQueue::new();
    let mut highest = 0;
    for round in 0..1000 {
        queue.push(&mut pool, &[7; 1460]);
        queue.push(&mut pool, &[7; 1460]);
        queue.consume(&mut pool, if round % 3 == 0 { usize::MAX } else { 1460 });
        let held = queue.truesize() + pool.small.len() * SMALL + pool.large.len() * LARGE;
        assert!(round < 10 || held <= highest, "grew in round {round}");
        highest = highest.max(held);
    }
}

#[test]
fn early_bytes_are_readable_once_the_gap_closes_and_are_not_moved() {
    let mut pool = Pool::default();
    let mut queue = ByteQueue::new();
    queue.push(&mut pool, &bytes(0, 1000));
    queue.write_at(&mut pool, 40_000, &bytes(40_000, 5000));
    assert_eq!((queue.len(), queue.copy_out(1000, &mut [0])), (1000, 0));
    queue.consume(&mut pool, 1000);
    assert!(queue.truesize() <= 2 * LARGE, "the gap takes no memory");
    queue.push(&mut pool, &bytes(1000, 39_000));
    queue.advance(5000);
    let mut out = vec![0; 44_000];
    assert_eq!(queue.copy_out(0, &mut out), 44_000);
    assert_eq!(out, bytes(1000, 44_000));
}

#[test]
fn forgetting_what_came_early_leaves_the_readable_bytes() {
    let mut pool = Pool::default();
    let mut queue = ByteQueue::new();
    queue.push(&mut pool, &bytes(0, 20_000));
    queue.write_at(&mut pool, 100_000, &[1; 10]);
    queue.forget_early(&mut pool, 20_000);
    assert_eq!((queue.len(), queue.truesize()), (20_000, 2 * LARGE));
    queue.advance(5);
    assert_eq!(queue.len(), 20_000, "nothing was written there");
}

/// Against a map of offsets: random pushes, early writes, advances and reads.
#[test]
fn agrees_with_a_map_of_bytes() {
    let mut seed = 0x1234_5678_9abc_def1u64;
    let mut random = move |below: usize| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        (seed % below as u64) as usize
    };
    let mut pool = Pool::default();
    for _ in 0..8 {
        let mut queue = ByteQueue::new();
        let (mut start, mut end) = (0, 0); // of the readable bytes, in the stream
        let mut early: BTreeMap<usize, ()> = BTreeMap::new();
        for _ in 0..300 {
            match random(8) {
                0..3 => {
                    let n = random(5000);
                    queue.push(&mut pool, &bytes(end, n));
                    end += n;
                }
                3 => {
                    let (at, n) = (end + random(40_000), random(3000));
                    queue.write_at(&mut pool, at - start, &bytes(at, n));
                    (at..at + n).for_each(|i| _ = early.insert(i, ()));
                }
                4 if random(10) == 0 => {
                    queue.forget_early(&mut pool, 0);
                    early.clear();
                }
                5..8 => {
                    let n = random(8000).min(end - start);
                    queue.consume(&mut pool, n);
                    start += n;
                }
                _ => {}
            }
            let mut n = 0;
            while early.contains_key(&(end + n)) {
                n += 1;
            }
            queue.advance(n);
            end += n;
            early.retain(|at, _| *at >= end);

            assert_eq!(queue.len(), end - start);
            let at = random(end - start + 1);
            let mut out = vec![0; random(30_000)];
            let n = queue.copy_out(at, &mut out);
            assert_eq!(n, out.len().min(end - start - at));
            assert_eq!(out[..n], bytes(start + at, n));
            let (m, sum) = queue.copy_out_sum(at, &mut out);
            assert_eq!((m, sum.fold()), (n, Sum::of(&out[..n]).fold()));
            let mut slices = [&[][..]; 64];
            let n = queue.slices(&mut slices);
            assert_eq!(slices[..n].concat(), bytes(start, end - start));
        }
    }
}

#[test]
fn bytes_put_into_place_are_what_is_read() {
    let mut pool = Pool::default();
    let mut queue = ByteQueue::new();
    let (mut start, mut end) = (0, 0);
    for (room, put, take) in [
        (100, 100, 0),
        (3000, 1, 50),
        (40_000, 39_999, 20_000),
        (500_000, 200_000, 7),
        (10, 0, 250_000),
    ] {
        let filled = queue.fill(&mut pool, room, |areas| {
            assert!(areas.iter().map(|area| area.len()).sum::<usize>() >= room.min((PARTS - 1) * LARGE));
            let places = areas.iter_mut().flat_map(|area| area.iter_mut()).take(put);
            places.zip(bytes(end, put)).map(|(place, byte)| *place = byte).count()
        });
        assert_eq!(filled, put);
        queue.advance(put);
        end += put;
        let mut out = vec![0; end - start];
        assert_eq!(queue.copy_out(0, &mut out), end - start);
        assert_eq!(out, bytes(start, end - start));
        let (at, n) = ((end - start) / 3, (end - start) / 2);
        let mut slices = [&[][..]; 64];
        let count = queue.slices_of(at, n, &mut slices);
        assert_eq!(slices[..count].concat(), bytes(start + at, n));
        queue.consume(&mut pool, take);
        start = (start + take).min(end);
    }
    assert!(queue.is_empty());
    assert_eq!(queue.truesize(), 0, "an empty queue holds no memory");
}
