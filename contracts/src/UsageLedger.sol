// SPDX-License-Identifier: Apache-2.0 OR MIT
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";
import {ILineageRegistry} from "./interfaces/ILineageRegistry.sol";
import {IRoyaltyPool} from "./interfaces/IRoyaltyPool.sol";
import {IUsageLedger} from "./interfaces/IUsageLedger.sol";
import {CreditList} from "./libraries/CreditList.sol";
import {Eip712Types} from "./libraries/Eip712Types.sol";
import {PICO_PER_UNIT, PPM} from "./libraries/Ppm.sol";

/// @title The operator's channel
/// @notice See IUsageLedger. The token must be a plain ERC-20: no fee on transfer, no rebasing.
///
/// Whatever leaves the escrow goes to the pool, or to the operator after a public delay and only above `totalOwed`.
/// What was metered but is not posted yet is not known here: the delay is there so that it is posted, or disputed,
/// in time.
contract UsageLedger is IUsageLedger, EIP712 {
    using SafeERC20 for IERC20;
    using CreditList for CreditList.List;
    using Eip712Types for Receipt;

    /// @inheritdoc IUsageLedger
    address public immutable token;
    /// @inheritdoc IUsageLedger
    address public immutable registry;
    /// @inheritdoc IUsageLedger
    address public immutable pool;
    /// @inheritdoc IUsageLedger
    address public immutable operator;
    /// @inheritdoc IUsageLedger
    uint64 public immutable withdrawalDelay;
    /// @inheritdoc IUsageLedger
    uint64 public immutable withdrawalWindow;

    /// @inheritdoc IUsageLedger
    uint256 public totalOwed;
    /// @inheritdoc IUsageLedger
    mapping(bytes32 journal => uint64 window) public nextWindow;
    mapping(bytes32 model => Lane) private _lanes;
    mapping(bytes32 sealKey => bytes32 sealHash) private _seals;
    mapping(Fund fund => uint256 units) private _balances;
    mapping(Fund fund => Withdrawal) private _withdrawals;

    modifier onlyOperator() {
        if (msg.sender != operator) revert NotOperator(msg.sender);
        _;
    }

    /// @param withdrawalDelay_ seconds; must exceed the time in which a receipt can be disputed
    /// @param withdrawalWindow_ seconds a withdrawal stays open before it lapses
    constructor(
        address token_,
        address registry_,
        address pool_,
        address operator_,
        uint64 withdrawalDelay_,
        uint64 withdrawalWindow_
    ) EIP712("Dividend", "1") {
        if (token_ == address(0) || registry_ == address(0) || pool_ == address(0) || operator_ == address(0)) {
            revert ZeroAddress();
        }
        if (withdrawalDelay_ == 0 || withdrawalWindow_ == 0) revert ZeroDuration();
        (token, registry, pool, operator) = (token_, registry_, pool_, operator_);
        (withdrawalDelay, withdrawalWindow) = (withdrawalDelay_, withdrawalWindow_);
    }

    // --------------------------------------------------------------- posting

    /// @inheritdoc IUsageLedger
    function postSeal(bytes32 journal, uint64 window, SealRow[] calldata rows, bool last)
        external
        onlyOperator
        returns (uint256 paid)
    {
        uint64 expected = nextWindow[journal];
        if (window != expected) revert WindowOutOfOrder(journal, window, expected);
        CreditList.List memory credits = CreditList.create(rows.length);
        for (uint256 i; i < rows.length; ++i) {
            SkipReason reason = _post(journal, window, rows[i], credits);
            if (reason != SkipReason.None) emit RowSkipped(journal, window, rows[i].model, i, reason);
        }
        if (last) {
            nextWindow[journal] = window + 1;
            emit WindowClosed(journal, window);
        }
        paid = credits.total;
        credits.send(IERC20(token), IRoyaltyPool(pool));
    }

    /// @inheritdoc IUsageLedger
    function settleOwed(bytes32 model) external returns (uint256 paid) {
        (bool known, uint256 royaltyPpm) = ILineageRegistry(registry).tryRoyaltyPpm(model);
        if (!known) revert UnknownModel(model);
        CreditList.List memory credits = CreditList.create(1);
        _pay(model, _royalty(_lanes[model].accruedPico, royaltyPpm), credits);
        paid = credits.total;
        credits.send(IERC20(token), IRoyaltyPool(pool));
    }

    // ----------------------------------------------------------------- funds

    /// @inheritdoc IUsageLedger
    function topUp(Fund fund, uint128 amount) external {
        uint256 balance = _balances[fund] += amount;
        emit FundIncreased(fund, msg.sender, amount, balance);
        IERC20(token).safeTransferFrom(msg.sender, address(this), amount);
    }

    /// @inheritdoc IUsageLedger
    function requestWithdrawal(Fund fund, uint128 amount) external onlyOperator {
        uint256 available = _available(fund);
        if (amount > available) revert AboveBalance(amount, available);
        uint64 availableAt = uint64(block.timestamp) + withdrawalDelay;
        _withdrawals[fund] = Withdrawal({amount: amount, availableAt: availableAt});
        emit FundWithdrawalRequested(fund, amount, availableAt, availableAt + withdrawalWindow);
    }

    /// @inheritdoc IUsageLedger
    function finalizeWithdrawal(Fund fund) external onlyOperator returns (uint256 amount) {
        Withdrawal memory w = _withdrawals[fund];
        if (w.amount == 0) revert NoWithdrawal(fund);
        if (block.timestamp < w.availableAt) revert WithdrawalNotReady(w.availableAt);
        uint64 lapsesAt = w.availableAt + withdrawalWindow;
        if (block.timestamp > lapsesAt) revert WithdrawalLapsed(lapsesAt);
        uint256 available = _available(fund);
        amount = w.amount < available ? w.amount : available;
        delete _withdrawals[fund];
        uint256 balance = _balances[fund] -= amount;
        emit FundWithdrawn(fund, amount, balance);
        IERC20(token).safeTransfer(operator, amount);
    }

    // ----------------------------------------------------------------- views

    /// @inheritdoc IUsageLedger
    function lane(bytes32 model) external view returns (Lane memory) {
        return _lanes[model];
    }

    /// @inheritdoc IUsageLedger
    function owed(bytes32 model) external view returns (uint256) {
        (, uint256 royaltyPpm) = ILineageRegistry(registry).tryRoyaltyPpm(model);
        return _royalty(_lanes[model].accruedPico, royaltyPpm) - _lanes[model].paid;
    }

    /// @inheritdoc IUsageLedger
    function balanceOf(Fund fund) external view returns (uint256) {
        return _balances[fund];
    }

    /// @inheritdoc IUsageLedger
    function withdrawal(Fund fund) external view returns (Withdrawal memory) {
        return _withdrawals[fund];
    }

    /// @inheritdoc IUsageLedger
    function sealOf(bytes32 journal, uint64 window, bytes32 model) external view returns (bytes32) {
        return _seals[_sealKey(journal, window, model)];
    }

    /// @inheritdoc IUsageLedger
    function receiptDigest(Receipt calldata receipt) external view returns (bytes32) {
        return _hashTypedDataV4(receipt.hash());
    }

    /// @inheritdoc IUsageLedger
    function domainSeparator() external view returns (bytes32) {
        return _domainSeparatorV4();
    }

    // -------------------------------------------------------------- internals

    function _post(bytes32 journal, uint64 window, SealRow calldata r, CreditList.List memory credits)
        private
        returns (SkipReason)
    {
        bytes32 key = _sealKey(journal, window, r.model);
        if (_seals[key] != 0) return SkipReason.AlreadyPosted;
        (bool known, uint256 royaltyPpm) = ILineageRegistry(registry).tryRoyaltyPpm(r.model);
        if (!known) return SkipReason.UnknownModel;
        uint128 accrued = _lanes[r.model].accruedPico;
        if (r.prepaidSum > type(uint128).max - accrued) return SkipReason.SumOverflow;

        uint256 royaltyBefore = _royalty(accrued, royaltyPpm);
        accrued += r.prepaidSum;
        uint256 royalty = _royalty(accrued, royaltyPpm);
        _seals[key] = keccak256(abi.encode(r.prepaidRoot, r.prepaidSum, r.channelRoot, r.channelSum));
        _lanes[r.model].accruedPico = accrued;
        totalOwed += royalty - royaltyBefore;
        emit SealPosted(journal, window, r.model, r.prepaidRoot, r.prepaidSum, r.channelRoot, r.channelSum, accrued);
        _pay(r.model, royalty, credits);
        return SkipReason.None;
    }

    /// @dev Takes what the model is still owed out of the escrow, as far as it reaches.
    /// @param royalty R of the model
    function _pay(bytes32 model, uint256 royalty, CreditList.List memory credits) private {
        Lane storage l = _lanes[model];
        uint256 due = royalty - l.paid;
        uint256 escrow = _balances[Fund.Escrow];
        uint256 amount = due < escrow ? due : escrow;
        if (amount == 0) return;
        l.paid += uint128(amount);
        totalOwed -= amount;
        _balances[Fund.Escrow] = escrow - amount;
        credits.add(model, amount);
        emit RoyaltyPaid(model, amount, l.paid, due - amount);
    }

    /// @dev What the operator may take out of a fund.
    function _available(Fund fund) private view returns (uint256) {
        uint256 balance = _balances[fund];
        if (fund == Fund.Bond) return balance;
        return balance > totalOwed ? balance - totalOwed : 0;
    }

    /// @dev R of P: two floors of cumulative figures.
    function _royalty(uint256 accruedPico, uint256 royaltyPpm) private pure returns (uint256) {
        return accruedPico / PICO_PER_UNIT * royaltyPpm / PPM;
    }

    function _sealKey(bytes32 journal, uint64 window, bytes32 model) private pure returns (bytes32) {
        return keccak256(abi.encode(journal, window, model));
    }
}
