//! Embeddings: the real MiniLM against reference vectors, and small BERTs, sound and spoiled.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod hostile;
mod minilm;
mod service;
mod tiny;
