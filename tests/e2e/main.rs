//! End to end.

mod admin;
mod bad_input;
mod get;
mod site;
mod status;
mod submit;
