// SPDX-License-Identifier: Apache-2.0 OR MIT
pragma solidity 0.8.37;

import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";

/// @title A dollar for local chains and tests
/// @notice Anyone may mint any amount: it is worth nothing, and must never stand behind real credit.
contract TestDollar is ERC20 {
    constructor() ERC20("Dividend test dollar", "tUSD") {}

    function mint(address to, uint256 amount) external {
        _mint(to, amount);
    }

    /// @dev Base units are micro-dollars.
    function decimals() public pure override returns (uint8) {
        return 6;
    }
}
