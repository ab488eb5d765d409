//! A server that lies: a proxy before a real one that changes chosen replies, and remembers what it was asked.

use std::io::{BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use pmq_tests::fuzz::{Splice, splice};
use pmq_tests::{RedisServer, Scratch};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use crate::resp::Resp;

/// What is changed of a reply.
#[derive(Clone, Debug)]
pub(crate) enum Lie {
    /// A part becomes something else.
    Replace(Index, Resp),
    /// The bytes of a part change.
    Change(Index, Splice),
    /// An item is missing from a list.
    Drop(Index),
    /// A list has an item more, which is its first again.
    Repeat(Index),
}

impl Lie {
    fn apply(&self, reply: &mut Resp) {
        let (Self::Replace(at, _) | Self::Change(at, _) | Self::Drop(at) | Self::Repeat(at)) = self;
        let part = reply.part(at.index(reply.parts()));
        match (self, part) {
            (Self::Replace(_, other), part) => *part = other.clone(),
            (Self::Change(_, splice), Resp::Bulk(Some(bytes)) | Resp::Line(_, bytes)) => {
                splice.apply(bytes);
            }
            (Self::Drop(at), Resp::List(_, items)) if !items.is_empty() => {
                items.remove(at.index(items.len()));
            }
            (Self::Repeat(_), Resp::List(_, items)) => items.extend(items.first().cloned()),
            _ => {}
        }
    }
}

/// Words that functions answer, and numbers that are none.
const WORDS: [&str; 20] = [
    "ok",
    "wait",
    "lost",
    "gone",
    "full",
    "room",
    "other",
    "conflict",
    "changed",
    "empty",
    "n",
    "1",
    "0",
    "-1",
    "18446744073709551615",
    "18446744073709551616",
    "nan",
    "inf",
    "1e308",
    "\0",
];

fn other() -> impl Strategy<Value = Resp> {
    let bulk = |bytes: Vec<u8>| Resp::Bulk(Some(bytes));
    let list = |items| Resp::List(b'*', items);
    let error = "TRYAGAIN later|BUSY now|READONLY no|NOPERM no|OOM full|ERR Function not found|WRONGTYPE key|PMQLAYOUT 9|MOVED 1 h:1|NOAUTH no|LOADING it";
    let errors: Vec<&str> = error.split('|').collect();
    prop_oneof![
        Just(Resp::Bulk(None)),
        select(&WORDS[..]).prop_map(move |word| bulk(word.into())),
        vec(any::<u8>(), 0..40).prop_map(bulk),
        any::<i64>().prop_map(|n| Resp::Line(b':', n.to_string().into_bytes())),
        select(&WORDS[..]).prop_map(|word| Resp::Line(b'+', word.into())),
        select(errors).prop_map(|text| Resp::Line(b'-', text.into())),
        vec(select(&WORDS[..]), 0..4)
            .prop_map(move |words| list(words.into_iter().map(|word| bulk(word.into())).collect())),
        (1..30usize)
            .prop_map(move |depth| (0..depth).fold(list(Vec::new()), |inner, _| list(vec![inner]))),
    ]
}

pub(crate) fn lie() -> impl Strategy<Value = Lie> {
    let at = any::<Index>;
    prop_oneof![
        4 => (at(), other()).prop_map(|(at, other)| Lie::Replace(at, other)),
        3 => (at(), splice(&WORDS)).prop_map(|(at, splice)| Lie::Change(at, splice)),
        1 => at().prop_map(Lie::Drop),
        1 => at().prop_map(Lie::Repeat),
    ]
}

#[derive(Default)]
struct State {
    /// Of the next replies, which number is changed how.
    lies: Vec<(usize, Lie)>,
    replies: usize,
    requests: Vec<Vec<Vec<u8>>>,
}

/// The proxy. It lives as long as the test process.
pub(crate) struct Liar {
    state: Arc<Mutex<State>>,
    files: Scratch,
}

impl Liar {
    pub(crate) fn before(server: &RedisServer) -> Self {
        let files = Scratch::new();
        let listener = UnixListener::bind(files.join("s")).unwrap();
        let state = Arc::<Mutex<State>>::default();
        let (target, shared) = (server.socket(), Arc::clone(&state));
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if let Ok(server) = UnixStream::connect(&target) {
                    open(&shared, &client, &server);
                }
            }
        });
        Self { state, files }
    }

    pub(crate) fn url(&self) -> String {
        format!("redis+unix://{}", self.files.join("s").display())
    }

    /// Tells these lies from now on, and forgets what it was asked.
    pub(crate) fn tell(&self, lies: Vec<(usize, Lie)>) {
        *lock(&self.state) = State {
            lies,
            ..State::default()
        };
    }

    /// What it was asked since, each a command in words.
    pub(crate) fn requests(&self) -> Vec<Vec<Vec<u8>>> {
        lock(&self.state).requests.clone()
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Carries both directions of a connection, each until its other end is closed.
fn open(state: &Arc<Mutex<State>>, client: &UnixStream, server: &UnixStream) {
    let copy = |stream: &UnixStream| stream.try_clone().unwrap();
    let (mut to_server, mut to_client) = (copy(server), copy(client));
    let (mut from_client, mut from_server) =
        (BufReader::new(copy(client)), BufReader::new(copy(server)));
    let shared = Arc::clone(state);
    thread::spawn(move || {
        while let Ok(request) = Resp::read(&mut from_client) {
            lock(&shared).requests.push(request.words());
            if send(&request, &mut to_server).is_err() {
                break;
            }
        }
        let _ = to_server.shutdown(std::net::Shutdown::Both);
    });
    let shared = Arc::clone(state);
    thread::spawn(move || {
        while let Ok(mut reply) = Resp::read(&mut from_server) {
            falsify(&mut lock(&shared), &mut reply);
            if send(&reply, &mut to_client).is_err() {
                break;
            }
        }
        let _ = to_client.shutdown(std::net::Shutdown::Both);
    });
}

fn falsify(state: &mut State, reply: &mut Resp) {
    let number = state.replies;
    state.replies += 1;
    for (_, lie) in state.lies.iter().filter(|(at, _)| *at == number) {
        lie.apply(reply);
    }
}

fn send(message: &Resp, to: &mut UnixStream) -> std::io::Result<()> {
    let mut bytes = Vec::new();
    message.write(&mut bytes);
    to.write_all(&bytes)
}
