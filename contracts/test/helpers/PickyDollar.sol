// SPDX-License-Identifier: Apache-2.0 OR MIT
pragma solidity ^0.8.28;

import {TestDollar} from "src/TestDollar.sol";

/// @notice A dollar that can refuse a receiver, as some real ones do, or call back in the middle of a transfer, as
/// none should. Etched over a TestDollar, whose balances it takes over.
contract PickyDollar is TestDollar {
    error Refused(address to);

    mapping(address => bool) private _refused;
    address private _target;
    bytes private _data;

    function refuse(address to) external {
        _refused[to] = true;
    }

    function callBack(address target, bytes calldata data) external {
        (_target, _data) = (target, data);
    }

    function _update(address from, address to, uint256 value) internal override {
        if (_refused[to]) revert Refused(to);
        super._update(from, to, value);
        address target = _target;
        if (target == address(0)) return;
        _target = address(0);
        (bool done, bytes memory reason) = target.call(_data);
        if (!done) {
            assembly ("memory-safe") {
                revert(add(reason, 0x20), mload(reason))
            }
        }
    }
}
