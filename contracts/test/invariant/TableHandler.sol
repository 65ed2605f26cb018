// SPDX-License-Identifier: Apache-2.0 OR MIT
pragma solidity ^0.8.28;

import {ILineageRegistry} from "src/interfaces/ILineageRegistry.sol";
import {Flatten} from "src/libraries/Flatten.sol";
import {System} from "../helpers/System.sol";

/// @notice Grows lineages at random.
contract TableHandler is System {
    bytes32[] public models;
    mapping(bytes32 => bytes32) public hashOfTable;
    mapping(bytes32 => uint32) public potPpm;
    bytes32[] private _tracks;
    uint256 public refused;

    constructor() {
        deploy();
        _tracks.push(0);
        _tracks.push(registry.createTrack("pot", charter(50_000)));
        _tracks.push(registry.createTrack("small-pot", charter(1)));
        _tracks.push(registry.createTrack("no-pot", charter(0)));
        for (uint32 i; i < 3; ++i) {
            ILineageRegistry.NodeInput memory input = base(string(abi.encode(i)));
            input.royaltyPpm = 500_000;
            input.floorPpm = i * 10_000;
            _register(input);
        }
    }

    function lineage() external view returns (ILineageRegistry) {
        return registry;
    }

    function count() external view returns (uint256) {
        return models.length;
    }

    function grow(uint256 seed, uint256 inherit, uint256 royalty, uint256 floor, uint256 track) external {
        ILineageRegistry.NodeInput memory input = base(string(abi.encode(models.length, seed)));
        input.kind = seed % 2 == 0 ? ILineageRegistry.Kind.Fork : ILineageRegistry.Kind.Patch;
        input.parents = _parents(seed);
        input.inheritPpm = uint32(bound(inherit, 1, 800_000));
        input.royaltyPpm = uint32(royalty % 4 == 0 ? bound(royalty, 0, 50_000) : bound(royalty, 100_000, 500_000));
        input.floorPpm = uint32(floor % 3 == 0 ? bound(floor, 0, 20_000) : 0);
        input.track = _tracks[track % _tracks.length];
        _register(input);
    }

    /// @dev Up to 16 parents, the younger the likelier: lines grow long and wide.
    function _parents(uint256 seed) private view returns (ILineageRegistry.Parent[] memory parents) {
        uint256 width = bound(seed >> 8, 1, models.length < 16 ? models.length : 16);
        parents = new ILineageRegistry.Parent[](width);
        uint256 first = models.length - width - bound(seed >> 16, 0, models.length - width) / 3;
        uint256 left = PPM;
        for (uint256 i; i < width; ++i) {
            uint256 most = left - (width - 1 - i);
            uint256 weight =
                i + 1 == width ? left : 1 + uint256(keccak256(abi.encode(seed, i))) % (most < 2 ? 1 : most / 2);
            parents[i] = ILineageRegistry.Parent(models[first + i], uint32(weight));
            left -= weight;
        }
    }

    function _register(ILineageRegistry.NodeInput memory input) private {
        commit(input);
        try registry.register(input, 0) returns (bytes32 id) {
            models.push(id);
            hashOfTable[id] = keccak256(abi.encode(registry.table(id)));
            potPpm[id] = input.track == 0 ? 0 : registry.track(input.track).charter.verifierPpm;
        } catch (bytes memory reason) {
            bytes4 selector = bytes4(reason);
            yes(
                selector == Flatten.FloorWithoutRoyalty.selector || selector == Flatten.FloorsTooHigh.selector
                    || selector == Flatten.TooManyFloors.selector,
                "refused for floors alone"
            );
            ++refused;
        }
    }
}
