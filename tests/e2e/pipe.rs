//! Pipes between processes.

use std::env;
use std::time::Duration;

use pmq_broker::pipe::{MAX_MESSAGE, Shared};
use pmq_broker::{
    Broker, Config, Connection, Error, PipeOptions, Receiver, RecvError, SendError, Sender, Ticket,
};
use pmq_tests::program::Running;
use pmq_tests::shared::Raw;
use pmq_tests::{Proxy, Redis, RedisServer, eventually_async, shared};

use crate::fleet::{Fleet, LONG, SOON};
use crate::roles::{as_test, broker};

const TICKET: &str = "PMQ_TEST_TICKET";
const ROLE: &str = "PMQ_TEST_ROLE";

const SHORT: PipeOptions = PipeOptions {
    capacity: 100_000,
    lease: Duration::from_secs(2),
};

/// Another process, which opens an end of a pipe that is shared with it.
async fn peer<E: Shared>(fleet: &Fleet, role: &str, end: &E) -> Running {
    let ticket = serde_json::to_string(&end.share().await.unwrap()).unwrap();
    let program = fleet.stand_in().env(TICKET, ticket).env(ROLE, role);
    let running = program.timeout(LONG).spawn(as_test("pipe::role"));
    let _ = running.wait_for_line("open");
    running
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "is the other process of these tests"]
async fn role() {
    let Ok(ticket) = env::var(TICKET) else { return };
    match env::var(ROLE).unwrap().as_str() {
        "echo" => echo(open(&ticket).await).await,
        "read nothing" => {
            let _end: Receiver<u64> = open(&ticket).await;
            std::future::pending::<()>().await;
        }
        "write" => write(open(&ticket).await).await,
        "write too long" => {
            let end: Sender<u64> = open(&ticket).await;
            end.send(&7).await.unwrap();
            end.send_bytes(&vec![1; 5_000_000]).await.unwrap();
        }
        role => panic!("{role}?"),
    }
}

async fn open<E: Shared>(ticket: &str) -> E {
    let ticket: Ticket<E> = serde_json::from_str(ticket).unwrap();
    let end = broker().await.open_end(&ticket).await.unwrap();
    println!("open");
    end
}

/// Sends back what it gets.
async fn echo(end: Connection<u64>) {
    loop {
        match end.recv_bytes().await {
            Ok(message) => end.send_bytes(&message).await.unwrap(),
            Err(error) => return assert!(matches!(error, RecvError::Eof), "{error}"),
        }
    }
}

/// Sends numbers until it can't.
async fn write(end: Sender<u64>) {
    let mut n = 0;
    let error = loop {
        match end.send(&n).await {
            Ok(()) => n += 1,
            Err(error) => break error,
        }
    };
    println!("stopped at {n}: {error}");
}

fn bytes_of(fleet: &mut Raw, name: &str) -> usize {
    let mut unread = redis::cmd("HGET");
    unread.arg(format!("pmq:pipe:{{{name}}}:meta")).arg("bytes");
    let unread: Option<usize> = unread.query(fleet).unwrap();
    unread.unwrap_or(0)
}

fn keys_of(name: &str) -> Vec<String> {
    let mut keys = redis::cmd("KEYS");
    keys.arg(format!("pmq:pipe:{{{name}}}:*"));
    keys.query(&mut shared().raw()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn sixty_four_mib_go_to_a_process_and_back_through_a_little_memory() {
    let server = RedisServer::start();
    let fleet = Fleet::at(server.url()).await;
    let (ours, theirs) = fleet.queue.broker().pipe::<u64>().await.unwrap();
    let echo = peer(&fleet, "echo", &theirs).await;
    theirs.close().await.unwrap();
    let message: Vec<u8> = (0..MAX_MESSAGE as u32)
        .map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    let (sent, got) = tokio::join!(ours.send_bytes(&message), ours.recv_bytes());
    sent.unwrap();
    assert!(got.unwrap() == message, "the same bytes came back");
    let info: String = redis::cmd("INFO")
        .arg("memory")
        .query(&mut server.connection())
        .unwrap();
    let peak = info
        .lines()
        .find_map(|line| line.strip_prefix("used_memory_peak:"))
        .unwrap();
    assert!(peak.parse::<usize>().unwrap() < 32 << 20, "{peak}");
    let too_long = vec![0; MAX_MESSAGE + 1];
    let refused = ours.send_bytes(&too_long).await;
    assert!(matches!(refused, Err(SendError::TooLarge { .. })));
    ours.close().await.unwrap();
    let _ = echo.wait().expect_code(0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_pipe_has_its_writer_wait_for_its_reader() {
    let fleet = Fleet::new().await;
    let (reader, writer) = fleet
        .queue
        .broker()
        .channel_with::<u64>(SHORT)
        .await
        .unwrap();
    let mut redis = shared().raw();
    let process = peer(&fleet, "write", &writer).await;
    writer.close().await.unwrap();
    let name = reader.name().to_string();
    let full = SHORT.capacity - 20;
    eventually_async("it is full", LONG, async || {
        (bytes_of(&mut redis, &name) > full).then_some(())
    })
    .await;
    for n in 0..20_000 {
        assert_eq!(reader.recv().await.unwrap(), n);
        assert!(n % 500 != 0 || bytes_of(&mut redis, &name) <= SHORT.capacity);
    }
    reader.close().await.unwrap();
    let ended = process.wait().expect_code(0);
    assert!(
        ended.text().contains("nobody holds the other end"),
        "{}",
        ended.text()
    );
    assert_eq!(keys_of(&name), [""; 0], "it goes with its last holder");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_file_ends_when_the_last_writer_is_killed_and_all_is_read() {
    let fleet = Fleet::new().await;
    let (reader, writer) = fleet
        .queue
        .broker()
        .channel_with::<u64>(SHORT)
        .await
        .unwrap();
    let mut process = peer(&fleet, "write", &writer).await;
    writer.close().await.unwrap();
    assert_eq!(reader.recv().await.unwrap(), 0);
    process.kill();
    let mut next = 1;
    let end = loop {
        match tokio::time::timeout(SOON, reader.recv()).await.unwrap() {
            Ok(n) => assert_eq!(n, next),
            Err(error) => break error,
        }
        next += 1;
    };
    assert!(matches!(end, RecvError::Eof), "{end}");
    assert!(
        reader.poll(Duration::ZERO).await.unwrap(),
        "ready to say so again"
    );
    assert!(matches!(reader.recv().await, Err(RecvError::Eof)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_writer_that_waits_for_room_hears_that_the_last_reader_was_killed() {
    let fleet = Fleet::new().await;
    let (reader, writer) = fleet
        .queue
        .broker()
        .channel_with::<u64>(SHORT)
        .await
        .unwrap();
    let mut process = peer(&fleet, "read nothing", &reader).await;
    reader.close().await.unwrap();
    writer.send_bytes(&vec![0; 90_000]).await.unwrap();
    let message = vec![0; 20_000];
    let mut waits = Box::pin(writer.send_bytes(&message));
    let early = tokio::time::timeout(Duration::from_millis(100), &mut waits).await;
    assert!(early.is_err(), "there is no room");
    process.kill();
    let end = tokio::time::timeout(SOON, waits).await.unwrap();
    assert!(matches!(end, Err(SendError::Closed)), "{end:?}");
    assert_eq!(bytes_of(&mut shared().raw(), writer.name().as_str()), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_whose_writer_is_killed_in_its_middle_leaves_nothing() {
    let fleet = Fleet::new().await;
    let (reader, writer) = fleet
        .queue
        .broker()
        .channel_with::<u64>(SHORT)
        .await
        .unwrap();
    let mut process = peer(&fleet, "write too long", &writer).await;
    assert_eq!(reader.recv().await.unwrap(), 7);
    assert!(reader.poll(SOON).await.unwrap(), "it has begun");
    process.stop();
    let begun = tokio::time::timeout(Duration::from_millis(300), reader.recv_bytes()).await;
    assert!(begun.is_err(), "it is not complete");
    process.kill();
    writer.send(&8).await.unwrap();
    assert_eq!(reader.recv().await.unwrap(), 8);
    writer.close().await.unwrap();
    assert!(matches!(reader.recv().await, Err(RecvError::Eof)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_stood_still_for_longer_than_its_lease_has_lost_its_end() {
    let fleet = Fleet::new().await;
    let (reader, writer) = fleet
        .queue
        .broker()
        .channel_with::<u64>(SHORT)
        .await
        .unwrap();
    let process = peer(&fleet, "write", &writer).await;
    writer.close().await.unwrap();
    process.stop();
    while reader.recv().await.is_ok() {}
    process.resume();
    let ended = process.wait().expect_code(0);
    assert!(ended.text().contains("was lost"), "{}", ended.text());
}

#[tokio::test]
async fn closing_tells_the_other_end_at_once() {
    let fleet = Fleet::new().await;
    let (reader, writer) = fleet.queue.broker().channel::<u64>().await.unwrap();
    let name = reader.name().to_string();
    let reader = std::sync::Arc::new(reader);
    let waits = tokio::spawn({
        let reader = reader.clone();
        async move { reader.recv().await }
    });
    let asked = format!("pmq:pipe:{{{name}}}:reading");
    eventually_async("it waits", SOON, async || {
        keys_of(&name).contains(&asked).then_some(())
    })
    .await;
    writer.close().await.unwrap();
    writer.close().await.unwrap();
    assert!(writer.is_closed());
    let soon = Duration::from_secs(1); // who waits would ask again after 2 s
    let end = tokio::time::timeout(soon, waits).await.unwrap().unwrap();
    assert!(matches!(end, Err(RecvError::Eof)));
    assert!(matches!(
        writer.send(&1).await,
        Err(SendError::HandleClosed)
    ));
    reader.close().await.unwrap();
    assert!(matches!(reader.recv().await, Err(RecvError::HandleClosed)));
    assert!(matches!(
        reader.poll(Duration::ZERO).await,
        Err(RecvError::HandleClosed)
    ));
    assert_eq!(keys_of(&name), [""; 0]);
}

#[tokio::test]
async fn messages_keep_their_boundaries_and_a_poll_takes_none() {
    let fleet = Fleet::new().await;
    let (a, b) = fleet.queue.broker().pipe::<String>().await.unwrap();
    assert!(!b.poll(Duration::ZERO).await.unwrap());
    assert!(!b.poll(Duration::from_millis(20)).await.unwrap());
    a.send(&"first".to_owned()).await.unwrap();
    a.send_bytes(b"").await.unwrap();
    a.send_bytes(b"12345").await.unwrap();
    a.send_bytes(b"123456").await.unwrap();
    for _ in 0..2 {
        assert!(b.poll(Duration::MAX).await.unwrap());
    }
    assert_eq!(b.recv().await.unwrap(), "first");
    assert_eq!(b.recv_bytes().await.unwrap(), "");
    let mut buffer = [0; 5];
    assert_eq!(b.recv_bytes_into(&mut buffer).await.unwrap(), 5);
    assert_eq!(&buffer, b"12345");
    match b.recv_bytes_into(&mut buffer).await {
        Err(RecvError::BufferTooShort(message)) => assert_eq!(message, "123456"),
        other => panic!("{other:?}"),
    }
    b.send_bytes(b"no JSON").await.unwrap();
    assert!(matches!(a.recv().await, Err(RecvError::Decode(_))));
    a.send_bytes(&vec![0; 1_000_000]).await.unwrap();
    let long = b.recv_bytes_max(999_999).await;
    assert!(
        matches!(
            long,
            Err(RecvError::BadLength {
                size: 1_000_000,
                ..
            })
        ),
        "{long:?}"
    );
    assert!(matches!(b.recv_bytes().await, Err(RecvError::HandleClosed)));
    b.send_bytes(b"still").await.unwrap();
    assert_eq!(a.recv_bytes().await.unwrap(), "still");
}

#[tokio::test]
async fn readers_that_share_an_end_share_its_messages() {
    let fleet = Fleet::new().await;
    let broker = fleet.queue.broker();
    let (first, writer) = broker.channel::<u64>().await.unwrap();
    let ticket = first.share().await.unwrap();
    let second = broker.open_end(&ticket).await.unwrap();
    let again = broker.open_end(&ticket).await;
    assert!(matches!(again, Err(Error::TicketGone { .. })));
    for n in 0..4 {
        writer.send(&n).await.unwrap();
    }
    let mut got = Vec::new();
    for reader in [&first, &second, &second, &first] {
        got.push(reader.recv().await.unwrap());
    }
    assert_eq!(got, [0, 1, 2, 3]);
    first.close().await.unwrap();
    writer.send(&4).await.unwrap();
    assert_eq!(second.recv().await.unwrap(), 4);
}

#[tokio::test]
async fn a_ticket_holds_the_end_until_it_is_opened_or_its_time_is_over() {
    let fleet = Fleet::new().await;
    let (reader, writer) = fleet.queue.broker().channel::<u64>().await.unwrap();
    let ticket = writer.share().await.unwrap();
    let unopened = writer.share().await.unwrap();
    writer.close().await.unwrap();
    assert!(
        !reader.poll(Duration::ZERO).await.unwrap(),
        "no end of file"
    );
    let writer = fleet.queue.broker().open_end(&ticket).await.unwrap();
    writer.send(&1).await.unwrap();
    writer.close().await.unwrap();
    assert_eq!(reader.recv().await.unwrap(), 1);
    assert!(
        !reader.poll(Duration::ZERO).await.unwrap(),
        "no end of file yet"
    );
    let mut redis = shared().raw();
    let key = |part: &str| format!("pmq:pipe:{{{}}}:{part}", reader.name());
    let holder: Vec<u8> = redis::cmd("SRANDMEMBER")
        .arg(key("writers"))
        .query(&mut redis)
        .unwrap();
    let mut end = redis::cmd("ZADD");
    end.arg(key("members"))
        .arg(1)
        .arg(holder)
        .exec(&mut redis)
        .unwrap();
    assert!(matches!(reader.recv().await, Err(RecvError::Eof)));
    let late = fleet.queue.broker().open_end(&unopened).await;
    assert!(matches!(late, Err(Error::TicketGone { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_that_is_dropped_loses_no_message() {
    let fleet = Fleet::new().await;
    let (ours, theirs) = fleet.queue.broker().pipe::<u64>().await.unwrap();
    let _echo = peer(&fleet, "echo", &theirs).await;
    for n in 0..300 {
        ours.send(&n).await.unwrap();
    }
    let mut next = 0;
    while next < 300 {
        let patience = Duration::from_micros(fastrand::u64(0..1500));
        if let Ok(got) = tokio::time::timeout(patience, ours.recv()).await {
            assert_eq!(got.unwrap(), next);
            next += 1;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_lost_costs_no_message_and_doubles_none() {
    let proxy = Proxy::to(RedisServer::shared());
    let broker = Broker::connect(&Config::url(proxy.url())).await.unwrap();
    let (reader, writer) = broker.channel::<u64>().await.unwrap();
    for n in 0..5 {
        proxy.drop_next_reply();
        writer.send(&(2 * n)).await.unwrap();
        writer.send(&(2 * n + 1)).await.unwrap();
        proxy.drop_next_reply();
        assert_eq!(reader.recv().await.unwrap(), 2 * n);
        assert_eq!(reader.recv().await.unwrap(), 2 * n + 1);
    }
    assert!(proxy.replies_dropped() > 5);
    assert!(!reader.poll(Duration::ZERO).await.unwrap());
}
