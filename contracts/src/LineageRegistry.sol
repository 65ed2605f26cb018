// SPDX-License-Identifier: Apache-2.0 OR MIT
pragma solidity 0.8.37;

import {ILineageRegistry} from "./interfaces/ILineageRegistry.sol";
import {Flatten} from "./libraries/Flatten.sol";
import {NodeRules} from "./libraries/NodeRules.sol";
import {PackedTable} from "./libraries/PackedTable.sol";
import {PPM} from "./libraries/Ppm.sol";
import {Tracks} from "./Tracks.sol";

/// @title Lineage and terms of models
/// @notice Deployed once, owned by nobody. See ILineageRegistry.
contract LineageRegistry is Tracks {
    using Flatten for Flatten.Rows;
    using PackedTable for PackedTable.Table;

    /// @inheritdoc ILineageRegistry
    mapping(bytes32 commitment => uint256 blockNumber) public committedAt;
    /// @inheritdoc ILineageRegistry
    uint256 public nodeCount;
    /// @inheritdoc ILineageRegistry
    mapping(uint256 number => bytes32 id) public nodeAt;

    mapping(bytes32 id => Node) private _nodes;
    mapping(bytes32 id => Slot[8]) private _slots;
    mapping(bytes32 id => PackedTable.Table) private _tables;

    // ----------------------------------------------------------- registering

    /// @inheritdoc ILineageRegistry
    function commit(bytes32 commitment) external {
        if (committedAt[commitment] != 0) return;
        committedAt[commitment] = block.number;
        emit Committed(commitment, msg.sender);
    }

    /// @inheritdoc ILineageRegistry
    function register(NodeInput calldata input, bytes32 salt) external returns (bytes32 id) {
        _useCommitment(commitmentOf(msg.sender, input.artifactDigest, salt));
        NodeRules.check(input);
        id = nodeId(input.artifactDigest);
        if (_nodes[id].number != 0) revert DigestTaken(input.artifactDigest, id);

        uint256 number = ++nodeCount;
        nodeAt[number] = id;
        Flatten.Rows memory rows = _flatten(input, number);
        _tables[id].write(rows);
        for (uint256 i; i < input.slots.length; ++i) {
            _slots[id][i] = input.slots[i];
        }
        _nodes[id] = Node({
            number: uint64(number),
            kind: input.kind,
            slotCount: uint8(input.slots.length),
            rowCount: uint8(rows.count),
            inheritPpm: input.inheritPpm,
            royaltyPpm: input.royaltyPpm,
            floorPpm: input.floorPpm,
            registeredAt: uint64(block.number),
            minPriceIn: input.minPriceIn,
            minPriceOut: input.minPriceOut,
            artifactDigest: input.artifactDigest,
            track: input.track
        });
        emit NodeRegistered(id, msg.sender, input.track, uint64(number), input, table(id));
    }

    /// @inheritdoc ILineageRegistry
    function rotatePayee(bytes32 id, uint256 slot, address newPayee) external {
        if (slot >= _known(id).slotCount) revert UnknownSlot(id, slot);
        if (newPayee == address(0)) revert ZeroPayee(slot);
        address oldPayee = _slots[id][slot].payee;
        if (msg.sender != oldPayee) revert NotPayee(msg.sender, oldPayee);
        _slots[id][slot].payee = newPayee;
        emit PayeeRotated(id, slot, newPayee, oldPayee);
    }

    // ----------------------------------------------------------------- views

    /// @inheritdoc ILineageRegistry
    function nodeId(bytes32 artifactDigest) public view returns (bytes32) {
        return keccak256(abi.encode("dividend.node", block.chainid, address(this), artifactDigest));
    }

    /// @inheritdoc ILineageRegistry
    function commitmentOf(address sender, bytes32 artifactDigest, bytes32 salt) public view returns (bytes32) {
        return keccak256(abi.encode(block.chainid, address(this), sender, artifactDigest, salt));
    }

    /// @inheritdoc ILineageRegistry
    function exists(bytes32 id) external view returns (bool) {
        return _nodes[id].number != 0;
    }

    /// @inheritdoc ILineageRegistry
    function node(bytes32 id) external view returns (Node memory) {
        return _known(id);
    }

    /// @inheritdoc ILineageRegistry
    function slots(bytes32 id) external view returns (Slot[] memory list) {
        list = new Slot[](_known(id).slotCount);
        for (uint256 i; i < list.length; ++i) {
            list[i] = _slots[id][i];
        }
    }

    /// @inheritdoc ILineageRegistry
    function table(bytes32 model) public view returns (Row[] memory rows) {
        Node storage n = _known(model);
        rows = new Row[](n.rowCount);
        uint256 word;
        for (uint256 i; i < rows.length; ++i) {
            uint256 key;
            uint256 ppm;
            uint256 floorPpm;
            (key, ppm, floorPpm, word) = _tables[model].read(i, word);
            bytes32 id = key == Flatten.POT ? potId(n.track) : nodeAt[key];
            rows[i] = Row({node: id, ppm: uint32(ppm), floorPpm: uint32(floorPpm)});
        }
    }

    /// @inheritdoc ILineageRegistry
    function row(bytes32 model, bytes32 rowNode) external view returns (Row memory) {
        (bool found, uint256 ppm, uint256 floorPpm) = _findRow(_known(model), model, rowNode);
        if (!found) return Row({node: 0, ppm: 0, floorPpm: 0});
        return Row({node: rowNode, ppm: uint32(ppm), floorPpm: uint32(floorPpm)});
    }

    /// @inheritdoc ILineageRegistry
    function entitlement(bytes32 model, bytes32 rowNode, uint256 slot)
        external
        view
        returns (address payee, uint256 ppm, uint256 sharePpm)
    {
        Node storage n = _nodes[model];
        (bool found, uint256 rowPpm,) = _findRow(n, model, rowNode);
        if (!found) return (address(0), 0, 0);
        if (_nodes[rowNode].number == 0) {
            if (slot != 0) return (address(0), 0, 0);
            (, payee) = _pot(n.track);
            return (payee, rowPpm, PPM);
        }
        if (slot >= _nodes[rowNode].slotCount) return (address(0), 0, 0);
        Slot storage s = _slots[rowNode][slot];
        return (s.payee, rowPpm, s.sharePpm);
    }

    /// @inheritdoc ILineageRegistry
    function royaltyPpm(bytes32 model) external view returns (uint256) {
        return _known(model).royaltyPpm;
    }

    /// @inheritdoc ILineageRegistry
    function tryRoyaltyPpm(bytes32 model) external view returns (bool known, uint256 ppm) {
        Node storage n = _nodes[model];
        return (n.number != 0, n.royaltyPpm);
    }

    // -------------------------------------------------------------- internals

    /// @dev A copier sees the digest when it is revealed, and its own commitment is then too young.
    function _useCommitment(bytes32 commitment) private {
        uint256 blockNumber = committedAt[commitment];
        if (blockNumber == 0) revert NotCommitted(commitment);
        if (blockNumber == block.number) revert CommittedThisBlock(commitment);
        delete committedAt[commitment];
    }

    function _flatten(NodeInput calldata input, uint256 number) private returns (Flatten.Rows memory) {
        uint256 potPpm;
        if (input.track != 0) (potPpm,) = _pot(input.track);
        uint256 capacity = 1 + input.parents.length * (Flatten.MAX_ROWS + 1);
        Flatten.Rows memory rows = Flatten.open(number, input.inheritPpm, input.floorPpm, capacity);
        for (uint256 i; i < input.parents.length; ++i) {
            _inherit(rows, input.parents[i].node, uint256(input.parents[i].weightPpm) * input.inheritPpm);
        }
        return rows.settle(input.royaltyPpm, potPpm);
    }

    function _inherit(Flatten.Rows memory rows, bytes32 parent, uint256 scale) private {
        uint256 count = _known(parent).rowCount;
        PackedTable.Table storage parentTable = _tables[parent];
        uint256 word;
        for (uint256 i; i < count; ++i) {
            uint256 key;
            uint256 ppm;
            uint256 floorPpm;
            (key, ppm, floorPpm, word) = parentTable.read(i, word);
            rows.inherit(key, scale, ppm, floorPpm);
        }
    }

    /// @dev An unknown id has number 0, which is the pot's key: it names a row only if it is the pot of the model's
    /// own track.
    function _findRow(Node storage n, bytes32 model, bytes32 rowNode)
        private
        view
        returns (bool found, uint256 ppm, uint256 floorPpm)
    {
        uint256 key = _nodes[rowNode].number;
        if (key == Flatten.POT && (n.track == 0 || rowNode != potId(n.track))) return (false, 0, 0);
        return _tables[model].find(n.rowCount, key);
    }

    function _kindAndTrack(bytes32 id) internal view override returns (Kind, bytes32) {
        Node storage n = _known(id);
        return (n.kind, n.track);
    }

    function _known(bytes32 id) private view returns (Node storage n) {
        n = _nodes[id];
        if (n.number == 0) revert UnknownNode(id);
    }
}
