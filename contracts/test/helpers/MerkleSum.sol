// SPDX-License-Identifier: Apache-2.0 OR MIT
pragma solidity ^0.8.28;

/// @notice How a proof of inclusion in a Merkle-sum tree is followed on a chain.
library MerkleSum {
    struct Step {
        bytes32 hash;
        uint128 sum;
        string side;
    }

    function leaf(bytes32 structHash) internal pure returns (bytes32) {
        return keccak256(abi.encodePacked(uint8(0), structHash));
    }

    function climb(bytes32 structHash, uint128 sum, Step[] memory steps)
        internal
        pure
        returns (bytes32 root, uint128 total)
    {
        (root, total) = (leaf(structHash), sum);
        for (uint256 i; i < steps.length; ++i) {
            bool left = keccak256(bytes(steps[i].side)) == keccak256("left");
            root = left
                ? keccak256(abi.encodePacked(uint8(1), steps[i].hash, steps[i].sum, root, total))
                : keccak256(abi.encodePacked(uint8(1), root, total, steps[i].hash, steps[i].sum));
            total += steps[i].sum;
        }
    }
}
