//! A deployment is found again, and anything else at its addresses is refused.

use dividend_chain::bindings::{ILineageRegistry, IPaymentChannels, IUsageLedger};
use dividend_chain::testing::{Anvil, Deployed};
use dividend_chain::{Address, DeployParams, Deployment, Error, Intent, Rpc, Sender, eip712};
use dividend_config::Chain;

#[tokio::test]
async fn deploying_verifies_and_repeats_to_the_same_contracts() {
    let Deployed { sender, deployment, home, anvil } = Deployed::start().await.unwrap();
    let path = home.path().join("deployment.json");
    deployment.save(&path).unwrap();
    assert_eq!(Deployment::load(&path).unwrap(), deployment);
    let params = DeployParams {
        operator: sender.address(),
        token: None,
        withdrawal_delay_s: 60,
        withdrawal_window_s: 60,
    };
    let height = anvil.height().await.unwrap();
    assert_eq!(Deployment::deploy(&sender, &params).await.unwrap(), deployment);
    assert_eq!(anvil.height().await.unwrap(), height, "a repeated deployment sends nothing");
}

#[tokio::test]
async fn the_contracts_hash_messages_as_this_crate_does() {
    let Deployed { deployment, anvil, .. } = Deployed::start().await.unwrap();
    let rpc = anvil.rpc();
    let channels = deployment.contracts.payment_channels;
    let (channel, lane) = ([1; 32].into(), [2; 32].into());
    let voucher = eip712::Voucher { channel, lane, maxCumulative: u128::MAX, expiry: u64::MAX };
    let theirs = IPaymentChannels::Voucher { channel, lane, maxCumulative: u128::MAX, expiry: u64::MAX };
    let call = IPaymentChannels::voucherDigestCall { voucher: theirs };
    assert_eq!(rpc.call(channels, &call).await.unwrap(), deployment.channels_domain().digest(&voucher));
    let claim = eip712::Claim { channel, lane, cumulative: 7, sealDigest: [3; 32].into() };
    let theirs = IPaymentChannels::Claim { channel, lane, cumulative: 7, sealDigest: [3; 32].into() };
    let call = IPaymentChannels::claimDigestCall { claim: theirs };
    assert_eq!(rpc.call(channels, &call).await.unwrap(), deployment.channels_domain().digest(&claim));
    let separator = rpc.call(channels, &IPaymentChannels::domainSeparatorCall {}).await.unwrap();
    assert_eq!(separator, deployment.channels_domain().separator());
    let separator =
        rpc.call(deployment.contracts.usage_ledger, &IUsageLedger::domainSeparatorCall {}).await.unwrap();
    assert_eq!(separator, deployment.ledger_domain().separator());
}

#[tokio::test]
async fn another_chain_and_another_contract_are_refused_by_name() {
    let Deployed { sender, deployment, anvil, .. } = Deployed::start().await.unwrap();
    let swapped = {
        let mut swapped = deployment.clone();
        swapped.contracts.payment_channels = deployment.contracts.usage_ledger;
        swapped
    };
    let error = swapped.verify(&anvil.rpc()).await.unwrap_err();
    assert!(matches!(&error, Error::WrongContract { name, .. } if name == "RoyaltyPool"), "{error}");
    let empty = {
        let mut empty = deployment.clone();
        empty.contracts.usage_ledger = sender.address();
        empty
    };
    let error = empty.verify(&anvil.rpc()).await.unwrap_err();
    assert!(matches!(&error, Error::WrongContract { name, .. } if name == "UsageLedger"), "{error}");
    let error = Deployment { chain_id: 1, ..deployment.clone() }.verify(&anvil.rpc()).await.unwrap_err();
    assert!(matches!(error, Error::WrongChain { what: "chain id", .. }), "{error}");
    let stranger = Anvil::start();
    let error = deployment.verify(&stranger.rpc()).await.unwrap_err();
    assert!(
        matches!(error, Error::WrongChain { what: "genesis block", .. } | Error::WrongContract { .. }),
        "{error}"
    );
}

#[tokio::test]
async fn a_dead_endpoint_fails_over_and_a_lonely_one_is_retryable() {
    let anvil = Anvil::start();
    let dead = "http://127.0.0.1:1".to_owned();
    let settings = Chain { rpc_urls: vec![dead.clone(), anvil.url().into()], ..anvil.settings() };
    assert_eq!(Rpc::connect(&settings).unwrap().chain_id().await.unwrap(), 31_337);
    let lonely = Rpc::connect(&Chain { rpc_urls: vec![dead.clone()], ..anvil.settings() }).unwrap();
    let error = lonely.chain_id().await.unwrap_err();
    assert!(error.is_retryable() && error.to_string().contains(&dead), "{error}");
    let bad = Chain { rpc_urls: vec!["ftp://host".into()], ..anvil.settings() };
    assert!(matches!(Rpc::connect(&bad), Err(Error::BadEndpoint { .. })));
}

#[tokio::test]
async fn a_custom_error_is_told_with_its_values() {
    let Deployed { sender, deployment, anvil: _anvil, .. } = Deployed::start().await.unwrap();
    let call = ILineageRegistry::setChampionCall { trackId: [7; 32].into(), id: [8; 32].into() };
    let intent = Intent::call("champion", deployment.contracts.lineage_registry, &call);
    let error = sender.send(intent).await.unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, Error::Reverted(_)) && text.contains("UnknownTrack(0x0707"), "{text}");
    assert!(!sender.knows("champion").unwrap(), "a refused intent leaves its id free");
}

#[tokio::test]
async fn a_token_that_is_none_is_refused_before_anything_is_sent() {
    let deployed = Deployed::start().await.unwrap();
    // A block is mined for each transaction.
    let before = deployed.anvil.height().await.unwrap();
    let home = tempfile::tempdir().unwrap();
    let rpc = deployed.anvil.rpc();
    let key = deployed.anvil.rich_key();
    let sender = Sender::open(rpc, key, home.path(), &deployed.anvil.settings()).await.unwrap();
    for token in [Address::repeat_byte(9), deployed.deployment.contracts.lineage_registry] {
        let params = DeployParams {
            operator: sender.address(),
            token: Some(token),
            withdrawal_delay_s: 60,
            withdrawal_window_s: 60,
        };
        let error = Deployment::deploy(&sender, &params).await.unwrap_err();
        assert!(matches!(error, Error::BadToken { token: found, .. } if found == token), "{error}");
    }
    assert_eq!(deployed.anvil.height().await.unwrap(), before);
}
