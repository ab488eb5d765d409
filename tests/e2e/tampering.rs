//! What rules cannot prevent, an authkey finds: with real commands, by the very rights of a producer and of a worker.

use std::fs;
use std::time::{Duration, SystemTime};

use pmq_broker::acl::Role;
use pmq_broker::authkey::{Authkey, AuthkeySource};
use pmq_broker::task_queue::Ending;
use pmq_broker::{Broker, Completion, Config, Error, Outcome, Report, Task, TaskId, TaskQueue};
use pmq_tests::program::Running;
use pmq_tests::{Program, RedisServer};

use crate::fleet::{Fleet, SOON, name, pass};
use crate::guarded::Guarded;
use crate::store::Store;

const TAMPERERS: [Role; 2] = [Role::Producer, Role::Worker];

/// A fleet with an authkey, whose queue somebody can write to who has a password and no key.
struct Scene {
    guarded: Guarded<RedisServer>,
    fleet: Fleet,
    /// The queue, for who looks after it.
    operator: TaskQueue,
    worker: Running,
}

impl Scene {
    async fn set() -> Self {
        let guarded = Guarded::new(RedisServer::start(), &[]);
        fs::write(guarded.files.join("key"), Authkey::generate()).unwrap();
        let with_key = |user| Config {
            authkey: AuthkeySource::File(guarded.files.join("key")),
            ..guarded.config(user)
        };
        let fleet = Fleet::serving(with_key("producer"), &name("mail")).await;
        let admin = Broker::connect(&with_key("admin")).await.unwrap();
        let operator = admin.task_queue(&name("mail"));
        let pmq = guarded.pmq("worker");
        let pmq = pmq.env("PMQ_AUTHKEY_FILE", guarded.files.join("key"));
        let worker = fleet.worker_of(&pmq, "--allow-commands");
        Self {
            guarded,
            fleet,
            operator,
            worker,
        }
    }

    fn consumer(&self) -> Program {
        let pmq = self.guarded.pmq("producer");
        pmq.env("PMQ_AUTHKEY_FILE", self.guarded.files.join("key"))
    }

    /// The keys of the queue, as this role may change them.
    async fn store_of(&self, role: Role) -> Store {
        let mut store = Store::on(&self.guarded.site, &self.fleet).await;
        store.log_in(role.as_str(), "secret");
        store
    }

    fn sealed(&self, task: &Task) -> Vec<u8> {
        self.fleet.queue.sealing().seal_task(task).unwrap().to_vec()
    }

    /// Each tamperer makes these bytes a task of this id: it is a dead letter with this reason, the worker tells of it, and
    /// it does not run.
    async fn is_found(&self, id: TaskId, envelope: &[u8], why: &str) {
        let ran = self.fleet.record().len();
        for role in TAMPERERS {
            self.store_of(role).await.push_as(id, envelope);
            let completion = self.fleet.completion().await;
            assert_eq!((completion.id, completion.outcome), (id, Outcome::Dead));
            let error = completion.report.error.unwrap();
            assert!(error.contains(why), "{role}: {error}");
            let mut letters = self.operator.dead_letters().await.unwrap();
            let dead = letters.next().await.unwrap().unwrap();
            let kept = dead.completion.as_ref().unwrap();
            let kept = kept.report.error.as_deref().unwrap_or_default();
            assert!(dead.id == id && kept.contains(why), "{role}: {dead:?}");
            self.operator.purge_dead(Some(&[id])).await.unwrap();
        }
        let audit = self.worker.wait_for_line(&format!("task={id}"));
        assert!(
            audit.contains("rejected a task") && audit.contains(why),
            "{audit}"
        );
        assert_eq!(self.fleet.record().len(), ran);
    }
}

fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    now.unwrap().as_millis() as u64
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_nobody_signed_is_found() {
    let scene = Scene::set().await;
    let task = scene.fleet.sh("record forged");
    let unsigned = pmq_broker::envelope::encode(&task).unwrap();
    scene.is_found(task.id, &unsigned, "not signed").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_somebody_signed_with_another_key_is_found() {
    let scene = Scene::set().await;
    let key = scene.guarded.files.join("forged");
    fs::write(&key, Authkey::generate()).unwrap();
    let config = Config {
        authkey: AuthkeySource::File(key),
        ..Config::url(scene.guarded.site.url())
    };
    let forger = Fleet::serving(config, &name("mail")).await;
    let task = scene.fleet.sh("record forged");
    let forged = forger.queue.sealing().seal_task(&task).unwrap();
    scene.is_found(task.id, &forged, "not accepted here").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_or_an_option_that_was_changed_is_found() {
    let scene = Scene::set().await;
    let mut task = scene.fleet.sh("record true one");
    task.body = "pay 10".into();
    let good = scene.sealed(&task);
    let at = |word: &[u8]| good.windows(word.len()).position(|w| w == word).unwrap();
    // The body, the script, a priority.
    for at in [at(b"pay 10") + 4, at(b"true one"), 6] {
        let mut changed = good.clone();
        changed[at] ^= 1;
        scene.is_found(task.id, &changed, "does not fit").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_was_moved_to_another_id_or_queue_is_found() {
    let scene = Scene::set().await;
    let task = scene.fleet.sh("record true one");
    let good = scene.sealed(&task);
    scene.is_found(TaskId::new(), &good, "does not fit").await;
    let other = scene.fleet.queue.broker().task_queue(&name("post"));
    let elsewhere = other.sealing().seal_task(&task).unwrap();
    scene.is_found(task.id, &elsewhere, "does not fit").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_is_put_back_after_its_time_is_found() {
    let scene = Scene::set().await;
    let mut task = scene.fleet.sh("record true one");
    task.expires_ms = Some(now_ms() + 1500);
    let envelope = scene.sealed(&task);
    scene.fleet.submit(&task).await;
    assert_eq!(scene.fleet.completion().await.outcome, Outcome::Ok);
    // Until then it may run again: what bounds a replay is its end.
    let mut store = scene.store_of(Role::Worker).await;
    store.push_as(task.id, &envelope);
    assert_eq!(scene.fleet.completion().await.outcome, Outcome::Ok);
    assert_eq!(scene.fleet.record().len(), 2);
    pass(Duration::from_millis(1600));
    scene.is_found(task.id, &envelope, "expired").await;
    // Nor does another end help.
    let mut task = scene.fleet.sh("record true one");
    task.expires_ms = Some(now_ms());
    let envelope = scene.sealed(&task);
    task.expires_ms = Some(now_ms() + 100_000);
    let later = pmq_broker::envelope::encode(&task).unwrap();
    let mut prolonged = envelope.clone();
    let control = 3..later.len().min(40);
    prolonged[control.clone()].copy_from_slice(&later[control]);
    scene.is_found(task.id, &prolonged, "does not fit").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_completion_that_is_forged_changed_or_moved_is_not_believed() {
    let scene = Scene::set().await;
    let queue = &scene.fleet.queue;
    for role in TAMPERERS {
        let id = scene.fleet.submit(&scene.fleet.sh("record true one")).await;
        let completion = scene.fleet.completion().await;
        assert_eq!((completion.id, completion.outcome), (id, Outcome::Ok));
        let forged = Completion {
            report: Report::default(),
            body: "7".into(),
            ..completion
        };
        let sealed = queue.sealing().seal_completion(&forged, b"");
        let mut changed = sealed.to_vec();
        let at = changed.len() - 40;
        changed[at] ^= 1;
        let mut store = scene.store_of(role).await;
        // For a consumer, by whom it is dropped with a word of warning.
        store.post(&forged.encode());
        store.post(&changed);
        for why in ["not signed", "does not fit"] {
            let got = scene.consumer().run(["get", "mail/done", "--nowait"]);
            let text = got.expect_code(75).error_text();
            let audit = text
                .lines()
                .find(|line| line.contains("rejected a completion"));
            let told =
                audit.is_some_and(|line| line.contains(why) && line.contains(&id.to_string()));
            assert!(told, "{role}: {text}");
        }
        // For who waits for it by its id.
        for record in [forged.encode().to_vec(), changed] {
            store.rewrite_record(id, |_| record);
            let ended = queue.wait(&[id], SOON).await;
            assert!(matches!(ended, Err(Error::Untrusted { .. })), "{ended:?}");
            let status = ["status", "-q", "mail", "--json", &id.to_string()];
            let ended = scene.consumer().run(status);
            let told = ended.error_text();
            assert!(told.contains("rejected a completion"), "{told}");
            assert!(ended.json()[0]["completion"].is_null(), "{}", ended.text());
        }
        // What is true of one task, given out as another's.
        let other = TaskId::new();
        store.put_record(other, &sealed);
        let ended = queue.wait(&[other], SOON).await;
        assert!(matches!(ended, Err(Error::Untrusted { .. })), "{ended:?}");
        store.put_record(id, &sealed);
        let ended = queue.wait(&[id], SOON).await.unwrap();
        assert!(matches!(&ended[0], Ending::Ended(end) if end.body == "7"));
    }
}
