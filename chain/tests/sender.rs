//! The sender sends once, whatever happens between.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

use dividend_chain::bindings::IDollar;
use dividend_chain::testing::Deployed;
use dividend_chain::{Address, Error, Intent, Key, Sender, State, U256};
use dividend_config::{Chain, Finality};

fn mint(deployed: &Deployed, id: &str, to: Address, units: u64) -> Intent {
    Intent::call(id, deployed.deployment.token, &IDollar::mintCall { to, amount: U256::from(units) })
}

async fn balance(deployed: &Deployed, account: Address) -> u64 {
    let call = IDollar::balanceOfCall { account };
    deployed.anvil.rpc().call(deployed.deployment.token, &call).await.unwrap().to()
}

#[tokio::test]
async fn an_intent_sent_twice_pays_once_and_an_id_names_one_transaction() {
    let deployed = Deployed::start().await.unwrap();
    let to = Key::generate().address();
    let first = deployed.sender.send(mint(&deployed, "pay/1", to, 5)).await.unwrap();
    let again = deployed.sender.send(mint(&deployed, "pay/1", to, 5)).await.unwrap();
    assert_eq!(first, again);
    assert_eq!(balance(&deployed, to).await, 5);
    let reused = deployed.sender.send(mint(&deployed, "pay/1", to, 6)).await.unwrap_err();
    assert!(matches!(reused, Error::IntentReused { .. }), "{reused}");
}

#[tokio::test]
async fn a_restart_finishes_what_was_stored_and_a_second_sender_is_locked_out() {
    let deployed = Deployed::start().await.unwrap();
    let key = Key::generate();
    let to = Key::generate().address();
    let sender = deployed.sender_for(&key, 0).await.unwrap();
    let settings = deployed.anvil.settings();
    let open = || Sender::open(deployed.anvil.rpc(), key.clone(), deployed.home.path(), &settings);
    assert!(matches!(open().await.err(), Some(Error::Locked { .. })));
    deployed.anvil.automine(false).await.unwrap();
    sender.submit(vec![mint(&deployed, "a", to, 1), mint(&deployed, "b", to, 2)]).await.unwrap();
    drop(sender);
    // The node forgets both, as one that restarts does.
    let _: () = deployed.anvil.rpc().request("anvil_dropAllTransactions", ()).await.unwrap();
    deployed.anvil.automine(true).await.unwrap();
    let sender = open().await.unwrap();
    assert_eq!(sender.state("a").unwrap(), State::Pending);
    sender.tick().await.unwrap();
    sender.mined("a").await.unwrap();
    sender.mined("b").await.unwrap();
    assert_eq!(balance(&deployed, to).await, 3);
}

#[tokio::test]
async fn a_stuck_transaction_is_replaced_at_a_higher_fee() {
    let deployed = Deployed::start().await.unwrap();
    let key = Key::generate();
    let to = Key::generate().address();
    drop(deployed.sender_for(&key, 0).await.unwrap());
    let eager = Chain { fee_bump_after_ms: 0, ..deployed.anvil.settings() };
    let sender = Sender::open(deployed.anvil.rpc(), key, deployed.home.path(), &eager).await.unwrap();
    deployed.anvil.automine(false).await.unwrap();
    sender.submit(vec![mint(&deployed, "slow", to, 9)]).await.unwrap();
    for _ in 0..3 {
        sender.tick().await.unwrap();
    }
    let status: serde_json::Value = deployed.anvil.rpc().request("txpool_status", ()).await.unwrap();
    assert_eq!(status["pending"], "0x1", "replacements share one nonce: {status}");
    deployed.anvil.mine(1).await.unwrap();
    sender.mined("slow").await.unwrap();
    assert_eq!(balance(&deployed, to).await, 9);
}

#[tokio::test]
async fn a_reorganised_transaction_is_sent_again_and_finality_ends_it() {
    let deployed = Deployed::start().await.unwrap();
    let key = Key::generate();
    let to = Key::generate().address();
    drop(deployed.sender_for(&key, 0).await.unwrap());
    let settings = Chain { finality: Finality::Depth(3), ..deployed.anvil.settings() };
    let sender = Sender::open(deployed.anvil.rpc(), key, deployed.home.path(), &settings).await.unwrap();
    let before = sender.send(mint(&deployed, "pay", to, 4)).await.unwrap();
    deployed.anvil.rollback(1).await.unwrap();
    assert_eq!(balance(&deployed, to).await, 0);
    deployed.anvil.mine(1).await.unwrap();
    sender.tick().await.unwrap();
    let after = sender.mined("pay").await.unwrap();
    assert_ne!(before.block_hash, after.block_hash);
    assert_eq!(balance(&deployed, to).await, 4);
    deployed.anvil.mine(3).await.unwrap();
    let final_one = sender.finalized("pay").await.unwrap();
    assert_eq!(final_one, sender.send(mint(&deployed, "pay", to, 4)).await.unwrap());
    assert!(matches!(sender.state("pay").unwrap(), State::Final(_)));
}

#[tokio::test]
async fn a_revert_on_the_chain_is_the_result_for_ever() {
    let deployed = Deployed::start().await.unwrap();
    let to = Key::generate().address();
    let call = IDollar::transferCall { to, value: U256::from(1) };
    let broke = deployed.sender_for(&Key::generate(), 0).await.unwrap();
    let forced = Intent { gas: Some(100_000), ..Intent::call("x", deployed.deployment.token, &call) };
    let error = broke.send(forced.clone()).await.unwrap_err();
    assert!(error.to_string().contains("ERC20InsufficientBalance"), "{error}");
    assert_eq!(broke.send(forced).await.unwrap_err().to_string(), error.to_string());
}

#[tokio::test]
async fn a_foreign_nonce_and_a_forgotten_past_are_refused() {
    let deployed = Deployed::start().await.unwrap();
    let key = Key::generate();
    let sender = deployed.sender_for(&key, 0).await.unwrap();
    let settings = Chain { finality: Finality::Depth(0), ..deployed.anvil.settings() };
    drop(sender);
    let open = || Sender::open(deployed.anvil.rpc(), key.clone(), deployed.home.path(), &settings);
    let sender = open().await.unwrap();
    sender.send(mint(&deployed, "one", key.address(), 1)).await.unwrap();
    sender.finalized("one").await.unwrap();
    drop(sender);
    let set = |nonce: u64| {
        let params = (key.address(), U256::from(nonce));
        let rpc = deployed.anvil.rpc();
        async move { rpc.request::<_, ()>("anvil_setNonce", params).await.unwrap() }
    };
    set(7).await;
    assert!(matches!(open().await.err(), Some(Error::ForeignNonce { expected: 1, found: 7, .. })));
    deployed.anvil.rollback(1).await.unwrap();
    assert!(matches!(open().await.err(), Some(Error::NonceBehind { expected: 1, found: 0, .. })));
}

#[tokio::test]
async fn a_nonce_taken_by_another_program_is_found_when_that_is_final() {
    let deployed = Deployed::start().await.unwrap();
    let key = Key::generate();
    drop(deployed.sender_for(&key, 0).await.unwrap());
    let settings = Chain { finality: Finality::Depth(2), ..deployed.anvil.settings() };
    let sender =
        Sender::open(deployed.anvil.rpc(), key.clone(), deployed.home.path(), &settings).await.unwrap();
    deployed.anvil.automine(false).await.unwrap();
    sender.submit(vec![mint(&deployed, "mine", key.address(), 1)]).await.unwrap();
    let rpc = deployed.anvil.rpc();
    let _: () = rpc.request("anvil_dropAllTransactions", ()).await.unwrap();
    let _: () = rpc.request("anvil_setNonce", (key.address(), U256::from(1))).await.unwrap();
    deployed.anvil.mine(1).await.unwrap();
    sender.tick().await.unwrap();
    deployed.anvil.mine(3).await.unwrap();
    sender.tick().await.expect("it may be that only the receipt is late");
    deployed.anvil.mine(1).await.unwrap();
    let error = sender.tick().await.unwrap_err();
    assert!(matches!(error, Error::ForeignNonce { expected: 0, found: 1, .. }), "{error}");
}

#[tokio::test]
async fn more_gas_than_a_transaction_may_use_is_refused_before_sending() {
    let deployed = Deployed::start().await.unwrap();
    let heavy = Intent { gas: Some(20_000_000), ..mint(&deployed, "heavy", Address::ZERO, 1) };
    let error = deployed.sender.send(heavy).await.unwrap_err();
    assert!(matches!(error, Error::GasCap { needed: 20_000_000, .. }), "{error}");
}
