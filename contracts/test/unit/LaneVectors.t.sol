// SPDX-License-Identifier: Apache-2.0 OR MIT
pragma solidity ^0.8.28;

import {ILineageRegistry} from "src/interfaces/ILineageRegistry.sol";
import {IUsageLedger} from "src/interfaces/IUsageLedger.sol";
import {System} from "../helpers/System.sol";

/// @notice fixtures/lanes.json, on a payer's channel and on the operator's.
contract LaneVectorsTest is System {
    struct Step {
        uint128 cumulative_pico;
        uint256 target;
        uint256 paid;
        uint256 royalty;
        uint256 operator;
    }

    struct LaneCase {
        string name;
        uint32 royalty_ppm;
        uint128 deposit;
        Step[] steps;
    }

    string private constant TYPES = "LaneInFile(string name,uint32 royalty_ppm,uint128 deposit,StepInFile[] steps)"
        "StepInFile(uint128 cumulative_pico,uint256 target,uint256 paid,uint256 royalty,uint256 operator)";

    function setUp() public {
        deploy();
    }

    function testChannelsFollowTheVectors() public {
        LaneCase[] memory cases = _read();
        for (uint256 c; c < cases.length; ++c) {
            bytes32 model = _model(cases[c]);
            bytes32 channel = open(payer, keccak256(bytes(cases[c].name)), cases[c].deposit);
            uint256 earned = channels.earnings();
            for (uint256 i; i < cases[c].steps.length; ++i) {
                Step memory s = cases[c].steps[i];
                redeem(row(channel, model, s.cumulative_pico));
                eq(channels.lanePaid(channel, model), s.paid, cases[c].name);
                eq(pool.revenue(model), s.royalty, cases[c].name);
                eq(channels.earnings() - earned, s.operator, cases[c].name);
            }
        }
    }

    /// @dev The operator's channel has no deposit to bind, and its cumulative figure never falls.
    function testLedgerFollowsTheVectors() public {
        LaneCase[] memory cases = _read();
        topUp(IUsageLedger.Fund.Escrow, type(uint128).max);
        for (uint256 c; c < cases.length; ++c) {
            bytes32 model = _model(cases[c]);
            bytes32 journal = keccak256(bytes(cases[c].name));
            uint128 posted;
            uint64 window;
            for (uint256 i; i < cases[c].steps.length; ++i) {
                Step memory s = cases[c].steps[i];
                if (s.cumulative_pico < posted) continue;
                post(journal, window++, model, s.cumulative_pico - posted);
                posted = s.cumulative_pico;
                uint256 whole = s.paid == s.target ? s.royalty : s.target * cases[c].royalty_ppm / PPM;
                eq(ledger.lane(model).paid, whole, cases[c].name);
                eq(pool.revenue(model), whole, cases[c].name);
            }
        }
    }

    function _model(LaneCase memory c) private returns (bytes32) {
        ILineageRegistry.NodeInput memory input = base(c.name);
        input.royaltyPpm = c.royalty_ppm;
        return register(input);
    }

    function _read() private view returns (LaneCase[] memory cases) {
        string memory json = vm.readFile("../fixtures/lanes.json");
        cases = abi.decode(vm.parseJsonTypeArray(json, ".cases", TYPES), (LaneCase[]));
        yes(cases.length >= 8, "too few cases");
    }
}
