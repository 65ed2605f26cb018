//! The endpoints that compute: one function from request to answer, and the call that it opens.

mod call;
mod generate;
mod stream;

pub(crate) use call::{Answering, Call, Ending, Step};
pub(crate) use generate::{generate, parse_chat, parse_completion, parse_embedding};
