// SPDX-License-Identifier: Apache-2.0 OR MIT
pragma solidity ^0.8.28;

import {ILineageRegistry} from "src/interfaces/ILineageRegistry.sol";
import {IPaymentChannels} from "src/interfaces/IPaymentChannels.sol";
import {IUsageLedger} from "src/interfaces/IUsageLedger.sol";
import {LineageRegistry} from "src/LineageRegistry.sol";
import {PaymentChannels} from "src/PaymentChannels.sol";
import {RoyaltyPool} from "src/RoyaltyPool.sol";
import {TestDollar} from "src/TestDollar.sol";
import {UsageLedger} from "src/UsageLedger.sol";
import {Test} from "./Test.sol";

/// @notice All contracts, deployed as they are in earnest, and short ways to use them.
abstract contract System is Test {
    uint256 internal constant OPERATOR_KEY = 0x09E7;
    uint256 internal constant SIGNER_KEY = 0x5167;
    uint64 internal constant DELAY = 1 days;
    uint64 internal constant WINDOW = 2 days;
    uint256 internal constant PPM = 1_000_000;
    uint128 internal constant PICO = 1_000_000;

    TestDollar internal token;
    LineageRegistry internal registry;
    RoyaltyPool internal pool;
    PaymentChannels internal channels;
    UsageLedger internal ledger;
    address internal operator;
    address internal payer = address(0xAA1);
    address internal signer;

    function deploy() internal {
        operator = vm.addr(OPERATOR_KEY);
        signer = vm.addr(SIGNER_KEY);
        uint256 nonce = vm.getNonce(address(this));
        token = new TestDollar();
        registry = new LineageRegistry();
        pool = new RoyaltyPool(
            address(token),
            address(registry),
            vm.computeCreateAddress(address(this), nonce + 3),
            vm.computeCreateAddress(address(this), nonce + 4)
        );
        channels = new PaymentChannels(address(token), address(registry), address(pool), operator, DELAY, WINDOW);
        ledger = new UsageLedger(address(token), address(registry), address(pool), operator, DELAY, WINDOW);
        eq(pool.channels(), address(channels), "predicted channels");
        eq(pool.ledger(), address(ledger), "predicted ledger");
        vm.warp(1_800_000_000);
        vm.roll(100);
    }

    // ------------------------------------------------------------- registering

    function digestOf(string memory name) internal pure returns (bytes32) {
        return sha256(bytes(name));
    }

    /// @notice A base of one contributor with 10 % royalty, to be changed before it is registered.
    function base(string memory name) internal pure returns (ILineageRegistry.NodeInput memory input) {
        input.slots = new ILineageRegistry.Slot[](1);
        input.slots[0] = ILineageRegistry.Slot({payee: payeeOf(name), sharePpm: uint32(PPM)});
        input.royaltyPpm = 100_000;
        input.minPriceIn = 1;
        input.minPriceOut = 2;
        input.artifactDigest = digestOf(name);
        input.uri = "file:model.gguf";
    }

    function fork(string memory name, bytes32 parent, uint32 inheritPpm)
        internal
        pure
        returns (ILineageRegistry.NodeInput memory input)
    {
        input = base(name);
        input.kind = ILineageRegistry.Kind.Fork;
        input.parents = new ILineageRegistry.Parent[](1);
        input.parents[0] = ILineageRegistry.Parent({node: parent, weightPpm: uint32(PPM)});
        input.inheritPpm = inheritPpm;
    }

    function payeeOf(string memory name) internal pure returns (address) {
        return address(uint160(uint256(keccak256(bytes(name)))));
    }

    /// @notice Commits, mines a block, registers.
    function register(ILineageRegistry.NodeInput memory input) internal returns (bytes32) {
        commit(input);
        return registry.register(input, 0);
    }

    function commit(ILineageRegistry.NodeInput memory input) internal {
        registry.commit(registry.commitmentOf(address(this), input.artifactDigest, 0));
        vm.roll(block.number + 1);
    }

    function charter(uint32 verifierPpm) internal pure returns (ILineageRegistry.Charter memory c) {
        c.open = true;
        c.royaltyCapPpm = 400_000;
        c.championInheritPpm = 600_000;
        c.verifierPpm = verifierPpm;
        c.competitions = address(0xC0DE);
        c.verifiers = address(0x7E57);
    }

    // ------------------------------------------------------------------ paying

    function open(address who, bytes32 salt, uint128 amount) internal returns (bytes32) {
        token.mint(address(this), amount);
        token.approve(address(channels), amount);
        return channels.open(IPaymentChannels.Config({payer: who, signer: signer, salt: salt}), amount);
    }

    /// @notice A row both sides signed, with the voucher exactly as high as the claim.
    function row(bytes32 channel, bytes32 lane, uint128 cumulative)
        internal
        view
        returns (IPaymentChannels.Row memory)
    {
        return row(channel, lane, cumulative, cumulative, uint64(block.timestamp + 1 days));
    }

    function row(bytes32 channel, bytes32 lane, uint128 cumulative, uint128 maxCumulative, uint64 expiry)
        internal
        view
        returns (IPaymentChannels.Row memory r)
    {
        r.voucher = IPaymentChannels.Voucher(channel, lane, maxCumulative, expiry);
        r.claim = IPaymentChannels.Claim(channel, lane, cumulative, keccak256("seal"));
        r.voucherSignature = sign(SIGNER_KEY, channels.voucherDigest(r.voucher));
        r.claimSignature = sign(OPERATOR_KEY, channels.claimDigest(r.claim));
    }

    function redeem(IPaymentChannels.Row memory r) internal returns (uint256 royalty, uint256 operatorPart) {
        IPaymentChannels.Row[] memory rows = new IPaymentChannels.Row[](1);
        rows[0] = r;
        return channels.redeemBatch(rows);
    }

    function topUp(IUsageLedger.Fund fund, uint128 amount) internal {
        token.mint(address(this), amount);
        token.approve(address(ledger), amount);
        ledger.topUp(fund, amount);
    }

    function sealRow(bytes32 model, uint128 prepaidSum) internal pure returns (IUsageLedger.SealRow memory) {
        return IUsageLedger.SealRow(model, keccak256("prepaid"), prepaidSum, keccak256("channel"), 5);
    }

    function post(bytes32 journal, uint64 window, bytes32 model, uint128 prepaidSum) internal returns (uint256) {
        IUsageLedger.SealRow[] memory rows = new IUsageLedger.SealRow[](1);
        rows[0] = sealRow(model, prepaidSum);
        vm.prank(operator);
        return ledger.postSeal(journal, window, rows, true);
    }
}
