// SPDX-License-Identifier: Apache-2.0 OR MIT
pragma solidity ^0.8.28;

import {Flatten} from "./Flatten.sol";

/// @title A table in storage, three rows to the word
/// @dev From the low end a row is ppm (20 bits), floor (20 bits), number of the node (45 bits): 85 bits, and one to
/// spare.
library PackedTable {
    uint256 private constant PER_WORD = 3;
    uint256 private constant ROW_BITS = 85;
    uint256 private constant PPM_BITS = 20;
    uint256 private constant PPM_MASK = (1 << PPM_BITS) - 1;
    uint256 private constant ROW_MASK = (1 << ROW_BITS) - 1;

    /// @param words of the table: 32 rows and the pot
    struct Table {
        uint256[11] words;
    }

    function write(Table storage self, Flatten.Rows memory rows) internal {
        uint256 word;
        for (uint256 i; i < rows.count; ++i) {
            uint256 packed = rows.keys[i] << 2 * PPM_BITS | rows.floors[i] << PPM_BITS | rows.values[i];
            word |= packed << ROW_BITS * (i % PER_WORD);
            if (i % PER_WORD == PER_WORD - 1 || i + 1 == rows.count) {
                self.words[i / PER_WORD] = word;
                word = 0;
            }
        }
    }

    /// @dev Reads a word once for its three rows when called in order; the caller keeps `word` between calls.
    function read(Table storage self, uint256 i, uint256 word)
        internal
        view
        returns (uint256 key, uint256 ppm, uint256 floorPpm, uint256 wordRead)
    {
        wordRead = i % PER_WORD == 0 ? self.words[i / PER_WORD] : word;
        uint256 packed = wordRead >> ROW_BITS * (i % PER_WORD) & ROW_MASK;
        (key, floorPpm, ppm) = (packed >> 2 * PPM_BITS, packed >> PPM_BITS & PPM_MASK, packed & PPM_MASK);
    }

    /// @return found false, and zeros, if no row has the key
    function find(Table storage self, uint256 count, uint256 wanted)
        internal
        view
        returns (bool found, uint256 ppm, uint256 floorPpm)
    {
        uint256 word;
        uint256 key;
        for (uint256 i; i < count; ++i) {
            (key, ppm, floorPpm, word) = read(self, i, word);
            if (key == wanted) return (true, ppm, floorPpm);
        }
        return (false, 0, 0);
    }
}
