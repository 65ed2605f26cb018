// SPDX-License-Identifier: Apache-2.0 OR MIT
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";
import {ILineageRegistry} from "./interfaces/ILineageRegistry.sol";
import {IPaymentChannels} from "./interfaces/IPaymentChannels.sol";
import {IRoyaltyPool} from "./interfaces/IRoyaltyPool.sol";
import {CreditList} from "./libraries/CreditList.sol";
import {Eip712Types} from "./libraries/Eip712Types.sol";
import {PICO_PER_UNIT, PPM} from "./libraries/Ppm.sol";

/// @title Payers' channels to one operator
/// @notice See IPaymentChannels. The token must be a plain ERC-20: no fee on transfer, no rebasing.
contract PaymentChannels is IPaymentChannels, EIP712 {
    using SafeERC20 for IERC20;
    using CreditList for CreditList.List;
    using Eip712Types for Voucher;
    using Eip712Types for Claim;

    /// @inheritdoc IPaymentChannels
    address public immutable token;
    /// @inheritdoc IPaymentChannels
    address public immutable registry;
    /// @inheritdoc IPaymentChannels
    address public immutable pool;
    /// @inheritdoc IPaymentChannels
    address public immutable operator;
    /// @inheritdoc IPaymentChannels
    uint64 public immutable withdrawalDelay;
    /// @inheritdoc IPaymentChannels
    uint64 public immutable withdrawalWindow;

    /// @inheritdoc IPaymentChannels
    uint256 public earnings;
    /// @inheritdoc IPaymentChannels
    mapping(bytes32 channel => mapping(bytes32 lane => uint256 units)) public lanePaid;
    mapping(bytes32 id => Channel) private _channels;

    /// @param withdrawalDelay_ seconds; must exceed the time from serving a call to redeeming it
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

    // ---------------------------------------------------------------- payers

    /// @inheritdoc IPaymentChannels
    function open(Config calldata config, uint128 amount) external returns (bytes32 id) {
        if (config.payer == address(0) || config.signer == address(0)) revert ZeroAddress();
        id = channelId(config);
        Channel storage c = _channels[id];
        if (c.payer == address(0)) {
            (c.payer, c.signer) = (config.payer, config.signer);
            emit ChannelOpened(id, config.payer, config.signer, config.salt);
        }
        if (amount != 0) _deposit(id, c, amount);
    }

    /// @inheritdoc IPaymentChannels
    function deposit(bytes32 id, uint128 amount) external {
        _deposit(id, _known(id), amount);
    }

    /// @inheritdoc IPaymentChannels
    function requestWithdrawal(bytes32 id, uint128 amount) external {
        Channel storage c = _knownToPayer(id);
        uint256 available = c.deposit - c.paid;
        if (amount > available) revert AboveBalance(amount, available);
        uint64 withdrawableAt = uint64(block.timestamp) + withdrawalDelay;
        (c.withdrawal, c.withdrawableAt) = (amount, withdrawableAt);
        emit WithdrawalRequested(id, amount, withdrawableAt, withdrawableAt + withdrawalWindow);
    }

    /// @inheritdoc IPaymentChannels
    function finalizeWithdrawal(bytes32 id) external returns (uint256 amount) {
        Channel storage c = _knownToPayer(id);
        if (c.withdrawal == 0) revert NoWithdrawal(id);
        if (block.timestamp < c.withdrawableAt) revert WithdrawalNotReady(c.withdrawableAt);
        uint64 lapsesAt = c.withdrawableAt + withdrawalWindow;
        if (block.timestamp > lapsesAt) revert WithdrawalLapsed(lapsesAt);
        uint128 left = c.deposit - c.paid;
        uint128 taken = c.withdrawal < left ? c.withdrawal : left;
        c.deposit -= taken;
        (c.withdrawal, c.withdrawableAt) = (0, 0);
        emit WithdrawalFinalized(id, taken, c.deposit);
        IERC20(token).safeTransfer(c.payer, taken);
        return taken;
    }

    // -------------------------------------------------------------- redeeming

    /// @inheritdoc IPaymentChannels
    function redeemBatch(Row[] calldata rows) external returns (uint256 royalty, uint256 operatorPart) {
        CreditList.List memory credits = CreditList.create(rows.length);
        uint256 moved;
        for (uint256 i; i < rows.length; ++i) {
            (SkipReason reason, uint256 movedNow) = _redeem(rows[i], credits);
            if (reason != SkipReason.None) emit RowSkipped(i, rows[i].voucher.channel, rows[i].voucher.lane, reason);
            moved += movedNow;
        }
        royalty = credits.total;
        operatorPart = moved - royalty;
        earnings += operatorPart;
        credits.send(IERC20(token), IRoyaltyPool(pool));
    }

    /// @inheritdoc IPaymentChannels
    function withdrawEarnings() external returns (uint256 amount) {
        amount = earnings;
        if (amount == 0) return 0;
        earnings = 0;
        emit EarningsWithdrawn(amount);
        IERC20(token).safeTransfer(operator, amount);
    }

    // ----------------------------------------------------------------- views

    /// @inheritdoc IPaymentChannels
    function channelId(Config calldata config) public view returns (bytes32) {
        return keccak256(
            abi.encode("dividend.channel", block.chainid, address(this), config.payer, config.signer, config.salt)
        );
    }

    /// @inheritdoc IPaymentChannels
    function channel(bytes32 id) external view returns (Channel memory) {
        return _known(id);
    }

    /// @inheritdoc IPaymentChannels
    function voucherDigest(Voucher calldata voucher) public view returns (bytes32) {
        return _hashTypedDataV4(voucher.hash());
    }

    /// @inheritdoc IPaymentChannels
    function claimDigest(Claim calldata claim) public view returns (bytes32) {
        return _hashTypedDataV4(claim.hash());
    }

    /// @inheritdoc IPaymentChannels
    function domainSeparator() external view returns (bytes32) {
        return _domainSeparatorV4();
    }

    // -------------------------------------------------------------- internals

    function _deposit(bytes32 id, Channel storage c, uint128 amount) private {
        c.deposit += amount;
        emit Deposited(id, msg.sender, amount, c.deposit);
        IERC20(token).safeTransferFrom(msg.sender, address(this), amount);
    }

    /// @dev `moved` counts royalty and operator's part together, in base units.
    function _redeem(Row calldata r, CreditList.List memory credits)
        private
        returns (SkipReason reason, uint256 moved)
    {
        uint256 royaltyPpm;
        (reason, royaltyPpm) = _check(r);
        if (reason == SkipReason.None) (reason, moved) = _move(r.claim, royaltyPpm, credits);
    }

    /// @dev Whether both sides signed this row and it can still be redeemed. Cheap checks first.
    function _check(Row calldata r) private view returns (SkipReason, uint256 royaltyPpm) {
        Voucher calldata v = r.voucher;
        Claim calldata c = r.claim;
        if (c.channel != v.channel || c.lane != v.lane) return (SkipReason.RowMismatch, 0);
        if (block.timestamp > v.expiry) return (SkipReason.Expired, 0);
        if (c.cumulative > v.maxCumulative) return (SkipReason.ClaimAboveVoucher, 0);
        address signer = _channels[v.channel].signer;
        if (signer == address(0)) return (SkipReason.UnknownChannel, 0);
        if (!_signedBy(signer, voucherDigest(v), r.voucherSignature)) return (SkipReason.BadVoucherSignature, 0);
        if (!_signedBy(operator, claimDigest(c), r.claimSignature)) return (SkipReason.BadClaimSignature, 0);
        bool known;
        (known, royaltyPpm) = ILineageRegistry(registry).tryRoyaltyPpm(v.lane);
        return (known ? SkipReason.None : SkipReason.UnknownLane, royaltyPpm);
    }

    /// @dev Moves the lane up to its target, as far as the deposit reaches. Royalty and operator's part are
    /// differences of floors of the lane's paid total, never floors of a difference.
    function _move(Claim calldata c, uint256 royaltyPpm, CreditList.List memory credits)
        private
        returns (SkipReason, uint256 moved)
    {
        uint256 target = c.cumulative / PICO_PER_UNIT;
        uint256 before = lanePaid[c.channel][c.lane];
        if (target <= before) return (SkipReason.NothingOwed, 0);
        Channel storage ch = _channels[c.channel];
        uint256 left = ch.deposit - ch.paid;
        if (left == 0) return (SkipReason.NoDeposit, 0);
        moved = target - before < left ? target - before : left;

        uint256 royalty = (before + moved) * royaltyPpm / PPM - before * royaltyPpm / PPM;
        lanePaid[c.channel][c.lane] = before + moved;
        ch.paid += uint128(moved);
        credits.add(c.lane, royalty);
        emit Redeemed(c.channel, c.lane, c.sealDigest, royalty, moved - royalty, before + moved, ch.paid);
        return (SkipReason.None, moved);
    }

    function _signedBy(address signer, bytes32 digest, bytes calldata signature) private pure returns (bool) {
        (address recovered, ECDSA.RecoverError failure,) = ECDSA.tryRecoverCalldata(digest, signature);
        return failure == ECDSA.RecoverError.NoError && recovered == signer;
    }

    function _known(bytes32 id) private view returns (Channel storage c) {
        c = _channels[id];
        if (c.payer == address(0)) revert UnknownChannel(id);
    }

    function _knownToPayer(bytes32 id) private view returns (Channel storage c) {
        c = _known(id);
        if (msg.sender != c.payer) revert NotPayer(msg.sender, c.payer);
    }
}
