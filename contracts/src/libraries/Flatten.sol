// SPDX-License-Identifier: Apache-2.0 OR MIT
pragma solidity ^0.8.28;

import {PPM} from "./Ppm.sol";
import {TransientIndex} from "./TransientIndex.sol";

/// @title From parents' tables to a table of one's own
/// @notice Two steps. `open` and `inherit` merge rows by key, in the order in which keys are first met;
/// `settle` then drops, apportions and adds the pot. Rows are named by any non-zero number; which, changes nothing.
///
/// Units: weights sum to at most 10¹⁸, floors are ppm of the *call price*, results are ppm of the royalty.
library Flatten {
    uint256 internal constant MAX_ROWS = 32;
    /// @notice Rows without a floor below this weight are dropped: 100 ppm.
    uint256 internal constant MIN_WEIGHT = 100e12;
    /// @notice The most of the royalty that floors may take together.
    uint256 internal constant MAX_NEED_PPM = 500_000;
    /// @notice The key of the pot's row.
    uint256 internal constant POT = 0;

    /// @notice A row demands a part of the price, but no part of the price is royalty.
    error FloorWithoutRoyalty(uint256 floorPpm);
    /// @notice More rows must be kept (those with a floor, and the model's own) than a table has.
    error TooManyFloors(uint256 count, uint256 max);
    /// @notice The floors take more of the royalty than they may together.
    error FloorsTooHigh(uint256 needPpm, uint256 max);

    /// @param values weights until `settle`, ppm after it
    /// @param count rows in use; the arrays may be longer
    /// @param epoch of the transient index while merging
    struct Rows {
        uint256[] keys;
        uint256[] values;
        uint256[] floors;
        uint256 count;
        uint256 epoch;
    }

    /// @notice Begins a table with the model's own row.
    /// @param capacity the most rows that will be merged, this one included
    function open(uint256 key, uint256 inheritPpm, uint256 floorPpm, uint256 capacity)
        internal
        returns (Rows memory rows)
    {
        rows = _allocate(capacity);
        rows.epoch = TransientIndex.begin();
        _append(rows, key, (PPM - inheritPpm) * PPM * PPM, floorPpm);
        TransientIndex.insert(rows.epoch, key, 0);
    }

    /// @notice Merges one row of a parent's table; a pot is passed over.
    /// @param scale the parent's weight · the child's inherit, both ppm
    function inherit(Rows memory rows, uint256 key, uint256 scale, uint256 ppm, uint256 floorPpm) internal {
        if (key == POT) return;
        (bool found, uint256 i) = TransientIndex.find(rows.epoch, key);
        if (found) {
            rows.values[i] += scale * ppm;
            if (floorPpm > rows.floors[i]) rows.floors[i] = floorPpm;
        } else {
            TransientIndex.insert(rows.epoch, key, rows.count);
            _append(rows, key, scale * ppm, floorPpm);
        }
    }

    /// @notice Turns merged weights into a table that sums to 10⁶ and honours every floor.
    /// @param potPpm what the pot takes from the model's own row; 0 for no pot
    function settle(Rows memory merged, uint256 royaltyPpm, uint256 potPpm) internal pure returns (Rows memory kept) {
        kept = _keep(merged, _countMandatory(merged, royaltyPpm));
        _apportion(kept, _needs(kept, royaltyPpm, potPpm));
        if (potPpm != 0) {
            kept.values[0] -= potPpm;
            _append(kept, POT, potPpm, 0);
        }
    }

    /// @dev Rows with a floor, and the model's own: without it there would be nothing to pay the pot and the slots
    /// from.
    function _countMandatory(Rows memory rows, uint256 royaltyPpm) private pure returns (uint256 count) {
        for (uint256 i; i < rows.count; ++i) {
            uint256 floor = rows.floors[i];
            if (floor != 0 && royaltyPpm == 0) revert FloorWithoutRoyalty(floor);
            if (floor != 0 || i == 0) ++count;
        }
        if (count > MAX_ROWS) revert TooManyFloors(count, MAX_ROWS);
    }

    /// @dev The mandatory rows and the heaviest others, in their order.
    function _keep(Rows memory rows, uint256 mandatory) private pure returns (Rows memory kept) {
        bool[] memory chosen = _heaviest(rows, MAX_ROWS - mandatory);
        kept = _allocate(MAX_ROWS + 1);
        for (uint256 i; i < rows.count; ++i) {
            if (i == 0 || rows.floors[i] != 0 || chosen[i]) {
                _append(kept, rows.keys[i], rows.values[i], rows.floors[i]);
            }
        }
    }

    /// @dev Marks up to `limit` of the droppable rows. The list is sorted by falling weight; an equal weight goes
    /// in after those already there, so that of equals the later row falls out.
    function _heaviest(Rows memory rows, uint256 limit) private pure returns (bool[] memory chosen) {
        chosen = new bool[](rows.count);
        uint256[] memory list = new uint256[](limit + 1);
        uint256 length;
        for (uint256 i = 1; i < rows.count; ++i) {
            uint256 weight = rows.values[i];
            if (rows.floors[i] != 0 || weight < MIN_WEIGHT) continue;
            uint256 position = length;
            while (position != 0 && rows.values[list[position - 1]] < weight) {
                list[position] = list[position - 1];
                --position;
            }
            list[position] = i;
            if (length < limit) ++length;
        }
        for (uint256 i; i < length; ++i) {
            chosen[list[i]] = true;
        }
    }

    /// @dev The least ppm of each row. The model's own, if it has a floor, must still hold after the pot was taken
    /// from it.
    function _needs(Rows memory rows, uint256 royaltyPpm, uint256 potPpm)
        private
        pure
        returns (uint256[] memory needs)
    {
        needs = new uint256[](rows.count);
        uint256 sum;
        for (uint256 i; i < rows.count; ++i) {
            if (rows.floors[i] == 0) continue;
            needs[i] = (rows.floors[i] * PPM + royaltyPpm - 1) / royaltyPpm;
            sum += needs[i];
        }
        if (sum > MAX_NEED_PPM) revert FloorsTooHigh(sum, MAX_NEED_PPM);
        if (needs[0] != 0) needs[0] += potPpm;
    }

    /// @dev Replaces weights by ppm. Needs sum to less than 10⁶, so that some row is always above its own: the rest
    /// that is left for the rows not fixed, and their weight, never reach zero.
    function _apportion(Rows memory rows, uint256[] memory needs) private pure {
        bool[] memory isFixed = new bool[](rows.count);
        uint256 rest = PPM;
        uint256 weight;
        for (uint256 i; i < rows.count; ++i) {
            weight += rows.values[i];
        }
        for (bool again = true; again;) {
            again = false;
            (uint256 newRest, uint256 newWeight) = (rest, weight);
            for (uint256 i; i < rows.count; ++i) {
                if (isFixed[i] || rest * rows.values[i] / weight >= needs[i]) continue;
                isFixed[i] = true;
                again = true;
                newRest -= needs[i];
                newWeight -= rows.values[i];
                rows.values[i] = needs[i];
            }
            (rest, weight) = (newRest, newWeight);
        }
        _largestRemainder(rows, isFixed, rest, weight);
    }

    function _largestRemainder(Rows memory rows, bool[] memory isFixed, uint256 rest, uint256 weight) private pure {
        uint256[] memory remainders = new uint256[](rows.count);
        uint256 left = rest;
        for (uint256 i; i < rows.count; ++i) {
            if (isFixed[i]) continue;
            uint256 product = rest * rows.values[i];
            rows.values[i] = product / weight;
            remainders[i] = product % weight;
            left -= rows.values[i];
        }
        for (; left != 0; --left) {
            uint256 best;
            for (uint256 i = 1; i < rows.count; ++i) {
                if (remainders[i] > remainders[best]) best = i;
            }
            ++rows.values[best];
            remainders[best] = 0;
        }
    }

    function _allocate(uint256 capacity) private pure returns (Rows memory rows) {
        rows.keys = new uint256[](capacity);
        rows.values = new uint256[](capacity);
        rows.floors = new uint256[](capacity);
    }

    function _append(Rows memory rows, uint256 key, uint256 value, uint256 floor) private pure {
        uint256 i = rows.count++;
        rows.keys[i] = key;
        rows.values[i] = value;
        rows.floors[i] = floor;
    }
}
