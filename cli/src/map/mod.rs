//! `pmq map`, the parts that need no broker: what to run, in what order, and what became of it.
//!
//! Arguments, lines and output are bytes throughout, since file names need not be UTF-8.

// From the command line to the jobs.
pub mod argv;
pub mod input;
pub mod lines;

// From a job to its command.
pub mod path;
mod pattern;
pub mod quote;
pub mod template;

// From a job's end to what is shown, kept and decided.
pub mod exit;
pub mod halt;
pub mod joblog;
pub mod order;
pub mod output;
pub mod past;
