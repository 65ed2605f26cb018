// SPDX-License-Identifier: Apache-2.0 OR MIT
pragma solidity ^0.8.28;

/// @title The operator's channel
/// @notice Callers with prepaid keys are the operator's own customers. For their calls the operator posts, window
/// by window of its journals, what each model earned, and its escrow pays the royalty to the pool. The posted
/// Merkle-sum roots bind it to the single calls.
///
/// Units: sums are in pico-dollars (10⁻¹² $), everything else in base units of the token (10⁻⁶ $). There is one
/// lane per model over all keys and journals: `P += prepaidSum; C = floor(P / 10⁶); R = floor(C · royaltyPpm /
/// 10⁶)`.
interface IUsageLedger {
    // ---------------------------------------------------------------- types

    /// @notice What a window holds for one model.
    /// @param prepaidRoot, prepaidSum Merkle-sum root and sum of the calls of prepaid keys; (0, 0) for none
    /// @param channelRoot, channelSum the same of the calls paid by channel; posted as evidence, redeemed elsewhere
    struct SealRow {
        bytes32 model;
        bytes32 prepaidRoot;
        uint128 prepaidSum;
        bytes32 channelRoot;
        uint128 channelSum;
    }

    /// @notice What the operator signs for every call.
    /// @param call UUIDv7 of the call
    /// @param payerCommit `keccak256(abi.encodePacked(payerKey, salt))`
    /// @param journal id of the journal, random
    /// @param window number of the window within the journal, from 0
    /// @param priceIn, priceOut pico-dollars per token
    /// @param chargePico `tokensIn · priceIn + tokensOut · priceOut`
    struct Receipt {
        bytes16 call;
        bytes32 payerCommit;
        bytes32 model;
        bytes32 journal;
        uint64 window;
        uint64 priceIn;
        uint64 priceOut;
        uint64 tokensIn;
        uint64 tokensOut;
        uint128 chargePico;
    }

    /// @param accruedPico P: Σ prepaid sums posted, pico-dollars
    /// @param paid base units of royalty paid to the pool
    struct Lane {
        uint128 accruedPico;
        uint128 paid;
    }

    /// @notice The two purses of the operator: what pays royalties, and what answers for receipts.
    enum Fund {
        Escrow,
        Bond
    }

    /// @param amount base units asked back and not yet taken (0 = none)
    /// @param availableAt unix second from which they can be taken
    struct Withdrawal {
        uint128 amount;
        uint64 availableAt;
    }

    /// @notice Why a row of a seal was passed over; None is never in an event.
    enum SkipReason {
        None,
        UnknownModel,
        AlreadyPosted,
        SumOverflow
    }

    // --------------------------------------------------------------- events

    /// @notice A row was written. `accruedPico` is the model's P after it.
    event SealPosted(
        bytes32 indexed journal,
        uint64 indexed window,
        bytes32 indexed model,
        bytes32 prepaidRoot,
        uint128 prepaidSum,
        bytes32 channelRoot,
        uint128 channelSum,
        uint128 accruedPico
    );

    /// @notice The last chunk of a window was posted; the journal's next window is `window + 1`.
    event WindowClosed(bytes32 indexed journal, uint64 indexed window);

    /// @notice The row at `index` was passed over; nothing of it changed.
    event RowSkipped(
        bytes32 indexed journal, uint64 indexed window, bytes32 indexed model, uint256 index, SkipReason reason
    );

    /// @notice The escrow paid `amount` of royalty to the pool: `paid` in all, `owed` still open.
    event RoyaltyPaid(bytes32 indexed model, uint256 amount, uint256 paid, uint256 owed);

    /// @notice `balance` is the fund's total after `amount` was added.
    event FundIncreased(Fund indexed fund, address indexed from, uint256 amount, uint256 balance);

    /// @notice A withdrawal can be taken from `availableAt` to `lapsesAt` inclusive. Amount 0 cancels the one asked
    /// before.
    event FundWithdrawalRequested(Fund indexed fund, uint256 amount, uint64 availableAt, uint64 lapsesAt);

    /// @notice `balance` is the fund's total after `amount` left to the operator.
    event FundWithdrawn(Fund indexed fund, uint256 amount, uint256 balance);

    // --------------------------------------------------------------- errors

    error ZeroAddress();
    error ZeroDuration();
    error NotOperator(address caller);
    /// @notice Windows of a journal are posted in order without gaps: `expected` is next.
    error WindowOutOfOrder(bytes32 journal, uint64 window, uint64 expected);
    error UnknownModel(bytes32 model);
    error AboveBalance(uint256 amount, uint256 available);
    error NoWithdrawal(Fund fund);
    error WithdrawalNotReady(uint64 availableAt);
    /// @notice The withdrawal was not taken in time: ask again.
    error WithdrawalLapsed(uint64 lapsedAt);

    // ------------------------------------------------------------- posting

    /// @notice Posts (a part of) a sealed window and pays the royalty it adds, as far as the escrow reaches. Only
    /// the operator. The windows of a journal come in order from 0; a window may come in several calls, `last` ends
    /// it. A (journal, window, model) is written once: sent again it is skipped, and so is a row that names no
    /// model.
    /// @return paid base units that went to the pool
    function postSeal(bytes32 journal, uint64 window, SealRow[] calldata rows, bool last)
        external
        returns (uint256 paid);

    /// @notice Pays what a model is still owed, as far as the escrow reaches. Anyone may.
    function settleOwed(bytes32 model) external returns (uint256 paid);

    // --------------------------------------------------------------- funds

    /// @notice Adds the caller's tokens to the escrow or the bond. Anyone may.
    function topUp(Fund fund, uint128 amount) external;

    /// @notice Announces that the operator will take `amount` out of a fund; replaces what was announced before.
    /// What is announced still pays: royalties owed come first.
    function requestWithdrawal(Fund fund, uint128 amount) external;

    /// @notice Sends the operator what was announced, but of the escrow never what is owed to a model. Only the
    /// operator, after the delay and before the lapse.
    function finalizeWithdrawal(Fund fund) external returns (uint256 amount);

    // -------------------------------------------------------------- views

    function lane(bytes32 model) external view returns (Lane memory);

    /// @notice R − paid of a model, and its sum over all models: base units.
    function owed(bytes32 model) external view returns (uint256);
    function totalOwed() external view returns (uint256);

    function balanceOf(Fund fund) external view returns (uint256);
    function withdrawal(Fund fund) external view returns (Withdrawal memory);

    /// @notice The window of a journal that is to be posted next.
    function nextWindow(bytes32 journal) external view returns (uint64);

    /// @notice `keccak256(abi.encode(prepaidRoot, prepaidSum, channelRoot, channelSum))` as posted, 0 if it was not.
    function sealOf(bytes32 journal, uint64 window, bytes32 model) external view returns (bytes32);

    function receiptDigest(Receipt calldata receipt) external view returns (bytes32);
    function domainSeparator() external view returns (bytes32);
    function token() external view returns (address);
    function registry() external view returns (address);
    function pool() external view returns (address);
    function operator() external view returns (address);
    function withdrawalDelay() external view returns (uint64);
    function withdrawalWindow() external view returns (uint64);
}
