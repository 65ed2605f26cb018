// SPDX-License-Identifier: Apache-2.0 OR MIT
pragma solidity ^0.8.28;

import {ILineageRegistry} from "src/interfaces/ILineageRegistry.sol";
import {System} from "../helpers/System.sol";

contract LineageRegistryTest is System {
    function setUp() public {
        deploy();
    }

    // -------------------------------------------------------- commit and reveal

    function testRegistersAfterACommitment() public {
        bytes32 id = register(base("a"));
        ILineageRegistry.Node memory n = registry.node(id);
        eq(id, registry.nodeId(digestOf("a")), "id");
        eq(
            id,
            keccak256(abi.encode("dividend.node", block.chainid, address(registry), digestOf("a"))),
            "id by its definition"
        );
        eq(n.number, 1, "number");
        eq(registry.nodeCount(), 1, "count");
        eq(registry.nodeAt(1), id, "id of number");
        eq(n.royaltyPpm, 100_000, "royalty");
        eq(n.minPriceIn, 1, "price in");
        eq(n.minPriceOut, 2, "price out");
        eq(n.artifactDigest, digestOf("a"), "digest");
        eq(n.registeredAt, block.number, "block");
        yes(registry.exists(id), "exists");
        eq(registry.royaltyPpm(id), 100_000, "royalty view");
        eq(registry.slots(id).length, 1, "slots");
    }

    function testEventCarriesInputAndTable() public {
        ILineageRegistry.NodeInput memory input = base("a");
        commit(input);
        bytes32 id = registry.nodeId(input.artifactDigest);
        ILineageRegistry.Row[] memory table = new ILineageRegistry.Row[](1);
        table[0] = ILineageRegistry.Row(id, uint32(PPM), 0);
        vm.expectEmit(address(registry));
        emit ILineageRegistry.NodeRegistered(id, address(this), 0, 1, input, table);
        registry.register(input, 0);
    }

    function testRefusesWithoutCommitment() public {
        ILineageRegistry.NodeInput memory input = base("a");
        bytes32 commitment = registry.commitmentOf(address(this), input.artifactDigest, 0);
        refuses(input, abi.encodeWithSelector(ILineageRegistry.NotCommitted.selector, commitment));
        registry.commit(commitment);
        refuses(input, abi.encodeWithSelector(ILineageRegistry.CommittedThisBlock.selector, commitment));
        vm.roll(block.number + 1);
        registry.register(input, 0);
    }

    function testACopiedRevealIsTooYoung() public {
        ILineageRegistry.NodeInput memory input = base("a");
        commit(input);
        address copier = address(0xBAD);
        bytes32 copied = registry.commitmentOf(copier, input.artifactDigest, 0);
        vm.prank(copier);
        registry.commit(copied);
        vm.expectRevert(abi.encodeWithSelector(ILineageRegistry.CommittedThisBlock.selector, copied));
        vm.prank(copier);
        registry.register(input, 0);
        registry.register(input, 0);
    }

    function testACommitmentBindsSenderDigestAndSalt() public {
        ILineageRegistry.NodeInput memory input = base("a");
        commit(input);
        vm.expectPartialRevert(ILineageRegistry.NotCommitted.selector);
        vm.prank(address(0xBAD));
        registry.register(input, 0);
        vm.expectPartialRevert(ILineageRegistry.NotCommitted.selector);
        registry.register(input, bytes32(uint256(1)));
        input.artifactDigest = digestOf("b");
        vm.expectPartialRevert(ILineageRegistry.NotCommitted.selector);
        registry.register(input, 0);
    }

    function testRepeatedCommitmentKeepsTheFirstBlock() public {
        bytes32 commitment = keccak256("c");
        registry.commit(commitment);
        uint256 first = block.number;
        vm.roll(first + 5);
        vm.prank(address(0xBAD));
        registry.commit(commitment);
        eq(registry.committedAt(commitment), first, "block of the commitment");
    }

    function testADigestRegistersOnceEver() public {
        bytes32 id = register(base("a"));
        ILineageRegistry.NodeInput memory again = base("a");
        again.royaltyPpm = 0;
        commit(again);
        refuses(again, abi.encodeWithSelector(ILineageRegistry.DigestTaken.selector, digestOf("a"), id));
    }

    // --------------------------------------------------------------------- rules

    function testRefusesBadTerms() public {
        ILineageRegistry.NodeInput memory input = base("a");
        input.artifactDigest = 0;
        refusesCommitted(input, abi.encodeWithSelector(ILineageRegistry.DigestZero.selector));
        input = base("a");
        input.royaltyPpm = 500_001;
        refusesCommitted(input, abi.encodeWithSelector(ILineageRegistry.RoyaltyTooHigh.selector, 500_001, 500_000));
        input = base("a");
        input.floorPpm = 20_001;
        refusesCommitted(input, abi.encodeWithSelector(ILineageRegistry.FloorTooHigh.selector, 20_001, 20_000));
        input = base("a");
        input.uri = string(new bytes(513));
        refusesCommitted(input, abi.encodeWithSelector(ILineageRegistry.UriTooLong.selector, 513, 512));
        input = base("a");
        input.track = keccak256("nowhere");
        refusesCommitted(input, abi.encodeWithSelector(ILineageRegistry.UnknownTrack.selector, input.track));
    }

    function testRefusesBadSlots() public {
        ILineageRegistry.NodeInput memory input = base("a");
        input.slots = new ILineageRegistry.Slot[](0);
        refusesCommitted(input, abi.encodeWithSelector(ILineageRegistry.SlotCountOutOfRange.selector, 0, 8));
        input.slots = new ILineageRegistry.Slot[](9);
        refusesCommitted(input, abi.encodeWithSelector(ILineageRegistry.SlotCountOutOfRange.selector, 9, 8));
        input = base("a");
        input.slots[0].sharePpm = 999_999;
        refusesCommitted(input, abi.encodeWithSelector(ILineageRegistry.SlotSharesNotWhole.selector, 999_999));
        input.slots[0].sharePpm = 0;
        refusesCommitted(input, abi.encodeWithSelector(ILineageRegistry.ZeroShare.selector, 0));
        input = base("a");
        input.slots[0].payee = address(0);
        refusesCommitted(input, abi.encodeWithSelector(ILineageRegistry.ZeroPayee.selector, 0));
    }

    function testRefusesBadParents() public {
        bytes32 parent = register(base("parent"));
        ILineageRegistry.NodeInput memory input = fork("a", parent, 800_001);
        refusesCommitted(input, abi.encodeWithSelector(ILineageRegistry.InheritTooHigh.selector, 800_001, 800_000));
        input = fork("a", keccak256("unknown"), 100_000);
        refusesCommitted(input, abi.encodeWithSelector(ILineageRegistry.UnknownNode.selector, keccak256("unknown")));
        input = fork("a", parent, 100_000);
        input.parents[0].weightPpm = 999_999;
        refusesCommitted(input, abi.encodeWithSelector(ILineageRegistry.ParentWeightsNotWhole.selector, 999_999));
        input.parents[0].weightPpm = 0;
        refusesCommitted(input, abi.encodeWithSelector(ILineageRegistry.ZeroWeight.selector, parent));
        input.parents = new ILineageRegistry.Parent[](2);
        input.parents[0] = ILineageRegistry.Parent(parent, 400_000);
        input.parents[1] = ILineageRegistry.Parent(parent, 600_000);
        refusesCommitted(input, abi.encodeWithSelector(ILineageRegistry.DuplicateParent.selector, parent));
        input.parents = new ILineageRegistry.Parent[](17);
        refusesCommitted(input, abi.encodeWithSelector(ILineageRegistry.TooManyParents.selector, 17, 16));
    }

    function testKindAndParentsMustAgree() public {
        bytes32 parent = register(base("parent"));
        bytes4 selector = ILineageRegistry.KindAndParentsDisagree.selector;
        ILineageRegistry.NodeInput memory input = fork("a", parent, 0);
        refusesCommitted(input, abi.encodeWithSelector(selector, ILineageRegistry.Kind.Fork, 1, 0));
        input = fork("a", parent, 100_000);
        input.kind = ILineageRegistry.Kind.Base;
        refusesCommitted(input, abi.encodeWithSelector(selector, ILineageRegistry.Kind.Base, 1, 100_000));
        input = base("a");
        input.kind = ILineageRegistry.Kind.Patch;
        refusesCommitted(input, abi.encodeWithSelector(selector, ILineageRegistry.Kind.Patch, 0, 0));
        input = base("a");
        input.inheritPpm = 1;
        refusesCommitted(input, abi.encodeWithSelector(selector, ILineageRegistry.Kind.Base, 0, 1));
    }

    function testARefusedRegistrationCanBeMended() public {
        ILineageRegistry.NodeInput memory input = base("a");
        input.royaltyPpm = 500_001;
        commit(input);
        refuses(input, abi.encodeWithSelector(ILineageRegistry.RoyaltyTooHigh.selector, 500_001, 500_000));
        input.royaltyPpm = 500_000;
        registry.register(input, 0);
    }

    /// @dev Registrations of one transaction share its transient storage.
    function testSeveralInOneTransactionDoNotMeet() public {
        ILineageRegistry.NodeInput memory a = base("a");
        ILineageRegistry.NodeInput memory b = fork("b", registry.nodeId(digestOf("a")), 400_000);
        ILineageRegistry.NodeInput memory c = fork("c", registry.nodeId(digestOf("a")), 300_000);
        commit(a);
        commit(b);
        commit(c);
        Batcher batcher = new Batcher(registry);
        ILineageRegistry.NodeInput[] memory inputs = new ILineageRegistry.NodeInput[](3);
        (inputs[0], inputs[1], inputs[2]) = (a, b, c);
        batcher.commitAll(inputs);
        vm.roll(block.number + 1);
        batcher.registerAll(inputs);
        bytes32 id = registry.nodeId(digestOf("c"));
        eq(registry.row(id, id).ppm, 700_000, "self");
        eq(registry.row(id, registry.nodeId(digestOf("a"))).ppm, 300_000, "parent");
        eq(registry.row(id, registry.nodeId(digestOf("b"))).ppm, 0, "sibling");
    }

    // ------------------------------------------------------ payees, entitlements

    function testOnlyThePayeeRotates() public {
        bytes32 id = register(base("a"));
        vm.expectRevert(abi.encodeWithSelector(ILineageRegistry.NotPayee.selector, address(this), payeeOf("a")));
        registry.rotatePayee(id, 0, address(this));
        vm.expectRevert(abi.encodeWithSelector(ILineageRegistry.ZeroPayee.selector, 0));
        vm.prank(payeeOf("a"));
        registry.rotatePayee(id, 0, address(0));
        vm.expectRevert(abi.encodeWithSelector(ILineageRegistry.UnknownSlot.selector, id, 1));
        registry.rotatePayee(id, 1, address(this));
        vm.expectRevert(abi.encodeWithSelector(ILineageRegistry.UnknownNode.selector, bytes32(0)));
        registry.rotatePayee(0, 0, address(this));
        vm.prank(payeeOf("a"));
        registry.rotatePayee(id, 0, address(7));
        (address payee,,) = registry.entitlement(id, id, 0);
        eq(payee, address(7), "payee");
    }

    function testEntitlementOfRowsSlotsAndPot() public {
        bytes32 parent = register(base("parent"));
        bytes32 track = registry.createTrack("t", charter(50_000));
        ILineageRegistry.NodeInput memory input = fork("a", parent, 400_000);
        input.track = track;
        input.slots = new ILineageRegistry.Slot[](2);
        input.slots[0] = ILineageRegistry.Slot(address(11), 250_000);
        input.slots[1] = ILineageRegistry.Slot(address(12), 750_000);
        bytes32 id = register(input);
        bytes32 pot = registry.potId(track);
        entitled(id, id, 0, address(11), 550_000, 250_000);
        entitled(id, id, 1, address(12), 550_000, 750_000);
        entitled(id, parent, 0, payeeOf("parent"), 400_000, PPM);
        entitled(id, pot, 0, address(0x7E57), 50_000, PPM);
        entitled(id, pot, 1, address(0), 0, 0);
        entitled(id, id, 2, address(0), 0, 0);
        entitled(id, keccak256("unknown"), 0, address(0), 0, 0);
        entitled(id, registry.potId(keccak256("other")), 0, address(0), 0, 0);
        eq(registry.row(id, keccak256("unknown")).ppm, 0, "only its own pot's id names the pot");
        eq(registry.row(id, pot).ppm, 50_000, "row of the pot");
        entitled(parent, id, 0, address(0), 0, 0);
        entitled(parent, pot, 0, address(0), 0, 0);
        entitled(parent, registry.potId(0), 0, address(0), 0, 0);
        entitled(parent, keccak256("unknown"), 0, address(0), 0, 0);
        entitled(keccak256("unknown"), keccak256("unknown"), 0, address(0), 0, 0);
        entitled(keccak256("unknown"), parent, 0, address(0), 0, 0);
    }

    function testViewsOfTheUnknown() public {
        vm.expectPartialRevert(ILineageRegistry.UnknownNode.selector);
        registry.node(0);
        vm.expectPartialRevert(ILineageRegistry.UnknownNode.selector);
        registry.table(0);
        vm.expectPartialRevert(ILineageRegistry.UnknownNode.selector);
        registry.royaltyPpm(0);
        (bool known, uint256 ppm) = registry.tryRoyaltyPpm(0);
        yes(!known && ppm == 0, "unknown royalty");
    }

    // ------------------------------------------------------------------- helpers

    function entitled(bytes32 model, bytes32 node, uint256 slot, address who, uint256 rowPpm, uint256 share)
        private
        view
    {
        (address payee, uint256 ppm, uint256 sharePpm) = registry.entitlement(model, node, slot);
        eq(payee, who, "payee");
        eq(ppm, rowPpm, "row");
        eq(sharePpm, share, "share");
    }

    function refuses(ILineageRegistry.NodeInput memory input, bytes memory reason) private {
        vm.expectRevert(reason);
        registry.register(input, 0);
    }

    function refusesCommitted(ILineageRegistry.NodeInput memory input, bytes memory reason) private {
        commit(input);
        refuses(input, reason);
    }
}

contract Batcher {
    ILineageRegistry private immutable _registry;

    constructor(ILineageRegistry registry) {
        _registry = registry;
    }

    function commitAll(ILineageRegistry.NodeInput[] calldata inputs) external {
        for (uint256 i; i < inputs.length; ++i) {
            _registry.commit(_registry.commitmentOf(address(this), inputs[i].artifactDigest, 0));
        }
    }

    function registerAll(ILineageRegistry.NodeInput[] calldata inputs) external {
        for (uint256 i; i < inputs.length; ++i) {
            _registry.register(inputs[i], 0);
        }
    }
}
