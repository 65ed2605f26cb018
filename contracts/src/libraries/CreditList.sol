// SPDX-License-Identifier: Apache-2.0 OR MIT
pragma solidity ^0.8.28;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {IRoyaltyPool} from "../interfaces/IRoyaltyPool.sol";

/// @title Royalties of a batch on their way to the pool
/// @notice Collected in memory while a batch is accounted for, then sent with one transfer and one call.
library CreditList {
    using SafeERC20 for IERC20;

    struct List {
        IRoyaltyPool.Credit[] items;
        uint256 count;
        uint256 total;
    }

    function create(uint256 capacity) internal pure returns (List memory list) {
        list.items = new IRoyaltyPool.Credit[](capacity);
    }

    /// @dev Rows of one model that stand together become one credit.
    function add(List memory list, bytes32 model, uint256 amount) internal pure {
        if (amount == 0) return;
        list.total += amount;
        if (list.count != 0 && list.items[list.count - 1].model == model) {
            list.items[list.count - 1].amount += uint128(amount);
        } else {
            list.items[list.count++] = IRoyaltyPool.Credit({model: model, amount: uint128(amount)});
        }
    }

    /// @notice Tokens first, then the credit: the pool refuses what it does not hold.
    function send(List memory list, IERC20 token, IRoyaltyPool pool) internal {
        if (list.count == 0) return;
        IRoyaltyPool.Credit[] memory items = list.items;
        uint256 count = list.count;
        assembly ("memory-safe") {
            mstore(items, count)
        }
        token.safeTransfer(address(pool), list.total);
        pool.credit(items);
    }
}
