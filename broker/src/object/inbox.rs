//! News for the members of this process, which come on one channel. It may be lost, so who waits also asks again.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, timeout_at};

use super::member::Member;
use crate::connection::lane::Lane;

/// How long a first wait waits for the subscription; without it, asking again still works.
const SUBSCRIBE: Duration = Duration::from_secs(3);
const BETWEEN_TRIES: Duration = Duration::from_millis(200);

type Boxes = Arc<Mutex<HashMap<Member, mpsc::UnboundedSender<Bytes>>>>;

/// The boxes of this process's members.
pub(super) struct Inbox {
    link: Arc<Lane>,
    channel: String,
    boxes: Boxes,
    /// Whether the subscription is up; `None` before anybody needed it.
    up: Mutex<Option<watch::Receiver<bool>>>,
}

impl Inbox {
    pub(super) fn new(link: Arc<Lane>, channel: String) -> Self {
        Self {
            link,
            channel,
            boxes: Arc::default(),
            up: Mutex::default(),
        }
    }

    /// Opens a member's box, and waits up to `deadline` for the subscription.
    pub(super) async fn open(&self, runtime: &Handle, member: Member, deadline: Instant) -> Mail {
        let (sender, messages) = mpsc::unbounded_channel();
        lock(&self.boxes).insert(member, sender);
        let mail = Mail {
            member,
            messages,
            boxes: self.boxes.clone(),
        };
        let mut up = self.subscribed(runtime);
        let until = deadline.min(Instant::now() + SUBSCRIBE);
        let _ = timeout_at(until, up.wait_for(|up| *up)).await;
        mail
    }

    fn subscribed(&self, runtime: &Handle) -> watch::Receiver<bool> {
        let mut up = lock(&self.up);
        up.get_or_insert_with(|| {
            let (sender, receiver) = watch::channel(false);
            let (link, channel) = (self.link.clone(), self.channel.clone());
            runtime.spawn(listen(link, channel, self.boxes.clone(), sender));
            receiver
        })
        .clone()
    }
}

/// Hears the channel for as long as the process lives. Whenever it hears again, it tells everybody to ask.
async fn listen(link: Arc<Lane>, channel: String, boxes: Boxes, up: watch::Sender<bool>) {
    loop {
        match link.subscribe(std::slice::from_ref(&channel)).await {
            Ok(mut news) => {
                up.send_replace(true);
                for mail in lock(&boxes).values() {
                    let _ = mail.send(Bytes::new());
                }
                while let Some(message) = news.next().await {
                    deliver(&boxes, message);
                }
                up.send_replace(false);
            }
            Err(error) => tracing::debug!(target: "pmq", %error, "could not listen for news"),
        }
        sleep(BETWEEN_TRIES).await;
    }
}

/// A message is a member and its word; or, for several members, this byte, the word's length, the word and the members.
const SEVERAL: u8 = b'*';
const MEMBER: usize = 16;

fn deliver(boxes: &Boxes, message: Vec<u8>) {
    let message = Bytes::from(message);
    let Some((members, word)) = parse(&message) else {
        return;
    };
    let boxes = lock(boxes);
    for member in members.chunks_exact(MEMBER).filter_map(Member::from_slice) {
        if let Some(mail) = boxes.get(&member) {
            let _ = mail.send(word.clone());
        }
    }
}

/// The members that a message is for, and its word.
fn parse(message: &Bytes) -> Option<(Bytes, Bytes)> {
    let word = match *message.first()? {
        SEVERAL => 2..2 + usize::from(*message.get(1)?),
        _ => MEMBER..message.len(),
    };
    let members = match word.start {
        MEMBER => 0..MEMBER,
        _ => word.end..message.len(),
    };
    (word.start <= word.end && word.end <= message.len())
        .then(|| (message.slice(members), message.slice(word)))
}

/// The mail of one member.
pub(crate) struct Mail {
    member: Member,
    messages: mpsc::UnboundedReceiver<Bytes>,
    boxes: Boxes,
}

impl Mail {
    /// The next word for the member: what a function told it, or nothing where it had better ask again, as news may
    /// have been lost; `None` when it is `until`.
    pub(crate) async fn next(&mut self, until: Instant) -> Option<Bytes> {
        timeout_at(until, self.messages.recv()).await.ok().flatten()
    }
}

impl Drop for Mail {
    fn drop(&mut self) {
        lock(&self.boxes).remove(&self.member);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(message: &'static [u8]) -> Option<(Bytes, Bytes)> {
        parse(&Bytes::from_static(message))
    }

    #[test]
    fn a_message_is_for_one_member_or_for_several() {
        let one = parsed(b"abcdefghij000001word").unwrap();
        assert_eq!(
            (&one.0[..], &one.1[..]),
            (&b"abcdefghij000001"[..], &b"word"[..])
        );
        let two = parsed(b"*\x02okabcdefghij000001abcdefghij000002").unwrap();
        assert_eq!((two.0.len(), &two.1[..]), (32, &b"ok"[..]));
    }

    #[test]
    fn a_message_that_is_cut_off_is_for_nobody() {
        assert_eq!(parsed(b""), None);
        assert_eq!(parsed(b"abc"), None);
        assert_eq!(parsed(b"*"), None);
        assert_eq!(parsed(b"*\x09ok"), None);
    }
}
