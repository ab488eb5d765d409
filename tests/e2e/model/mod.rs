//! Models: random operations of several clients, with crashes and expiries, beside a plain in-memory reference.

mod semaphore;
