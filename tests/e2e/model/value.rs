//! Arrays, of which a value is one of a single item, against a vector of fixed length.

use pmq_broker::{Array, Error, Slice};
use proptest::prelude::*;

use super::handles::{CLIENTS, Handles, block_on};

const LEN: usize = 5;

#[derive(Clone, Debug)]
enum Act {
    Set(i64, i8),
    Add(i64, i8),
    Swap(i64, i8, i8),
    Double(i64),
    SetSlice(i64, i64, Vec<i8>),
    Crash,
    EndLeases,
}

fn acts() -> impl Strategy<Value = Vec<(usize, Act)>> {
    let index = || -7..7_i64;
    let number = || prop_oneof![0..3_i8, any::<i8>()];
    let act = prop_oneof![
        3 => (index(), number()).prop_map(|(at, new)| Act::Set(at, new)),
        4 => (index(), number()).prop_map(|(at, delta)| Act::Add(at, delta)),
        4 => (index(), number(), number()).prop_map(|(at, old, new)| Act::Swap(at, old, new)),
        2 => index().prop_map(Act::Double),
        3 => (index(), index(), prop::collection::vec(number(), 0..4))
            .prop_map(|(start, stop, items)| Act::SetSlice(start, stop, items)),
        1 => Just(Act::Crash),
        1 => Just(Act::EndLeases),
    ];
    prop::collection::vec((0..CLIENTS, act), 1..40)
}

fn place(index: i64) -> Option<usize> {
    let at = if index < 0 { index + LEN as i64 } else { index };
    usize::try_from(at).ok().filter(|at| *at < LEN)
}

async fn act_on(array: &Array<i8>, model: &mut [i8; LEN], act: Act) {
    let (Act::Set(index, _) | Act::Add(index, _) | Act::Swap(index, ..) | Act::Double(index)) = act
    else {
        return set_slice(array, model, act).await;
    };
    let Some(at) = place(index) else {
        let error = array.fetch_add(index, 1).await.unwrap_err();
        assert!(matches!(error, Error::OutOfRange { .. }), "{error}");
        return;
    };
    let before = model[at];
    match act {
        Act::Set(_, new) => {
            array.set(index, &new).await.unwrap();
            model[at] = new;
        }
        Act::Add(_, delta) => {
            let added = array.fetch_add(index, delta).await;
            if let Some(sum) = before.checked_add(delta) {
                assert_eq!(added.unwrap(), before);
                model[at] = sum;
            } else {
                assert!(matches!(added, Err(Error::Overflow { .. })), "{added:?}");
            }
        }
        Act::Swap(_, old, new) => {
            let expected = if old == before { Ok(()) } else { Err(before) };
            assert_eq!(
                array.compare_exchange(index, &old, &new).await.unwrap(),
                expected
            );
            if expected.is_ok() {
                model[at] = new;
            }
        }
        _ => {
            model[at] = before.wrapping_mul(2);
            let twice = array.update(index, |number| number.wrapping_mul(2));
            assert_eq!(twice.await.unwrap(), model[at]);
        }
    }
}

async fn set_slice(array: &Array<i8>, model: &mut [i8; LEN], act: Act) {
    let Act::SetSlice(start, stop, items) = act else {
        return;
    };
    let bound = |at: i64| (if at < 0 { at + LEN as i64 } else { at }).clamp(0, LEN as i64) as usize;
    let places = bound(start)..bound(stop).max(bound(start));
    let slice = Slice::new(start, stop);
    let done = array.set_slice(slice, &items).await;
    if places.len() == items.len() {
        done.unwrap();
        model[places].copy_from_slice(&items);
    } else {
        assert!(matches!(done, Err(Error::OtherSize { .. })));
        assert_eq!(array.slice(slice).await.unwrap(), model[places]);
    }
}

async fn follows_the_model(mut handles: Handles<Array<i8>>, acts: Vec<(usize, Act)>) {
    let mut model = [7; LEN];
    for (client, act) in acts {
        match act {
            Act::Crash => handles.crash(client),
            Act::EndLeases => handles.end_leases(),
            act => act_on(handles.get(client), &mut model, act).await,
        }
        let witness = handles.get((client + 1) % CLIENTS);
        assert_eq!(witness.slice(..).await.unwrap(), model);
    }
    handles.get(0).unlink().await.unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn an_array_is_an_array(acts in acts()) {
        let handles = Handles::new();
        let (broker, name) = handles.place();
        block_on(broker.array(name, LEN, &7_i8)).unwrap();
        block_on(follows_the_model(handles, acts));
    }
}
