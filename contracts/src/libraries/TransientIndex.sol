// SPDX-License-Identifier: Apache-2.0 OR MIT
pragma solidity ^0.8.28;

/// @title A map from keys to positions that costs no storage
/// @notice Lives in transient storage (EIP-1153), which is cleared only when the transaction ends. Each use
/// therefore begins an epoch of its own, and entries of an earlier one read as absent: several uses in a
/// transaction do not meet.
/// @dev An entry is `epoch << 128 | position + 1`, at the hash of its key.
library TransientIndex {
    bytes32 private constant EPOCH_SLOT = keccak256("dividend.TransientIndex.epoch");

    /// @notice Begins an epoch: all keys are absent in it.
    function begin() internal returns (uint256 epoch) {
        bytes32 slot = EPOCH_SLOT;
        assembly ("memory-safe") {
            epoch := add(tload(slot), 1)
            tstore(slot, epoch)
        }
    }

    function find(uint256 epoch, uint256 key) internal view returns (bool found, uint256 position) {
        bytes32 slot = _slotOf(key);
        uint256 entry;
        assembly ("memory-safe") {
            entry := tload(slot)
        }
        found = entry >> 128 == epoch;
        position = found ? uint128(entry) - 1 : 0;
    }

    function insert(uint256 epoch, uint256 key, uint256 position) internal {
        bytes32 slot = _slotOf(key);
        uint256 entry = epoch << 128 | (position + 1);
        assembly ("memory-safe") {
            tstore(slot, entry)
        }
    }

    function _slotOf(uint256 key) private pure returns (bytes32 slot) {
        bytes32 base = EPOCH_SLOT;
        assembly ("memory-safe") {
            mstore(0x00, key)
            mstore(0x20, base)
            slot := keccak256(0x00, 0x40)
        }
    }
}
