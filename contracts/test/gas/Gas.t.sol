// SPDX-License-Identifier: Apache-2.0 OR MIT
pragma solidity ^0.8.28;

import {ILineageRegistry} from "src/interfaces/ILineageRegistry.sol";
import {IPaymentChannels} from "src/interfaces/IPaymentChannels.sol";
import {IRoyaltyPool} from "src/interfaces/IRoyaltyPool.sol";
import {IUsageLedger} from "src/interfaces/IUsageLedger.sol";
import {System} from "../helpers/System.sol";

/// @notice What the calls cost, for contracts/.gas-snapshot: `forge snapshot --isolate --match-path 'test/gas/*'`. Isolated,
/// a call is a transaction of its own, with its 21,000 gas, its calldata and cold storage.
contract GasTest is System {
    /// @dev EIP-7825.
    uint256 private constant TRANSACTION_CAP = 16_777_216;

    uint128 private _claimed;
    bytes32[] private _models;
    bytes32[] private _ids;

    function setUp() public {
        vm.pauseGasMetering();
        deploy();
    }

    function testRegister_1_row() public {
        _meterRegister(base("a"));
    }

    function testRegister_8_rows() public {
        _meterRegister(fork("a", _line(7, 0), 800_000));
    }

    function testRegister_32_rows() public {
        _meterRegister(fork("a", _line(31, 0), 800_000));
    }

    /// @notice The dearest registration there is: 16 parents without a common ancestor, of 32 rows each.
    function testRegister_512_rows_merged() public {
        ILineageRegistry.NodeInput memory input = fork("a", 0, 800_000);
        input.parents = new ILineageRegistry.Parent[](16);
        input.slots = new ILineageRegistry.Slot[](8);
        for (uint256 i; i < 8; ++i) {
            input.slots[i] = ILineageRegistry.Slot(address(uint160(i + 1)), 125_000);
        }
        for (uint256 i; i < 16; ++i) {
            input.parents[i] = ILineageRegistry.Parent(_line(32, i + 1), 62_500);
        }
        le(_meterRegister(input), TRANSACTION_CAP, "the cap of a transaction");
    }

    function testRedeem_001_first() public {
        _prepareLanes(1);
        _meterRedeem();
    }

    function testRedeem_001_repeated() public {
        _prepareLanes(1);
        _redeemOnce();
        _meterRedeem();
    }

    function testRedeem_010_repeated() public {
        _prepareLanes(10);
        _redeemOnce();
        _meterRedeem();
    }

    function testRedeem_100_first() public {
        _prepareLanes(100);
        le(_meterRedeem(), TRANSACTION_CAP, "the cap of a transaction");
    }

    function testRedeem_100_repeated() public {
        _prepareLanes(100);
        _redeemOnce();
        _meterRedeem();
    }

    function testPostSeal_001_first() public {
        _meterPost(1, 0);
    }

    function testPostSeal_001_repeated() public {
        _meterPost(1, 1);
    }

    function testPostSeal_010_repeated() public {
        _meterPost(10, 1);
    }

    function testPostSeal_100_first() public {
        le(_meterPost(100, 0), TRANSACTION_CAP, "the cap of a transaction");
    }

    function testPostSeal_100_repeated() public {
        _meterPost(100, 1);
    }

    function testClaim_001() public {
        _meterClaims(1);
    }

    function testClaim_010() public {
        _meterClaims(10);
    }

    // ------------------------------------------------------------------- helpers

    /// @notice The youngest of a line of `length` models.
    function _line(uint256 length, uint256 seed) private returns (bytes32 id) {
        for (uint256 i; i < length; ++i) {
            string memory name = string(abi.encode(seed, i));
            id = register(i == 0 ? base(name) : fork(name, id, 800_000));
        }
    }

    function _meterRegister(ILineageRegistry.NodeInput memory input) private returns (uint256 used) {
        commit(input);
        vm.resumeGasMetering();
        used = gasleft();
        registry.register(input, 0);
        used -= gasleft();
        vm.pauseGasMetering();
    }

    function _prepareModels(uint256 count) private {
        for (uint256 i; i < count; ++i) {
            _models.push(register(base(string(abi.encode("model", i)))));
        }
    }

    function _prepareLanes(uint256 count) private {
        _prepareModels(count);
        for (uint256 i; i < count; ++i) {
            _ids.push(open(address(uint160(0xAA00 + i)), bytes32(i), 1_000_000));
        }
    }

    function _rows() private returns (IPaymentChannels.Row[] memory rows) {
        _claimed += 1_000 * PICO;
        rows = new IPaymentChannels.Row[](_ids.length);
        for (uint256 i; i < rows.length; ++i) {
            rows[i] = row(_ids[i], _models[i], _claimed);
        }
    }

    function _redeemOnce() private {
        channels.redeemBatch(_rows());
    }

    function _meterRedeem() private returns (uint256 used) {
        IPaymentChannels.Row[] memory rows = _rows();
        vm.resumeGasMetering();
        used = gasleft();
        channels.redeemBatch(rows);
        used -= gasleft();
        vm.pauseGasMetering();
    }

    function _meterPost(uint256 count, uint64 before) private returns (uint256 used) {
        _prepareModels(count);
        topUp(IUsageLedger.Fund.Escrow, 1_000_000);
        IUsageLedger.SealRow[] memory rows = new IUsageLedger.SealRow[](count);
        for (uint256 i; i < count; ++i) {
            rows[i] = sealRow(_models[i], 1_000 * PICO);
        }
        for (uint64 window; window < before; ++window) {
            vm.prank(operator);
            ledger.postSeal("journal", window, rows, true);
        }
        vm.prank(operator);
        vm.resumeGasMetering();
        used = gasleft();
        ledger.postSeal("journal", before, rows, true);
        used -= gasleft();
        vm.pauseGasMetering();
    }

    function _meterClaims(uint256 count) private {
        _prepareLanes(count);
        _redeemOnce();
        IRoyaltyPool.ClaimKey[] memory keys = new IRoyaltyPool.ClaimKey[](count);
        for (uint256 i; i < count; ++i) {
            keys[i] = IRoyaltyPool.ClaimKey(_models[i], _models[i], 0);
        }
        vm.resumeGasMetering();
        pool.claimMany(keys);
        vm.pauseGasMetering();
    }
}
