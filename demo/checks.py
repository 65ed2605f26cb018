"""The invariants, checked from outside: callers' logs, the exported journal, and the contracts read with `cast`."""

import collections
import dataclasses

from calls import Call
from stack import Chain, Stack

PICO_PER_UNIT = 1_000_000
PPM = 1_000_000


@dataclasses.dataclass
class Check:
    name: str
    says: str
    holds: bool
    figures: dict


@dataclasses.dataclass
class Lane:
    """One payer's running total for one model; all prepaid keys of a model are one lane, the operator's (channel None)."""

    channel: str | None
    model: str
    pico: int
    royalty_ppm: int

    @property
    def units(self) -> int:
        return self.pico // PICO_PER_UNIT

    @property
    def royalty(self) -> int:
        return self.units * self.royalty_ppm // PPM

    @property
    def operator(self) -> int:
        return self.units - self.royalty


def lanes_of(closes: dict[str, dict], chain: Chain) -> list[Lane]:
    """What the contracts should have arrived at, recomputed from the journal's records alone."""
    pico = collections.Counter()
    for close in closes.values():
        channel = close["payer"].removeprefix("channel:") if close["payer"].startswith("channel:") else None
        pico[channel, close["model"]] += close["charge_pico"]
    rate = {model: chain.integer("LineageRegistry", "royaltyPpm(bytes32)(uint256)", model) for _, model in pico}
    return [Lane(channel, model, total, rate[model]) for (channel, model), total in sorted(pico.items(), key=str)]


def closed_once(calls: list[Call], opens: list[dict], closes: list[dict]) -> Check:
    opened = collections.Counter(record["call"] for record in opens)
    closed = collections.Counter(record["call"] for record in closes)
    seen = {call.receipt for call in calls}
    figures = {"opened": len(opens), "closed": len(closes), "seen by callers": len(seen)}
    holds = opened == closed and set(opened.values()) <= {1} and seen == set(opened)
    return Check("I1", "every call opened is closed exactly once", holds, figures)


def delivered_is_metered(calls: list[Call], closes: dict[str, dict]) -> Check:
    wrong = []
    for call in calls:
        close = closes[call.receipt]
        if call.completion_tokens is None:
            fits = call.pieces <= close["completion_tokens"]
        else:
            metered = close["prompt_tokens"], close["completion_tokens"]
            fits = metered == (call.prompt_tokens, call.completion_tokens) and call.pieces <= call.completion_tokens
        charge = (
            close["prompt_tokens"] * close["price_in_pico_per_token"]
            + close["completion_tokens"] * close["price_out_pico_per_token"]
        )
        if not fits or charge != close["charge_pico"]:
            wrong.append(call.receipt)
    figures = {"calls compared": len(calls), "left half-way": sum(call.cancelled for call in calls), "wrong": wrong}
    return Check("I2", "delivered ≤ metered, and charged to the token", not wrong, figures)


def aggregate_is_journal(audit: dict) -> Check:
    differences = [d for aggregate in audit["aggregates"] for d in aggregate["differences"]]
    seals = [window["seal"]["state"] for window in audit["windows"]]
    figures = {"aggregates compared": len(audit["aggregates"]), "seals compared": len(seals), "differences": differences}
    holds = bool(audit["aggregates"]) and not differences and set(seals) == {"equal"}
    return Check("I3", "the aggregate in Redis is what the journal says", holds, figures)


def lanes_add_up(lanes: list[Lane], chain: Chain) -> Check:
    wrong = []
    for lane in lanes:
        if lane.channel is None:
            figures = chain.integers("UsageLedger", "lane(bytes32)((uint128,uint128))", lane.model)
            right = figures == [lane.pico, lane.royalty]
        else:
            right = chain.integer("PaymentChannels", "lanePaid(bytes32,bytes32)(uint256)", lane.channel, lane.model) == lane.units
        if not right:
            wrong.append(f"{lane.channel or 'prepaid'}/{lane.model}")
    by_channel = [lane for lane in lanes if lane.channel]
    earnings = chain.integer("PaymentChannels", "earnings()(uint256)")
    figures = {
        "lanes": len(lanes),
        "operator + royalty": f"{sum(l.operator for l in lanes)} + {sum(l.royalty for l in lanes)} = {sum(l.units for l in lanes)}",
        "operator's earnings in channels": earnings,
        "wrong": wrong,
    }
    holds = not wrong and earnings == sum(lane.operator for lane in by_channel)
    return Check("I4", "per lane, what was charged is operator's part plus royalty", holds, figures)


def tables_are_whole(stack: Stack, chain: Chain, models: dict[str, str]) -> Check:
    sums, wrong = {}, []
    for name, model in models.items():
        shown = stack.run("model", "show", model)
        sums[name] = 0
        for row in shown["rows"]:
            share_ppm, floor_ppm = chain.integers("LineageRegistry", "row(bytes32,bytes32)((bytes32,uint32,uint32))", model, row["node"])
            sums[name] += share_ppm
            same = (share_ppm, floor_ppm) == (row["share_ppm"], row["floor_ppm"])
            if not same or share_ppm * shown["royalty_ppm"] < floor_ppm * PPM:
                wrong.append(f"{name}: {row}")
    holds = set(sums.values()) == {PPM} and not wrong
    says = "every table of shares sums to 1,000,000, floors hold, and the contract has the same"
    return Check("I5", says, holds, {**sums, "wrong": wrong})


def pool_is_covered(lanes: list[Lane], contributors: list[dict], chain: Chain) -> Check:
    revenue = chain.integer("RoyaltyPool", "totalRevenue()(uint256)")
    claimed_total = chain.integer("RoyaltyPool", "totalClaimed()(uint256)")
    balance = chain.integer("TestDollar", "balanceOf(address)(uint256)", chain.contracts["RoyaltyPool"])
    credited = sum(c["credited_units"] for c in contributors)
    claimed = sum(c["claimed_units"] for c in contributors)
    royalty = sum(lane.royalty for lane in lanes)
    figures = {"royalty": royalty, "revenue": revenue, "credited": credited, "claimed": claimed, "held by the pool": balance}
    holds = (
        claimed == claimed_total and claimed <= credited <= revenue == royalty and balance == revenue - claimed
        and all(c["claimed_units"] <= c["credited_units"] <= c["accrued_units"] for c in contributors)
    )
    return Check("I6", "claimed ≤ credited ≤ revenue = royalty, and the pool holds the rest", holds, figures)


def balances_grew(contributors: list[dict], chain: Chain) -> Check:
    """A contributor's wallet held nothing before; it holds now exactly what it claimed."""
    wrong = [
        c["address"] for c in contributors
        if c["wallet_before_units"] + c["claimed_units"]
        != chain.integer("TestDollar", "balanceOf(address)(uint256)", c["address"])
    ]
    claimers = sum(1 for c in contributors if c["claimed_units"])
    return Check("paid", "wallets grew by exactly what was claimed", not wrong and claimers >= 2, {"claimers": claimers, "wrong": wrong})


def state_of(chain: Chain, lanes: list[Lane]) -> dict:
    """Everything on the chain that a replay could change."""
    return {
        "revenue": chain.integer("RoyaltyPool", "totalRevenue()(uint256)"),
        "claimed": chain.integer("RoyaltyPool", "totalClaimed()(uint256)"),
        "earnings": chain.integer("PaymentChannels", "earnings()(uint256)"),
        "lanes": [
            chain.integers("PaymentChannels", "lanePaid(bytes32,bytes32)(uint256)", lane.channel, lane.model)
            if lane.channel else chain.integers("UsageLedger", "lane(bytes32)((uint128,uint128))", lane.model)
            for lane in lanes
        ],
    }


def replay_changes_nothing(before: dict, after: dict) -> Check:
    return Check("I7", "settling and claiming again changes nothing", before == after, {"before": before, "after": after})
