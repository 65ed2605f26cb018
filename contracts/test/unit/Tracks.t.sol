// SPDX-License-Identifier: Apache-2.0 OR MIT
pragma solidity ^0.8.28;

import {ILineageRegistry} from "src/interfaces/ILineageRegistry.sol";
import {System} from "../helpers/System.sol";

contract TracksTest is System {
    address private constant COMPETITIONS = address(0xC0DE);
    address private constant STRANGER = address(0xBAD);

    function setUp() public {
        deploy();
    }

    function testCreatesOnceWithAnImmutableCharter() public {
        bytes32 id = registry.createTrack("smollm2-triage", charter(50_000));
        eq(id, keccak256("smollm2-triage"), "id");
        ILineageRegistry.Track memory t = registry.track(id);
        eq(t.owner, address(this), "owner");
        eq(t.charter.verifierPpm, 50_000, "verifier share");
        eq(t.charter.competitions, COMPETITIONS, "competitions");
        eq(registry.champion(id), 0, "no champion yet");
        vm.expectRevert(abi.encodeWithSelector(ILineageRegistry.TrackExists.selector, id));
        vm.prank(STRANGER);
        registry.createTrack("smollm2-triage", charter(0));
    }

    function testNames() public {
        string[5] memory bad = ["", "Upper", "under_score", "dot.", unicode"é"];
        for (uint256 i; i < bad.length; ++i) {
            vm.expectRevert(abi.encodeWithSelector(ILineageRegistry.BadTrackName.selector, bad[i]));
            registry.createTrack(bad[i], charter(0));
        }
        string memory most = "abcdefghijklmnopqrstuvwxyz-0123456789-abcdefghijklmnopqrstuvwxyz";
        registry.createTrack(most, charter(0));
        string memory above = string.concat(most, "a");
        vm.expectRevert(abi.encodeWithSelector(ILineageRegistry.BadTrackName.selector, above));
        registry.createTrack(above, charter(0));
    }

    function testCharterLimits() public {
        ILineageRegistry.Charter memory c = charter(50_001);
        refused(c, abi.encodeWithSelector(ILineageRegistry.VerifierShareTooHigh.selector, 50_001, 50_000));
        c = charter(1);
        c.verifiers = address(0);
        refused(c, abi.encodeWithSelector(ILineageRegistry.PotHasNoPayee.selector));
        c = charter(1);
        c.championInheritPpm = 800_001;
        refused(c, abi.encodeWithSelector(ILineageRegistry.ChampionInheritTooHigh.selector, 800_001, 800_000));
        c = charter(1);
        c.royaltyCapPpm = 1_000_001;
        refused(c, abi.encodeWithSelector(ILineageRegistry.RoyaltyCapTooHigh.selector, 1_000_001, PPM));
        c = charter(1);
        c.sponsors = new address[](1);
        refused(c, abi.encodeWithSelector(ILineageRegistry.OpenTrackListsSponsors.selector));
        c.open = false;
        c.sponsors = new address[](65);
        refused(c, abi.encodeWithSelector(ILineageRegistry.TooManySponsors.selector, 65, 64));
    }

    function testSponsors() public {
        bytes32 open = registry.createTrack("open", charter(0));
        yes(registry.maySponsor(open, STRANGER), "open to anyone");
        ILineageRegistry.Charter memory c = charter(0);
        c.open = false;
        c.sponsors = new address[](2);
        (c.sponsors[0], c.sponsors[1]) = (address(1), address(2));
        bytes32 listed = registry.createTrack("listed", c);
        yes(registry.maySponsor(listed, address(2)), "listed");
        yes(!registry.maySponsor(listed, STRANGER), "not listed");
    }

    function testOwnerSwitchesToABaseOfItsTrackOnly() public {
        (bytes32 id, bytes32 a) = trackWithBase("t", "a");
        bytes32 stray = register(base("stray"));
        vm.expectRevert(abi.encodeWithSelector(ILineageRegistry.NodeOfAnotherTrack.selector, stray, bytes32(0)));
        registry.setChampion(id, stray);
        ILineageRegistry.NodeInput memory input = fork("fork", a, 100_000);
        input.track = id;
        bytes32 forked = register(input);
        vm.expectRevert(abi.encodeWithSelector(ILineageRegistry.NotABase.selector, forked));
        registry.setChampion(id, forked);
        vm.expectRevert(abi.encodeWithSelector(ILineageRegistry.NotOwnerNorCompetitions.selector, STRANGER));
        vm.prank(STRANGER);
        registry.setChampion(id, a);
        vm.expectRevert(abi.encodeWithSelector(ILineageRegistry.UnknownTrack.selector, bytes32(0)));
        registry.setChampion(0, stray);
        registry.setChampion(id, a);
        vm.expectRevert(abi.encodeWithSelector(ILineageRegistry.AlreadyChampion.selector, a));
        registry.setChampion(id, a);
    }

    function testHistoryCountsFromOne() public {
        (bytes32 id, bytes32 a) = trackWithBase("t", "a");
        ILineageRegistry.NodeInput memory input = base("b");
        input.track = id;
        bytes32 b = register(input);
        vm.expectEmit(address(registry));
        emit ILineageRegistry.ChampionChanged(id, a, 1, 0, address(this));
        registry.setChampion(id, a);
        uint256 since = block.number;
        vm.roll(since + 10);
        vm.expectEmit(address(registry));
        emit ILineageRegistry.ChampionChanged(id, b, 2, a, address(this));
        registry.setChampion(id, b);
        eq(registry.championAt(id, 1).node, a, "first");
        eq(registry.championAt(id, 1).since, since, "since");
        eq(registry.championAt(id, 2).node, b, "second");
        eq(registry.track(id).champions, 2, "count");
        vm.expectRevert(abi.encodeWithSelector(ILineageRegistry.UnknownChampion.selector, id, 0, 2));
        registry.championAt(id, 0);
        vm.expectRevert(abi.encodeWithSelector(ILineageRegistry.UnknownChampion.selector, id, 3, 2));
        registry.championAt(id, 3);
    }

    function testALockStopsTheOwnerButNotCompetitions() public {
        (bytes32 id, bytes32 a) = trackWithBase("t", "a");
        ILineageRegistry.NodeInput memory input = fork("winner", a, 600_000);
        input.track = id;
        bytes32 winner = register(input);
        vm.expectRevert(abi.encodeWithSelector(ILineageRegistry.NotCompetitions.selector, address(this)));
        registry.lockTrack(id);
        vm.prank(COMPETITIONS);
        registry.lockTrack(id);
        vm.expectRevert(abi.encodeWithSelector(ILineageRegistry.TrackIsLocked.selector, id));
        vm.prank(COMPETITIONS);
        registry.lockTrack(id);
        vm.expectRevert(abi.encodeWithSelector(ILineageRegistry.TrackIsLocked.selector, id));
        registry.setChampion(id, a);
        vm.prank(COMPETITIONS);
        registry.setChampion(id, winner);
        vm.expectRevert(abi.encodeWithSelector(ILineageRegistry.NotCompetitions.selector, address(this)));
        registry.unlockTrack(id);
        vm.prank(COMPETITIONS);
        registry.unlockTrack(id);
        vm.expectRevert(abi.encodeWithSelector(ILineageRegistry.TrackIsNotLocked.selector, id));
        vm.prank(COMPETITIONS);
        registry.unlockTrack(id);
        registry.setChampion(id, a);
        eq(registry.champion(id), a, "champion");
    }

    function testNobodyIsCompetitionsWhereThereAreNone() public {
        ILineageRegistry.Charter memory c = charter(0);
        c.competitions = address(0);
        bytes32 id = registry.createTrack("none", c);
        vm.expectRevert(abi.encodeWithSelector(ILineageRegistry.NotCompetitions.selector, address(this)));
        registry.lockTrack(id);
    }

    function trackWithBase(string memory name, string memory model) private returns (bytes32 id, bytes32 node) {
        id = registry.createTrack(name, charter(50_000));
        ILineageRegistry.NodeInput memory input = base(model);
        input.track = id;
        node = register(input);
    }

    function refused(ILineageRegistry.Charter memory c, bytes memory reason) private {
        vm.expectRevert(reason);
        registry.createTrack("t", c);
    }
}
