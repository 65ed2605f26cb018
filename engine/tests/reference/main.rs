//! The packed backend beside llama.cpp: what `fixtures/reference.py` recorded of it, within tolerances that
//! are measured and said here.

mod formats;
mod greedy;
mod perplexity;
mod support;

#[path = "../packed/requantise.rs"]
mod requantise;
