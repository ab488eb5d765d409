//! `pmq map`: what to run, where, in what order, and what became of it.
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
pub mod verdict;

// What the flags ask for.
pub mod place;
pub mod plan;
pub mod width;

// The run: each role is a task of the runtime, and they talk by messages.
pub mod bar;
pub mod collector;
pub mod events;
pub mod feed;
pub mod lease;
pub(crate) mod leftover;
pub mod local;
pub mod recipe;
pub mod report;
pub mod run;
pub mod session;
pub mod signals;
pub mod submitter;
