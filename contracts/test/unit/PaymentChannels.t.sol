// SPDX-License-Identifier: Apache-2.0 OR MIT
pragma solidity ^0.8.28;

import {ILineageRegistry} from "src/interfaces/ILineageRegistry.sol";
import {IPaymentChannels} from "src/interfaces/IPaymentChannels.sol";
import {PaymentChannels} from "src/PaymentChannels.sol";
import {PickyDollar} from "../helpers/PickyDollar.sol";
import {System} from "../helpers/System.sol";

contract PaymentChannelsTest is System {
    bytes32 private model;
    bytes32 private channel;

    function setUp() public {
        deploy();
        model = register(base("model"));
        channel = open(payer, 0, 1_000_000);
    }

    // ----------------------------------------------------------------- channels

    function testOpeningFixesTheTerms() public view {
        IPaymentChannels.Channel memory c = channels.channel(channel);
        eq(c.payer, payer, "payer");
        eq(c.signer, signer, "signer");
        eq(c.deposit, 1_000_000, "deposit");
        eq(
            channel,
            keccak256(abi.encode("dividend.channel", block.chainid, address(channels), payer, signer, bytes32(0))),
            "id by its definition"
        );
    }

    function testOpeningAgainOnlyDeposits() public {
        eq(open(payer, 0, 5), channel, "same id");
        eq(channels.channel(channel).deposit, 1_000_005, "deposit");
    }

    function testAnEmptyOpeningCannotBlockAnother() public {
        vm.prank(address(0xBAD));
        bytes32 id = channels.open(IPaymentChannels.Config(payer, signer, bytes32(uint256(9))), 0);
        eq(open(payer, bytes32(uint256(9)), 7), id, "id");
        eq(channels.channel(id).deposit, 7, "deposit");
    }

    function testOpeningNeedsPayerAndSigner() public {
        vm.expectRevert(IPaymentChannels.ZeroAddress.selector);
        channels.open(IPaymentChannels.Config(address(0), signer, 0), 0);
        vm.expectRevert(IPaymentChannels.ZeroAddress.selector);
        channels.open(IPaymentChannels.Config(payer, address(0), 0), 0);
    }

    function testDepositToTheUnknownReverts() public {
        vm.expectRevert(abi.encodeWithSelector(IPaymentChannels.UnknownChannel.selector, bytes32(0)));
        channels.deposit(0, 1);
    }

    function testConstructorLimits() public {
        vm.expectRevert(IPaymentChannels.ZeroDuration.selector);
        new PaymentChannels(address(token), address(registry), address(pool), operator, 0, 1);
        vm.expectRevert(IPaymentChannels.ZeroDuration.selector);
        new PaymentChannels(address(token), address(registry), address(pool), operator, 1, 0);
        vm.expectRevert(IPaymentChannels.ZeroAddress.selector);
        new PaymentChannels(address(token), address(registry), address(pool), address(0), 1, 1);
    }

    // ---------------------------------------------------------------- redeeming

    function testRedeemSplitsAndFloorsTheCumulative() public {
        (uint256 royalty, uint256 part) = redeem(row(channel, model, 15 * PICO + 999_999));
        eq(royalty, 1, "floor(15 / 10)");
        eq(part, 14, "rest");
        (royalty, part) = redeem(row(channel, model, 29 * PICO));
        eq(royalty, 1, "floor(29 / 10) in all");
        eq(part, 13, "rest");
        eq(channels.lanePaid(channel, model), 29, "lane");
        eq(channels.earnings(), 27, "earnings");
        eq(pool.revenue(model), 2, "pool");
        eq(token.balanceOf(address(pool)), 2, "pool's tokens");
    }

    function testReplayChangesNothing() public {
        IPaymentChannels.Row memory r = row(channel, model, 100 * PICO);
        IPaymentChannels.Row[] memory twice = new IPaymentChannels.Row[](2);
        (twice[0], twice[1]) = (r, r);
        channels.redeemBatch(twice);
        eq(channels.lanePaid(channel, model), 100, "once");
        skipped(r, IPaymentChannels.SkipReason.NothingOwed);
        skipped(row(channel, model, 99 * PICO), IPaymentChannels.SkipReason.NothingOwed);
        skipped(row(channel, model, 100 * PICO + 999_999), IPaymentChannels.SkipReason.NothingOwed);
        eq(pool.revenue(model), 10, "pool");
    }

    function testABadRowDoesNotStopTheOthers() public {
        IPaymentChannels.Row[] memory rows = new IPaymentChannels.Row[](3);
        rows[0] = row(channel, model, 10 * PICO);
        rows[0].voucherSignature = "";
        rows[1] = row(keccak256("none"), model, 10 * PICO);
        rows[2] = row(channel, model, 20 * PICO);
        (uint256 royalty, uint256 part) = channels.redeemBatch(rows);
        eq(royalty + part, 20, "the good row");
    }

    function testEachReasonToSkip() public {
        uint64 soon = uint64(block.timestamp + 1);
        IPaymentChannels.Row memory r = row(keccak256("none"), model, PICO);
        skipped(r, IPaymentChannels.SkipReason.UnknownChannel);
        skipped(row(channel, keccak256("none"), PICO), IPaymentChannels.SkipReason.UnknownLane);
        r = row(channel, model, PICO);
        r.claim.lane = keccak256("other");
        skipped(r, IPaymentChannels.SkipReason.RowMismatch);
        r = row(channel, model, PICO);
        r.claim.channel = keccak256("other");
        skipped(r, IPaymentChannels.SkipReason.RowMismatch);
        skipped(row(channel, model, 2 * PICO, PICO, soon), IPaymentChannels.SkipReason.ClaimAboveVoucher);
        r = row(channel, model, PICO);
        r.voucherSignature = sign(OPERATOR_KEY, channels.voucherDigest(r.voucher));
        skipped(r, IPaymentChannels.SkipReason.BadVoucherSignature);
        r.voucherSignature = new bytes(65);
        skipped(r, IPaymentChannels.SkipReason.BadVoucherSignature);
        r = row(channel, model, PICO);
        r.claimSignature = sign(SIGNER_KEY, channels.claimDigest(r.claim));
        skipped(r, IPaymentChannels.SkipReason.BadClaimSignature);
        r = row(channel, model, PICO);
        r.voucher.maxCumulative += 1;
        skipped(r, IPaymentChannels.SkipReason.BadVoucherSignature);
        r = row(channel, model, PICO);
        r.claim.sealDigest = 0;
        skipped(r, IPaymentChannels.SkipReason.BadClaimSignature);
        skipped(row(channel, model, 0), IPaymentChannels.SkipReason.NothingOwed);
        bytes32 empty = open(payer, "empty", 0);
        skipped(row(empty, model, PICO), IPaymentChannels.SkipReason.NoDeposit);
    }

    function testExpiry() public {
        IPaymentChannels.Row memory r = row(channel, model, PICO, PICO, uint64(block.timestamp));
        vm.warp(block.timestamp + 1);
        skipped(r, IPaymentChannels.SkipReason.Expired);
        vm.warp(block.timestamp - 1);
        redeem(r);
        eq(channels.lanePaid(channel, model), 1, "in its last second");
    }

    function testAVoucherOfAnotherChainOrContractIsWorthless() public {
        IPaymentChannels.Row memory r = row(channel, model, PICO);
        vm.chainId(5);
        skipped(r, IPaymentChannels.SkipReason.BadVoucherSignature);
        vm.chainId(31337);
        PaymentChannels twin =
            new PaymentChannels(address(token), address(registry), address(pool), operator, DELAY, WINDOW);
        r.voucherSignature = sign(SIGNER_KEY, twin.voucherDigest(r.voucher));
        skipped(r, IPaymentChannels.SkipReason.BadVoucherSignature);
    }

    function testHighSIsRefused() public {
        IPaymentChannels.Row memory r = row(channel, model, PICO);
        (uint8 v, bytes32 rr, bytes32 s) = vm.sign(SIGNER_KEY, channels.voucherDigest(r.voucher));
        uint256 n = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141;
        r.voucherSignature = abi.encodePacked(rr, bytes32(n - uint256(s)), v == 27 ? uint8(28) : uint8(27));
        skipped(r, IPaymentChannels.SkipReason.BadVoucherSignature);
    }

    function testAShortDepositPaysInPart() public {
        bytes32 id = open(payer, "short", 7);
        IPaymentChannels.Row memory r = row(id, model, 100 * PICO);
        (uint256 royalty, uint256 part) = redeem(r);
        eq(royalty + part, 7, "all there is");
        skipped(r, IPaymentChannels.SkipReason.NoDeposit);
        open(payer, "short", 60);
        (royalty, part) = redeem(r);
        eq(royalty + part, 60, "the rest as it comes");
        open(payer, "short", 60);
        redeem(r);
        eq(channels.lanePaid(id, model), 100, "never above the target");
        eq(channels.channel(id).paid, 100, "channel");
        eq(pool.revenue(model), 10, "royalty of the whole");
    }

    function testLanesShareADeposit() public {
        bytes32 other = register(base("other"));
        bytes32 id = open(payer, "two", 10);
        redeem(row(id, model, 8 * PICO));
        redeem(row(id, other, 8 * PICO));
        eq(channels.lanePaid(id, model), 8, "first");
        eq(channels.lanePaid(id, other), 2, "what was left");
    }

    function testRateOfZeroAndTheLargestCumulative() public {
        bytes32 free = register(freeBase());
        bytes32 id = open(payer, "most", type(uint128).max);
        redeem(row(id, free, type(uint128).max));
        eq(channels.lanePaid(id, free), type(uint128).max / PICO, "lane");
        eq(pool.revenue(free), 0, "no royalty");
        eq(channels.earnings(), type(uint128).max / PICO, "all the operator's");
    }

    function testAnOverflowingDepositReverts() public {
        token.mint(address(this), 1);
        token.approve(address(channels), type(uint256).max);
        vm.expectRevert(abi.encodeWithSignature("Panic(uint256)", 0x11));
        channels.deposit(channel, type(uint128).max);
    }

    function testEarningsGoToTheOperatorWhoeverCalls() public {
        redeem(row(channel, model, 100 * PICO));
        vm.prank(address(0xBAD));
        eq(channels.withdrawEarnings(), 90, "amount");
        eq(token.balanceOf(operator), 90, "operator");
        eq(channels.withdrawEarnings(), 0, "once");
    }

    function testAnEmptyBatchDoesNothing() public {
        (uint256 royalty, uint256 part) = channels.redeemBatch(new IPaymentChannels.Row[](0));
        eq(royalty + part, 0, "nothing");
    }

    function testTooLittleGasRevertsTheWholeBatch() public {
        IPaymentChannels.Row[] memory rows = new IPaymentChannels.Row[](2);
        (rows[0], rows[1]) = (row(channel, model, PICO), row(channel, model, 2 * PICO));
        bytes memory data = abi.encodeCall(channels.redeemBatch, (rows));
        for (uint256 budget = 5_000; budget < 200_000; budget += 5_000) {
            (bool done,) = address(channels).call{gas: budget}(data);
            if (done) {
                eq(channels.lanePaid(channel, model), 2, "all of it");
                return;
            }
            eq(channels.lanePaid(channel, model), 0, "none of it");
        }
        yes(false, "enough gas must do");
    }

    // --------------------------------------------------------------- withdrawals

    function testWithdrawalWaitsAndLapses() public {
        vm.prank(payer);
        channels.requestWithdrawal(channel, 400_000);
        uint64 ready = uint64(block.timestamp) + DELAY;
        finalizeReverts(abi.encodeWithSelector(IPaymentChannels.WithdrawalNotReady.selector, ready));
        vm.warp(ready - 1);
        finalizeReverts(abi.encodeWithSelector(IPaymentChannels.WithdrawalNotReady.selector, ready));
        vm.warp(ready + WINDOW + 1);
        finalizeReverts(abi.encodeWithSelector(IPaymentChannels.WithdrawalLapsed.selector, ready + WINDOW));
        vm.prank(payer);
        channels.requestWithdrawal(channel, 400_000);
        vm.warp(block.timestamp + DELAY + WINDOW);
        vm.prank(payer);
        eq(channels.finalizeWithdrawal(channel), 400_000, "in its last second");
        eq(token.balanceOf(payer), 400_000, "payer");
        eq(channels.channel(channel).deposit, 600_000, "deposit");
        finalizeReverts(abi.encodeWithSelector(IPaymentChannels.NoWithdrawal.selector, channel));
    }

    function testAPendingWithdrawalStaysRedeemable() public {
        vm.prank(payer);
        channels.requestWithdrawal(channel, 1_000_000);
        redeem(row(channel, model, 700_000 * PICO));
        vm.warp(block.timestamp + DELAY);
        vm.prank(payer);
        eq(channels.finalizeWithdrawal(channel), 300_000, "what is left");
        IPaymentChannels.Row memory r = row(channel, model, 800_000 * PICO);
        skipped(r, IPaymentChannels.SkipReason.NoDeposit);
        open(payer, 0, 50_000);
        (uint256 royalty, uint256 part) = redeem(r);
        eq(royalty + part, 50_000, "a later deposit");
    }

    function testAWithdrawalOfNothingLeft() public {
        vm.prank(payer);
        channels.requestWithdrawal(channel, 1_000_000);
        redeem(row(channel, model, 1_000_000 * PICO));
        vm.warp(block.timestamp + DELAY);
        vm.prank(payer);
        eq(channels.finalizeWithdrawal(channel), 0, "nothing");
    }

    function testANewRequestReplacesAndZeroCancels() public {
        vm.prank(payer);
        channels.requestWithdrawal(channel, 1_000_000);
        vm.warp(block.timestamp + DELAY);
        vm.prank(payer);
        channels.requestWithdrawal(channel, 10);
        uint64 ready = uint64(block.timestamp) + DELAY;
        finalizeReverts(abi.encodeWithSelector(IPaymentChannels.WithdrawalNotReady.selector, ready));
        vm.prank(payer);
        channels.requestWithdrawal(channel, 0);
        vm.warp(ready);
        finalizeReverts(abi.encodeWithSelector(IPaymentChannels.NoWithdrawal.selector, channel));
    }

    function testOnlyThePayerWithdrawsAndOnlyWhatIsThere() public {
        vm.expectRevert(abi.encodeWithSelector(IPaymentChannels.NotPayer.selector, address(this), payer));
        channels.requestWithdrawal(channel, 1);
        vm.expectRevert(abi.encodeWithSelector(IPaymentChannels.NotPayer.selector, address(this), payer));
        channels.finalizeWithdrawal(channel);
        redeem(row(channel, model, 1 * PICO));
        vm.expectRevert(abi.encodeWithSelector(IPaymentChannels.AboveBalance.selector, 1_000_000, 999_999));
        vm.prank(payer);
        channels.requestWithdrawal(channel, 1_000_000);
    }

    function testReentrancyFromATransferGainsNothing() public {
        PickyDollar picky = new PickyDollar();
        vm.etch(address(token), address(picky).code);
        open(address(0xAA2), "victim", 1_000_000);
        IPaymentChannels.Row[] memory rows = new IPaymentChannels.Row[](1);
        rows[0] = row(channel, model, 600_000 * PICO);
        PickyDollar(address(token)).callBack(address(channels), abi.encodeCall(channels.redeemBatch, (rows)));
        channels.redeemBatch(rows);
        eq(channels.lanePaid(channel, model), 600_000, "once");
        PickyDollar(address(token)).callBack(address(channels), abi.encodeCall(channels.withdrawEarnings, ()));
        channels.withdrawEarnings();
        eq(token.balanceOf(operator), 540_000, "once");
        eq(token.balanceOf(address(channels)), 1_400_000, "the rest of both deposits");
    }

    // ------------------------------------------------------------------- helpers

    function freeBase() private pure returns (ILineageRegistry.NodeInput memory input) {
        input = base("free");
        input.royaltyPpm = 0;
    }

    function finalizeReverts(bytes memory reason) private {
        vm.expectRevert(reason);
        vm.prank(payer);
        channels.finalizeWithdrawal(channel);
    }

    function skipped(IPaymentChannels.Row memory r, IPaymentChannels.SkipReason reason) private {
        IPaymentChannels.Row[] memory rows = new IPaymentChannels.Row[](1);
        rows[0] = r;
        vm.expectEmit(address(channels));
        emit IPaymentChannels.RowSkipped(0, r.voucher.channel, r.voucher.lane, reason);
        (uint256 royalty, uint256 part) = channels.redeemBatch(rows);
        eq(royalty + part, 0, "nothing moved");
    }
}
