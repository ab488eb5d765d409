//! With an authkey only what is signed runs, and only what is signed counts: against whoever can write to Redis.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use pmq_broker::authkey::{Authkey, AuthkeySource};
use pmq_broker::task_queue::Ending;
use pmq_broker::{Completion, Config, Error, Outcome, Task, TaskId};
use pmq_tests::program::Running;
use pmq_tests::{Program, Redis, eventually, shared};

use crate::fleet::{Fleet, LONG, SOON, name};
use crate::store::Store;

/// A fleet whose programs have an authkey.
struct Signed {
    fleet: Fleet,
    key: String,
    file: PathBuf,
    _files: pmq_tests::Scratch,
}

impl Signed {
    async fn new() -> Self {
        Self::with(|_| {}).await
    }

    async fn with(set: impl FnOnce(&mut Config)) -> Self {
        let files = pmq_tests::Scratch::new();
        let (key, file) = (Authkey::generate(), files.join("key"));
        fs::write(&file, &key).unwrap();
        let mut config = Config {
            authkey: AuthkeySource::File(file.clone()),
            ..Config::url(shared().url())
        };
        set(&mut config);
        Self {
            fleet: Fleet::of(config).await,
            key,
            file,
            _files: files,
        }
    }

    fn pmq(&self) -> Program {
        self.fleet.pmq().env("PMQ_AUTHKEY_FILE", &self.file)
    }

    fn worker(&self) -> Running {
        self.fleet.worker_of(&self.pmq(), "--allow-commands")
    }

    /// A task that leaves its mark where it runs.
    fn task(&self) -> Task {
        self.fleet.sh("record ran")
    }

    fn envelope(&self, task: &Task) -> Vec<u8> {
        self.fleet.queue.sealing().seal_task(task).unwrap().to_vec()
    }

    /// Puts these bytes into the queue, and answers why they became a dead letter.
    async fn rejected(&self, id: TaskId, envelope: &[u8]) -> String {
        Store::of(&self.fleet).await.push_as(id, envelope);
        let completion = self.fleet.completion().await;
        assert_eq!((completion.id, completion.outcome), (id, Outcome::Dead));
        completion.report.error.unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn signed_tasks_run_and_their_completions_are_trusted() {
    let signed = Signed::new().await;
    let _worker = signed.worker();
    let queue = signed.fleet.queue.name().as_str();
    let run = ["run", "-q", queue, "--", "echo", "hi"];
    let ended = signed.pmq().run(run).expect_code(0);
    assert_eq!(ended.text(), "hi\n");
    let readers = "every user of this machine can read the authkey";
    assert!(
        ended.error_text().contains(readers),
        "{}",
        ended.error_text()
    );
    let map = [
        "map", "-q", queue, "-k", "--", "echo", "{}", ":::", "1", "2",
    ];
    assert_eq!(signed.pmq().run(map).expect_code(0).text(), "1\n2\n");
    let id = signed.fleet.submit(&signed.task()).await;
    let ended = signed.fleet.completion().await;
    assert_eq!((ended.id, ended.outcome), (id, Outcome::Ok));
    let endings = signed.fleet.queue.wait(&[id], SOON).await.unwrap();
    assert!(matches!(&endings[0], Ending::Ended(end) if end.outcome == Outcome::Ok));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_signed_as_it_stands_is_a_dead_letter_at_once() {
    let signed = Signed::new().await;
    let worker = signed.worker();
    let task = signed.task();
    let good = signed.envelope(&task);

    let unsigned = pmq_broker::envelope::encode(&task).unwrap();
    let error = signed.rejected(TaskId::new(), &unsigned).await;
    assert!(error.contains("it is not signed"), "{error}");

    let other = Signed::new().await;
    let error = signed.rejected(TaskId::new(), &other.envelope(&task)).await;
    assert!(error.contains("not accepted here"), "{error}");

    let copied = signed.rejected(TaskId::new(), &good).await;
    let mut changes = vec![copied];
    // A priority, an attempt, the expiry, the argv, the signature itself.
    for at in [3, 4, 27, 60, good.len() - 1] {
        let mut changed = good.clone();
        changed[at] ^= 1;
        changes.push(signed.rejected(task.id, &changed).await);
        signed.fleet.queue.purge_dead(None).await.unwrap();
    }
    for error in changes {
        assert!(error.contains("its signature does not fit"), "{error}");
    }
    let audit = worker.wait_for_line("rejected a task");
    assert!(audit.contains("task=") && audit.contains("key="), "{audit}");
    assert!(!audit.contains("record"), "the payload shows: {audit}");
    assert!(signed.fleet.record().is_empty(), "none of them ran");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_task_that_is_put_back_does_not_run() {
    let signed = Signed::new().await;
    let _worker = signed.worker();
    let mut task = signed.task();
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    task.expires_ms = Some(now.unwrap().as_millis() as u64 + 500);
    let envelope = signed.envelope(&task);
    signed.fleet.submit(&task).await;
    assert_eq!(signed.fleet.completion().await.outcome, Outcome::Ok);
    crate::fleet::pass(Duration::from_millis(600));
    let error = signed.rejected(task.id, &envelope).await;
    assert!(error.contains("expired"), "{error}");
    assert_eq!(signed.fleet.record().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forged_completion_counts_for_nobody() {
    let signed = Signed::new().await;
    let forged = Completion {
        id: TaskId::new(),
        outcome: Outcome::Ok,
        exit: Some(0),
        digest: [0; 8],
        token: 1,
        attempt: 1,
        started_us: 1,
        finished_us: 2,
        worker: "mallory".into(),
        report: pmq_broker::Report::default(),
        body: "7".into(),
    };
    let mut store = Store::of(&signed.fleet).await;
    store.post(&forged.encode());
    let worker = signed.worker();
    let id = signed.fleet.submit(&signed.task()).await;
    // The consumer drops what is forged, and gets the true one.
    assert_eq!(signed.fleet.completion().await.id, id);

    store.rewrite_record(id, |mut record| {
        assert_eq!(record.len(), 58, "a verdict with its signature");
        record[2] = 7;
        record
    });
    let error = signed.fleet.queue.wait(&[id], SOON).await.unwrap_err();
    assert!(matches!(error, Error::Untrusted { .. }), "{error}");
    let queue = signed.fleet.queue.name().as_str();
    let ended = signed.pmq().run(["wait", "-q", queue, &id.to_string()]);
    let text = ended.expect_code(1).error_text();
    assert!(text.contains("untrusted completion"), "{text}");
    drop(worker);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_broker_ends_itself_needs_no_signature() {
    let signed = Signed::new().await;
    let mut task = Task::handler("nobody-has-it", "");
    task.completions = Some(name("done"));
    signed.fleet.submit(&task).await;
    let queue = &signed.fleet.queue;
    queue
        .cancel(&[task.id], pmq_broker::task_queue::Signal::Terminate)
        .await
        .unwrap();
    assert_eq!(signed.fleet.completion().await.outcome, Outcome::Cancelled);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_encrypted_task_shows_neither_body_nor_result() {
    let signed = Signed::with(|config| config.encrypt = true).await;
    let mut task = Task::command(["cat"]);
    task.body = "a secret".into();
    signed.fleet.submit(&task).await;
    let mut store = Store::of(&signed.fleet).await;
    let envelope = store.envelope(task.id);
    assert!(!String::from_utf8_lossy(&envelope).contains("secret"));
    // The worker encrypts the result as well, though it was not told to.
    let _worker = signed.fleet.worker_of(&signed.pmq(), "--allow-commands");
    let mut done = Vec::new();
    eventually("its completion is posted", LONG, || {
        done = store.posted();
        (!done.is_empty()).then_some(())
    });
    assert!(!String::from_utf8_lossy(&done[0]).contains("secret"));
    assert_eq!(signed.fleet.completion().await.output().0, b"a secret");
    // The same task again is no conflict.
    signed
        .fleet
        .queue
        .submit(&task.clone().with_id(task.id))
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_holds_nothing_that_can_be_read_of_an_encrypted_task_that_failed() {
    let signed = Signed::with(|config| config.encrypt = true).await;
    let _worker = signed.fleet.worker_of(&signed.pmq(), "--allow-commands");
    let mut store = Store::of(&signed.fleet).await;
    let mut task = Task::command(["sh", "-c", "tee /dev/stderr; exit 3"]);
    task.body = "a secret".into();
    signed.fleet.submit(&task).await;
    eventually("its completion is posted", LONG, || {
        (!store.posted().is_empty()).then_some(())
    });
    let kept = store.everything();
    assert!(
        kept.contains("tee /dev/stderr") && !kept.contains("a secret"),
        "{kept}"
    );
    let done = signed.fleet.completion().await;
    let (out, err) = done.output();
    assert_eq!([out, err], [b"a secret"; 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_finds_no_secret_in_its_environment() {
    let signed = Signed::new().await;
    let pmq = signed.fleet.pmq().env("PMQ_AUTHKEY", &signed.key);
    let _worker = signed.fleet.worker_of(&pmq, "--allow-commands");
    signed.fleet.submit(&signed.fleet.sh("env")).await;
    let completion = signed.fleet.completion().await;
    let text = String::from_utf8_lossy(completion.output().0).into_owned();
    assert!(
        !text.contains(&signed.key) && text.contains("PMQ_TASK_ID"),
        "{text}"
    );
}

#[test]
fn an_authkey_is_made_for_its_owner_alone_and_never_overwritten() {
    let files = pmq_tests::Scratch::new();
    let path = files.join("key");
    let file = path.to_str().unwrap();
    let pmq = crate::site::bare();
    let _ = pmq.run(["authkey", "new", file]).expect_code(0);
    let first = fs::read_to_string(&path).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&path).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    let refused = pmq.run(["authkey", "new", file]).expect_code(2);
    assert!(
        refused.error_text().contains("hint:"),
        "{}",
        refused.error_text()
    );
    assert_eq!(fs::read_to_string(&path).unwrap(), first);

    let second = pmq.run(["authkey", "new"]).expect_code(0).text();
    fs::write(&path, format!("{first}{second}")).unwrap();
    let ids = pmq.run(["authkey", "ids", file]).expect_code(0).lines();
    assert!(
        ids.len() == 2 && ids[0].ends_with(" signs") && first.contains(&ids[0][..8]),
        "{ids:?}"
    );
    fs::write(&path, "hunter2").unwrap();
    let bad = pmq
        .run(["authkey", "ids", file])
        .expect_code(2)
        .error_text();
    assert!(
        bad.contains("64 hexadecimal digits") && !bad.contains("hunter2"),
        "{bad}"
    );
}

/// A key is replaced while tasks are on their way: accepted everywhere first, then signing.
#[tokio::test(flavor = "multi_thread")]
async fn two_keys_are_accepted_while_one_replaces_the_other() {
    let signed = Signed::new().await;
    let old = signed.task();
    signed.fleet.submit(&old).await;
    fs::write(
        &signed.file,
        format!("{}\n{}\n", Authkey::generate(), signed.key),
    )
    .unwrap();
    let _worker = signed.worker();
    // Its completion is signed with the new key, which this process does not know.
    let mut config = Config::url(signed.fleet.url());
    config.authkey = AuthkeySource::File(signed.file.clone());
    let renewed = Fleet::serving(config, signed.fleet.queue.name()).await;
    assert_eq!(renewed.completion().await.id, old.id);
    let new = renewed.submit(&signed.task()).await;
    let ended = renewed.completion().await;
    assert_eq!((ended.id, ended.outcome), (new, Outcome::Ok));
}
