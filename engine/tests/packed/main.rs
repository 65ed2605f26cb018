//! The packed backend from outside: a real model and small synthetic ones of every architecture, against
//! candle's forward passes and against themselves in every way of computing the same.

mod adapters;
mod emulated;
mod equality;
mod golden;
mod lifecycle;
mod naive;
mod peft;
mod reference;

mod requantise;
mod support;
mod tiny;
