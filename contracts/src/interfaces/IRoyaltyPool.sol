// SPDX-License-Identifier: Apache-2.0 OR MIT
pragma solidity ^0.8.28;

/// @title Royalties of all models, pulled by their contributors
/// @notice The pool keeps one cumulative figure per model, its revenue. What a contributor may take is computed
/// from it and from the registry's immutable tables: settling costs the same for one contributor as for a hundred,
/// nobody can misallocate among them, and what is credited stays claimable by anybody, to the payee, for ever.
///
/// Units: base units of the token. All figures are cumulative and never fall.
interface IRoyaltyPool {
    /// @param model whose revenue grows
    /// @param amount base units, already in the pool
    struct Credit {
        bytes32 model;
        uint128 amount;
    }

    /// @notice Names a slot of a node in the table of a model. For the pot of a track: `registry.potId(track)`,
    /// slot 0.
    struct ClaimKey {
        bytes32 model;
        bytes32 node;
        uint256 slot;
    }

    /// @notice Why `claimMany` passed over a key.
    enum SkipReason {
        UnknownSlot,
        TransferFailed
    }

    /// @notice `revenue` is the model's total after `amount` was added.
    event Credited(bytes32 indexed model, address indexed creditor, uint256 amount, uint256 revenue);

    /// @notice `claimed` is the total of (model, node, slot) after `amount` was paid.
    event Claimed(
        bytes32 indexed model,
        bytes32 indexed node,
        address indexed payee,
        uint256 slot,
        uint256 amount,
        uint256 claimed
    );

    /// @notice A key of a batch was passed over; what it is owed stays claimable.
    event ClaimSkipped(bytes32 indexed model, bytes32 indexed node, uint256 indexed slot, SkipReason reason);

    error NotCreditor(address caller);
    error ZeroAddress();
    /// @notice Tokens must be in the pool before they are credited.
    error NotFunded(uint256 balance, uint256 needed);
    error UnknownSlot(bytes32 model, bytes32 node, uint256 slot);

    /// @notice Adds to the revenue of models. Only the two creditors fixed at deployment, after the tokens arrived.
    function credit(Credit[] calldata credits) external;

    /// @notice Pays a slot what it is owed, to its payee, whoever calls.
    /// @return amount base units paid; 0, and nothing happens, when nothing is owed
    function claim(bytes32 model, bytes32 node, uint256 slot) external returns (uint256 amount);

    /// @notice Pays many slots. A key that names no slot and a transfer that fails are skipped with an event.
    /// @return amount base units paid in all
    function claimMany(ClaimKey[] calldata keys) external returns (uint256 amount);

    /// @notice `floor(revenue · ppm · share / 10¹²) − claimed`, 0 for an unknown slot.
    function claimable(bytes32 model, bytes32 node, uint256 slot) external view returns (uint256);

    /// @notice `floor(revenue · ppm · share / 10¹²)`.
    function credited(bytes32 model, bytes32 node, uint256 slot) external view returns (uint256);

    function claimed(bytes32 model, bytes32 node, uint256 slot) external view returns (uint256);
    function revenue(bytes32 model) external view returns (uint256);

    /// @notice Σ revenue over all models, and Σ claimed over all slots.
    function totalRevenue() external view returns (uint256);
    function totalClaimed() external view returns (uint256);

    function token() external view returns (address);
    function registry() external view returns (address);
    function channels() external view returns (address);
    function ledger() external view returns (address);
}
