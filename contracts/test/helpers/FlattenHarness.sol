// SPDX-License-Identifier: Apache-2.0 OR MIT
pragma solidity ^0.8.28;

import {Flatten} from "src/libraries/Flatten.sol";

/// @notice What a vector or a fuzzer says of one node.
struct FlattenNode {
    uint256[][] parents;
    uint256 inherit_ppm;
    uint256 royalty_ppm;
    uint256 floor_ppm;
    uint256 pot_ppm;
}

/// @notice Flattens a lineage with the library alone, the ids as keys.
contract FlattenHarness {
    using Flatten for Flatten.Rows;

    uint256[3][][] private _tables;

    function reset() external {
        delete _tables;
    }

    function add(uint256 id, FlattenNode calldata node) external returns (uint256[3][] memory table) {
        Flatten.Rows memory rows = Flatten.open(id, node.inherit_ppm, node.floor_ppm, 1 + node.parents.length * 33);
        for (uint256 p; p < node.parents.length; ++p) {
            uint256[3][] storage parent = _tables[node.parents[p][0]];
            for (uint256 i; i < parent.length; ++i) {
                rows.inherit(parent[i][0], node.parents[p][1] * node.inherit_ppm, parent[i][1], parent[i][2]);
            }
        }
        rows = rows.settle(node.royalty_ppm, node.pot_ppm);
        table = new uint256[3][](rows.count);
        for (uint256 i; i < rows.count; ++i) {
            table[i] = [rows.keys[i], rows.values[i], rows.floors[i]];
        }
        _tables.push(table);
    }
}
