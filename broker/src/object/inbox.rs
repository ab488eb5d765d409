//! News for the members of this process, which come on one channel. It may be lost, so who waits also asks again.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::member::Member;
use crate::connection::link::Link;

/// How long a first wait waits for the subscription; without it, asking again still works.
const SUBSCRIBE: Duration = Duration::from_secs(3);
const BETWEEN_TRIES: Duration = Duration::from_millis(200);

type Boxes = Arc<Mutex<HashMap<Member, mpsc::UnboundedSender<Bytes>>>>;

/// The boxes of this process's members.
pub(super) struct Inbox {
    link: Arc<Link>,
    channel: String,
    boxes: Boxes,
    /// Whether the subscription is up; `None` before anybody needed it.
    up: Mutex<Option<watch::Receiver<bool>>>,
}

impl Inbox {
    pub(super) fn new(link: Arc<Link>, channel: String) -> Self {
        Self {
            link,
            channel,
            boxes: Arc::default(),
            up: Mutex::default(),
        }
    }

    /// Opens a member's box.
    pub(super) async fn open(&self, runtime: &Runtime, member: Member) -> Mail {
        let (sender, messages) = mpsc::unbounded_channel();
        lock(&self.boxes).insert(member, sender);
        let mail = Mail {
            member,
            messages,
            boxes: self.boxes.clone(),
        };
        let mut up = self.subscribed(runtime);
        let _ = timeout(SUBSCRIBE, up.wait_for(|up| *up)).await;
        mail
    }

    fn subscribed(&self, runtime: &Runtime) -> watch::Receiver<bool> {
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
async fn listen(link: Arc<Link>, channel: String, boxes: Boxes, up: watch::Sender<bool>) {
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

fn deliver(boxes: &Boxes, message: Vec<u8>) {
    let message = Bytes::from(message);
    let member = message.get(..16).and_then(Member::from_slice);
    if let Some(mail) = member.and_then(|member| lock(boxes).get(&member).cloned()) {
        let _ = mail.send(message.slice(16..));
    }
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
