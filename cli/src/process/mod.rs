//! What `pmq run` does: [`place`] finds who runs the process, [`attended`] stays with it, [`stream`] shows its
//! output by a [`printer`].

pub(crate) mod attended;
pub(crate) mod place;
mod printer;
mod stream;
