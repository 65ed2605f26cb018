// SPDX-License-Identifier: Apache-2.0 OR MIT
pragma solidity ^0.8.28;

import {ILineageRegistry} from "src/interfaces/ILineageRegistry.sol";
import {IPaymentChannels} from "src/interfaces/IPaymentChannels.sol";
import {IRoyaltyPool} from "src/interfaces/IRoyaltyPool.sol";
import {IUsageLedger} from "src/interfaces/IUsageLedger.sol";
import {System} from "../helpers/System.sol";

contract MoneyFuzzTest is System {
    function setUp() public {
        deploy();
    }

    /// @notice I4: however a lane's total is reached, its split is the same.
    function testFuzz_I4_redeemingInStepsIsRedeemingAtOnce(uint32 rate, uint64[6] calldata steps, uint128 deposit)
        public
    {
        bytes32 model = _model("m", rate);
        deposit = uint128(bound(deposit, 0, type(uint64).max));
        bytes32 slow = open(payer, "slow", deposit);
        bytes32 fast = open(payer, "fast", deposit);
        uint128 total;
        uint256 royalty;
        uint256 part;
        for (uint256 i; i < steps.length; ++i) {
            total += steps[i];
            (uint256 r, uint256 o) = redeem(row(slow, model, total));
            (royalty, part) = (royalty + r, part + o);
        }
        (uint256 royaltyAtOnce, uint256 partAtOnce) = redeem(row(fast, model, total));
        eq(royalty, royaltyAtOnce, "royalty");
        eq(part, partAtOnce, "operator's part");
        uint256 target = total / PICO;
        eq(royalty + part, target < deposit ? target : deposit, "paid");
    }

    /// @notice I4: the operator's channel pays what a channel would, in any windows.
    function testFuzz_I4_postingInWindowsIsPostingAtOnce(uint32 rate, uint64[6] calldata sums, uint128 escrow) public {
        bytes32 model = _model("m", rate);
        bytes32 twin = _model("twin", rate);
        uint128 total;
        for (uint64 i; i < sums.length; ++i) {
            total += sums[i];
            post("journal", i, model, sums[i]);
        }
        post("other", 0, twin, total);
        eq(ledger.owed(model), ledger.owed(twin), "owed");
        eq(ledger.owed(model), uint256(total / PICO) * registry.royaltyPpm(model) / PPM, "royalty");
        topUp(IUsageLedger.Fund.Escrow, escrow = uint128(bound(escrow, 0, type(uint64).max)));
        uint256 paid = ledger.settleOwed(model) + ledger.settleOwed(twin);
        uint256 due = 2 * (uint256(total / PICO) * registry.royaltyPpm(model) / PPM);
        eq(paid, due < escrow ? due : escrow, "paid");
        eq(ledger.totalOwed(), due - paid, "still owed");
    }

    /// @notice I6: whenever contributors claim, they get the same in the end, and never more than there is.
    function testFuzz_I6_whenToClaimChangesNothing(uint96[5] calldata credits, uint32 share, uint32 inherit) public {
        (bytes32 early, bytes32 late) = (_shared("early", share, inherit), _shared("late", share, inherit));
        for (uint256 i; i < credits.length; ++i) {
            _credit(early, credits[i]);
            _credit(late, credits[i]);
            pool.claim(early, early, i % 2);
        }
        for (uint256 slot; slot < 2; ++slot) {
            pool.claim(early, early, slot);
            pool.claim(late, late, slot);
            eq(pool.claimed(early, early, slot), pool.claimed(late, late, slot), "claimed");
        }
        bytes32 root = registry.nodeId(digestOf("root"));
        uint256 all = pool.credited(late, late, 0) + pool.credited(late, late, 1) + pool.credited(late, root, 0);
        le(all, pool.revenue(late), "credited");
        le(pool.revenue(late), all + 2, "dust below a unit a slot");
    }

    /// @notice I12: whatever a row holds, it is skipped with a reason, and its neighbours are paid.
    function testFuzz_I12_garbageIsSkipped(IPaymentChannels.Row calldata garbage) public {
        bytes32 model = _model("m", 100_000);
        bytes32 id = open(payer, 0, 100);
        IPaymentChannels.Row[] memory rows = new IPaymentChannels.Row[](2);
        (rows[0], rows[1]) = (garbage, row(id, model, 10 * PICO));
        (uint256 royalty, uint256 part) = channels.redeemBatch(rows);
        eq(royalty, 1, "royalty");
        eq(part, 9, "operator's part");
    }

    /// @notice I12: a row with one bit of a signature or a signed field turned is worth nothing.
    function testFuzz_I12_aTurnedBitIsSkipped(uint256 which, uint8 bit) public {
        bytes32 model = _model("m", 100_000);
        bytes32 id = open(payer, 0, 100);
        IPaymentChannels.Row memory r = row(id, model, 10 * PICO);
        uint256 turned = uint256(1) << bit;
        which %= 6;
        if (which == 0) r.voucher.maxCumulative ^= uint128(1 << (bit % 128));
        if (which == 1) r.voucher.expiry ^= uint64(1 << (bit % 64));
        if (which == 2) r.claim.cumulative ^= uint128(1 << (bit % 128));
        if (which == 3) r.claim.sealDigest ^= bytes32(turned);
        if (which == 4) r.voucherSignature[bit % 65] ^= bytes1(uint8(1 << (bit % 8)));
        if (which == 5) r.claimSignature[bit % 65] ^= bytes1(uint8(1 << (bit % 8)));
        (uint256 royalty, uint256 part) = redeem(r);
        eq(royalty + part, 0, "nothing");
    }

    /// @notice I8: a withdrawal takes what nobody redeemed first, and no more.
    function testFuzz_I8_withdrawalAndRedemptionShareTheDeposit(uint64 deposit, uint64 asked, uint64 used) public {
        bytes32 model = _model("m", 100_000);
        bytes32 id = open(payer, 0, deposit);
        asked = uint64(bound(asked, 0, deposit));
        vm.prank(payer);
        channels.requestWithdrawal(id, asked);
        redeem(row(id, model, uint128(used) * PICO));
        uint256 redeemed = used < deposit ? used : deposit;
        vm.warp(block.timestamp + DELAY);
        uint256 taken;
        if (asked != 0) {
            vm.prank(payer);
            taken = channels.finalizeWithdrawal(id);
            eq(taken, asked < deposit - redeemed ? asked : deposit - redeemed, "taken");
        }
        eq(token.balanceOf(payer), taken, "payer");
        eq(token.balanceOf(address(channels)) + token.balanceOf(address(pool)), deposit - taken, "the rest");
    }

    function _model(string memory name, uint32 rate) private returns (bytes32) {
        ILineageRegistry.NodeInput memory input = base(name);
        input.royaltyPpm = uint32(bound(rate, 0, 500_000));
        return register(input);
    }

    function _shared(string memory name, uint32 share, uint32 inherit) private returns (bytes32) {
        bytes32 root = registry.nodeId(digestOf("root"));
        if (!registry.exists(root)) register(base("root"));
        ILineageRegistry.NodeInput memory input = fork(name, root, uint32(bound(inherit, 1, 800_000)));
        uint32 first = uint32(bound(share, 1, PPM - 1));
        input.slots = new ILineageRegistry.Slot[](2);
        input.slots[0] = ILineageRegistry.Slot(address(11), first);
        input.slots[1] = ILineageRegistry.Slot(address(12), uint32(PPM) - first);
        return register(input);
    }

    function _credit(bytes32 model, uint128 amount) private {
        IRoyaltyPool.Credit[] memory credits = new IRoyaltyPool.Credit[](1);
        credits[0] = IRoyaltyPool.Credit(model, amount);
        token.mint(address(pool), amount);
        vm.prank(address(channels));
        pool.credit(credits);
    }
}
