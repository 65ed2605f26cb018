// SPDX-License-Identifier: Apache-2.0 OR MIT
pragma solidity ^0.8.28;

import {ILineageRegistry} from "src/interfaces/ILineageRegistry.sol";
import {Test} from "../helpers/Test.sol";
import {TableHandler} from "./TableHandler.sol";

/// @notice Invariant I5 of the design.
contract TableInvariants is Test {
    uint256 private constant PPM = 1_000_000;

    TableHandler private handler;
    ILineageRegistry private registry;

    function setUp() public {
        handler = new TableHandler();
        registry = handler.lineage();
    }

    function targetContracts() public view returns (address[] memory targets) {
        targets = new address[](1);
        targets[0] = address(handler);
    }

    function invariant_I5_tablesAreWholeAndFloorsHold() public view {
        // Tables never change (below), so looking at the youngest after each step looks at all.
        bytes32 model = handler.models(handler.count() - 1);
        ILineageRegistry.Row[] memory table = registry.table(model);
        uint256 royalty = registry.royaltyPpm(model);
        uint256 pot = handler.potPpm(model);
        le(table.length, pot == 0 ? 32 : 33, "rows");
        eq(table[0].node, model, "self comes first");
        uint256 sum;
        for (uint256 i; i < table.length; ++i) {
            sum += table[i].ppm;
            yes(table[i].ppm != 0, "no empty row");
            le(table[i].floorPpm * PPM, table[i].ppm * royalty, "I5: a floor");
            for (uint256 j; j < i; ++j) {
                yes(table[i].node != table[j].node, "a node once");
            }
        }
        eq(sum, PPM, "I5: the sum");
        if (pot != 0) {
            eq(table[table.length - 1].node, registry.potId(registry.node(model).track), "pot comes last");
            eq(table[table.length - 1].ppm, pot, "pot");
        }
    }

    function invariant_I5_tablesNeverChange() public view {
        for (uint256 i; i < handler.count(); i += 7) {
            bytes32 model = handler.models(i);
            eq(keccak256(abi.encode(registry.table(model))), handler.hashOfTable(model), "table");
        }
    }
}
