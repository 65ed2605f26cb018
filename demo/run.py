"""The whole idea, once, on real parts: models with a lineage are registered on a chain and served; official clients call them
by key and by channel; the windows are sealed and settled; contributors claim. Then every figure is checked from outside.

Ends with 0 if every check holds. Writes target/demo/report.json.
"""

import argparse
import dataclasses
import json
import pathlib
import shutil
import sys

import calls as callers_of
import checks
import lineage
from calls import Caller
from stack import Chain, CommandFailed, Stack, say

ROOT = pathlib.Path(__file__).resolve().parent.parent
CAST = ROOT / "contracts/node_modules/@foundry-rs/cast-linux-amd64/bin/cast"
BASE_FILE = ROOT / ".cache/models/smollm2-135m-instruct-q4_1.gguf"
OUT = ROOT / "target/demo"
# The home keeps its ports, so that the addresses in the report are good again then.
REOPEN = "target/debug/dividend --home target/demo/home up --ports 0 --detach"

# Dear enough that a minute of calls by a small model shows in whole base units: 15 $ and 60 $ per million tokens.
SETTINGS = """\
[chain]
withdrawal_delay_s = 1_400
withdrawal_window_s = 3_600
max_snapshot_age_ms = 30_000

[meter]
window_ms = 600_000

[settlement]
batch_age_ms = 2_000
poll_ms = 250

[prices.default]
input_pico_per_token = 15_000_000
output_pico_per_token = 60_000_000
"""


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--dividend", type=pathlib.Path, default=ROOT / "target/debug/dividend")
    options.add_argument("--calls", type=int, default=64, help="chat calls to make (at least 60)")
    options.add_argument("--max-tokens", type=int, default=24)
    options = options.parse_args()
    shutil.rmtree(OUT, ignore_errors=True)
    home = OUT / "home"
    home.mkdir(parents=True)
    (home / "settings.toml").write_text(SETTINGS)
    try:
        with Stack(options.dividend, home) as stack:
            report, results = story(stack, max(options.calls, 60), options.max_tokens)
    except CommandFailed as failure:
        print(f"error: {failure}\n  remedy: see the logs in {home / 'logs'}", file=sys.stderr)
        return 1
    (OUT / "report.json").write_text(json.dumps(report, indent=2) + "\n")
    print_report(report, results)
    return 0 if all(check.holds for check in results) else 1


def story(stack: Stack, count: int, max_tokens: int) -> tuple[dict, list[checks.Check]]:
    chain = Chain(CAST, stack.endpoints["rpc"], stack.endpoints["contracts"])
    api = stack.endpoints["api"]
    models = lineage.register_all(stack, chain, BASE_FILE)
    people = lineage.contributors(stack, models)
    wallets = {address: dollars(chain, address) for address in people}
    callers = key_callers(stack, api, 3) + channel_callers(stack, chain, 2)
    lineage.wait_until_served(callers[0].client, models)

    say(f"{count} chat calls with the official client; {callers_of.spread(callers)}")
    done = Progress(count)
    made = callers_of.make_calls(callers, list(models.values()), count, max_tokens, done)

    say("sealing the window, settling it on the chain")
    stack.run("window", "seal")
    settled = stack.run("settle", "--once")
    records = stack.lines("journal", "export", "--format", "jsonl")
    closes = {record["call"]: record for record in records if record["type"] == "close"}
    lanes = checks.lanes_of(closes, chain)

    claimers = list(people)[:2]
    say(f"claiming for {len(claimers)} of {len(people)} contributors")
    claims = [stack.run("claim", "--address", address) for address in claimers]
    before = checks.state_of(chain, lanes)
    stack.run("settle", "--once")
    for address in claimers:
        stack.run("claim", "--address", address)
    after = checks.state_of(chain, lanes)

    earned = [earnings(stack, address, what, wallets[address]) for address, what in people.items()]
    opens = [record for record in records if record["type"] == "open"]
    results = [
        checks.closed_once(made, opens, list(closes.values())),
        checks.delivered_is_metered(made, closes),
        checks.aggregate_is_journal(stack.run("audit")),
        checks.lanes_add_up(lanes, chain),
        checks.tables_are_whole(stack, chain, models),
        checks.pool_is_covered(lanes, earned, chain),
        checks.replay_changes_nothing(before, after),
        checks.balances_grew(earned, chain),
    ]
    report = {
        "calls": len(closes),
        "tokens_in": sum(close["prompt_tokens"] for close in closes.values()),
        "tokens_out": sum(close["completion_tokens"] for close in closes.values()),
        "charged_pico": sum(close["charge_pico"] for close in closes.values()),
        "operator_units": sum(lane.operator for lane in lanes),
        "royalty_units": sum(lane.royalty for lane in lanes),
        "contributors": earned,
        "models": models,
        "lanes": [{**dataclasses.asdict(lane), "royalty_units": lane.royalty, "operator_units": lane.operator} for lane in lanes],
        "callers": [{"name": caller.name, "pays_by": caller.pays_by} for caller in callers],
        "streamed": sum(call.streamed for call in made),
        "left_half_way": sum(call.cancelled for call in made),
        "gas_used": {"claims": sum(claim["gas_used"] for claim in claims), **chain.gas_by_contract()},
        "settlement": settled,
        "contracts": stack.endpoints["contracts"],
        "rpc": stack.endpoints["rpc"],
        "reopen": REOPEN,
        "checks": [dataclasses.asdict(check) for check in results],
    }
    return report, results


def key_callers(stack: Stack, api: str, count: int) -> list[Caller]:
    found = []
    for n in range(count):
        key = stack.run("keys", "create", "--name", f"app-{n + 1}", "--credit", "5")["key"]
        found.append(Caller(f"app-{n + 1}", "key", callers_of.client(f"{api}/v1", key)))
    return found


def channel_callers(stack: Stack, chain: Chain, count: int) -> list[Caller]:
    """Callers with a channel of their own, each behind a signing proxy: the client is the same, with another base URL."""
    found = []
    for n in range(count):
        name = f"payer-{n + 1}"
        say(f"{name} opens a payment channel")
        _, key_file = chain.new_wallet(stack.home, f"{name}.key", dollars=20)
        channel = stack.run("pay", "open", "--key", str(key_file), "--deposit", "10")["channel"]
        proxy = stack.spawn_ready(
            "pay", "proxy", "--channel", channel, "--listen", "127.0.0.1:0", "--cap", "5", "--json", log=f"{name}.log"
        )
        found.append(Caller(name, "channel", callers_of.client(proxy["base_url"], "paid-by-channel")))
    return found


def dollars(chain: Chain, address: str) -> int:
    return chain.integer("TestDollar", "balanceOf(address)(uint256)", address)


def earnings(stack: Stack, address: str, what: str, wallet_before: int) -> dict:
    earned = stack.run("earnings", address)
    amounts = {name: int(earned[name]) for name in ("accrued_units", "credited_units", "claimable_units", "claimed_units")}
    return {"address": address, "contributed": what, "wallet_before_units": wallet_before, **amounts}


class Progress:
    """A line on stderr that counts calls."""

    def __init__(self, total: int):
        self.total, self.done = total, 0

    def __call__(self):
        self.done += 1
        if sys.stderr.isatty() or self.done % 16 == 0 or self.done == self.total:
            end = "\r" if sys.stderr.isatty() and self.done < self.total else "\n"
            print(f"    {self.done}/{self.total} calls", end=end, file=sys.stderr, flush=True)


def print_report(report: dict, results: list[checks.Check]):
    print(f"\n{report['calls']} calls, {report['tokens_in']} tokens in, {report['tokens_out']} out, "
          f"{report['charged_pico'] / 1e12:.6f} $ charged")
    print(f"operator {report['operator_units']} µ$, royalty {report['royalty_units']} µ$\n")
    print(f"{'contributor':<44}{'for':<18}{'accrued':>10}{'credited':>10}{'claimed':>10}   µ$")
    for c in report["contributors"]:
        print(f"{c['address']:<44}{c['contributed']:<18}{c['accrued_units']:>10}{c['credited_units']:>10}{c['claimed_units']:>10}")
    print("\ngas   " + ", ".join(f"{name} {gas}" for name, gas in report["gas_used"].items()))
    print()
    for check in results:
        figures = ", ".join(f"{key} {value}" for key, value in check.figures.items() if key not in ("before", "after"))
        print(f"{'ok  ' if check.holds else 'FAIL'}  {check.name:<5}{check.says}" + (f"  ({figures})" if figures else ""))
    print(f"\nreport: {(OUT / 'report.json').relative_to(ROOT)}")
    print(f"the stack is stopped and kept; to have it back at the same addresses: {REOPEN}")


if __name__ == "__main__":
    sys.exit(main())
