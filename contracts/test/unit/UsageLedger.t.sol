// SPDX-License-Identifier: Apache-2.0 OR MIT
pragma solidity ^0.8.28;

import {IUsageLedger} from "src/interfaces/IUsageLedger.sol";
import {UsageLedger} from "src/UsageLedger.sol";
import {PickyDollar} from "../helpers/PickyDollar.sol";
import {System} from "../helpers/System.sol";

contract UsageLedgerTest is System {
    bytes32 private constant JOURNAL = keccak256("journal");
    IUsageLedger.Fund private constant ESCROW = IUsageLedger.Fund.Escrow;
    IUsageLedger.Fund private constant BOND = IUsageLedger.Fund.Bond;

    bytes32 private model;
    bytes32 private other;

    function setUp() public {
        deploy();
        model = register(base("model"));
        other = register(base("other"));
    }

    // ------------------------------------------------------------------- posting

    function testPostsAndPaysTheRoyaltyOfTheCumulative() public {
        topUp(ESCROW, 1_000);
        eq(post(JOURNAL, 0, model, 15 * PICO + 999_999), 1, "floor(15 / 10)");
        eq(post(JOURNAL, 1, model, 4 * PICO + 1), 1, "floor(20 / 10) in all");
        eq(ledger.lane(model).accruedPico, 20 * PICO, "accrued");
        eq(ledger.lane(model).paid, 2, "paid");
        eq(ledger.balanceOf(ESCROW), 998, "escrow");
        eq(pool.revenue(model), 2, "pool");
        eq(ledger.totalOwed(), 0, "owed");
    }

    function testKeepsTheRootsAndTellsThem() public {
        IUsageLedger.SealRow memory r = sealRow(model, 7);
        vm.expectEmit(address(ledger));
        emit IUsageLedger.SealPosted(JOURNAL, 0, model, r.prepaidRoot, 7, r.channelRoot, 5, 7);
        post(JOURNAL, 0, model, 7);
        bytes32 sealHash = keccak256(abi.encode(r.prepaidRoot, r.prepaidSum, r.channelRoot, r.channelSum));
        eq(ledger.sealOf(JOURNAL, 0, model), sealHash, "seal");
        eq(ledger.sealOf(JOURNAL, 1, model), 0, "not posted");
    }

    function testOnlyTheOperatorPosts() public {
        vm.expectRevert(abi.encodeWithSelector(IUsageLedger.NotOperator.selector, address(this)));
        ledger.postSeal(JOURNAL, 0, new IUsageLedger.SealRow[](0), true);
    }

    function testWindowsOfAJournalAreContiguous() public {
        outOfOrder(JOURNAL, 1, 0);
        post(JOURNAL, 0, model, 1);
        outOfOrder(JOURNAL, 0, 1);
        outOfOrder(JOURNAL, 2, 1);
        post(JOURNAL, 1, model, 1);
        post(keccak256("another"), 0, model, 1);
        eq(ledger.nextWindow(JOURNAL), 2, "next");
    }

    function testAWindowComesInChunks() public {
        postChunk(0, model, 10 * PICO, false);
        outOfOrder(JOURNAL, 1, 0);
        postChunk(0, other, 20 * PICO, true);
        eq(ledger.nextWindow(JOURNAL), 1, "next");
        eq(ledger.lane(model).accruedPico, 10 * PICO, "first");
        eq(ledger.lane(other).accruedPico, 20 * PICO, "second");
    }

    function testARowIsWrittenOnce() public {
        postChunk(0, model, 10 * PICO, false);
        vm.expectEmit(address(ledger));
        emit IUsageLedger.RowSkipped(JOURNAL, 0, model, 0, IUsageLedger.SkipReason.AlreadyPosted);
        postChunk(0, model, 99 * PICO, false);
        eq(ledger.lane(model).accruedPico, 10 * PICO, "unchanged");
        IUsageLedger.SealRow[] memory rows = new IUsageLedger.SealRow[](2);
        (rows[0], rows[1]) = (sealRow(other, 1), sealRow(other, 2));
        vm.prank(operator);
        ledger.postSeal(JOURNAL, 0, rows, true);
        eq(ledger.lane(other).accruedPico, 1, "the first of two in one call");
    }

    function testSkipsAnUnknownModelAndAnOverflow() public {
        vm.expectEmit(address(ledger));
        emit IUsageLedger.RowSkipped(JOURNAL, 0, bytes32(0), 0, IUsageLedger.SkipReason.UnknownModel);
        postChunk(0, 0, 1, false);
        postChunk(0, model, type(uint128).max, true);
        vm.expectEmit(address(ledger));
        emit IUsageLedger.RowSkipped(JOURNAL, 1, model, 0, IUsageLedger.SkipReason.SumOverflow);
        postChunk(1, model, 1, true);
        eq(ledger.owed(model), type(uint128).max / PICO / 10, "owed");
        eq(ledger.sealOf(JOURNAL, 1, model), 0, "not written");
    }

    function testAnEmptyWindowCloses() public {
        vm.prank(operator);
        ledger.postSeal(JOURNAL, 0, new IUsageLedger.SealRow[](0), true);
        eq(ledger.nextWindow(JOURNAL), 1, "next");
    }

    // --------------------------------------------------------------------- owing

    function testWhatTheEscrowLacksIsOwedAndPaidLater() public {
        topUp(ESCROW, 30);
        eq(post(JOURNAL, 0, model, 1_000 * PICO), 30, "what there is");
        eq(post(JOURNAL, 1, other, 500 * PICO), 0, "nothing left");
        eq(ledger.owed(model), 70, "owed");
        eq(ledger.owed(other), 50, "owed to the other");
        eq(ledger.totalOwed(), 120, "owed in all");
        eq(ledger.settleOwed(model), 0, "nothing to pay with");
        topUp(ESCROW, 60);
        vm.prank(address(0xBAD));
        eq(ledger.settleOwed(other), 50, "anyone settles");
        eq(ledger.settleOwed(model), 10, "the rest");
        eq(ledger.totalOwed(), 60, "still owed");
        eq(pool.revenue(model), 40, "pool");
        eq(pool.revenue(other), 50, "pool of the other");
        topUp(ESCROW, 1_000);
        eq(ledger.settleOwed(model), 60, "all");
        eq(ledger.settleOwed(model), 0, "once");
        eq(ledger.totalOwed(), 0, "nothing owed");
    }

    function testTheBondPaysNoRoyalty() public {
        topUp(BOND, 1_000);
        eq(post(JOURNAL, 0, model, 1_000 * PICO), 0, "paid");
        eq(ledger.balanceOf(BOND), 1_000, "bond");
    }

    function testSettlingTheUnknownReverts() public {
        vm.expectRevert(abi.encodeWithSelector(IUsageLedger.UnknownModel.selector, bytes32(0)));
        ledger.settleOwed(0);
        eq(ledger.owed(0), 0, "owed");
    }

    // --------------------------------------------------------------- withdrawals

    function testTheOperatorTakesOnlyWhatIsNotOwed() public {
        topUp(ESCROW, 10);
        post(JOURNAL, 0, model, 1_000 * PICO);
        topUp(ESCROW, 100);
        vm.expectRevert(abi.encodeWithSelector(IUsageLedger.AboveBalance.selector, 11, 10));
        vm.prank(operator);
        ledger.requestWithdrawal(ESCROW, 11);
        vm.prank(operator);
        ledger.requestWithdrawal(ESCROW, 10);
        post(JOURNAL, 1, other, 500 * PICO);
        eq(ledger.totalOwed(), 90, "the second was paid, the first is owed");
        vm.warp(block.timestamp + DELAY);
        vm.prank(operator);
        eq(ledger.finalizeWithdrawal(ESCROW), 0, "nothing above what is owed");
        eq(ledger.settleOwed(model), 50, "it is still there for the model");
    }

    function testWithdrawalWaitsAndLapses() public {
        topUp(BOND, 100);
        vm.prank(operator);
        ledger.requestWithdrawal(BOND, 100);
        uint64 ready = uint64(block.timestamp) + DELAY;
        finalizeReverts(BOND, abi.encodeWithSelector(IUsageLedger.WithdrawalNotReady.selector, ready));
        finalizeReverts(ESCROW, abi.encodeWithSelector(IUsageLedger.NoWithdrawal.selector, ESCROW));
        vm.warp(ready + WINDOW + 1);
        finalizeReverts(BOND, abi.encodeWithSelector(IUsageLedger.WithdrawalLapsed.selector, ready + WINDOW));
        vm.prank(operator);
        ledger.requestWithdrawal(BOND, 60);
        vm.warp(block.timestamp + DELAY);
        vm.prank(operator);
        eq(ledger.finalizeWithdrawal(BOND), 60, "taken");
        eq(token.balanceOf(operator), 60, "operator");
        eq(ledger.balanceOf(BOND), 40, "left");
        finalizeReverts(BOND, abi.encodeWithSelector(IUsageLedger.NoWithdrawal.selector, BOND));
    }

    function testOnlyTheOperatorWithdraws() public {
        vm.expectRevert(abi.encodeWithSelector(IUsageLedger.NotOperator.selector, address(this)));
        ledger.requestWithdrawal(ESCROW, 0);
        vm.expectRevert(abi.encodeWithSelector(IUsageLedger.NotOperator.selector, address(this)));
        ledger.finalizeWithdrawal(ESCROW);
    }

    function testReentrancyFromATransferGainsNothing() public {
        PickyDollar picky = new PickyDollar();
        vm.etch(address(token), address(picky).code);
        post(JOURNAL, 0, model, 1_000 * PICO);
        topUp(ESCROW, 150);
        topUp(BOND, 500);
        PickyDollar(address(token)).callBack(address(ledger), abi.encodeCall(ledger.settleOwed, (model)));
        eq(ledger.settleOwed(model), 100, "once");
        eq(pool.revenue(model), 100, "pool");
        eq(ledger.balanceOf(ESCROW), 50, "escrow");
        eq(token.balanceOf(address(ledger)), 550, "tokens");
    }

    function testConstructorLimits() public {
        vm.expectRevert(IUsageLedger.ZeroDuration.selector);
        new UsageLedger(address(token), address(registry), address(pool), operator, 0, 1);
        vm.expectRevert(IUsageLedger.ZeroAddress.selector);
        new UsageLedger(address(0), address(registry), address(pool), operator, 1, 1);
    }

    // ------------------------------------------------------------------- helpers

    function postChunk(uint64 window, bytes32 m, uint128 sum, bool last) private {
        IUsageLedger.SealRow[] memory rows = new IUsageLedger.SealRow[](1);
        rows[0] = sealRow(m, sum);
        vm.prank(operator);
        ledger.postSeal(JOURNAL, window, rows, last);
    }

    function outOfOrder(bytes32 journal, uint64 window, uint64 expected) private {
        vm.expectRevert(abi.encodeWithSelector(IUsageLedger.WindowOutOfOrder.selector, journal, window, expected));
        vm.prank(operator);
        ledger.postSeal(journal, window, new IUsageLedger.SealRow[](0), true);
    }

    function finalizeReverts(IUsageLedger.Fund fund, bytes memory reason) private {
        vm.expectRevert(reason);
        vm.prank(operator);
        ledger.finalizeWithdrawal(fund);
    }
}
