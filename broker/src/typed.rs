//! A task's name with its types, shared by producer and worker.

use std::marker::PhantomData;

use serde::{Serialize, de::DeserializeOwned};

/// The name of a handler, with the types of its arguments and its result.
///
/// A constant of this type in a crate that producer and worker share lets the compiler check both sides.
#[derive(Debug)]
pub struct Task<A, R> {
    name: &'static str,
    types: PhantomData<fn(A) -> R>,
}

impl<A, R> Clone for Task<A, R> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<A, R> Copy for Task<A, R> {}

impl<A, R> Task<A, R> {
    /// A task of this name.
    #[must_use]
    pub const fn new(name: &'static str) -> Self {
        Self {
            name,
            types: PhantomData,
        }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }
}

impl<A: Serialize, R: DeserializeOwned> Task<A, R> {
    /// A call of it, ready to be submitted. Fails only where the arguments have no JSON form.
    pub fn call(&self, args: &A) -> Result<crate::Task, serde_json::Error> {
        Ok(crate::Task::handler(self.name, serde_json::to_vec(args)?))
    }

    /// The result that a completion of it holds. Fails where it is not of this type.
    pub fn result(&self, completion: &crate::Completion) -> Result<R, serde_json::Error> {
        serde_json::from_slice(&completion.body)
    }
}
