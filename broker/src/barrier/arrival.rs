//! One party's way through a barrier.

use tokio::time::Instant;

use super::Barrier;
use crate::error::{Error, Result};
use crate::functions::Call;
use crate::lending::while_waiting;
use crate::object::{ASK_AGAIN, Caller, Granted, Mail, Object, WAITING_LEASE};
use crate::reply::Tagged;

/// Which generation a party belongs to, and as the how manyth it arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    index: u32,
    generation: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    Wait(Place),
    /// It is the last one: it runs the action, then opens.
    Act,
    Passed(u32),
    Broken,
    /// Its row had ended before it arrived; as another member it arrives.
    Lost,
    /// Its time is over, and the broker is away.
    Unheard,
}

/// A party that has arrived. Dropping it before it passed breaks the barrier.
pub(super) struct Arrival<'a> {
    barrier: &'a Barrier,
    object: &'a Object,
    /// Nothing once it is through.
    caller: Option<Caller>,
    acting: bool,
    sent: Instant,
}

impl<'a> Arrival<'a> {
    pub(super) fn new(barrier: &'a Barrier) -> Result<Self> {
        Ok(Self {
            barrier,
            object: barrier.hold.object(),
            caller: Some(barrier.hold.caller()?),
            acting: false,
            sent: Instant::now(),
        })
    }

    /// Waits until all have arrived; the index. Nothing where it is to begin anew.
    pub(super) async fn pass(mut self, deadline: Instant) -> Result<Option<u32>> {
        let client = self.object.client()?;
        let mail = client.mail(self.caller().member, deadline).await;
        let mut answer = self.ask("arrive", deadline).await?;
        if let Answer::Wait(place) = answer {
            answer = while_waiting(self.wait(place, mail, deadline)).await?;
        }
        let mut failure = None;
        if answer == Answer::Act {
            (answer, failure) = self.act().await?;
        }
        if answer != Answer::Unheard
            && let Some(caller) = self.caller.take()
            && answer != Answer::Lost
        {
            self.barrier.hold.give_back(caller);
        }
        let name = || self.object.name().clone();
        match (answer, failure) {
            (_, Some(source)) => Err(Error::BarrierAction {
                name: name(),
                source,
            }),
            (Answer::Passed(index), _) => Ok(Some(index)),
            (Answer::Lost, _) if !self.acting => Ok(None),
            _ => Err(Error::BrokenBarrier { name: name() }),
        }
    }

    /// Hears what becomes of its place, or asks again. Gives up at the deadline.
    async fn wait(
        &mut self,
        mut place: Place,
        mut mail: Mail,
        deadline: Instant,
    ) -> Result<Answer> {
        loop {
            let again = (self.sent + ASK_AGAIN).min(deadline);
            let word = mail.next(again).await;
            if let Some(heard) = word.and_then(|word| place.heard(&word)) {
                return Ok(heard);
            }
            let wait = Instant::now() < deadline;
            let how = if wait { "wait" } else { "leave" };
            match self.ask(how, deadline).await {
                Err(error) if wait && error.is_transient() => {}
                Err(error) if error.is_transient() => return Ok(Answer::Unheard),
                Ok(Answer::Wait(now)) => place = now,
                Ok(Answer::Lost) => return Ok(Answer::Broken),
                asked => return asked,
            }
        }
    }

    /// Runs the action, then opens the barrier, or breaks it.
    async fn act(&mut self) -> Result<(Answer, Option<super::Cause>)> {
        let granted = Granted {
            lease: WAITING_LEASE,
            first: WAITING_LEASE,
            sent: self.sent,
        };
        let member = self.caller().member;
        let _lease = self.object.client()?.keep(self.object, member, granted);
        self.begin_call();
        self.acting = true;
        let done = match &self.barrier.action {
            Some(action) => action().await,
            None => Ok(()),
        };
        let opened = self.object.send(&self.open(done.is_ok())).await?;
        let opened = self.read(opened)?;
        Ok((opened, done.err()))
    }

    async fn ask(&mut self, how: &str, deadline: Instant) -> Result<Answer> {
        self.sent = Instant::now();
        let answer = self.object.send_until(&self.arrive(how), deadline).await?;
        self.read(answer)
    }

    /// What it asks next is another call.
    fn begin_call(&mut self) {
        if let Some(caller) = &mut self.caller {
            caller.number += 1;
        }
    }

    fn caller(&self) -> &Caller {
        let caller = self.caller.as_ref();
        caller.expect("it is taken only at the end")
    }

    fn arrive(&self, how: &str) -> Call {
        let action = self.barrier.action.is_some();
        self.caller()
            .call(self.object, "barrier_wait", WAITING_LEASE)
            .arg(self.barrier.parties)
            .arg(if action { "1" } else { "0" })
            .arg(how)
    }

    fn open(&self, well: bool) -> Call {
        self.caller()
            .call(self.object, "barrier_open", WAITING_LEASE)
            .arg(if well { "1" } else { "0" })
    }

    fn read(&self, mut answer: Tagged) -> Result<Answer> {
        Ok(match answer.tag.as_str() {
            "wait" => Answer::Wait(Place {
                index: answer.number()? as u32,
                generation: answer.number()?,
            }),
            "act" => Answer::Act,
            "ok" => Answer::Passed(answer.number()? as u32),
            "lost" => Answer::Lost,
            "other" => {
                return Err(Error::OtherSize {
                    kind: self.object.word(),
                    name: self.object.name().clone(),
                    size: answer.number()?,
                    asked: self.barrier.parties.into(),
                });
            }
            _ => Answer::Broken,
        })
    }
}

impl Drop for Arrival<'_> {
    fn drop(&mut self) {
        if self.caller.is_some() {
            let farewell = if self.acting {
                self.open(false)
            } else {
                self.arrive("leave")
            };
            self.object.farewell(farewell);
        }
    }
}

impl Place {
    /// What news says about this place; nothing where it is of another generation, or says to ask.
    fn heard(self, word: &[u8]) -> Option<Answer> {
        let word = std::str::from_utf8(word).ok()?;
        let digits = word.find(|c: char| c.is_ascii_digit())?;
        let (word, generation) = word.split_at(digits);
        match word {
            _ if generation.parse() != Ok(self.generation) => None,
            "ok" => Some(Answer::Passed(self.index)),
            "broken" => Some(Answer::Broken),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn news_of_another_generation_says_nothing() {
        let place = Place {
            index: 2,
            generation: 17,
        };
        assert_eq!(place.heard(b"ok17"), Some(Answer::Passed(2)));
        assert_eq!(place.heard(b"broken17"), Some(Answer::Broken));
        assert_eq!(place.heard(b"ok16"), None);
        assert_eq!(place.heard(b"act17"), None);
        assert_eq!(place.heard(b""), None);
    }
}
