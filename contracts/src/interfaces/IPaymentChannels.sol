// SPDX-License-Identifier: Apache-2.0 OR MIT
pragma solidity ^0.8.28;

/// @title Payers' channels to the operator
/// @notice A payer deposits once and then signs, per model it uses (a *lane*), ever higher vouchers off-chain. The
/// operator answers after each sealed window with a claim of what it really served. Only both together redeem, and
/// anybody may redeem them: nobody can take more than the payer signed, nor more than the operator claims, and the
/// royalty reaches the pool even if the operator disappears.
///
/// Units: vouchers and claims are in pico-dollars (10⁻¹² $), cumulative per (channel, lane) since the channel's
/// opening; everything else is in base units of the token (10⁻⁶ $). The conversion floors the cumulative figure,
/// never a difference, so that a replay is harmless and no rounding is ever lost twice.
interface IPaymentChannels {
    // ---------------------------------------------------------------- types

    /// @notice Immutable terms of a channel; their hash is its id.
    /// @param payer gets withdrawals, and alone may ask for them
    /// @param signer the hot key that signs vouchers
    /// @param salt lets one payer have many channels
    struct Config {
        address payer;
        address signer;
        bytes32 salt;
    }

    /// @notice The payer's word: up to `maxCumulative` may be taken on this lane, until `expiry`.
    /// @param channel id of the channel
    /// @param lane id of the model
    /// @param maxCumulative pico-dollars since the channel's opening
    /// @param expiry last unix second at which it can be redeemed
    struct Voucher {
        bytes32 channel;
        bytes32 lane;
        uint128 maxCumulative;
        uint64 expiry;
    }

    /// @notice The operator's word: this much was served on this lane, as sealed.
    /// @param cumulative pico-dollars since the channel's opening
    /// @param sealDigest digest of the sealed window that proves it
    struct Claim {
        bytes32 channel;
        bytes32 lane;
        uint128 cumulative;
        bytes32 sealDigest;
    }

    /// @notice One line of a batch.
    /// @param voucherSignature 65 bytes of the channel's signer over the voucher's EIP-712 digest
    /// @param claimSignature 65 bytes of the operator over the claim's EIP-712 digest
    struct Row {
        Voucher voucher;
        bytes voucherSignature;
        Claim claim;
        bytes claimSignature;
    }

    /// @notice What the chain keeps of a channel.
    /// @param deposit base units put in, less those withdrawn
    /// @param paid base units redeemed, over all lanes: ≤ deposit
    /// @param withdrawal base units asked back and not yet taken (0 = none)
    /// @param withdrawableAt unix second from which they can be taken
    struct Channel {
        address payer;
        address signer;
        uint128 deposit;
        uint128 paid;
        uint128 withdrawal;
        uint64 withdrawableAt;
    }

    /// @notice Why a row of a batch was passed over; None is never in an event.
    enum SkipReason {
        None,
        UnknownChannel,
        UnknownLane,
        RowMismatch,
        Expired,
        ClaimAboveVoucher,
        BadVoucherSignature,
        BadClaimSignature,
        NothingOwed,
        NoDeposit
    }

    // --------------------------------------------------------------- events

    event ChannelOpened(bytes32 indexed channel, address indexed payer, address indexed signer, bytes32 salt);

    /// @notice `deposit` is the channel's total after `amount` was added.
    event Deposited(bytes32 indexed channel, address indexed from, uint256 amount, uint256 deposit);

    /// @notice A withdrawal can be taken from `withdrawableAt` to `lapsesAt` inclusive. Amount 0 cancels the one
    /// asked before.
    event WithdrawalRequested(bytes32 indexed channel, uint256 amount, uint64 withdrawableAt, uint64 lapsesAt);

    /// @notice `deposit` is the channel's total after `amount` left to the payer.
    event WithdrawalFinalized(bytes32 indexed channel, uint256 amount, uint256 deposit);

    /// @notice A row was paid. `royalty` + `operatorPart` is what moved now, `lanePaid` the lane's total after it,
    /// `channelPaid` the channel's.
    event Redeemed(
        bytes32 indexed channel,
        bytes32 indexed lane,
        bytes32 indexed sealDigest,
        uint256 royalty,
        uint256 operatorPart,
        uint256 lanePaid,
        uint256 channelPaid
    );

    /// @notice The row at `index` of the batch was passed over; nothing of it changed.
    event RowSkipped(uint256 indexed index, bytes32 indexed channel, bytes32 indexed lane, SkipReason reason);

    event EarningsWithdrawn(uint256 amount);

    // --------------------------------------------------------------- errors

    error ZeroAddress();
    error ZeroDuration();
    error UnknownChannel(bytes32 channel);
    error NotPayer(address caller, address payer);
    error AboveBalance(uint256 amount, uint256 available);
    error NoWithdrawal(bytes32 channel);
    error WithdrawalNotReady(uint64 withdrawableAt);
    /// @notice The withdrawal was not taken in time: ask again.
    error WithdrawalLapsed(uint64 lapsedAt);

    // -------------------------------------------------------------- payers

    /// @notice Opens a channel and deposits `amount` of the caller's tokens. Opening one that is open only
    /// deposits, so that nobody can make an opening fail by being first.
    /// @return id `keccak256(abi.encode("dividend.channel", chainid, channels, payer, signer, salt))`
    function open(Config calldata config, uint128 amount) external returns (bytes32 id);

    /// @notice Adds to a channel's deposit. Anyone may.
    function deposit(bytes32 id, uint128 amount) external;

    /// @notice Asks for `amount` back; replaces what was asked before and starts the delay anew. Only the payer.
    /// Until it is taken, the amount stays redeemable.
    function requestWithdrawal(bytes32 id, uint128 amount) external;

    /// @notice Takes what was asked and is not redeemed meanwhile. Only the payer, after the delay and before the
    /// lapse.
    function finalizeWithdrawal(bytes32 id) external returns (uint256 amount);

    // ------------------------------------------------------------ redeeming

    /// @notice Redeems rows: `target = floor(cumulative / 10⁶)`, and the lane's paid total grows by `min(target −
    /// paid, deposit − Σ paid)`. Of the lane's paid total, `floor(paid · royaltyPpm / 10⁶)` is royalty. A row that
    /// cannot be paid is skipped with an event; a batch that runs out of gas reverts. Anyone may call, and again.
    /// @return royalty base units that went to the pool
    /// @return operatorPart base units added to the operator's earnings
    function redeemBatch(Row[] calldata rows) external returns (uint256 royalty, uint256 operatorPart);

    /// @notice Sends the operator's earnings to the operator, whoever calls.
    function withdrawEarnings() external returns (uint256 amount);

    // -------------------------------------------------------------- views

    function channelId(Config calldata config) external view returns (bytes32);
    function channel(bytes32 id) external view returns (Channel memory);

    /// @notice Base units redeemed on a lane.
    function lanePaid(bytes32 id, bytes32 lane) external view returns (uint256);

    function earnings() external view returns (uint256);
    function voucherDigest(Voucher calldata voucher) external view returns (bytes32);
    function claimDigest(Claim calldata claim) external view returns (bytes32);
    function domainSeparator() external view returns (bytes32);
    function token() external view returns (address);
    function registry() external view returns (address);
    function pool() external view returns (address);
    function operator() external view returns (address);

    /// @notice Seconds between asking for a withdrawal and taking it, and seconds it then stays open.
    function withdrawalDelay() external view returns (uint64);
    function withdrawalWindow() external view returns (uint64);
}
