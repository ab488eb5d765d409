//! What a program prints, read while it runs.

use std::io::Read;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

/// One stream of a program, read as it comes, so that a full pipe never holds it up.
#[derive(Debug)]
pub(super) struct Capture {
    bytes: Arc<Mutex<Vec<u8>>>,
    reader: JoinHandle<()>,
}

impl Capture {
    pub(super) fn of(mut stream: impl Read + Send + 'static) -> Self {
        let bytes = Arc::<Mutex<Vec<u8>>>::default();
        let reader = thread::spawn({
            let bytes = Arc::clone(&bytes);
            move || {
                let mut buffer = [0; 8192];
                while let Ok(length @ 1..) = stream.read(&mut buffer) {
                    let mut bytes = bytes.lock().unwrap_or_else(PoisonError::into_inner);
                    bytes.extend_from_slice(&buffer[..length]);
                }
            }
        });
        Self { bytes, reader }
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        self.bytes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes()).into_owned()
    }

    pub(super) fn is_complete(&self) -> bool {
        self.reader.is_finished()
    }
}

/// The lines of `text` without the one that is still being written.
pub(super) fn complete_lines(text: &str) -> Vec<String> {
    let end = text.rfind('\n').map_or(0, |last| last + 1);
    text[..end].lines().map(str::to_owned).collect()
}

/// Both streams, as a failing test shows them.
pub(super) fn both(stdout: &str, stderr: &str) -> String {
    format!("--- stdout\n{stdout}\n--- stderr\n{stderr}")
}
