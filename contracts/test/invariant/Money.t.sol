// SPDX-License-Identifier: Apache-2.0 OR MIT
pragma solidity ^0.8.28;

import {ILineageRegistry} from "src/interfaces/ILineageRegistry.sol";
import {IPaymentChannels} from "src/interfaces/IPaymentChannels.sol";
import {IRoyaltyPool} from "src/interfaces/IRoyaltyPool.sol";
import {IUsageLedger} from "src/interfaces/IUsageLedger.sol";
import {TestDollar} from "src/TestDollar.sol";
import {Test} from "../helpers/Test.sol";
import {MoneyHandler} from "./MoneyHandler.sol";

/// @notice Invariants I4, I6, I7 and I8 of the design after any sequence of steps. I7 and half of I8 are checked
/// within the steps.
contract MoneyInvariants is Test {
    uint256 private constant PPM = 1_000_000;

    MoneyHandler private handler;
    TestDollar private token;
    ILineageRegistry private registry;
    IRoyaltyPool private pool;
    IPaymentChannels private channels;
    IUsageLedger private ledger;
    uint256 private models;
    uint256 private lanes;

    mapping(bytes32 => uint256) private _revenueBefore;
    mapping(uint256 => uint256) private _claimedBefore;

    function setUp() public {
        handler = new MoneyHandler();
        (address t, address r, address p, address c, address l) = handler.contracts();
        (token, registry, pool) = (TestDollar(t), ILineageRegistry(r), IRoyaltyPool(p));
        (channels, ledger) = (IPaymentChannels(c), IUsageLedger(l));
        (models, lanes,) = handler.counts();
    }

    function targetContracts() public view returns (address[] memory targets) {
        targets = new address[](1);
        targets[0] = address(handler);
    }

    /// @notice Every lane's total is royalty and operator's part, in base units, and both are floors of cumulative
    /// totals.
    function invariant_I4_lanesAreSplitWithoutLoss() public view {
        uint256 royalties;
        uint256 operatorParts;
        for (uint256 m; m < models; ++m) {
            bytes32 model = handler.models(m);
            uint256 rate = registry.royaltyPpm(model);
            uint256 revenue = ledger.lane(model).paid;
            for (uint256 i; i < lanes; ++i) {
                uint256 paid = channels.lanePaid(handler.ids(i), model);
                le(paid, handler.signedFor(handler.ids(i), model) / 1e6, "above what the payer signed");
                revenue += paid * rate / PPM;
                royalties += paid * rate / PPM;
                operatorParts += paid - paid * rate / PPM;
            }
            eq(pool.revenue(model), revenue, "revenue of a model");
            eq(ledger.lane(model).accruedPico, handler.posted(model), "posted");
            eq(ledger.lane(model).paid + ledger.owed(model), handler.posted(model) / 1e6 * rate / PPM, "royalty posted");
        }
        eq(royalties, handler.royaltyRedeemed(), "royalty redeemed");
        eq(operatorParts, handler.operatorRedeemed(), "operator's part redeemed");
    }

    /// @notice A channel's total is that of its lanes, within its deposit, and the contract holds what is left.
    function invariant_I4_channelsAreFunded() public view {
        uint256 held = channels.earnings();
        for (uint256 i; i < lanes; ++i) {
            IPaymentChannels.Channel memory c = channels.channel(handler.ids(i));
            uint256 paid;
            for (uint256 m; m < models; ++m) {
                paid += channels.lanePaid(handler.ids(i), handler.models(m));
            }
            eq(c.paid, paid, "lanes of a channel");
            le(c.paid, c.deposit, "deposit");
            held += c.deposit - c.paid;
        }
        eq(token.balanceOf(address(channels)), held, "tokens of the channels");
    }

    function invariant_I6_poolPaysWhatItGot() public view {
        uint256 claimed;
        uint256 credited;
        for (uint256 i; i < handler.keyCount(); ++i) {
            IRoyaltyPool.ClaimKey memory k = handler.key(i);
            claimed += pool.claimed(k.model, k.node, k.slot);
            credited += pool.credited(k.model, k.node, k.slot);
            le(pool.claimed(k.model, k.node, k.slot), pool.credited(k.model, k.node, k.slot), "claimed of a slot");
        }
        eq(claimed, pool.totalClaimed(), "claimed");
        le(credited, pool.totalRevenue(), "credited");
        eq(pool.totalRevenue(), handler.royaltyRedeemed() + handler.royaltyPosted(), "revenue");
        eq(token.balanceOf(address(pool)), pool.totalRevenue() - claimed, "tokens of the pool");
        le(pool.totalRevenue() - credited, handler.keyCount(), "dust: less than a unit for each slot");
    }

    function invariant_I6_figuresNeverFall() public {
        for (uint256 m; m < models; ++m) {
            bytes32 model = handler.models(m);
            le(_revenueBefore[model], pool.revenue(model), "revenue");
            _revenueBefore[model] = pool.revenue(model);
        }
        for (uint256 i; i < handler.keyCount(); ++i) {
            IRoyaltyPool.ClaimKey memory k = handler.key(i);
            uint256 claimed = pool.claimed(k.model, k.node, k.slot);
            le(_claimedBefore[i], claimed, "claimed");
            _claimedBefore[i] = claimed;
        }
    }

    /// @notice Tokens are where the books of the handler say, and nowhere else.
    function invariant_I8_nobodyRedirects() public view {
        (,, uint256 receivers) = handler.counts();
        for (uint256 i; i < receivers; ++i) {
            address to = handler.receivers(i);
            eq(token.balanceOf(to), handler.paidTo(to), "receiver");
        }
        eq(token.balanceOf(ledger.operator()), handler.paidTo(ledger.operator()), "operator");
        uint256 owned = ledger.balanceOf(IUsageLedger.Fund.Escrow) + ledger.balanceOf(IUsageLedger.Fund.Bond);
        eq(token.balanceOf(address(ledger)), owned, "tokens of the ledger");
        eq(ledger.totalOwed(), _owed(), "owed");
    }

    function _owed() private view returns (uint256 sum) {
        for (uint256 m; m < models; ++m) {
            sum += ledger.owed(handler.models(m));
        }
    }
}
