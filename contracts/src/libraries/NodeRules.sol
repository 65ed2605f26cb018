// SPDX-License-Identifier: Apache-2.0 OR MIT
pragma solidity ^0.8.28;

import {ILineageRegistry} from "../interfaces/ILineageRegistry.sol";
import {PPM} from "./Ppm.sol";

/// @title What a registrant may say
/// @notice The checks that need no state. Whether parents exist, and the floors, are checked while flattening.
library NodeRules {
    uint256 internal constant MAX_PARENTS = 16;
    uint256 internal constant MAX_SLOTS = 8;
    uint256 internal constant MAX_INHERIT_PPM = 800_000;
    uint256 internal constant MAX_ROYALTY_PPM = 500_000;
    uint256 internal constant MAX_FLOOR_PPM = 20_000;
    uint256 internal constant MAX_URI_BYTES = 512;

    function check(ILineageRegistry.NodeInput calldata input) internal pure {
        if (input.artifactDigest == 0) revert ILineageRegistry.DigestZero();
        if (input.royaltyPpm > MAX_ROYALTY_PPM) {
            revert ILineageRegistry.RoyaltyTooHigh(input.royaltyPpm, MAX_ROYALTY_PPM);
        }
        if (input.floorPpm > MAX_FLOOR_PPM) revert ILineageRegistry.FloorTooHigh(input.floorPpm, MAX_FLOOR_PPM);
        if (bytes(input.uri).length > MAX_URI_BYTES) {
            revert ILineageRegistry.UriTooLong(bytes(input.uri).length, MAX_URI_BYTES);
        }
        _checkParents(input);
        _checkSlots(input.slots);
    }

    function _checkParents(ILineageRegistry.NodeInput calldata input) private pure {
        uint256 count = input.parents.length;
        if (input.inheritPpm > MAX_INHERIT_PPM) {
            revert ILineageRegistry.InheritTooHigh(input.inheritPpm, MAX_INHERIT_PPM);
        }
        if (count > MAX_PARENTS) revert ILineageRegistry.TooManyParents(count, MAX_PARENTS);
        bool isBase = input.kind == ILineageRegistry.Kind.Base;
        if (isBase != (count == 0) || isBase != (input.inheritPpm == 0)) {
            revert ILineageRegistry.KindAndParentsDisagree(input.kind, count, input.inheritPpm);
        }
        if (isBase) return;
        uint256 sum;
        for (uint256 i; i < count; ++i) {
            ILineageRegistry.Parent calldata parent = input.parents[i];
            if (parent.weightPpm == 0) revert ILineageRegistry.ZeroWeight(parent.node);
            for (uint256 j; j < i; ++j) {
                if (input.parents[j].node == parent.node) revert ILineageRegistry.DuplicateParent(parent.node);
            }
            sum += parent.weightPpm;
        }
        if (sum != PPM) revert ILineageRegistry.ParentWeightsNotWhole(sum);
    }

    function _checkSlots(ILineageRegistry.Slot[] calldata slots) private pure {
        if (slots.length == 0 || slots.length > MAX_SLOTS) {
            revert ILineageRegistry.SlotCountOutOfRange(slots.length, MAX_SLOTS);
        }
        uint256 sum;
        for (uint256 i; i < slots.length; ++i) {
            if (slots[i].payee == address(0)) revert ILineageRegistry.ZeroPayee(i);
            if (slots[i].sharePpm == 0) revert ILineageRegistry.ZeroShare(i);
            sum += slots[i].sharePpm;
        }
        if (sum != PPM) revert ILineageRegistry.SlotSharesNotWhole(sum);
    }
}
