// SPDX-License-Identifier: Apache-2.0 OR MIT
pragma solidity ^0.8.28;

// All, in parts per million.
uint256 constant PPM = 1_000_000;

// Pico-dollars in a base unit of a 6-decimals dollar.
uint256 constant PICO_PER_UNIT = 1_000_000;
