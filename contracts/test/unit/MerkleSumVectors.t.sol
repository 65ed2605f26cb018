// SPDX-License-Identifier: Apache-2.0 OR MIT
pragma solidity ^0.8.28;

import {MerkleSum} from "../helpers/MerkleSum.sol";
import {Test} from "../helpers/Test.sol";

/// @notice fixtures/merkle_sum.json: every proof leads from its leaf to root and sum.
contract MerkleSumVectorsTest is Test {
    struct Leaf {
        bytes32 struct_hash;
        uint128 sum;
    }

    struct Tree {
        string name;
        Leaf[] leaves;
        bytes32 root;
        uint128 sum;
        MerkleSum.Step[][] proofs;
    }

    string private constant TYPES = "TreeInFile(string name,LeafInFile[] leaves,bytes32 root,uint128 sum,StepInFile[][] proofs)"
        "LeafInFile(bytes32 struct_hash,uint128 sum)StepInFile(bytes32 hash,uint128 sum,string side)";

    function testProofsLeadToTheRoot() public view {
        string memory json = vm.readFile("../fixtures/merkle_sum.json");
        Tree[] memory trees = abi.decode(vm.parseJsonTypeArray(json, ".cases", TYPES), (Tree[]));
        yes(trees.length >= 9, "too few trees");
        for (uint256 t; t < trees.length; ++t) {
            Tree memory tree = trees[t];
            eq(tree.leaves.length, tree.proofs.length, tree.name);
            if (tree.leaves.length == 0) eq(tree.root, 0, tree.name);
            uint256 sum;
            for (uint256 i; i < tree.leaves.length; ++i) {
                (bytes32 root, uint128 total) =
                    MerkleSum.climb(tree.leaves[i].struct_hash, tree.leaves[i].sum, tree.proofs[i]);
                eq(root, tree.root, tree.name);
                eq(total, tree.sum, tree.name);
                sum += tree.leaves[i].sum;
            }
            eq(sum, tree.sum, tree.name);
        }
    }
}
