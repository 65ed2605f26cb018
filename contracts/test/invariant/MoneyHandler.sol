// SPDX-License-Identifier: Apache-2.0 OR MIT
pragma solidity ^0.8.28;

import {ILineageRegistry} from "src/interfaces/ILineageRegistry.sol";
import {IPaymentChannels} from "src/interfaces/IPaymentChannels.sol";
import {IRoyaltyPool} from "src/interfaces/IRoyaltyPool.sol";
import {IUsageLedger} from "src/interfaces/IUsageLedger.sol";
import {System} from "../helpers/System.sol";

/// @notice Everything that payers, operator, contributors and strangers can do with money, in any order, and books
/// of its own about what must have come of it. What a single step can show (I7, I8, figures that never fall) it
/// checks at once.
contract MoneyHandler is System {
    uint256 private constant CHANNELS = 3;
    uint256 private constant JOURNALS = 2;
    address private constant STRANGER = address(0xBAD);

    bytes32[] public models;
    bytes32[] public ids;
    IRoyaltyPool.ClaimKey[] private _keys;
    IPaymentChannels.Row[] private _rows;
    IUsageLedger.SealRow[] private _lastSeal;
    bytes32 private _lastJournal;
    uint64 private _lastWindow;

    /// @notice Pico-dollars the payer signed for at most, per channel and lane.
    mapping(bytes32 => mapping(bytes32 => uint256)) public signedFor;
    /// @notice Pico-dollars posted, per model.
    mapping(bytes32 => uint256) public posted;
    /// @notice Base units paid out, per receiver.
    mapping(address => uint256) public paidTo;
    address[] public receivers;
    uint256 public royaltyRedeemed;
    uint256 public royaltyPosted;
    uint256 public operatorRedeemed;

    constructor() {
        deploy();
        _registerModels();
        for (uint256 i; i < CHANNELS; ++i) {
            ids.push(open(_payer(i), bytes32(i), 0));
        }
    }

    // -------------------------------------------------------------------- payers

    function deposit(uint256 who, uint256 amount) external {
        open(_payer(who % CHANNELS), bytes32(who % CHANNELS), uint128(bound(amount, 0, 50_000)));
    }

    function redeem(uint256 who, uint256 lane, uint256 more, uint256 slack) external {
        bytes32 id = ids[who % CHANNELS];
        bytes32 model = models[lane % models.length];
        uint128 claimed = uint128(channels.lanePaid(id, model) * PICO + bound(more, 0, 20_000 * PICO));
        uint128 signed = claimed + uint128(bound(slack, 0, PICO));
        if (signed > signedFor[id][model]) signedFor[id][model] = signed;
        _rows.push(row(id, model, claimed, signed, uint64(block.timestamp + 1 hours)));
        _redeem(_rows[_rows.length - 1]);
    }

    function redeemAnOldRow(uint256 which) external {
        if (_rows.length != 0) _redeem(_rows[which % _rows.length]);
    }

    function requestWithdrawal(uint256 who, uint256 amount) external {
        bytes32 id = ids[who % CHANNELS];
        IPaymentChannels.Channel memory c = channels.channel(id);
        vm.prank(c.payer);
        channels.requestWithdrawal(id, uint128(bound(amount, 0, c.deposit - c.paid)));
    }

    function finalizeWithdrawal(uint256 who) external {
        bytes32 id = ids[who % CHANNELS];
        IPaymentChannels.Channel memory c = channels.channel(id);
        bool due =
            c.withdrawal != 0 && block.timestamp >= c.withdrawableAt && block.timestamp <= c.withdrawableAt + WINDOW;
        vm.prank(c.payer);
        (bool done, bytes memory result) = address(channels).call(abi.encodeCall(channels.finalizeWithdrawal, (id)));
        yes(done == due, "a withdrawal is taken exactly when it is due");
        if (done) paidTo[c.payer] += abi.decode(result, (uint256));
    }

    function pass(uint256 time) external {
        vm.warp(block.timestamp + bound(time, 1, 2 days));
        vm.roll(block.number + 1);
    }

    // ------------------------------------------------------------------ operator

    function postSeal(uint256 journal, uint256 model, uint256 sum, bool last) external {
        _lastJournal = keccak256(abi.encode(journal % JOURNALS));
        _lastWindow = ledger.nextWindow(_lastJournal);
        bytes32 first = models[model % models.length];
        delete _lastSeal;
        _lastSeal.push(sealRow(first, uint128(bound(sum, 0, 20_000 * PICO))));
        _lastSeal.push(sealRow(keccak256("unknown"), 1));
        bool fresh = ledger.sealOf(_lastJournal, _lastWindow, first) == 0;
        if (fresh) posted[first] += _lastSeal[0].prepaidSum;
        vm.prank(operator);
        royaltyPosted += ledger.postSeal(_lastJournal, _lastWindow, _lastSeal, last);
    }

    /// @dev I7: a chunk of a closed window is refused, one of an open window is skipped.
    function postTheLastSealAgain() external {
        if (_lastSeal.length == 0) return;
        bytes32 before = stateOfTheLedger();
        vm.prank(operator);
        (bool done,) =
            address(ledger).call(abi.encodeCall(ledger.postSeal, (_lastJournal, _lastWindow, _lastSeal, false)));
        yes(done == (ledger.nextWindow(_lastJournal) == _lastWindow), "only an open window takes a chunk");
        eq(before, stateOfTheLedger(), "I7: a seal sent twice");
    }

    function fund(uint256 amount, bool bond) external {
        topUp(bond ? IUsageLedger.Fund.Bond : IUsageLedger.Fund.Escrow, uint128(bound(amount, 0, 5_000)));
    }

    function settleOwed(uint256 model) external {
        bytes32 id = models[model % models.length];
        royaltyPosted += ledger.settleOwed(id);
        bytes32 before = stateOfTheLedger();
        eq(ledger.settleOwed(id), 0, "I7: settled twice");
        eq(before, stateOfTheLedger(), "I7: settled twice");
    }

    function requestFunds(uint256 amount, bool bond) external {
        IUsageLedger.Fund kind = bond ? IUsageLedger.Fund.Bond : IUsageLedger.Fund.Escrow;
        uint256 balance = ledger.balanceOf(kind);
        uint256 reserved = bond ? 0 : ledger.totalOwed();
        uint256 free = balance > reserved ? balance - reserved : 0;
        vm.prank(operator);
        ledger.requestWithdrawal(kind, uint128(bound(amount, 0, free)));
    }

    function finalizeFunds(bool bond) external {
        IUsageLedger.Fund kind = bond ? IUsageLedger.Fund.Bond : IUsageLedger.Fund.Escrow;
        IUsageLedger.Withdrawal memory w = ledger.withdrawal(kind);
        bool due = w.amount != 0 && block.timestamp >= w.availableAt && block.timestamp <= w.availableAt + WINDOW;
        uint256 owed = ledger.totalOwed();
        uint256 before = ledger.balanceOf(IUsageLedger.Fund.Escrow);
        vm.prank(operator);
        (bool done, bytes memory result) = address(ledger).call(abi.encodeCall(ledger.finalizeWithdrawal, (kind)));
        yes(done == due, "funds are taken exactly when they are due");
        if (!done) return;
        paidTo[operator] += abi.decode(result, (uint256));
        uint256 left = ledger.balanceOf(IUsageLedger.Fund.Escrow);
        yes(left == before || left >= owed, "I8: what is owed stays");
    }

    function withdrawEarnings() external {
        paidTo[operator] += channels.withdrawEarnings();
    }

    // -------------------------------------------------------------- contributors

    function claim(uint256 which) external {
        IRoyaltyPool.ClaimKey memory k = _keys[which % _keys.length];
        (address payee,,) = registry.entitlement(k.model, k.node, k.slot);
        uint256 due = pool.claimable(k.model, k.node, k.slot);
        vm.prank(STRANGER);
        uint256 amount = pool.claim(k.model, k.node, k.slot);
        eq(amount, due, "what was claimable");
        _book(payee, amount);
        eq(pool.claim(k.model, k.node, k.slot), 0, "I7: claimed twice");
    }

    /// @dev One key twice and one unknown among them: the first is paid once, the second skipped.
    function claimMany(uint256 from, uint256 count) external {
        count = bound(count, 1, _keys.length);
        IRoyaltyPool.ClaimKey[] memory keys = new IRoyaltyPool.ClaimKey[](count + 2);
        for (uint256 i; i < count; ++i) {
            keys[i] = _keys[(from % _keys.length + i) % _keys.length];
            (address payee,,) = registry.entitlement(keys[i].model, keys[i].node, keys[i].slot);
            _book(payee, pool.claimable(keys[i].model, keys[i].node, keys[i].slot));
        }
        keys[count] = keys[0];
        keys[count + 1] = IRoyaltyPool.ClaimKey(models[from % models.length], keccak256("unknown"), 0);
        pool.claimMany(keys);
        eq(pool.claimMany(keys), 0, "I7: claimed twice");
    }

    function rotatePayee(uint256 model, uint256 slot, uint160 to) external {
        bytes32 id = models[model % models.length];
        ILineageRegistry.Slot[] memory slots = registry.slots(id);
        slot = slot % slots.length;
        vm.prank(slots[slot].payee);
        registry.rotatePayee(id, slot, address(uint160(bound(to, 0x1000, 0x1003))));
    }

    // ----------------------------------------------------------------- strangers

    /// @dev I8: nothing of this may work, and whatever works for anyone must leave the stranger empty-handed.
    function meddle(uint256 which, uint256 amount) external {
        bytes32 id = ids[which % CHANNELS];
        bytes32 model = models[which % models.length];
        uint128 some = uint128(bound(amount, 0, 1_000));
        IRoyaltyPool.Credit[] memory credits = new IRoyaltyPool.Credit[](1);
        credits[0] = IRoyaltyPool.Credit(model, some);
        _refused(address(channels), abi.encodeCall(channels.requestWithdrawal, (id, some)));
        _refused(address(channels), abi.encodeCall(channels.finalizeWithdrawal, (id)));
        _refused(address(ledger), abi.encodeCall(ledger.requestWithdrawal, (IUsageLedger.Fund.Escrow, some)));
        _refused(address(ledger), abi.encodeCall(ledger.finalizeWithdrawal, (IUsageLedger.Fund.Bond)));
        _refused(address(ledger), abi.encodeCall(ledger.postSeal, ("", 0, new IUsageLedger.SealRow[](0), true)));
        _refused(address(pool), abi.encodeCall(pool.credit, (credits)));
        _refused(address(registry), abi.encodeCall(registry.rotatePayee, (model, 0, STRANGER)));
        eq(token.balanceOf(STRANGER), 0, "I8: a stranger got money");
    }

    // --------------------------------------------------------------------- books

    function keyCount() external view returns (uint256) {
        return _keys.length;
    }

    function key(uint256 i) external view returns (IRoyaltyPool.ClaimKey memory) {
        return _keys[i];
    }

    function counts() external view returns (uint256 modelCount, uint256 channelCount, uint256 receiverCount) {
        return (models.length, ids.length, receivers.length);
    }

    function contracts() external view returns (address, address, address, address, address) {
        return (address(token), address(registry), address(pool), address(channels), address(ledger));
    }

    function stateOfTheLedger() public view returns (bytes32 state) {
        state = keccak256(
            abi.encode(
                ledger.totalOwed(),
                ledger.balanceOf(IUsageLedger.Fund.Escrow),
                pool.totalRevenue(),
                token.balanceOf(address(ledger))
            )
        );
        for (uint256 i; i < models.length; ++i) {
            state = keccak256(abi.encode(state, ledger.lane(models[i]), pool.revenue(models[i])));
        }
    }

    function stateOfTheChannels() public view returns (bytes32 state) {
        state = keccak256(abi.encode(channels.earnings(), pool.totalRevenue(), token.balanceOf(address(channels))));
        for (uint256 i; i < ids.length; ++i) {
            state = keccak256(abi.encode(state, channels.channel(ids[i])));
            for (uint256 m; m < models.length; ++m) {
                state = keccak256(abi.encode(state, channels.lanePaid(ids[i], models[m])));
            }
        }
    }

    /// @dev I7: the same batch at once again moves nothing.
    function _redeem(IPaymentChannels.Row memory r) private {
        IPaymentChannels.Row[] memory rows = new IPaymentChannels.Row[](1);
        rows[0] = r;
        uint256 paidBefore = channels.lanePaid(r.voucher.channel, r.voucher.lane);
        (uint256 royalty, uint256 part) = channels.redeemBatch(rows);
        royaltyRedeemed += royalty;
        operatorRedeemed += part;
        eq(
            channels.lanePaid(r.voucher.channel, r.voucher.lane),
            paidBefore + royalty + part,
            "I4: what moved is royalty and operator's part"
        );
        bytes32 before = stateOfTheChannels();
        channels.redeemBatch(rows);
        eq(before, stateOfTheChannels(), "I7: redeemed twice");
    }

    function _refused(address target, bytes memory data) private {
        vm.prank(STRANGER);
        (bool done,) = target.call(data);
        yes(!done, "I8: a stranger was let in");
    }

    function _book(address to, uint256 amount) private {
        if (paidTo[to] == 0) receivers.push(to);
        paidTo[to] += amount;
    }

    function _payer(uint256 i) private pure returns (address) {
        return address(uint160(0xAA00 + i));
    }

    /// @dev A free base, a base, a fork of both in a track with a pot, and a fork of that: every kind of row and
    /// rate.
    function _registerModels() private {
        ILineageRegistry.NodeInput memory input = base("free");
        input.royaltyPpm = 0;
        models.push(register(input));
        input = base("base");
        input.royaltyPpm = 500_000;
        models.push(register(input));
        bytes32 track = registry.createTrack("t", charter(50_000));
        input = fork("fork", models[0], 800_000);
        input.parents = new ILineageRegistry.Parent[](2);
        input.parents[0] = ILineageRegistry.Parent(models[0], 333_333);
        input.parents[1] = ILineageRegistry.Parent(models[1], 666_667);
        input.royaltyPpm = 123_457;
        input.track = track;
        input.slots = new ILineageRegistry.Slot[](3);
        for (uint256 i; i < 3; ++i) {
            input.slots[i] = ILineageRegistry.Slot(address(uint160(0x2000 + i)), i == 2 ? 333_334 : 333_333);
        }
        models.push(register(input));
        input = fork("fork of fork", models[2], 700_001);
        input.royaltyPpm = 1;
        models.push(register(input));
        for (uint256 m; m < models.length; ++m) {
            ILineageRegistry.Row[] memory table = registry.table(models[m]);
            for (uint256 i; i < table.length; ++i) {
                uint256 count = registry.exists(table[i].node) ? registry.slots(table[i].node).length : 1;
                for (uint256 s; s < count; ++s) {
                    _keys.push(IRoyaltyPool.ClaimKey(models[m], table[i].node, s));
                }
            }
        }
    }
}
