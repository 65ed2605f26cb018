// SPDX-License-Identifier: Apache-2.0 OR MIT
pragma solidity ^0.8.28;

import {ILineageRegistry} from "src/interfaces/ILineageRegistry.sol";
import {Flatten} from "src/libraries/Flatten.sol";
import {FlattenHarness, FlattenNode} from "../helpers/FlattenHarness.sol";
import {System} from "../helpers/System.sol";

/// @notice fixtures/flatten.json, through the library alone and through the registry.
contract FlattenVectorsTest is System {
    struct Case {
        string name;
        FlattenNode[] nodes;
        uint256[][] expect;
        string failure;
    }

    string private constant TYPES = "CaseInFile(string name,FlattenNode[] nodes,uint256[][] expect,string error)"
        "FlattenNode(uint256[][] parents,uint256 inherit_ppm,uint256 royalty_ppm,uint256 floor_ppm,uint256 pot_ppm)";

    bytes32[] private _ids;
    uint256 private _pot;

    function setUp() public {
        deploy();
    }

    function testLibraryFollowsTheVectors() public {
        vm.pauseGasMetering();
        Case[] memory cases = _read();
        FlattenHarness harness = new FlattenHarness();
        for (uint256 c; c < cases.length; ++c) {
            harness.reset();
            uint256 last = cases[c].nodes.length - 1;
            for (uint256 i; i < last; ++i) {
                harness.add(uint256(_ids[i]), cases[c].nodes[i]);
            }
            if (bytes(cases[c].failure).length != 0) {
                vm.expectPartialRevert(_selector(cases[c].failure));
                harness.add(uint256(_ids[last]), cases[c].nodes[last]);
            } else {
                _compare(cases[c], harness.add(uint256(_ids[last]), cases[c].nodes[last]));
            }
        }
    }

    function testRegistryFollowsTheVectors() public {
        vm.pauseGasMetering();
        Case[] memory cases = _read();
        for (uint256 c; c < cases.length; ++c) {
            bytes32[] memory ids = new bytes32[](cases[c].nodes.length);
            for (uint256 i; i < ids.length; ++i) {
                ILineageRegistry.NodeInput memory input = _input(cases[c], i, ids);
                commit(input);
                bool refused = i + 1 == ids.length && bytes(cases[c].failure).length != 0;
                if (refused) vm.expectPartialRevert(_selector(cases[c].failure));
                ids[i] = registry.register(input, 0);
                if (i + 1 == ids.length && !refused) _compareRegistered(cases[c], ids);
            }
        }
    }

    function testPotIdOfTheFixtures() public {
        _read();
        eq(uint256(registry.potId(keccak256("fixture-track"))), _pot, "pot");
    }

    function _read() private returns (Case[] memory cases) {
        string memory json = vm.readFile("../fixtures/flatten.json");
        _ids = vm.parseJsonBytes32Array(json, ".nodes");
        _pot = uint256(vm.parseJsonBytes32(json, ".pot"));
        cases = abi.decode(vm.parseJsonTypeArray(json, ".cases", TYPES), (Case[]));
        yes(cases.length > 100, "too few cases");
    }

    /// @dev The library's pot has key 0, the files name it.
    function _compare(Case memory c, uint256[3][] memory table) private view {
        eq(table.length, c.expect.length, c.name);
        for (uint256 i; i < table.length; ++i) {
            eq(table[i][0] == Flatten.POT ? _pot : table[i][0], c.expect[i][0], c.name);
            eq(table[i][1], c.expect[i][1], c.name);
            eq(table[i][2], c.expect[i][2], c.name);
        }
    }

    function _compareRegistered(Case memory c, bytes32[] memory ids) private view {
        bytes32 model = ids[ids.length - 1];
        ILineageRegistry.Row[] memory table = registry.table(model);
        eq(table.length, c.expect.length, c.name);
        bytes32 pot = registry.potId(registry.node(model).track);
        for (uint256 i; i < table.length; ++i) {
            eq(table[i].ppm, c.expect[i][1], c.name);
            eq(table[i].floorPpm, c.expect[i][2], c.name);
            eq(table[i].node, c.expect[i][0] == _pot ? pot : ids[_indexOf(c.expect[i][0])], c.name);
            eq(registry.row(model, table[i].node).ppm, table[i].ppm, c.name);
        }
    }

    function _indexOf(uint256 id) private view returns (uint256 i) {
        while (uint256(_ids[i]) != id) ++i;
    }

    function _input(Case memory c, uint256 i, bytes32[] memory ids)
        private
        returns (ILineageRegistry.NodeInput memory input)
    {
        FlattenNode memory n = c.nodes[i];
        input = base("vector");
        input.artifactDigest = keccak256(abi.encode(c.name, i));
        input.kind = n.parents.length == 0 ? ILineageRegistry.Kind.Base : ILineageRegistry.Kind.Patch;
        input.parents = new ILineageRegistry.Parent[](n.parents.length);
        for (uint256 p; p < n.parents.length; ++p) {
            input.parents[p] = ILineageRegistry.Parent(ids[n.parents[p][0]], uint32(n.parents[p][1]));
        }
        input.inheritPpm = uint32(n.inherit_ppm);
        input.royaltyPpm = uint32(n.royalty_ppm);
        input.floorPpm = uint32(n.floor_ppm);
        if (n.pot_ppm != 0) input.track = _trackWithPot(uint32(n.pot_ppm), c.name, i);
    }

    function _trackWithPot(uint32 potPpm, string memory name, uint256 i) private returns (bytes32) {
        bytes32 hashed = keccak256(abi.encode(name, i));
        bytes memory text = new bytes(32);
        for (uint256 k; k < 32; ++k) {
            text[k] = bytes1(uint8(97) + uint8(hashed[k]) % 26);
        }
        return registry.createTrack(string(text), charter(potPpm));
    }

    function _selector(string memory name) private pure returns (bytes4) {
        bytes32 hashed = keccak256(bytes(name));
        if (hashed == keccak256("FloorWithoutRoyalty")) return Flatten.FloorWithoutRoyalty.selector;
        if (hashed == keccak256("TooManyFloors")) return Flatten.TooManyFloors.selector;
        if (hashed == keccak256("FloorsTooHigh")) return Flatten.FloorsTooHigh.selector;
        revert Untrue(name);
    }
}
