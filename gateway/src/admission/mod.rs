//! The steps before a call is opened, each a proof that the one before it was taken.
//!
//! [`Authenticated`] → `Admitted` → `Routed` → `Reserved`. The fields are private to the steps, so none can be
//! made but by its step. What a call may cost at most is known only once its model, and with it price and tokenizer,
//! is; so the counted limits are taken at admission, and money and tokens are reserved after routing.

mod authenticate;
mod reserve;
mod route;

pub(crate) use authenticate::Authenticated;
pub(crate) use route::{Target, price};

use authenticate::Admitted;
use route::Routed;
