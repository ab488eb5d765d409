//! Processes: tasks that are watched from their start to their end. In Python this is `multiprocessing.Process`.

mod append;
pub mod log;

pub use append::{Appended, Batch};
pub use log::{Log, Piece, Stream};
