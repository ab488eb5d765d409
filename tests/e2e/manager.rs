//! Shared objects between processes: what is atomic, what lives how long.

use std::collections::BTreeMap;
use std::env;
use std::time::Duration;

use pmq_broker::functions::LIBRARY;
use pmq_broker::manager::Share;
use pmq_broker::{
    Broker, Config, Error, List, Lock, Manager, Name, Namespace, Shared, Slice, TaskId, Value,
};
use pmq_tests::program::Running;
use pmq_tests::{Program, Proxy, Redis, RedisServer, eventually, shared};

use crate::fleet::{SOON, name};

async fn broker() -> Broker {
    let config = Config::url(shared().url());
    Broker::connect(&config).await.unwrap()
}

fn fresh(text: &str) -> Name {
    name(&format!("{text}.{}", TaskId::new()))
}

/// The keys of an object, each with its time to live (ms), -1 where it has none.
fn keys(name: &Name) -> BTreeMap<String, i64> {
    let mut connection = shared().raw();
    let pattern = format!("pmq:*:{{{name}}}:*");
    let keys: Vec<String> = redis::cmd("KEYS")
        .arg(pattern)
        .query(&mut connection)
        .unwrap();
    let ttl = |key: &String| redis::cmd("PTTL").arg(key).query(&mut connection).unwrap();
    let ttls: Vec<i64> = keys.iter().map(ttl).collect();
    keys.into_iter().zip(ttls).collect()
}

/// Sets how long the keys of an object live unless somebody renews it.
fn expire(name: &Name, ttl: Duration) {
    let mut connection = shared().raw();
    for key in keys(name).keys() {
        let mut expire = redis::cmd("PEXPIRE");
        expire.arg(key).arg(ttl.as_millis() as u64);
        expire.exec(&mut connection).unwrap();
    }
}

fn wait_until_gone(name: &Name) {
    eventually("the object is gone", SOON, || {
        keys(name).is_empty().then_some(())
    });
}

#[tokio::test]
async fn a_list_is_shared_by_its_name_and_has_the_methods_of_pythons() {
    let name = fresh("fruit");
    let (one, other) = (broker().await, broker().await);
    let (mine, theirs) = (one.list::<String>(&name), other.list::<String>(&name));
    let texts = |words: &[&str]| words.iter().map(ToString::to_string).collect::<Vec<_>>();
    mine.extend(texts(&["apple", "cherry", "apple"]))
        .await
        .unwrap();
    theirs.insert(1, &"banana".to_owned()).await.unwrap();
    assert_eq!(
        mine.to_vec().await.unwrap(),
        texts(&["apple", "banana", "cherry", "apple"])
    );
    assert_eq!(
        mine.slice(Slice::new(1, -1)).await.unwrap(),
        texts(&["banana", "cherry"])
    );
    let backwards = Slice::new(None, None).step(-2);
    assert_eq!(
        mine.slice(backwards).await.unwrap(),
        texts(&["apple", "banana"])
    );
    assert_eq!(theirs.pop().await.unwrap(), "apple");
    theirs.clear().await.unwrap();
    assert!(mine.is_empty().await.unwrap());
    assert!(matches!(mine.pop().await, Err(Error::OutOfRange { .. })));
    assert!(matches!(
        mine.index(&"fig".to_owned()).await,
        Err(Error::Missing { .. })
    ));
    assert!(matches!(
        mine.slice(Slice::from(..).step(0)).await,
        Err(Error::BadOption(_))
    ));
    mine.unlink().await.unwrap();
    assert!(keys(&name).is_empty());
}

#[tokio::test]
async fn a_list_of_many_pages_is_read_sorted_and_cut_as_one() {
    let manager = Manager::new(&broker().await);
    let list = manager.list((0..1700_i64).rev()).await.unwrap();
    list.sort().await.unwrap();
    assert_eq!(list.to_vec().await.unwrap(), (0..1700).collect::<Vec<_>>());
    list.delete_slice(100..1600).await.unwrap();
    list.reverse().await.unwrap();
    let expected: Vec<_> = (0..100).chain(1600..1700).rev().collect();
    assert_eq!(list.slice(..).await.unwrap(), expected);
    let (mut items, mut seen) = (list.scan(), Vec::new());
    while let Some(item) = items.next().await.unwrap() {
        seen.push(item);
    }
    assert_eq!(seen, expected);
    list.delete_slice(..).await.unwrap();
    assert!(list.to_vec().await.unwrap().is_empty());
}

#[tokio::test]
async fn sorting_loses_nothing_that_others_append_meanwhile() {
    let name = fresh("busy");
    let (one, other) = (broker().await, broker().await);
    let list = one.list::<u32>(&name);
    list.extend((0..600).rev()).await.unwrap();
    let appending = tokio::spawn(async move {
        let list = other.list::<u32>(&name);
        for number in 600..700 {
            list.append(&number).await.unwrap();
        }
    });
    while !appending.is_finished() {
        match list.sort().await {
            Err(Error::Changed { .. }) | Ok(()) => {}
            Err(error) => panic!("{error}"),
        }
    }
    appending.await.unwrap();
    list.sort().await.unwrap();
    assert_eq!(list.to_vec().await.unwrap(), (0..700).collect::<Vec<_>>());
    list.unlink().await.unwrap();
}

#[tokio::test]
async fn large_items_are_read_in_pages_and_too_large_ones_refused() {
    let manager = Manager::new(&broker().await);
    let items: Vec<String> = (0..40).map(|n| n.to_string().repeat(50_000)).collect();
    let list = manager.list(items.clone()).await.unwrap();
    assert_eq!(list.to_vec().await.unwrap(), items);
    let too_large = "x".repeat(1_048_576);
    assert!(matches!(
        list.append(&too_large).await,
        Err(Error::TooLarge { .. })
    ));
}

#[tokio::test]
async fn a_dict_keeps_the_order_of_insertion_over_many_pages() {
    let manager = Manager::new(&broker().await);
    let dict = manager
        .dict((0..1300_u32).map(|n| (n, n * n)))
        .await
        .unwrap();
    dict.insert(&0, &7).await.unwrap();
    dict.remove(&1).await.unwrap();
    dict.insert(&1, &1).await.unwrap();
    let expected: Vec<u32> = [0].into_iter().chain(2..1300).chain([1]).collect();
    assert_eq!(dict.keys().await.unwrap(), expected);
    assert_eq!(dict.values().await.unwrap()[..2], [7, 4]);
    let mut pairs = dict.scan();
    assert_eq!(pairs.next().await.unwrap(), Some((0, 7)));
    dict.insert(&5000, &0).await.unwrap();
    let mut left = 0;
    let end = loop {
        match pairs.next().await {
            Ok(Some(_)) => left += 1,
            end => break end,
        }
    };
    assert!(matches!(end, Err(Error::Changed { .. })) && left == 499);
}

#[tokio::test]
async fn numbers_are_added_to_by_many_and_do_not_wrap() {
    let name = fresh("counter");
    let adders = (0..4).map(|_| {
        let name = name.clone();
        tokio::spawn(async move {
            let broker = broker().await;
            let value = broker.value(&name, &0_u64).await.unwrap();
            for _ in 0..50 {
                value.fetch_add(2).await.unwrap();
                value.update(|n| n + 1).await.unwrap();
            }
        })
    });
    for adder in adders.collect::<Vec<_>>() {
        adder.await.unwrap();
    }
    let broker = broker().await;
    let value = broker.value(&name, &0_u64).await.unwrap();
    assert_eq!(value.get().await.unwrap(), 600);
    value.unlink().await.unwrap();

    let manager = Manager::new(&broker);
    let exact = manager.value(&(i64::MAX - 1)).await.unwrap();
    assert_eq!(exact.fetch_add(1).await.unwrap(), i64::MAX - 1);
    assert!(matches!(
        exact.fetch_add(1).await,
        Err(Error::Overflow { .. })
    ));
    assert_eq!(exact.get().await.unwrap(), i64::MAX);
    let tenth = manager.value(&0.1_f64).await.unwrap();
    tenth.fetch_add(0.2).await.unwrap();
    assert_eq!(
        tenth.compare_exchange(&(0.1 + 0.2), &1.0).await.unwrap(),
        Ok(())
    );
}

#[tokio::test]
async fn a_lock_of_a_value_guards_what_takes_more_than_one_call() {
    let manager = Manager::new(&broker().await);
    let value = manager.value(&1).await.unwrap();
    let permit = value.get_lock().acquire().await.unwrap();
    assert!(value.get_lock().acquire_nowait().await.unwrap().is_none());
    value.set(&(value.get().await.unwrap() + 1)).await.unwrap();
    permit.release().await.unwrap();
    assert_eq!(value.get().await.unwrap(), 2);
}

#[tokio::test]
async fn an_array_has_a_length_that_stays() {
    let name = fresh("row");
    let broker = broker().await;
    let array = broker.array(&name, 1_000_000, &0_i32).await.unwrap();
    array.set(-1, &7).await.unwrap();
    assert_eq!(array.slice(-2..).await.unwrap(), [0, 7]);
    assert_eq!(array.len().await.unwrap(), 1_000_000);
    let wrong = array.set_slice(0..3, &[1, 2]).await;
    assert!(matches!(
        wrong,
        Err(Error::OtherSize {
            size: 3,
            asked: 2,
            ..
        })
    ));
    let other = broker.array(&name, 5, &0_i32).await.err();
    assert!(matches!(other, Some(Error::OtherSize { .. })));
    array.unlink().await.unwrap();
    let empty = Manager::new(&broker).array::<u8>(&[]).await.unwrap();
    assert!(empty.slice(..).await.unwrap().is_empty());
    assert!(matches!(array.get(0).await, Err(Error::Gone { .. })));
}

#[tokio::test]
async fn a_namespace_has_attributes_of_any_type() {
    let manager = Manager::new(&broker().await);
    let namespace = manager.namespace().await.unwrap();
    namespace.set("x", &10).await.unwrap();
    namespace.set("y", &"hello").await.unwrap();
    assert_eq!(namespace.get::<i64>("x").await.unwrap(), 10);
    assert_eq!(namespace.attributes().await.unwrap(), ["x", "y"]);
    namespace.delete("x").await.unwrap();
    assert!(matches!(
        namespace.get::<i64>("x").await,
        Err(Error::Missing { .. })
    ));
    assert!(matches!(
        namespace.get::<i64>("y").await,
        Err(Error::Unreadable { .. })
    ));
}

#[tokio::test]
async fn a_step_that_is_sent_twice_takes_effect_once() {
    let name = fresh("twice");
    let list = broker().await.list::<u8>(&name);
    list.extend([1, 2, 3]).await.unwrap();
    let mut pop = redis::cmd("FCALL");
    pop.arg(format!("{LIBRARY}_list_pop")).arg(8);
    for part in [
        "meta",
        "members",
        "log",
        "items",
        "refs",
        "draft",
        "draft.refs",
        "absent",
    ] {
        pop.arg(format!("pmq:list:{{{name}}}:{part}"));
    }
    pop.arg("")
        .arg("0123456789abcdef")
        .arg(1)
        .arg(60_000)
        .arg(0);
    let mut connection = shared().raw();
    let answers = [(); 2].map(|()| pop.query::<Vec<String>>(&mut connection).unwrap());
    assert_eq!(answers, [["ok", "1"], ["ok", "1"]]);
    assert_eq!(list.to_vec().await.unwrap(), [2, 3]);
    list.unlink().await.unwrap();
}

#[tokio::test]
async fn a_lost_reply_neither_loses_nor_repeats_a_change() {
    let server = RedisServer::builder().tcp(true).start();
    let proxy = Proxy::to(&server);
    let broker = Broker::connect(&Config::url(proxy.url())).await.unwrap();
    let list = broker.list::<i64>(&fresh("list"));
    let value = broker.value(&fresh("value"), &0_i64).await.unwrap();
    let dict = broker.dict::<i64, i64>(&fresh("dict"));
    for number in 0..3 {
        proxy.drop_next_reply();
        list.extend([number, -number]).await.unwrap();
        proxy.drop_next_reply();
        assert_eq!(list.pop().await.unwrap(), -number);
        proxy.drop_next_reply();
        assert_eq!(value.fetch_add(5).await.unwrap(), 5 * number);
        dict.update([(1, number), (2, number)]).await.unwrap();
        proxy.drop_next_reply();
        assert_eq!(dict.popitem().await.unwrap(), Some((2, number)));
    }
    assert_eq!(proxy.replies_dropped(), 12);
    assert_eq!(list.to_vec().await.unwrap(), [0, 1, 2]);
    assert_eq!(dict.items().await.unwrap(), [(1, 2)]);
}

#[tokio::test]
async fn an_anonymous_object_goes_with_its_last_handle() {
    let (one, other) = (broker().await, broker().await);
    let mine = Manager::new(&one).list([1, 2]).await.unwrap();
    let name = mine.name().clone();
    let theirs = other.list::<i64>(&name);
    assert_eq!(theirs.pop_at(0).await.unwrap(), 1);
    drop(mine.clone());
    drop(mine);
    assert_eq!(theirs.to_vec().await.unwrap(), [2]);
    assert!(keys(&name).values().all(|ttl| *ttl > 0));
    drop(theirs);
    wait_until_gone(&name);
    let late = one.list::<i64>(&name);
    assert!(matches!(late.append(&1).await, Err(Error::Gone { .. })));
    assert!(keys(&name).is_empty());
}

/// Gives `name` a short life, and waits until somebody renews it.
fn wait_for_renewal(name: &Name) {
    expire(name, Duration::from_secs(12));
    eventually("somebody renews it", SOON, || {
        let ttls = keys(name);
        let renewed = ttls.values().all(|ttl| *ttl > 20_000);
        (renewed && !ttls.is_empty()).then_some(())
    });
}

#[tokio::test]
async fn inner_objects_live_as_long_as_the_outer_one() {
    let (one, other) = (broker().await, broker().await);
    let manager = Manager::new(&one);
    let outer = manager.namespace().await.unwrap();
    let middle = manager.namespace().await.unwrap();
    let inner = manager.list([1]).await.unwrap();
    let name = inner.name().clone();
    middle.set("inner", &inner.share()).await.unwrap();
    outer.set("middle", &middle.share()).await.unwrap();
    middle.set("circle", &outer.share()).await.unwrap();
    drop((inner, middle));
    wait_for_renewal(&name);

    let outer_there = Namespace::open(&other, outer.name());
    let middle: Shared<Namespace> = outer_there.get("middle").await.unwrap();
    let inner: Shared<List<i64>> = middle.open(&other).get("inner").await.unwrap();
    let inner = inner.open(&other);
    inner.append(&2).await.unwrap();
    drop((outer, outer_there));
    assert_eq!(inner.to_vec().await.unwrap(), [1, 2]);
    wait_for_renewal(&name);
}

#[tokio::test]
async fn what_is_referred_to_is_counted_and_forgotten() {
    let manager = Manager::new(&broker().await);
    let outer = manager.list::<Vec<Shared<Value<u8>>>>([]).await.unwrap();
    let inner = manager.value(&1_u8).await.unwrap();
    let refs = || {
        let mut connection = shared().raw();
        let key = format!("pmq:list:{{{}}}:refs", outer.name());
        let refs: BTreeMap<String, u64> = redis::cmd("HGETALL")
            .arg(key)
            .query(&mut connection)
            .unwrap();
        refs.into_values().sum::<u64>()
    };
    outer
        .append(&vec![inner.share(), inner.share()])
        .await
        .unwrap();
    outer.append(&vec![inner.share()]).await.unwrap();
    assert_eq!(refs(), 3);
    outer.reverse().await.unwrap();
    assert_eq!(refs(), 3);
    outer.set(0, &vec![]).await.unwrap();
    outer.delete_slice(1..).await.unwrap();
    assert_eq!(refs(), 0);
}

#[tokio::test]
async fn a_named_container_refers_to_named_objects_only() {
    let broker = broker().await;
    let manager = Manager::new(&broker);
    let outer = broker.list::<Shared<List<i64>>>(&fresh("outer"));
    let nameless = manager.list([1]).await.unwrap();
    assert!(matches!(
        outer.append(&nameless.share()).await,
        Err(Error::BadOption(_))
    ));
    let named = broker.list::<i64>(&fresh("inner"));
    outer.append(&named.share()).await.unwrap();
    assert_eq!(outer.get(0).await.unwrap(), named.share());
    let lock: Lock = broker.lock(&fresh("gate"));
    assert_eq!(lock.share().open(&broker).name(), lock.name());
    outer.unlink().await.unwrap();
}

const NAME: &str = "PMQ_TEST_NAME";

/// Starts a process that holds an anonymous list, and one of this name.
fn holder(name: &Name) -> (Running, Name) {
    let program = Program::new(env::current_exe().unwrap())
        .env("PMQ_REDIS_URL", shared().url())
        .env(NAME, name.as_str());
    let running = program.spawn([
        "--exact",
        "--ignored",
        "--nocapture",
        "manager::holder_process",
    ]);
    let line = running.wait_for_line("holds ");
    let anonymous = line.split_whitespace().last().unwrap();
    (running, crate::fleet::name(anonymous))
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "is the holder process of other tests"]
async fn holder_process() {
    let Ok(text) = env::var(NAME) else { return };
    let broker = Broker::connect(&Config::from_env().unwrap()).await.unwrap();
    let list = Manager::new(&broker).list([1, 4, 9]).await.unwrap();
    let named = broker.list::<i64>(&name(&text));
    named.extend([1, 4, 9]).await.unwrap();
    println!("holds {}", list.name());
    std::future::pending::<()>().await;
    drop((list, named));
}

#[tokio::test]
async fn a_killed_holder_leaves_what_has_a_name_and_the_rest_to_expire() {
    let named = fresh("kept");
    let (mut process, anonymous) = holder(&named);
    let broker = broker().await;
    let mine = broker.list::<i64>(&anonymous);
    assert_eq!(mine.slice(1..).await.unwrap(), [4, 9]);
    process.kill();
    assert_eq!(
        broker.list::<i64>(&named).to_vec().await.unwrap(),
        [1, 4, 9]
    );
    let mut kept = keys(&named);
    kept.retain(|key, _| !key.ends_with(":members") && !key.ends_with(":log"));
    assert!(kept.values().all(|ttl| *ttl == -1), "{kept:?}");
    broker.list::<i64>(&named).unlink().await.unwrap();
    mine.append(&16).await.unwrap();
    drop(mine);
    let renewed = *keys(&anonymous).values().max().unwrap();
    assert!((50_000..=60_000).contains(&renewed), "{renewed}");
    eventually("nobody renews it", SOON, || {
        let longest = keys(&anonymous).into_values().max().unwrap_or_default();
        (longest < 54_000).then_some(())
    });
    expire(&anonymous, Duration::from_millis(1));
    wait_until_gone(&anonymous);
}

#[tokio::test]
async fn a_stopped_holder_does_not_bring_back_what_is_gone() {
    let named = fresh("stopped");
    let (process, anonymous) = holder(&named);
    process.stop();
    expire(&anonymous, Duration::from_millis(1));
    wait_until_gone(&anonymous);
    process.resume();
    let mine = broker().await.list::<i64>(&anonymous);
    assert!(matches!(mine.len().await, Err(Error::Gone { .. })));
    broker().await.list::<i64>(&named).unlink().await.unwrap();
}
