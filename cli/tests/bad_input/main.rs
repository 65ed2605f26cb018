//! The table of bad input: whatever is wrong, the answer says what and what would be right, and nothing is charged or lost.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../support/mod.rs"]
mod support;

mod chain;
mod commands;
mod requests;
mod vouchers;

use support::Stack;
use support::client::{Client, journal};

/// One stack for all that needs one; its chain is rolled back last, because nothing works after that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_input_is_told_apart_and_costs_nothing() {
    let stack = Stack::start().await;
    let client = Client::with_demo_key(&stack);
    assert_eq!(client.chat("smollm2", 1).await.0, 200, "good input is answered");
    let before = (journal(&stack).await, client.credits().await);

    requests::are_refused(&stack, &client).await;
    let channel = vouchers::are_refused(&stack, &client).await;
    commands::are_refused_beside_a_stack(&stack).await;
    chain::of_another_deployment_is_refused(&stack).await;

    assert_eq!((journal(&stack).await, client.credits().await), before, "nothing was journaled or charged");
    let status = stack.run(&["pay", "status", "--channel", &channel]).await;
    assert_eq!(status["redeemed_units"], "0", "{status}");
    assert_eq!(client.chat("smollm2", 1).await.0, 200, "the gateway is none the worse");

    chain::that_was_rolled_back_is_refused(stack, client).await;
}
