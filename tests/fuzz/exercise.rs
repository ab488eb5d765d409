//! Everything that a process does with a broker, a little of each: what the functions and their answers are tried on.

use std::error::Error;
use std::pin::Pin;
use std::time::Duration;

use pmq_broker::process::{Batch, Stream};
use pmq_broker::sealing::Sealing;
use pmq_broker::task_queue::{
    Ask, Claim, Claimer, Finish, Heartbeat, How, Settings, Signal, Started,
};
use pmq_broker::{
    Broker, Completion, Due, Incarnation, Manager, Name, Slice, Task, TaskId, TaskQueue,
};

type Outcome = Result<(), Box<dyn Error + Send + Sync>>;
pub(crate) type Running = Pin<Box<dyn Future<Output = Outcome> + Send>>;
/// One exercise, with a name that nobody else uses.
pub(crate) type Exercise = fn(Broker, Name) -> Running;

const LEASE: Duration = Duration::from_secs(20);
const MOMENT: Duration = Duration::from_millis(1);
const ASK: Ask = Ask {
    n: 10,
    suspect: true,
    wait: true,
};

macro_rules! exercises {
    ($($name:ident),*) => { [$((stringify!($name), |broker, name| Box::pin($name(broker, name)))),*] };
}

/// All of them, by name.
pub(crate) const EXERCISES: [(&str, Exercise); 18] = exercises![
    tasks, failures, operator, process, returns, owner, server, lock, rlock, semaphore, condition,
    event, barrier, queue, pipe, list, dict, cells
];

fn completion(claim: &Claim, how: How) -> Completion {
    Completion {
        exit: Some(0),
        body: "49".into(),
        ..claim.completion(how)
    }
}

fn ended(claim: &Claim, how: How) -> Finish {
    Finish::new(claim, how, &completion(claim, how), &Sealing::default())
}

fn claimer(queue: &TaskQueue) -> (Incarnation, Claimer) {
    let who = Incarnation::new();
    (who, queue.first().claimer(who, LEASE, Some(queue.name())))
}

async fn tasks(broker: Broker, name: Name) -> Outcome {
    let queue = broker.task_queue(&name);
    let task = Task::handler("t", "1").with_id(TaskId::new());
    queue.submit(&task).await?;
    let later = Task {
        due: Due::After(MOMENT),
        ..Task::handler("t", "2")
    };
    queue
        .submit_many(&[later, Task::handler("t", "3"), task.clone()])
        .await?;
    let (who, mut claimer) = claimer(&queue);
    let claims = claimer.get_nowait(ASK).await?.tasks;
    let mut beat = Heartbeat {
        who,
        lease: LEASE,
        idle: None,
        carried_out: bytes::Bytes::new(),
    };
    queue.cancel(&[task.id], Signal::Terminate).await?;
    beat.carried_out = queue.first().heartbeat(&beat).await?.raw;
    queue.first().heartbeat(&beat).await?;
    queue.watch(&[task.id]).await?;
    queue.running().await?;
    let runs: Vec<_> = claims.iter().map(|claim| ended(claim, How::Ok)).collect();
    queue.first().finish(&runs).await?;
    queue.find(task.id).await?;
    queue.wait(&[task.id], MOMENT).await?;
    let mut done = queue.completions(&name);
    done.len().await?;
    done.get_many(5, MOMENT).await?;
    done.get_nowait().await?;
    done.close().await?;
    Ok(())
}

async fn failures(broker: Broker, name: Name) -> Outcome {
    let queue = broker.task_queue(&name);
    let mut task = Task::handler("t", "1");
    (task.retry.attempts, task.retry.floor) = (2, Duration::ZERO);
    queue.submit(&task).await?;
    let (_, mut claimer) = claimer(&queue);
    for _ in 0..2 {
        let claims = claimer.get_nowait(ASK).await?.tasks;
        let runs: Vec<_> = claims
            .iter()
            .map(|claim| ended(claim, How::Failed))
            .collect();
        queue.first().finish(&runs).await?;
    }
    queue.find(task.id).await?;
    let mut dead = queue.dead_letters().await?;
    while dead.next().await?.is_some() {}
    queue.requeue(Some(&[task.id])).await?;
    queue.requeue(None).await?;
    queue.purge_dead(Some(&[task.id])).await?;
    queue.purge_dead(None).await?;
    Ok(())
}

async fn operator(broker: Broker, name: Name) -> Outcome {
    let queue = broker.task_queue(&name);
    let settings = Settings {
        maxsize: Some(10),
        ..Settings::default()
    };
    queue.configure(&settings).await?;
    queue.submit(&Task::handler("t", "1")).await?;
    queue.pause().await?;
    queue.status().await?;
    queue.resume().await?;
    queue.wait_for_room(MOMENT).await?;
    queue.purge_some().await?;
    queue.is_deserted().await?;
    queue.first().reclaim(LEASE).await?;
    queue.delete().await?;
    Ok(())
}

async fn process(broker: Broker, name: Name) -> Outcome {
    let queue = broker.task_queue(&name);
    let mut task = Task::handler("t", "1");
    (task.process, task.retry.attempts, task.retry.crashes) = (true, 1, 1);
    queue.submit(&task).await?;
    let (_, mut claimer) = claimer(&queue);
    for claim in claimer.get_nowait(ASK).await?.tasks {
        let started = Started {
            pid: 7,
            host: "h".into(),
            worker: "w".into(),
            started_ms: 1,
        };
        queue.first().start(claim.id, &claim.run, &started).await?;
        let batch = Batch {
            offset: 0,
            pieces: vec![(Some(Stream::Stdout), "out".into()), (None, "".into())],
        };
        queue
            .first()
            .append_log(claim.id, &claim.run, &batch)
            .await?;
        queue.processes().await?;
        let mut log = queue.log(claim.id).follow(true);
        log.next().await?;
        queue.first().finish(&[ended(&claim, How::Ok)]).await?;
        while log.next().await?.is_some() {}
    }
    Ok(())
}

async fn returns(broker: Broker, name: Name) -> Outcome {
    let queue = broker.task_queue(&name);
    queue
        .submit_many(&[Task::handler("t", "1"), Task::handler("t", "2")])
        .await?;
    let (who, mut claimer) = claimer(&queue);
    let claims = claimer.get_nowait(ASK).await?.tasks;
    if let [first, second, ..] = &claims[..] {
        queue
            .first()
            .release(&[(first.id, first.run.clone())])
            .await?;
        let dead = ended(second, How::Dead).completion;
        queue.first().refuse(second.id, &second.run, &dead).await?;
    }
    queue.bury(who, LEASE).await?;
    Ok(())
}

async fn owner(broker: Broker, name: Name) -> Outcome {
    let queue = broker.task_queue(&name);
    let owner = queue.join_as_owner(&name).await?;
    queue.is_client_alive(owner.incarnation()).await?;
    owner.close().await?;
    Ok(())
}

async fn server(broker: Broker, name: Name) -> Outcome {
    broker.server_time_ms().await?;
    broker.server_settings(&["maxmemory"]).await?;
    broker.present(&Incarnation::new(), LEASE, "{}").await?;
    broker.fleet().await?;
    broker.task_queue(&name).register().await?;
    broker.queues().await?;
    broker.forget_queue(&name).await?;
    Ok(())
}

async fn lock(broker: Broker, name: Name) -> Outcome {
    let lock = broker.lock(&name);
    // Nobody else asks for it meanwhile.
    lock.acquire().await?.release().await?;
    let permit = lock.acquire().await?;
    lock.acquire_nowait().await?;
    lock.acquire_timeout(MOMENT).await?;
    lock.locked().await?;
    lock.waiting().await?;
    permit.release().await?;
    lock.acquire().await?.leak().await?;
    lock.force_release().await?;
    Ok(())
}

async fn rlock(broker: Broker, name: Name) -> Outcome {
    let lock = broker.rlock(&name);
    let outer = lock.acquire().await?;
    let inner = lock.acquire_nowait().await?;
    lock.locked().await?;
    lock.waiting().await?;
    if let Some(inner) = inner {
        inner.release().await?;
    }
    outer.release().await?;
    Ok(())
}

async fn semaphore(broker: Broker, name: Name) -> Outcome {
    let semaphore = broker.semaphore(&name, 2);
    let permit = semaphore.acquire().await?;
    semaphore.value().await?;
    semaphore.release().await?;
    permit.release().await?;
    let anonymous = broker.anonymous_bounded_semaphore(1);
    anonymous.acquire_nowait().await?;
    Ok(())
}

async fn condition(broker: Broker, name: Name) -> Outcome {
    let condition = broker.condition(&name);
    let permit = condition.acquire().await?;
    condition.notify(&permit, 1).await?;
    let (permit, _) = condition.wait_timeout(permit, MOMENT).await?;
    condition.notify_all(&permit).await?;
    permit.release().await?;
    Ok(())
}

async fn event(broker: Broker, name: Name) -> Outcome {
    let event = broker.event(&name);
    event.wait_timeout(MOMENT).await?;
    event.set().await?;
    event.is_set().await?;
    event.wait().await?;
    event.clear().await?;
    Ok(())
}

async fn barrier(broker: Broker, name: Name) -> Outcome {
    let barrier = broker.barrier(&name, 1);
    barrier.wait().await?;
    barrier.n_waiting().await?;
    barrier.abort().await?;
    barrier.broken().await?;
    barrier.reset().await?;
    let acting = broker
        .barrier(&name, 1)
        .with_action(|| async { Ok::<_, std::io::Error>(()) });
    acting.wait().await?;
    let two = broker.anonymous_barrier(2);
    let _ = two.wait_timeout(MOMENT).await;
    Ok(())
}

async fn queue(broker: Broker, name: Name) -> Outcome {
    let queue = broker.joinable_queue::<u32>(&name).maxsize(4);
    queue.put(1).await?;
    queue.put_many(vec![2, 3, 4]).await?;
    let _ = queue.put_nowait(5).await;
    let _ = queue.put_timeout(5, MOMENT).await;
    queue.qsize().await?;
    queue.get().await?;
    queue.get_many_nowait(2).await?;
    queue.get_timeout(MOMENT).await?;
    let _ = queue.get_timeout(MOMENT).await;
    queue.tasks_done(4).await?;
    queue.join_timeout(MOMENT).await?;
    Ok(())
}

async fn pipe(broker: Broker, _: Name) -> Outcome {
    let (receiver, sender) = broker.channel::<u32>().await?;
    sender.send(&1).await?;
    receiver.poll(MOMENT).await?;
    receiver.recv().await?;
    sender.close().await?;
    receiver.close().await?;
    let (one, two) = broker.pipe::<u32>().await?;
    drop((one, two));
    Ok(())
}

async fn list(broker: Broker, name: Name) -> Outcome {
    let list = broker.list::<u32>(&name);
    list.append(&1).await?;
    list.extend([3, 2, 5]).await?;
    list.insert(1, &4).await?;
    list.get(-1).await?;
    list.set(0, &7).await?;
    list.slice(Slice::new(0, 3)).await?;
    list.set_slice(Slice::new(0, 1), [8, 9]).await?;
    list.set_slice(Slice::new(None, None).step(2), [1, 2, 3])
        .await?;
    list.delete_slice(Slice::new(0, 1)).await?;
    list.index(&9).await?;
    list.count(&9).await?;
    list.reverse().await?;
    list.sort().await?;
    list.to_vec().await?;
    list.remove(&9).await?;
    list.delete(0).await?;
    list.pop().await?;
    list.pop_at(0).await?;
    list.len().await?;
    let mut scan = list.scan();
    while scan.next().await?.is_some() {}
    list.clear().await?;
    list.unlink().await?;
    Ok(())
}

async fn dict(broker: Broker, name: Name) -> Outcome {
    let dict = broker.dict::<String, u32>(&name);
    let key = |text: &str| text.to_owned();
    dict.insert(&key("a"), &1).await?;
    dict.update([(key("b"), 2), (key("c"), 3)]).await?;
    dict.setdefault(&key("d"), 4).await?;
    dict.get(&key("a")).await?;
    dict.contains_key(&key("a")).await?;
    dict.items().await?;
    let mut scan = dict.scan();
    while scan.next().await?.is_some() {}
    dict.pop(&key("a")).await?;
    dict.remove(&key("b")).await?;
    dict.popitem().await?;
    dict.len().await?;
    dict.clear().await?;
    let nested = Manager::new(&broker).list([1]).await?;
    let outer = Manager::new(&broker).dict([(key("x"), nested)]).await?;
    outer.len().await?;
    dict.unlink().await?;
    Ok(())
}

async fn cells(broker: Broker, name: Name) -> Outcome {
    let array = broker.array(&name, 4, &1).await?;
    array.set(1, &5).await?;
    array.get(-1).await?;
    array.slice(Slice::new(None, None).step(-1)).await?;
    array.set_slice(Slice::new(0, 2), &[7, 8]).await?;
    array.compare_exchange(0, &7, &9).await?.ok();
    array.fetch_add(0, 2).await?;
    array.len().await?;
    array.unlink().await?;
    let value = broker.value(&name, &1).await?;
    value.fetch_add(1).await?;
    value.compare_exchange(&2, &3).await?.ok();
    value.get().await?;
    value.unlink().await?;
    Ok(())
}
