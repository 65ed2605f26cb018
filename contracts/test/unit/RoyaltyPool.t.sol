// SPDX-License-Identifier: Apache-2.0 OR MIT
pragma solidity ^0.8.28;

import {ILineageRegistry} from "src/interfaces/ILineageRegistry.sol";
import {IRoyaltyPool} from "src/interfaces/IRoyaltyPool.sol";
import {RoyaltyPool} from "src/RoyaltyPool.sol";
import {PickyDollar} from "../helpers/PickyDollar.sol";
import {System} from "../helpers/System.sol";

contract RoyaltyPoolTest is System {
    bytes32 private parent;
    bytes32 private model;

    function setUp() public {
        deploy();
        parent = register(base("parent"));
        ILineageRegistry.NodeInput memory input = fork("model", parent, 400_000);
        input.slots = new ILineageRegistry.Slot[](2);
        input.slots[0] = ILineageRegistry.Slot(address(11), 333_333);
        input.slots[1] = ILineageRegistry.Slot(address(12), 666_667);
        input.track = registry.createTrack("t", charter(50_000));
        model = register(input);
    }

    function testOnlyTheTwoCreditorsCredit() public {
        vm.expectRevert(abi.encodeWithSelector(IRoyaltyPool.NotCreditor.selector, address(this)));
        pool.credit(new IRoyaltyPool.Credit[](0));
    }

    function testCreditNeedsTheTokens() public {
        token.mint(address(pool), 99);
        vm.expectRevert(abi.encodeWithSelector(IRoyaltyPool.NotFunded.selector, 99, 100));
        vm.prank(address(channels));
        pool.credit(one(100));
    }

    function testTokensAreNotCountedTwice() public {
        credit(100);
        vm.expectRevert(abi.encodeWithSelector(IRoyaltyPool.NotFunded.selector, 100, 200));
        vm.prank(address(ledger));
        pool.credit(one(100));
    }

    function testClaimPaysTheShareOnce() public {
        credit(1_000_000);
        eq(pool.claimable(model, model, 0), 183_333, "first slot");
        eq(pool.claim(model, model, 0), 183_333, "first");
        eq(pool.claim(model, model, 0), 0, "second");
        eq(token.balanceOf(address(11)), 183_333, "paid");
        eq(pool.claimed(model, model, 0), 183_333, "claimed");
        eq(pool.claim(model, parent, 0), 400_000, "parent");
        eq(pool.totalClaimed(), 583_333, "total");
    }

    function testThePotPaysTheVerifiers() public {
        credit(1_000_000);
        eq(pool.claim(model, registry.potId(keccak256("t")), 0), 50_000, "pot");
        eq(token.balanceOf(address(0x7E57)), 50_000, "verifiers");
    }

    function testClaimOfTheUnknownReverts() public {
        bytes memory reason = abi.encodeWithSelector(IRoyaltyPool.UnknownSlot.selector, model, model, 2);
        vm.expectRevert(reason);
        pool.claim(model, model, 2);
        eq(pool.claimable(model, model, 2), 0, "claimable");
    }

    function testARotatedPayeeGetsWhatWasClaimable() public {
        credit(1_000_000);
        vm.prank(address(11));
        registry.rotatePayee(model, 0, address(99));
        pool.claim(model, model, 0);
        eq(token.balanceOf(address(11)), 0, "old payee");
        eq(token.balanceOf(address(99)), 183_333, "new payee");
    }

    function testDustStaysAndIsPaidLater() public {
        credit(1);
        IRoyaltyPool.ClaimKey[] memory keys = allKeys();
        eq(pool.claimMany(keys), 0, "one unit divides to nothing");
        credit(999_999);
        pool.claimMany(keys);
        eq(pool.totalClaimed(), 183_333 + 366_666 + 400_000 + 50_000, "as if credited at once");
    }

    function testBatchSkipsTheUnknown() public {
        credit(1_000_000);
        IRoyaltyPool.ClaimKey[] memory keys = new IRoyaltyPool.ClaimKey[](3);
        keys[0] = IRoyaltyPool.ClaimKey(model, model, 7);
        keys[1] = IRoyaltyPool.ClaimKey(model, parent, 0);
        keys[2] = IRoyaltyPool.ClaimKey(model, parent, 0);
        vm.expectEmit(address(pool));
        emit IRoyaltyPool.ClaimSkipped(model, model, 7, IRoyaltyPool.SkipReason.UnknownSlot);
        eq(pool.claimMany(keys), 400_000, "paid once");
    }

    function testBatchSkipsATransferThatFails() public {
        PickyDollar picky = new PickyDollar();
        vm.etch(address(token), address(picky).code);
        credit(1_000_000);
        PickyDollar(address(token)).refuse(address(11));
        vm.expectEmit(address(pool));
        emit IRoyaltyPool.ClaimSkipped(model, model, 0, IRoyaltyPool.SkipReason.TransferFailed);
        eq(pool.claimMany(allKeys()), 366_666 + 400_000 + 50_000, "the others");
        eq(pool.claimed(model, model, 0), 0, "not claimed");
        eq(pool.claimable(model, model, 0), 183_333, "still claimable");
        eq(pool.totalClaimed(), 816_666, "total");
        vm.expectRevert(abi.encodeWithSelector(PickyDollar.Refused.selector, address(11)));
        pool.claim(model, model, 0);
        vm.prank(address(11));
        registry.rotatePayee(model, 0, address(99));
        eq(pool.claim(model, model, 0), 183_333, "after rotating away");
    }

    function testReentrancyFindsNothingLeft() public {
        PickyDollar picky = new PickyDollar();
        vm.etch(address(token), address(picky).code);
        credit(1_000_000);
        PickyDollar(address(token)).callBack(address(pool), abi.encodeCall(pool.claim, (model, model, 1)));
        pool.claim(model, model, 1);
        eq(token.balanceOf(address(12)), 366_666, "paid once");
        PickyDollar(address(token)).callBack(address(pool), abi.encodeCall(pool.claimMany, (allKeys())));
        pool.claimMany(allKeys());
        eq(pool.totalClaimed(), 183_333 + 366_666 + 400_000 + 50_000, "each once");
        eq(token.balanceOf(address(pool)), 1, "dust");
    }

    function testRevenueFarAboveAnySupply() public {
        credit(type(uint128).max);
        credit(type(uint128).max);
        uint256 whole = uint256(type(uint128).max) * 2;
        eq(pool.claim(model, parent, 0), whole * 400_000 * PPM / PPM / PPM, "parent");
    }

    function testRefusesZeroAddresses() public {
        vm.expectRevert(IRoyaltyPool.ZeroAddress.selector);
        new RoyaltyPool(address(token), address(registry), address(0), address(ledger));
    }

    function one(uint128 amount) private view returns (IRoyaltyPool.Credit[] memory credits) {
        credits = new IRoyaltyPool.Credit[](1);
        credits[0] = IRoyaltyPool.Credit(model, amount);
    }

    function credit(uint128 amount) private {
        token.mint(address(pool), amount);
        vm.prank(address(channels));
        pool.credit(one(amount));
    }

    function allKeys() private view returns (IRoyaltyPool.ClaimKey[] memory keys) {
        keys = new IRoyaltyPool.ClaimKey[](4);
        keys[0] = IRoyaltyPool.ClaimKey(model, model, 0);
        keys[1] = IRoyaltyPool.ClaimKey(model, model, 1);
        keys[2] = IRoyaltyPool.ClaimKey(model, parent, 0);
        keys[3] = IRoyaltyPool.ClaimKey(model, registry.potId(keccak256("t")), 0);
    }
}
