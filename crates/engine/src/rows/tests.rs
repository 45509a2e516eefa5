use super::*;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::time::Duration;
use proptest::prelude::*;

struct Table(Vec<Place>);

impl Places for Table {
    fn place(&mut self, index: u32) -> &mut Place {
        &mut self.0[index as usize]
    }
}

#[derive(Clone, Debug)]
enum Op {
    Set(u32, usize, u64),
    Cancel(u32),
    Pass(u64),
}

fn op() -> impl Strategy<Value = Op> {
    // Times of a row mostly alike, as its objects' are, and a few that fit nowhere.
    let life = prop_oneof![8 => Just(60_000_000u64), 2 => 0..70_000_000u64, 1 => Just(1 << 33)];
    prop_oneof![
        4 => (0..12u32, 0..2usize, life).prop_map(|(index, row, us)| Op::Set(index, row, us)),
        1 => (0..12u32).prop_map(Op::Cancel),
        3 => (0..20_000_000u64).prop_map(Op::Pass),
        1 => Just(Op::Pass(1 << 34)),
    ]
}

proptest! {
    /// However deadlines come, go and are changed, each object's passes when it should, and can be read until then.
    #[test]
    fn each_deadline_passes_in_its_time(ops in prop::collection::vec(op(), 1..80)) {
        let mut now = Instant::from_micros(u64::from(u32::MAX) - 100_000_000);
        let mut wheel = Wheel::new(now);
        let mut rows = Rows::<2>::new(TimerKey::TimeWaits);
        let mut table = Table(alloc::vec![Place::NONE; 12]);
        let mut model: BTreeMap<u32, Instant> = BTreeMap::new();
        for op in ops {
            match op {
                Op::Set(index, row, us) => {
                    let at = now + Duration::from_micros(us);
                    rows.set(&mut wheel, &mut table, index, at, (row, TimerKey::TimeWait(index)));
                    model.insert(index, at);
                }
                Op::Cancel(index) => {
                    rows.cancel(&mut wheel, &mut table, index);
                    model.remove(&index);
                }
                Op::Pass(us) => {
                    now += Duration::from_micros(us);
                    let mut fired = Vec::new();
                    while let Some(key) = wheel.pop(now) {
                        match key.unpack() {
                            TimerKey::TimeWaits(row) => {
                                while let Some(index) = rows.pop(&mut table, row, now) {
                                    fired.push(index);
                                }
                                rows.arm(&mut wheel, row.into());
                            }
                            TimerKey::TimeWait(index) => {
                                rows.cancel(&mut wheel, &mut table, index);
                                fired.push(index);
                            }
                            other => panic!("{other:?}"),
                        }
                    }
                    fired.sort_unstable();
                    let due: Vec<u32> = model.iter().filter(|(_, at)| **at <= now).map(|(index, _)| *index).collect();
                    prop_assert_eq!(fired, due);
                    model.retain(|_, at| *at > now);
                }
            }
            for (index, place) in table.0.iter().enumerate() {
                let expected = model.get(&(index as u32)).copied();
                let far = expected.is_some_and(|at| at.since(now) >= Duration::from_secs(2000));
                prop_assert!(far || place.deadline(&wheel, now) == expected);
            }
            if let Some(first) = model.values().min() {
                prop_assert!(wheel.next().is_some_and(|at| at <= *first));
            }
        }
    }
}
