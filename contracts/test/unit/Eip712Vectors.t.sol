// SPDX-License-Identifier: Apache-2.0 OR MIT
pragma solidity ^0.8.28;

import {IPaymentChannels} from "src/interfaces/IPaymentChannels.sol";
import {IUsageLedger} from "src/interfaces/IUsageLedger.sol";
import {Eip712Types} from "src/libraries/Eip712Types.sol";
import {System} from "../helpers/System.sol";

/// @notice fixtures/eip712.json against the digests that the contracts themselves compute.
contract Eip712VectorsTest is System {
    string private _json;
    IPaymentChannels private _channels;
    IUsageLedger private _ledger;

    /// @dev The same address is both contracts' in turn: the domain is rebuilt where the code finds itself elsewhere.
    function setUp() public {
        deploy();
        _json = vm.readFile("../fixtures/eip712.json");
        address target = vm.parseJsonAddress(_json, ".verifying_contract");
        vm.chainId(vm.parseJsonUint(_json, ".chain_id"));
        _channels = IPaymentChannels(target);
        _ledger = IUsageLedger(target);
    }

    function testTypeHashesAndDomain() public {
        eq(Eip712Types.VOUCHER_TYPEHASH, vm.parseJsonBytes32(_json, ".type_hashes.Voucher"), "Voucher");
        eq(Eip712Types.CLAIM_TYPEHASH, vm.parseJsonBytes32(_json, ".type_hashes.Claim"), "Claim");
        eq(Eip712Types.RECEIPT_TYPEHASH, vm.parseJsonBytes32(_json, ".type_hashes.Receipt"), "Receipt");
        bytes32 domain = vm.parseJsonBytes32(_json, ".domain_separator");
        vm.etch(address(_channels), address(channels).code);
        eq(_channels.domainSeparator(), domain, "domain of the channels");
        vm.etch(address(_ledger), address(ledger).code);
        eq(_ledger.domainSeparator(), domain, "domain of the ledger");
    }

    function testDigestsAndSignatures() public {
        uint256[3] memory seen;
        for (uint256 i; vm.keyExistsJson(_json, _at(i, "")); ++i) {
            bytes32 kind = keccak256(bytes(vm.parseJsonString(_json, _at(i, ".type"))));
            (uint256 which, bytes32 digest) = kind == keccak256("Voucher")
                ? (0, _voucher(i))
                : kind == keccak256("Claim") ? (1, _claim(i)) : (2, _receipt(i));
            ++seen[which];
            eq(digest, vm.parseJsonBytes32(_json, _at(i, ".digest")), vm.parseJsonString(_json, _at(i, ".name")));
            if (which != 2) _checkSignature(i, digest);
        }
        yes(seen[0] >= 3 && seen[1] >= 3 && seen[2] >= 3, "several of each");
    }

    function _checkSignature(uint256 i, bytes32 digest) private view {
        uint256 key = vm.parseJsonUint(_json, _at(i, ".private_key"));
        eq(vm.addr(key), vm.parseJsonAddress(_json, _at(i, ".signer")), "signer");
        eq(
            keccak256(sign(key, digest)),
            keccak256(vm.parseJsonBytes(_json, _at(i, ".signature"))),
            vm.parseJsonString(_json, _at(i, ".name"))
        );
    }

    function _voucher(uint256 i) private returns (bytes32) {
        vm.etch(address(_channels), address(channels).code);
        return _channels.voucherDigest(
            IPaymentChannels.Voucher({
                channel: _word(i, "channel"),
                lane: _word(i, "lane"),
                maxCumulative: uint128(_number(i, "maxCumulative")),
                expiry: uint64(_number(i, "expiry"))
            })
        );
    }

    function _claim(uint256 i) private returns (bytes32) {
        vm.etch(address(_channels), address(channels).code);
        return _channels.claimDigest(
            IPaymentChannels.Claim({
                channel: _word(i, "channel"),
                lane: _word(i, "lane"),
                cumulative: uint128(_number(i, "cumulative")),
                sealDigest: _word(i, "sealDigest")
            })
        );
    }

    function _receipt(uint256 i) private returns (bytes32) {
        vm.etch(address(_ledger), address(ledger).code);
        return _ledger.receiptDigest(
            IUsageLedger.Receipt({
                call: bytes16(vm.parseJsonBytes(_json, _at(i, ".message.call"))),
                payerCommit: _word(i, "payerCommit"),
                model: _word(i, "model"),
                journal: _word(i, "journal"),
                window: uint64(_number(i, "window")),
                priceIn: uint64(_number(i, "priceIn")),
                priceOut: uint64(_number(i, "priceOut")),
                tokensIn: uint64(_number(i, "tokensIn")),
                tokensOut: uint64(_number(i, "tokensOut")),
                chargePico: uint128(_number(i, "chargePico"))
            })
        );
    }

    function _word(uint256 i, string memory field) private view returns (bytes32) {
        return vm.parseJsonBytes32(_json, _at(i, string.concat(".message.", field)));
    }

    function _number(uint256 i, string memory field) private view returns (uint256) {
        return vm.parseJsonUint(_json, _at(i, string.concat(".message.", field)));
    }

    function _at(uint256 i, string memory rest) private pure returns (string memory) {
        return string.concat(".cases[", vm.toString(i), "]", rest);
    }
}
