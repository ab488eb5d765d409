//! Pipes beside one in memory.
