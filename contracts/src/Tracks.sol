// SPDX-License-Identifier: Apache-2.0 OR MIT
pragma solidity 0.8.37;

import {ILineageRegistry} from "./interfaces/ILineageRegistry.sol";
import {PPM} from "./libraries/Ppm.sol";

/// @title Tracks, charters and champions
abstract contract Tracks is ILineageRegistry {
    uint256 private constant MAX_NAME_BYTES = 64;
    uint256 private constant MAX_SPONSORS = 64;
    uint256 private constant MAX_CHAMPION_INHERIT_PPM = 800_000;
    uint256 private constant MAX_VERIFIER_PPM = 50_000;

    mapping(bytes32 id => Track) private _tracks;
    mapping(bytes32 id => Champion[]) private _history;

    /// @inheritdoc ILineageRegistry
    function createTrack(string calldata name, Charter calldata charter) external returns (bytes32 id) {
        _checkName(name);
        _checkCharter(charter);
        id = keccak256(bytes(name));
        Track storage created = _tracks[id];
        if (created.owner != address(0)) revert TrackExists(id);
        created.name = name;
        created.owner = msg.sender;
        created.charter = charter;
        emit TrackCreated(id, msg.sender, name, charter);
    }

    /// @inheritdoc ILineageRegistry
    function setChampion(bytes32 trackId, bytes32 id) external {
        Track storage t = _trackOf(trackId);
        (Kind kind, bytes32 itsTrack) = _kindAndTrack(id);
        if (itsTrack != trackId) revert NodeOfAnotherTrack(id, itsTrack);
        if (msg.sender != t.charter.competitions) {
            if (msg.sender != t.owner) revert NotOwnerNorCompetitions(msg.sender);
            if (t.locked) revert TrackIsLocked(trackId);
            if (kind != Kind.Base) revert NotABase(id);
        }
        bytes32 previous = t.champion;
        if (previous == id) revert AlreadyChampion(id);
        t.champion = id;
        uint64 n = ++t.champions;
        _history[trackId].push(Champion({node: id, since: uint64(block.number)}));
        emit ChampionChanged(trackId, id, n, previous, msg.sender);
    }

    /// @inheritdoc ILineageRegistry
    function lockTrack(bytes32 id) external {
        Track storage t = _trackOfCompetitions(id);
        if (t.locked) revert TrackIsLocked(id);
        t.locked = true;
        emit TrackLocked(id);
    }

    /// @inheritdoc ILineageRegistry
    function unlockTrack(bytes32 id) external {
        Track storage t = _trackOfCompetitions(id);
        if (!t.locked) revert TrackIsNotLocked(id);
        t.locked = false;
        emit TrackUnlocked(id);
    }

    /// @inheritdoc ILineageRegistry
    function track(bytes32 id) external view returns (Track memory) {
        return _trackOf(id);
    }

    /// @inheritdoc ILineageRegistry
    function champion(bytes32 trackId) external view returns (bytes32) {
        return _trackOf(trackId).champion;
    }

    /// @inheritdoc ILineageRegistry
    function championAt(bytes32 trackId, uint256 n) external view returns (Champion memory) {
        Champion[] storage history = _history[trackId];
        if (n == 0 || n > history.length) revert UnknownChampion(trackId, n, history.length);
        return history[n - 1];
    }

    /// @inheritdoc ILineageRegistry
    function maySponsor(bytes32 trackId, address who) external view returns (bool) {
        Charter storage charter = _trackOf(trackId).charter;
        if (charter.open) return true;
        for (uint256 i; i < charter.sponsors.length; ++i) {
            if (charter.sponsors[i] == who) return true;
        }
        return false;
    }

    /// @inheritdoc ILineageRegistry
    function potId(bytes32 trackId) public pure returns (bytes32) {
        return keccak256(abi.encode("verifiers", trackId));
    }

    /// @dev What the pot of a track takes and who is paid from it.
    function _pot(bytes32 trackId) internal view returns (uint256 ppm, address payee) {
        Charter storage charter = _trackOf(trackId).charter;
        return (charter.verifierPpm, charter.verifiers);
    }

    /// @dev Reverts for an unknown node.
    function _kindAndTrack(bytes32 id) internal view virtual returns (Kind kind, bytes32 trackId);

    function _trackOf(bytes32 id) private view returns (Track storage t) {
        t = _tracks[id];
        if (t.owner == address(0)) revert UnknownTrack(id);
    }

    function _trackOfCompetitions(bytes32 id) private view returns (Track storage t) {
        t = _trackOf(id);
        if (msg.sender != t.charter.competitions) revert NotCompetitions(msg.sender);
    }

    function _checkName(string calldata name) private pure {
        bytes calldata raw = bytes(name);
        if (raw.length == 0 || raw.length > MAX_NAME_BYTES) revert BadTrackName(name);
        for (uint256 i; i < raw.length; ++i) {
            bytes1 c = raw[i];
            bool good = (c >= "a" && c <= "z") || (c >= "0" && c <= "9") || c == "-";
            if (!good) revert BadTrackName(name);
        }
    }

    function _checkCharter(Charter calldata charter) private pure {
        if (charter.sponsors.length > MAX_SPONSORS) revert TooManySponsors(charter.sponsors.length, MAX_SPONSORS);
        if (charter.open && charter.sponsors.length != 0) revert OpenTrackListsSponsors();
        if (charter.royaltyCapPpm > PPM) revert RoyaltyCapTooHigh(charter.royaltyCapPpm, PPM);
        if (charter.championInheritPpm > MAX_CHAMPION_INHERIT_PPM) {
            revert ChampionInheritTooHigh(charter.championInheritPpm, MAX_CHAMPION_INHERIT_PPM);
        }
        if (charter.verifierPpm > MAX_VERIFIER_PPM) revert VerifierShareTooHigh(charter.verifierPpm, MAX_VERIFIER_PPM);
        if (charter.verifierPpm != 0 && charter.verifiers == address(0)) revert PotHasNoPayee();
    }
}
