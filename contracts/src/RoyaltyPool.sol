// SPDX-License-Identifier: Apache-2.0 OR MIT
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {ILineageRegistry} from "./interfaces/ILineageRegistry.sol";
import {IRoyaltyPool} from "./interfaces/IRoyaltyPool.sol";
import {PPM} from "./libraries/Ppm.sol";

/// @title Royalties of all models
/// @notice See IRoyaltyPool. No owner, no pause; money leaves by `claim` alone.
contract RoyaltyPool is IRoyaltyPool {
    using SafeERC20 for IERC20;

    /// @inheritdoc IRoyaltyPool
    address public immutable token;
    /// @inheritdoc IRoyaltyPool
    address public immutable registry;
    /// @inheritdoc IRoyaltyPool
    address public immutable channels;
    /// @inheritdoc IRoyaltyPool
    address public immutable ledger;

    /// @inheritdoc IRoyaltyPool
    uint256 public totalRevenue;
    /// @inheritdoc IRoyaltyPool
    uint256 public totalClaimed;
    /// @inheritdoc IRoyaltyPool
    mapping(bytes32 model => uint256 units) public revenue;
    mapping(bytes32 claimKey => uint256 units) private _claimed;

    /// @param channels_, ledger_ the only creditors; their addresses follow from the deployer's nonce
    constructor(address token_, address registry_, address channels_, address ledger_) {
        if (token_ == address(0) || registry_ == address(0) || channels_ == address(0) || ledger_ == address(0)) {
            revert ZeroAddress();
        }
        (token, registry, channels, ledger) = (token_, registry_, channels_, ledger_);
    }

    /// @inheritdoc IRoyaltyPool
    function credit(Credit[] calldata credits) external {
        if (msg.sender != channels && msg.sender != ledger) revert NotCreditor(msg.sender);
        uint256 sum;
        for (uint256 i; i < credits.length; ++i) {
            (bytes32 model, uint256 amount) = (credits[i].model, credits[i].amount);
            sum += amount;
            uint256 total = revenue[model] += amount;
            emit Credited(model, msg.sender, amount, total);
        }
        totalRevenue += sum;
        uint256 needed = totalRevenue - totalClaimed;
        uint256 balance = IERC20(token).balanceOf(address(this));
        if (balance < needed) revert NotFunded(balance, needed);
    }

    /// @inheritdoc IRoyaltyPool
    function claim(bytes32 model, bytes32 node, uint256 slot) external returns (uint256 amount) {
        (address payee, uint256 ppm, uint256 sharePpm) = ILineageRegistry(registry).entitlement(model, node, slot);
        if (payee == address(0)) revert UnknownSlot(model, node, slot);
        bytes32 key = _key(model, node, slot);
        amount = _credited(model, ppm, sharePpm) - _claimed[key];
        if (amount == 0) return 0;
        uint256 total = _claimed[key] += amount;
        totalClaimed += amount;
        emit Claimed(model, node, payee, slot, amount, total);
        IERC20(token).safeTransfer(payee, amount);
    }

    /// @inheritdoc IRoyaltyPool
    function claimMany(ClaimKey[] calldata keys) external returns (uint256 amount) {
        for (uint256 i; i < keys.length; ++i) {
            amount += _claimOrSkip(keys[i]);
        }
    }

    /// @inheritdoc IRoyaltyPool
    function claimable(bytes32 model, bytes32 node, uint256 slot) external view returns (uint256) {
        return credited(model, node, slot) - _claimed[_key(model, node, slot)];
    }

    /// @inheritdoc IRoyaltyPool
    function credited(bytes32 model, bytes32 node, uint256 slot) public view returns (uint256) {
        (, uint256 ppm, uint256 sharePpm) = ILineageRegistry(registry).entitlement(model, node, slot);
        return _credited(model, ppm, sharePpm);
    }

    /// @inheritdoc IRoyaltyPool
    function claimed(bytes32 model, bytes32 node, uint256 slot) external view returns (uint256) {
        return _claimed[_key(model, node, slot)];
    }

    /// @dev A transfer that fails undoes its own accounting. Nothing else can have changed it meanwhile: whatever
    /// the failed call did is undone with it.
    function _claimOrSkip(ClaimKey calldata k) private returns (uint256 amount) {
        (address payee, uint256 ppm, uint256 sharePpm) = ILineageRegistry(registry).entitlement(k.model, k.node, k.slot);
        if (payee == address(0)) {
            emit ClaimSkipped(k.model, k.node, k.slot, SkipReason.UnknownSlot);
            return 0;
        }
        bytes32 key = _key(k.model, k.node, k.slot);
        uint256 before = _claimed[key];
        amount = _credited(k.model, ppm, sharePpm) - before;
        if (amount == 0) return 0;
        _claimed[key] = before + amount;
        totalClaimed += amount;
        if (IERC20(token).trySafeTransfer(payee, amount)) {
            emit Claimed(k.model, k.node, payee, k.slot, amount, before + amount);
        } else {
            _claimed[key] = before;
            totalClaimed -= amount;
            emit ClaimSkipped(k.model, k.node, k.slot, SkipReason.TransferFailed);
            amount = 0;
        }
    }

    /// @dev Floors of the cumulative figure only: monotone in revenue, and their sum over all slots never exceeds it.
    function _credited(bytes32 model, uint256 ppm, uint256 sharePpm) private view returns (uint256) {
        return revenue[model] * ppm * sharePpm / (PPM * PPM);
    }

    function _key(bytes32 model, bytes32 node, uint256 slot) private pure returns (bytes32) {
        return keccak256(abi.encode(model, node, slot));
    }
}
