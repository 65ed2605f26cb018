// SPDX-License-Identifier: Apache-2.0 OR MIT
pragma solidity ^0.8.28;

/// @title Lineage, terms and tracks
/// @notice A node is a model. It is registered once and never changes, but for the addresses of its contributors.
/// At registration the node's lineage is flattened to one table `F` of ancestors and shares, so that paying a
/// royalty never walks a graph. Nobody owns the registry.
///
/// Units: every share and rate is in ppm (1_000_000 = all), every price in pico-dollars (10⁻¹² $) per token.
///
/// The table of a model holds, in this order: the model itself, then its ancestors as they were first met in its
/// parents' tables in listed order, then, for a model of a track whose charter pays verifiers, the pot. A row is
/// kept as (number of the node, ppm, floorPpm): children inherit the *apportioned* ppm, and a table sums to exactly
/// 1_000_000. A parent's pot is not inherited: the other rows of that parent keep their ppm as weights, and the
/// child's own apportionment, which divides by the sum of the kept weights, makes good for what the pot leaves out.
interface ILineageRegistry {
    // ---------------------------------------------------------------- types

    /// @notice What an artifact is: weights of its own, weights derived from parents, or a delta against a parent.
    /// @dev A Base has no parents; a Fork or a Patch has at least one.
    enum Kind {
        Base,
        Fork,
        Patch
    }

    /// @param node a registered model
    /// @param weightPpm its part of what the child passes on; the weights of all parents sum to 1_000_000
    struct Parent {
        bytes32 node;
        uint32 weightPpm;
    }

    /// @param payee who is paid, and who alone can name another payee
    /// @param sharePpm part of the node's own row; the shares of all slots sum to 1_000_000
    struct Slot {
        address payee;
        uint32 sharePpm;
    }

    /// @notice What a registrant says about a model.
    /// @param parents at most 16 distinct nodes, already registered
    /// @param inheritPpm part of the royalty that goes to the parents' tables: ≤ 800_000, 0 exactly when there are
    /// none
    /// @param slots 1 to 8 contributors
    /// @param royaltyPpm part of every call's price that is royalty: ≤ 500_000
    /// @param minPriceIn least price of an input token, pico-dollars
    /// @param minPriceOut least price of an output token, pico-dollars
    /// @param floorPpm least part of a *call's price* that goes to this node in every descendant's table: ≤ 20_000
    /// @param artifactDigest SHA-256 of the artifact, not zero; registers once, ever
    /// @param uri where the artifact can be fetched: ≤ 512 bytes; kept in the event only
    /// @param kind base, fork or patch
    /// @param track the track the model was made for, or 0
    struct NodeInput {
        Parent[] parents;
        uint32 inheritPpm;
        Slot[] slots;
        uint32 royaltyPpm;
        uint64 minPriceIn;
        uint64 minPriceOut;
        uint32 floorPpm;
        bytes32 artifactDigest;
        string uri;
        Kind kind;
        bytes32 track;
    }

    /// @notice What the chain keeps of a model. Parents, URI and registrant are in `NodeRegistered`.
    /// @param number 1 for the first node registered, counting up
    /// @param registeredAt block number
    struct Node {
        uint64 number;
        Kind kind;
        uint8 slotCount;
        uint8 rowCount;
        uint32 inheritPpm;
        uint32 royaltyPpm;
        uint32 floorPpm;
        uint64 registeredAt;
        uint64 minPriceIn;
        uint64 minPriceOut;
        bytes32 artifactDigest;
        bytes32 track;
    }

    /// @notice One row of a model's table.
    /// @param node an ancestor, the model itself, or the pot of its track
    /// @param ppm part of the model's royalty
    /// @param floorPpm least part of the call's price that this row keeps in every descendant (0 = none)
    struct Row {
        bytes32 node;
        uint32 ppm;
        uint32 floorPpm;
    }

    /// @notice The immutable rules of a track.
    /// @param sponsors who may sponsor competitions: ≤ 64 addresses, empty when `open`
    /// @param open anyone may sponsor
    /// @param royaltyCapPpm the most a competition's royalty rule may give a winner for itself: ≤ 1_000_000
    /// @param championInheritPpm the least part of a winner's royalty that goes to the champion it beat: ≤ 800_000
    /// @param verifierPpm the pot's part of the royalty of every model of the track: ≤ 50_000
    /// @param competitions the contract that may lock the track and switch its champion besides the owner (0 = none)
    /// @param verifiers the payee of the pot; not 0 when `verifierPpm` > 0
    struct Charter {
        address[] sponsors;
        bool open;
        uint32 royaltyCapPpm;
        uint32 championInheritPpm;
        uint32 verifierPpm;
        address competitions;
        address verifiers;
    }

    /// @notice What a track is now.
    /// @param champions how many champions it has had; the current one is `track@champions`
    /// @param champion the model that serves it now (0 = none yet)
    struct Track {
        string name;
        address owner;
        bool locked;
        uint64 champions;
        bytes32 champion;
        Charter charter;
    }

    /// @notice One entry of a track's history.
    struct Champion {
        bytes32 node;
        uint64 since;
    }

    // --------------------------------------------------------------- events

    /// @notice A commitment was recorded; it can be used from the next block on.
    event Committed(bytes32 indexed commitment, address indexed sender);

    /// @notice A model was registered. `input` is exactly what the registrant gave, `table` its flattened lineage.
    event NodeRegistered(
        bytes32 indexed node,
        address indexed registrant,
        bytes32 indexed track,
        uint64 number,
        NodeInput input,
        Row[] table
    );

    /// @notice The payee of a slot handed it on.
    event PayeeRotated(bytes32 indexed node, uint256 indexed slot, address indexed newPayee, address oldPayee);

    event TrackCreated(bytes32 indexed track, address indexed owner, string name, Charter charter);

    /// @notice `node` serves `track` from this block on, as its `n`-th champion (the first is 1).
    event ChampionChanged(bytes32 indexed track, bytes32 indexed node, uint64 indexed n, bytes32 previous, address by);

    event TrackLocked(bytes32 indexed track);
    event TrackUnlocked(bytes32 indexed track);

    // --------------------------------------------------------------- errors

    /// @notice No commitment of the sender to this digest and salt: call `commit` first, and register in a later
    /// block.
    error NotCommitted(bytes32 commitment);
    /// @notice The commitment is of this very block: register in a later one.
    error CommittedThisBlock(bytes32 commitment);
    error DigestZero();
    /// @notice The artifact is registered already, as `node`.
    error DigestTaken(bytes32 artifactDigest, bytes32 node);
    error UnknownNode(bytes32 node);
    error UnknownTrack(bytes32 track);
    error UnknownSlot(bytes32 node, uint256 slot);
    error TooManyParents(uint256 count, uint256 max);
    error DuplicateParent(bytes32 node);
    error ZeroWeight(bytes32 node);
    error ParentWeightsNotWhole(uint256 sumPpm);
    /// @notice A Base has no parents and inherits nothing, a Fork or Patch has parents and inherits something.
    error KindAndParentsDisagree(Kind kind, uint256 parents, uint256 inheritPpm);
    error InheritTooHigh(uint256 ppm, uint256 max);
    error SlotCountOutOfRange(uint256 count, uint256 max);
    error ZeroPayee(uint256 slot);
    error ZeroShare(uint256 slot);
    error SlotSharesNotWhole(uint256 sumPpm);
    error RoyaltyTooHigh(uint256 ppm, uint256 max);
    error FloorTooHigh(uint256 ppm, uint256 max);
    error UriTooLong(uint256 length, uint256 max);
    error NotPayee(address caller, address payee);

    error BadTrackName(string name);
    error TrackExists(bytes32 track);
    error TooManySponsors(uint256 count, uint256 max);
    error OpenTrackListsSponsors();
    error RoyaltyCapTooHigh(uint256 ppm, uint256 max);
    error ChampionInheritTooHigh(uint256 ppm, uint256 max);
    error VerifierShareTooHigh(uint256 ppm, uint256 max);
    error PotHasNoPayee();
    error NotOwnerNorCompetitions(address caller);
    error NotCompetitions(address caller);
    error TrackIsLocked(bytes32 track);
    error TrackIsNotLocked(bytes32 track);
    error NodeOfAnotherTrack(bytes32 node, bytes32 itsTrack);
    /// @notice The owner may put up a Base only; what descends from others wins by competition.
    error NotABase(bytes32 node);
    error AlreadyChampion(bytes32 node);
    /// @notice A track has champions 1 to `champions`.
    error UnknownChampion(bytes32 track, uint256 n, uint256 champions);

    // ------------------------------------------------------- registering

    /// @notice Records a commitment: `keccak256(abi.encode(chainid, registry, sender, artifactDigest, salt))`. The
    /// first record of a commitment stays; repeating it, by whomever, changes nothing.
    function commit(bytes32 commitment) external;

    /// @notice Registers a model whose commitment by the caller is in an earlier block.
    /// @dev The flattening may also revert with `Flatten.FloorWithoutRoyalty`, `Flatten.FloorsTooHigh` and
    /// `Flatten.TooManyFloors`, and for no other reason.
    /// @return id `keccak256(abi.encode("dividend.node", chainid, registry, artifactDigest))`
    function register(NodeInput calldata input, bytes32 salt) external returns (bytes32 id);

    /// @notice Hands the caller's slot on, together with what is still claimable through it.
    function rotatePayee(bytes32 id, uint256 slot, address newPayee) external;

    // ------------------------------------------------------------- tracks

    /// @notice Creates a track, owned by the caller. First come, first served.
    /// @param name 1 to 64 bytes of `[a-z0-9-]`
    /// @return id `keccak256(bytes(name))`
    function createTrack(string calldata name, Charter calldata charter) external returns (bytes32 id);

    /// @notice Switches the champion of a track to a model registered for it: by the owner to a Base while no
    /// competition runs, by the charter's competitions contract at any time to any.
    function setChampion(bytes32 trackId, bytes32 id) external;

    /// @notice Bars the owner from switching while a competition runs. Only the charter's competitions contract.
    function lockTrack(bytes32 id) external;

    function unlockTrack(bytes32 id) external;

    // -------------------------------------------------------------- views

    function nodeId(bytes32 artifactDigest) external view returns (bytes32);
    function commitmentOf(address sender, bytes32 artifactDigest, bytes32 salt) external view returns (bytes32);

    /// @notice The block in which a commitment was first recorded, 0 if never or used.
    function committedAt(bytes32 commitment) external view returns (uint256);

    function nodeCount() external view returns (uint256);
    function exists(bytes32 id) external view returns (bool);
    function node(bytes32 id) external view returns (Node memory);

    /// @notice Id of the `number`-th node, the first being 1.
    function nodeAt(uint256 number) external view returns (bytes32);

    /// @notice F(model).
    function table(bytes32 model) external view returns (Row[] memory);

    /// @notice The row of `rowNode` in F(model), all zero if there is none.
    function row(bytes32 model, bytes32 rowNode) external view returns (Row memory);

    function slots(bytes32 id) external view returns (Slot[] memory);

    /// @notice Who is paid for (model, node, slot), and at which rates. The pot has one slot, 0, with the whole
    /// share.
    /// @return payee 0 if there is no such row or slot
    /// @return ppm the node's part of the model's royalty
    /// @return sharePpm the slot's part of the node's row
    function entitlement(bytes32 model, bytes32 rowNode, uint256 slot)
        external
        view
        returns (address payee, uint256 ppm, uint256 sharePpm);

    /// @notice The royalty of a model; reverts for an unknown one.
    function royaltyPpm(bytes32 model) external view returns (uint256);

    /// @notice Same without reverting, for batches that skip what they do not know.
    function tryRoyaltyPpm(bytes32 model) external view returns (bool known, uint256 ppm);

    function potId(bytes32 trackId) external pure returns (bytes32);
    function track(bytes32 id) external view returns (Track memory);
    function champion(bytes32 trackId) external view returns (bytes32);

    /// @notice The `n`-th champion of a track (the first is 1) and the block it began in.
    function championAt(bytes32 trackId, uint256 n) external view returns (Champion memory);

    function maySponsor(bytes32 trackId, address who) external view returns (bool);
}
