//! End to end.

mod map;
