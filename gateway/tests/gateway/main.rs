//! The gateway from the outside: sockets, a real journal, a real key store, and a backend without a model.

mod admin;
mod answers;
mod channels;
mod metering;
mod refusals;
mod shapes;
mod support;
