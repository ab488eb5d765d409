//! Dicts against a vector of pairs in the order of insertion.

use pmq_broker::{Dict, Error};
use proptest::prelude::*;

use super::handles::{CLIENTS, Handles, block_on};

#[derive(Clone, Debug)]
enum Act {
    Insert(String, i64),
    Update(Vec<(String, i64)>),
    SetDefault(String, i64),
    Pop(String),
    PopItem,
    Remove(String),
    Clear,
    Get(String),
    Crash,
    EndLeases,
}

fn acts() -> impl Strategy<Value = Vec<(usize, Act)>> {
    let key = || prop::sample::select(vec!["a", "b", "ü \"", "", "k4"]).prop_map(str::to_owned);
    let pair = || (key(), 0..9_i64);
    let act = prop_oneof![
        4 => pair().prop_map(|(key, value)| Act::Insert(key, value)),
        2 => prop::collection::vec(pair(), 0..5).prop_map(Act::Update),
        2 => pair().prop_map(|(key, value)| Act::SetDefault(key, value)),
        2 => key().prop_map(Act::Pop),
        2 => Just(Act::PopItem),
        2 => key().prop_map(Act::Remove),
        1 => Just(Act::Clear),
        2 => key().prop_map(Act::Get),
        1 => Just(Act::Crash),
        1 => Just(Act::EndLeases),
    ];
    prop::collection::vec((0..CLIENTS, act), 1..40)
}

#[derive(Default)]
struct Model(Vec<(String, i64)>);

impl Model {
    fn place(&self, key: &str) -> Option<usize> {
        self.0.iter().position(|(other, _)| other == key)
    }

    fn get(&self, key: &str) -> Option<i64> {
        self.place(key).map(|at| self.0[at].1)
    }

    fn insert(&mut self, key: String, value: i64) {
        match self.place(&key) {
            Some(at) => self.0[at].1 = value,
            None => self.0.push((key, value)),
        }
    }

    fn pop(&mut self, key: &str) -> Option<i64> {
        self.place(key).map(|at| self.0.remove(at).1)
    }
}

async fn act_on(dict: &Dict<String, i64>, model: &mut Model, act: Act) {
    match act {
        Act::Insert(key, value) => {
            dict.insert(&key, &value).await.unwrap();
            model.insert(key, value);
        }
        Act::Update(pairs) => {
            dict.update(pairs.clone()).await.unwrap();
            for (key, value) in pairs {
                model.insert(key, value);
            }
        }
        Act::SetDefault(key, value) => {
            let expected = model.get(&key).unwrap_or(value);
            assert_eq!(dict.setdefault(&key, value).await.unwrap(), expected);
            model.insert(key, expected);
        }
        Act::Pop(key) => assert_eq!(dict.pop(&key).await.unwrap(), model.pop(&key)),
        Act::PopItem => assert_eq!(dict.popitem().await.unwrap(), model.0.pop()),
        Act::Remove(key) => match dict.remove(&key).await {
            Err(Error::Missing { .. }) => assert_eq!(model.get(&key), None),
            done => assert!(done.is_ok() && model.pop(&key).is_some()),
        },
        Act::Clear => {
            dict.clear().await.unwrap();
            model.0.clear();
        }
        Act::Get(key) => {
            let expected = model.get(&key);
            assert_eq!(dict.get(&key).await.unwrap(), expected);
            assert_eq!(dict.get_or(&key, 77).await.unwrap(), expected.unwrap_or(77));
            assert_eq!(dict.contains_key(&key).await.unwrap(), expected.is_some());
        }
        Act::Crash | Act::EndLeases => {}
    }
}

async fn follows_the_model(mut handles: Handles<Dict<String, i64>>, acts: Vec<(usize, Act)>) {
    let mut model = Model::default();
    for (client, act) in acts {
        match act {
            Act::Crash => handles.crash(client),
            Act::EndLeases => handles.end_leases(),
            act => act_on(handles.get(client), &mut model, act).await,
        }
        let witness = handles.get((client + 1) % CLIENTS);
        assert_eq!(witness.items().await.unwrap(), model.0);
        assert_eq!(witness.len().await.unwrap(), model.0.len() as u64);
    }
    handles.get(0).unlink().await.unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn a_dict_is_a_map_in_the_order_of_insertion(acts in acts()) {
        block_on(follows_the_model(Handles::new(), acts));
    }
}
