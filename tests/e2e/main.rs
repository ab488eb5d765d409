//! End to end.

mod fleet;
mod helpers;

mod attempts;
mod commands;
