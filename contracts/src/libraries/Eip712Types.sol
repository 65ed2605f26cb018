// SPDX-License-Identifier: Apache-2.0 OR MIT
pragma solidity ^0.8.28;

import {IPaymentChannels} from "../interfaces/IPaymentChannels.sol";
import {IUsageLedger} from "../interfaces/IUsageLedger.sol";

/// @title Struct hashes of everything that is signed (EIP-712)
/// @notice Golden vectors: fixtures/eip712.json.
library Eip712Types {
    bytes32 internal constant VOUCHER_TYPEHASH =
        keccak256("Voucher(bytes32 channel,bytes32 lane,uint128 maxCumulative,uint64 expiry)");
    bytes32 internal constant CLAIM_TYPEHASH =
        keccak256("Claim(bytes32 channel,bytes32 lane,uint128 cumulative,bytes32 sealDigest)");
    bytes32 internal constant RECEIPT_TYPEHASH = keccak256(
        "Receipt(bytes16 call,bytes32 payerCommit,bytes32 model,bytes32 journal,uint64 window,uint64 priceIn,uint64 priceOut,uint64 tokensIn,uint64 tokensOut,uint128 chargePico)"
    );

    function hash(IPaymentChannels.Voucher calldata v) internal pure returns (bytes32) {
        return keccak256(abi.encode(VOUCHER_TYPEHASH, v.channel, v.lane, v.maxCumulative, v.expiry));
    }

    function hash(IPaymentChannels.Claim calldata c) internal pure returns (bytes32) {
        return keccak256(abi.encode(CLAIM_TYPEHASH, c.channel, c.lane, c.cumulative, c.sealDigest));
    }

    /// @dev A struct of static members encodes as its members in place.
    function hash(IUsageLedger.Receipt calldata r) internal pure returns (bytes32) {
        return keccak256(abi.encode(RECEIPT_TYPEHASH, r));
    }
}
