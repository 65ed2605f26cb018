//! Windows and vouchers reach the chain once, and exactly.

mod support;

use std::time::Duration;

use alloy::primitives::B256;
use dividend_settlement::LaneTotals;
use dividend_settlement::claims::ClaimsFile;
use dividend_settlement::figures::figures;
use dividend_settlement::lanes::split;
use dividend_settlement::plan::{ClaimKey, Held, POST_SEAL_GAS, REDEEM_GAS};
use dividend_settlement::reconcile::{Questions, reconcile};
use dividend_settlement::records::WindowKey;

use support::seals::Window;
use support::{DEPTH, Home, World};

const JOURNAL: B256 = B256::repeat_byte(0xaa);
const WAIT: Duration = Duration::from_secs(30);

/// The models' slots with their shares, and the lanes that were metered.
fn questions(world: &World, totals: &LaneTotals) -> Questions {
    let (base, child) = (world.base.id, world.child.id);
    let mut asked = Questions::default();
    asked.models.extend([base, child]);
    asked.lanes.extend(totals.iter().filter_map(|(lane, _)| Some((lane.channel?, lane.model))));
    let key = |model, node, slot| ClaimKey { model, node, slot };
    asked.slots.insert(key(base, base, 0), (1_000_000, 700_000));
    asked.slots.insert(key(base, base, 1), (1_000_000, 300_000));
    asked.slots.insert(key(child, child, 0), (600_000, 1_000_000));
    asked.slots.insert(key(child, base, 0), (400_000, 700_000));
    asked.slots.insert(key(child, base, 1), (400_000, 300_000));
    asked
}

#[tokio::test]
async fn everything_sealed_is_settled_to_the_unit_and_only_once() {
    let world = World::start().await;
    world.top_up("escrow", 10_000_000).await;
    let (alice, bob) =
        (world.open_channel("alice", 5_000_000).await, world.open_channel("bob", 5_000_000).await);
    let home = Home::new();
    let windows = [
        Window::default().prepaid(world.base, 1_234_567_890_123).channel(
            &world,
            &alice,
            world.child,
            3_000_000_999,
            4_000_000_000,
        ),
        Window::default().prepaid(world.base, 999_999).prepaid(world.child, 77_777_777_777).channel(
            &world,
            &alice,
            world.child,
            1_500_001,
            9_000_000_000,
        ),
        Window::default().channel(&world, &bob, world.base, 2_000_000, 2_500_000).channel(
            &world,
            &bob,
            world.child,
            987_654_321,
            1_000_000_000,
        ),
    ];
    let mut totals = LaneTotals::default();
    for (number, window) in (0..).zip(&windows) {
        window.count(&mut totals);
        window.seal(&world, &home, JOURNAL, number);
    }

    let mut settler = home.settler(&world).await;
    let report = settler.run_once(WAIT).await.unwrap();
    assert!(report.is_settled(), "{report:?}");
    assert_eq!(report.windows_confirmed, 3);

    let asked = questions(&world, &totals);
    let at = world.height().await - DEPTH;
    let found = figures(&world.rpc(), &world.deployment, &asked, at).await.unwrap();
    let books = reconcile(&asked, &found, &totals);
    assert!(books.is_complete(), "{books:#?}");
    assert_eq!(books.lanes.len(), 5);
    for (lane, pico) in totals.iter() {
        let ppm = if lane.model == world.base.id { world.base.royalty_ppm } else { world.child.royalty_ppm };
        let expected = split(pico, ppm);
        let check = books
            .lanes
            .iter()
            .find(|check| (check.channel, check.model.as_b256()) == (lane.channel, lane.model));
        let check = check.expect("every metered lane is checked");
        assert_eq!(
            (check.charge_units, check.royalty_units),
            (expected.charge_units, expected.royalty_units)
        );
    }
    let royalty: u128 = books.lanes.iter().map(|lane| lane.royalty_units).sum();
    assert_eq!(found.total_revenue, royalty);
    assert_eq!(found.pool_balance, royalty);

    // Three windows and one batch: nothing else was sent, and nothing is when asked again.
    let sent = world.operator_nonce().await;
    let again = settler.run_once(WAIT).await.unwrap();
    assert!(again.is_settled(), "{again:?}");
    drop(settler);
    let mut restarted = home.settler(&world).await;
    assert!(restarted.run_once(WAIT).await.unwrap().is_settled());
    drop(restarted);

    // Even a lost ledger is refilled from seals and chain without sending anything.
    std::fs::remove_file(&home.paths.ledger).unwrap();
    let mut refilled = home.settler(&world).await;
    let report = refilled.run_once(WAIT).await.unwrap();
    assert!(report.is_settled(), "{report:?}");
    assert_eq!(world.operator_nonce().await, sent);
    let at = world.height().await - DEPTH;
    let after = figures(&world.rpc(), &world.deployment, &asked, at).await.unwrap();
    assert_eq!(
        (after.revenue, after.lanes, after.total_revenue),
        (found.revenue, found.lanes, found.total_revenue)
    );
}

#[tokio::test]
async fn claims_are_published_signed_and_never_above_the_voucher() {
    let world = World::start().await;
    let alice = world.open_channel("alice", 5_000_000).await;
    let home = Home::new();
    Window::default()
        .channel(&world, &alice, world.base, 3_000_000, 2_000_000)
        .seal(&world, &home, JOURNAL, 0);
    let mut settler = home.settler(&world).await;
    let report = settler.run_once(WAIT).await.unwrap();

    let file: ClaimsFile = serde_json::from_slice(&std::fs::read(home.claims(0)).unwrap()).unwrap();
    let [row] = file.rows.as_slice() else { panic!("one lane has a voucher: {file:?}") };
    assert_eq!(row.claim.cumulative_pico, 2_000_000);
    assert_eq!((file.journal, file.window, file.seal_digest), (JOURNAL, 0, row.claim.seal_digest));
    let digest = world.deployment.channels_domain().digest(&row.claim_message());
    assert_eq!(dividend_chain::key::recover(digest, &row.claim.signature).unwrap(), world.operator.address());

    assert_eq!(report.held.len(), 1);
    assert_eq!(report.held[0].reason, Held::AboveVoucher { excess_pico: 1_000_000 });
    assert!(report.is_settled(), "the rest is settled: {report:?}");
}

#[tokio::test]
async fn a_short_escrow_is_reported_and_paid_when_topped_up() {
    let world = World::start().await;
    world.top_up("first", 50).await;
    let home = Home::new();
    // 1000 µ$ at 12 % is a royalty of 120.
    Window::default().prepaid(world.base, 1_000_000_000).seal(&world, &home, JOURNAL, 0);
    let mut settler = home.settler(&world).await;
    let report = settler.run_once(WAIT).await.unwrap();
    assert_eq!((report.escrow_units, report.owed_units), (0, 70), "{report:?}");
    assert!(report.is_settled(), "an empty escrow can pay no more: {report:?}");

    world.top_up("second", 1_000).await;
    let report = settler.run_once(WAIT).await.unwrap();
    assert_eq!((report.escrow_units, report.owed_units), (930, 0), "{report:?}");
    let sent = world.operator_nonce().await;
    settler.run_once(WAIT).await.unwrap();
    assert_eq!(world.operator_nonce().await, sent);
}

#[tokio::test]
async fn a_bad_row_is_passed_over_once_and_the_others_are_paid() {
    let world = World::start().await;
    let (alice, bob) =
        (world.open_channel("alice", 5_000_000).await, world.open_channel("bob", 5_000_000).await);
    let home = Home::new();
    Window::default()
        .channel(&world, &alice, world.base, 3_000_000, 3_000_000)
        .channel(&world, &bob, world.base, 4_000_000, 4_000_000)
        .forged()
        .seal(&world, &home, JOURNAL, 0);
    let mut settler = home.settler(&world).await;
    let report = settler.run_once(WAIT).await.unwrap();
    assert!(report.is_settled(), "{report:?}");
    assert_eq!(
        report.held.iter().map(|held| (held.channel, &held.reason)).collect::<Vec<_>>(),
        [(bob.channel, &Held::Refused)]
    );

    let sent = world.operator_nonce().await;
    settler.run_once(WAIT).await.unwrap();
    assert_eq!(world.operator_nonce().await, sent, "the bad row is not tried again");

    // A higher, honest voucher heals the lane.
    Window::default().channel(&world, &bob, world.base, 1_000_000, 6_000_000).seal(&world, &home, JOURNAL, 1);
    let report = settler.run_once(WAIT).await.unwrap();
    assert!(report.is_settled() && report.held.is_empty(), "{report:?}");
    let mut asked = Questions::default();
    asked.lanes.extend([(alice.channel, world.base.id), (bob.channel, world.base.id)]);
    let at = world.height().await - DEPTH;
    let found = figures(&world.rpc(), &world.deployment, &asked, at).await.unwrap();
    assert_eq!(found.lanes.values().sum::<u128>(), 3 + 5);
}

#[tokio::test]
async fn a_short_deposit_pays_what_it_can_and_the_rest_later() {
    let world = World::start().await;
    let alice = world.open_channel("alice", 10).await;
    let home = Home::new();
    Window::default()
        .channel(&world, &alice, world.base, 8_000_000, 8_000_000)
        .channel(&world, &alice, world.child, 7_000_000, 7_000_000)
        .seal(&world, &home, JOURNAL, 0);
    let mut settler = home.settler(&world).await;
    let report = settler.run_once(WAIT).await.unwrap();
    assert!(report.is_settled(), "{report:?}");
    let missing: Vec<_> = report.held.iter().map(|held| &held.reason).collect();
    assert_eq!(missing, [&Held::NoDeposit { missing_units: 5 }]);

    world.deposit("more", &alice, 100).await;
    let report = settler.run_once(WAIT).await.unwrap();
    assert!(report.is_settled() && report.held.is_empty(), "{report:?}");
    let mut asked = Questions::default();
    asked.lanes.extend([(alice.channel, world.base.id), (alice.channel, world.child.id)]);
    let at = world.height().await - DEPTH;
    let found = figures(&world.rpc(), &world.deployment, &asked, at).await.unwrap();
    assert_eq!(found.lanes.values().sum::<u128>(), 15);
}

/// Every row is the first of its lane, its channel and, once, of its model: the dearest there is.
#[tokio::test]
async fn first_payments_stay_within_the_stated_gas() {
    let world = World::start().await;
    world.top_up("escrow", 10_000_000).await;
    let home = Home::new();
    let mut window = Window::default().prepaid(world.base, 9_000_000_000).prepaid(world.child, 9_000_000_000);
    for number in 0..8 {
        let payer = world.open_channel(&format!("payer {number}"), 5_000_000).await;
        let model = if number % 2 == 0 { world.base } else { world.child };
        window = window.channel(&world, &payer, model, 3_000_000_000, 3_000_000_000);
    }
    window.seal(&world, &home, JOURNAL, 0);
    let mut settler = home.settler(&world).await;
    assert!(settler.run_once(WAIT).await.unwrap().is_settled());

    let ledger = settler.ledger();
    let [batch] = <[_; 1]>::try_from(ledger.confirmed_batches().unwrap()).unwrap();
    let redeem_limit = REDEEM_GAS.limit(batch.rows.len());
    assert_eq!(batch.rows.len(), 8);
    assert!(
        batch.gas_used > 0 && batch.gas_used * 10 <= redeem_limit * 9,
        "{} of {redeem_limit}",
        batch.gas_used
    );
    let posted = ledger.window(WindowKey { journal: JOURNAL, window: 0 }).unwrap().unwrap();
    let post_limit = POST_SEAL_GAS.limit(2);
    assert!(
        posted.gas_used > 0 && posted.gas_used * 10 <= post_limit * 9,
        "{} of {post_limit}",
        posted.gas_used
    );
    println!(
        "redeemBatch, 8 first payments: {} gas; postSeal, 2 first rows: {}",
        batch.gas_used, posted.gas_used
    );
}
