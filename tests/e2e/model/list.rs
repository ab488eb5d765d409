//! Lists against a vector.

use pmq_broker::{Error, List, Slice};
use proptest::prelude::*;

use super::handles::{CLIENTS, Handles, block_on};

/// A slice as Python writes it.
type Bounds = (Option<i64>, Option<i64>, i64);

#[derive(Clone, Debug)]
enum Act {
    Append(i64),
    Extend(Vec<i64>),
    Insert(i64, i64),
    Pop(i64),
    Remove(i64),
    Set(i64, i64),
    Delete(Bounds),
    SetSlice(Bounds, Vec<i64>),
    Clear,
    Reverse,
    Sort,
    Slice(Bounds),
    Get(i64),
    Find(i64),
    Crash,
    EndLeases,
}

fn bounds() -> impl Strategy<Value = Bounds> {
    let bound = || prop::option::of(-9..9_i64);
    let step = prop_oneof![3 => Just(1), 2 => prop_oneof![-3..0_i64, 2..4_i64]];
    (bound(), bound(), step)
}

fn acts() -> impl Strategy<Value = Vec<(usize, Act)>> {
    let (item, index) = (0..4_i64, -9..9_i64);
    let act = prop_oneof![
        3 => item.clone().prop_map(Act::Append),
        3 => prop::collection::vec(item.clone(), 0..6).prop_map(Act::Extend),
        3 => (index.clone(), item.clone()).prop_map(|(at, item)| Act::Insert(at, item)),
        3 => index.clone().prop_map(Act::Pop),
        2 => item.clone().prop_map(Act::Remove),
        2 => (index.clone(), item.clone()).prop_map(|(at, item)| Act::Set(at, item)),
        2 => bounds().prop_map(Act::Delete),
        2 => (bounds(), prop::collection::vec(item.clone(), 0..4))
            .prop_map(|(bounds, items)| Act::SetSlice(bounds, items)),
        1 => Just(Act::Clear),
        1 => Just(Act::Reverse),
        1 => Just(Act::Sort),
        3 => bounds().prop_map(Act::Slice),
        2 => index.prop_map(Act::Get),
        2 => item.prop_map(Act::Find),
        1 => Just(Act::Crash),
        1 => Just(Act::EndLeases),
    ];
    prop::collection::vec((0..CLIENTS, act), 1..40)
}

fn slice((start, stop, step): Bounds) -> Slice {
    Slice::new(start, stop).step(step)
}

/// The indices of a slice, by trying each.
fn indices((start, stop, step): Bounds, len: usize) -> Vec<usize> {
    let len = len as i64;
    let from_end = |at: i64| if at < 0 { at + len } else { at };
    if step > 0 {
        let start = start.map_or(0, |at| from_end(at).max(0));
        let stop = stop.map_or(len, from_end);
        let inside = |at: &i64| *at >= start && *at < stop && (at - start) % step == 0;
        (0..len).filter(inside).map(|at| at as usize).collect()
    } else {
        let start = start.map_or(len - 1, |at| from_end(at).min(len - 1));
        let stop = stop.map_or(-1, |at| from_end(at).max(-1));
        let inside = |at: &i64| *at <= start && *at > stop && (start - at) % step == 0;
        let backwards = (0..len).rev();
        backwards.filter(inside).map(|at| at as usize).collect()
    }
}

/// The place of an index that exists.
fn place(index: i64, len: usize) -> Option<usize> {
    let at = if index < 0 { index + len as i64 } else { index };
    usize::try_from(at).ok().filter(|at| *at < len)
}

/// What a call answers: its value, or `None` where it says that there is none.
fn found<T>(answer: Result<T, Error>) -> Option<T> {
    match answer {
        Err(Error::OutOfRange { .. } | Error::Missing { .. }) => None,
        answer => Some(answer.unwrap()),
    }
}

async fn change(list: &List<i64>, model: &mut Vec<i64>, act: Act) {
    match act {
        Act::Append(item) => {
            list.append(&item).await.unwrap();
            model.push(item);
        }
        Act::Extend(items) => {
            list.extend(items.clone()).await.unwrap();
            model.extend(items);
        }
        Act::Insert(index, item) => {
            list.insert(index, &item).await.unwrap();
            let at = if index < 0 {
                index + model.len() as i64
            } else {
                index
            };
            model.insert((at.max(0) as usize).min(model.len()), item);
        }
        Act::Pop(index) => {
            let expected = place(index, model.len()).map(|at| model.remove(at));
            assert_eq!(found(list.pop_at(index).await), expected);
        }
        Act::Remove(item) => {
            let at = model.iter().position(|other| *other == item);
            let expected = at.map(|at| {
                model.remove(at);
            });
            assert_eq!(found(list.remove(&item).await), expected);
        }
        Act::Set(index, item) => {
            let expected = place(index, model.len()).map(|at| model[at] = item);
            assert_eq!(found(list.set(index, &item).await), expected);
        }
        Act::Delete(bounds) => {
            let mut gone = indices(bounds, model.len());
            gone.sort_unstable();
            for at in gone.into_iter().rev() {
                model.remove(at);
            }
            list.delete_slice(slice(bounds)).await.unwrap();
        }
        Act::SetSlice(bounds, items) => set_slice(list, model, bounds, items).await,
        other => change_all(list, model, &other).await,
    }
}

async fn set_slice(list: &List<i64>, model: &mut Vec<i64>, bounds: Bounds, items: Vec<i64>) {
    let places = indices(bounds, model.len());
    let done = list.set_slice(slice(bounds), items.clone()).await;
    if bounds.2 == 1 {
        // An empty slice has a place as well: where its start is, as far as there are items.
        let len = model.len() as i64;
        let start = bounds.0.unwrap_or(0);
        let start = (if start < 0 { start + len } else { start }).clamp(0, len) as usize;
        model.splice(start..start + places.len(), items);
        done.unwrap();
    } else if places.len() == items.len() {
        for (at, item) in places.into_iter().zip(items) {
            model[at] = item;
        }
        done.unwrap();
    } else {
        assert!(matches!(done, Err(Error::OtherSize { .. })), "{done:?}");
    }
}

async fn change_all(list: &List<i64>, model: &mut Vec<i64>, act: &Act) {
    match *act {
        Act::Clear => {
            list.clear().await.unwrap();
            model.clear();
        }
        Act::Reverse => {
            list.reverse().await.unwrap();
            model.reverse();
        }
        Act::Sort => {
            list.sort().await.unwrap();
            model.sort_unstable();
        }
        Act::Slice(bounds) => {
            let expected: Vec<_> = indices(bounds, model.len())
                .into_iter()
                .map(|at| model[at])
                .collect();
            assert_eq!(list.slice(slice(bounds)).await.unwrap(), expected);
        }
        Act::Get(index) => {
            let expected = place(index, model.len()).map(|at| model[at]);
            assert_eq!(found(list.get(index).await), expected);
        }
        Act::Find(item) => {
            let at = model.iter().position(|other| *other == item);
            assert_eq!(found(list.index(&item).await), at.map(|at| at as u64));
            let count = model.iter().filter(|other| **other == item).count();
            assert_eq!(list.count(&item).await.unwrap(), count as u64);
            assert_eq!(list.contains(&item).await.unwrap(), count > 0);
        }
        _ => {}
    }
}

async fn follows_the_model(mut handles: Handles<List<i64>>, acts: Vec<(usize, Act)>) {
    let mut model = Vec::new();
    for (client, act) in acts {
        match act {
            Act::Crash => handles.crash(client),
            Act::EndLeases => handles.end_leases(),
            act => change(handles.get(client), &mut model, act).await,
        }
        let witness = handles.get((client + 1) % CLIENTS);
        assert_eq!(witness.to_vec().await.unwrap(), model);
        assert_eq!(witness.len().await.unwrap(), model.len() as u64);
    }
    handles.get(0).unlink().await.unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn a_list_is_a_vector(acts in acts()) {
        block_on(follows_the_model(Handles::new(), acts));
    }
}
