//! The parts that a task's way through a process is made of: ids, digests, envelopes, completions, replies.

use std::hint::black_box;
use std::sync::Arc;

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput};
use pmq_broker::{
    Authkey, Completion, Name, Outcome, Report, Sealing, Task, TaskId, Work, envelope,
};
use redis::Value;

const SIZES: [usize; 3] = [100, 10 << 10, 1 << 20];
/// Tasks of a claim.
const BATCH: usize = 256;

fn task(size: usize) -> Task {
    Task::handler("noop", vec![b'7'; size])
}

fn completion(size: usize) -> Completion {
    Completion {
        id: TaskId::new(),
        outcome: Outcome::Ok,
        exit: None,
        digest: [1; 8],
        token: 1,
        attempt: 1,
        started_us: 1,
        finished_us: 2,
        worker: "host-1234".into(),
        report: Report::default(),
        body: vec![b'7'; size].into(),
    }
}

fn ids(criterion: &mut Criterion) {
    criterion.bench_function("id/new", |bencher| bencher.iter(TaskId::new));
    let text = TaskId::new().to_string();
    criterion.bench_function("id/parse", |bencher| {
        bencher.iter(|| black_box(&text).parse::<TaskId>());
    });
}

fn digests(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("digest");
    for size in SIZES {
        let (work, body) = (Work::Handler("noop".into()), vec![b'7'; size]);
        group.throughput(Throughput::Bytes(size as u64));
        group.bench_function(BenchmarkId::from_parameter(size), |bencher| {
            bencher.iter(|| envelope::digest(&work, "", black_box(&body)));
        });
    }
}

fn envelopes(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("envelope");
    for size in SIZES {
        let task = task(size);
        let encoded = envelope::encode(&task).expect("it keeps to the limits");
        group.throughput(Throughput::Bytes(size as u64));
        group.bench_function(BenchmarkId::new("encode", size), |bencher| {
            bencher.iter(|| envelope::encode(black_box(&task)));
        });
        group.bench_function(BenchmarkId::new("decode", size), |bencher| {
            bencher.iter(|| envelope::decode(task.id, black_box(&encoded)));
        });
    }
}

fn completions(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("completion");
    for size in SIZES {
        let completion = completion(size);
        let encoded = completion.encode();
        group.throughput(Throughput::Bytes(size as u64));
        group.bench_function(BenchmarkId::new("encode", size), |bencher| {
            bencher.iter(|| black_box(&completion).encode());
        });
        group.bench_function(BenchmarkId::new("decode", size), |bencher| {
            bencher.iter(|| Completion::decode_posted(black_box(&encoded)));
        });
    }
}

/// Signed alone, and encrypted as well.
fn seals(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("sealing");
    let key = Authkey::parse(&Authkey::generate()).expect("it was just made");
    let (key, name) = (Arc::new(key), Name::new("default").expect("it is a name"));
    for (word, encrypts) in [("signed", false), ("encrypted", true)] {
        let sealing = Sealing::new(key.clone(), encrypts, &name, &name);
        for size in SIZES {
            let (task, completion) = (task(size), completion(size));
            let sealed = sealing.seal_task(&task).expect("it keeps to the limits");
            let done = sealing.seal_completion(&completion, &sealed);
            let mut part = |part: &str, run: &dyn Fn() -> usize| {
                let id = BenchmarkId::new(format!("{word} {part}"), size);
                group.bench_function(id, |bencher| bencher.iter(run));
            };
            part("task", &|| {
                sealing.seal_task(black_box(&task)).map_or(0, |t| t.len())
            });
            part("claim", &|| {
                let opened = sealing.open_task(task.id, black_box(&sealed), 1);
                opened.map_or(0, |task| task.body.len())
            });
            part("finish", &|| {
                sealing
                    .seal_completion(black_box(&completion), &sealed)
                    .len()
            });
            part("take", &|| {
                let opened = sealing.open_posted(black_box(&done));
                opened.map_or(0, |completion| completion.body.len())
            });
        }
    }
}

/// What a claim answers, as it comes from the server.
fn reply() -> Vec<u8> {
    let bulk = |bytes: &[u8]| [format!("${}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat();
    let envelope = envelope::encode(&task(100)).expect("it keeps to the limits");
    let mut reply = b"*6\r\n$2\r\nok\r\n$13\r\n1700000000000\r\n$0\r\n\r\n$1\r\n0\r\n".to_vec();
    reply.extend(bulk(&[7; 29]));
    reply.extend(format!("*{}\r\n", 3 * BATCH).as_bytes());
    for _ in 0..BATCH {
        reply.extend(bulk(TaskId::new().as_bytes()));
        reply.extend(bulk(&envelope));
        reply.extend(bulk(b""));
    }
    reply
}

fn replies(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("reply");
    let reply = reply();
    group.throughput(Throughput::Elements(BATCH as u64));
    group.bench_function("parse", |bencher| {
        bencher.iter(|| redis::parse_redis_value(black_box(&reply)));
    });
    let parsed = redis::parse_redis_value(&reply).expect("it is well formed");
    group.bench_function("split", |bencher| {
        bencher.iter_batched(|| parsed.clone(), split, criterion::BatchSize::SmallInput);
    });
    group.finish();
}

/// Takes the items of a claim's answer out of it, as the broker does.
fn split(reply: Value) -> Vec<(TaskId, Bytes, Bytes)> {
    let Value::Array(mut parts) = reply else {
        return Vec::new();
    };
    let Some(Value::Array(items)) = parts.pop() else {
        return Vec::new();
    };
    let mut bytes = items.into_iter().map(|item| match item {
        Value::BulkString(bytes) => Bytes::from(bytes),
        _ => Bytes::new(),
    });
    let mut tasks = Vec::with_capacity(BATCH);
    while let (Some(id), Some(envelope), Some(rest)) = (bytes.next(), bytes.next(), bytes.next()) {
        tasks.extend(TaskId::from_slice(&id).map(|id| (id, envelope, rest)));
    }
    tasks
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    for part in [ids, digests, envelopes, completions, seals, replies] {
        part(&mut criterion);
    }
    criterion.final_summary();
}
