//! The dashboard over fixed moments, over a real journal, and in a real browser.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod browser;
mod fixture;
mod live;
mod pages;
mod webdriver;
