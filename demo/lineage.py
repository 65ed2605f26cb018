"""The models of the demo: a base, two improvements of it, and one that joins both, so that shares meet in a diamond.

        base            its author
       /    \\
    concise  friendly   two contributors
       \\    /
       joined           two more, who share
"""

import dataclasses
import pathlib

from stack import Chain, Stack, say, wait_until


@dataclasses.dataclass
class Improvement:
    name: str
    system_prompt: str
    parents: dict[str, int]
    """Name of a parent → its weight in ppm."""
    inherit_ppm: int
    shares_ppm: list[int]
    """One share per contributor; their wallets are made here."""
    floor_ppm: int = 0


BASE = "smollm2"
ROYALTY_PPM = 300_000
IMPROVEMENTS = [
    Improvement("concise", "You are a concise assistant. Answer in one short sentence.", {BASE: 1_000_000}, 400_000, [1_000_000]),
    Improvement(
        "friendly", "You are a warm and friendly assistant.", {BASE: 1_000_000}, 500_000, [1_000_000], floor_ppm=10_000
    ),
    Improvement(
        "joined", "You are a concise and friendly assistant.", {"concise": 600_000, "friendly": 400_000}, 600_000,
        [700_000, 300_000],
    ),
]


def register_all(stack: Stack, chain: Chain, base_file: pathlib.Path) -> dict[str, str]:
    """Registers the improvements on the base that `up` registered; name → model id."""
    models = {BASE: stack.run("model", "show", BASE)["id"]}
    for improvement in IMPROVEMENTS:
        say(f"registering {improvement.name}, improved from {' and '.join(improvement.parents)}")
        payees = [
            chain.new_wallet(stack.home, f"{improvement.name}-{n}.key", dollars=0)[0]
            for n in range(len(improvement.shares_ppm))
        ]
        artifact = stack.home / f"{improvement.name}.gguf"
        stack.run(
            "model", "fork", str(base_file), "--out", str(artifact),
            "--name", f"SmolLM2 {improvement.name}", "--system-prompt", improvement.system_prompt,
        )
        manifest = stack.home / f"{improvement.name}.toml"
        manifest.write_text(manifest_of(improvement, artifact, payees, models))
        models[improvement.name] = stack.run("model", "register", str(manifest))["model"]
        artifact.unlink()
    return models


def manifest_of(improvement: Improvement, artifact: pathlib.Path, payees: list[str], models: dict[str, str]) -> str:
    lines = [
        f'name = "{improvement.name}"',
        'kind = "fork"',
        f"inherit_ppm = {improvement.inherit_ppm}",
        f"royalty_ppm = {ROYALTY_PPM}",
        f"floor_ppm = {improvement.floor_ppm}",
        "[artifact]",
        f'path = "{artifact}"',
    ]
    for parent, weight in improvement.parents.items():
        lines += ["[[parents]]", f'model = "{models[parent]}"', f"weight_ppm = {weight}"]
    for payee, share in zip(payees, improvement.shares_ppm):
        lines += ["[[slots]]", f'payee = "{payee}"', f"share_ppm = {share}"]
    return "\n".join(lines) + "\n"


def wait_until_served(client, models: dict[str, str]):
    """The gateway notices new models by itself; the demo waits for it."""
    wanted = set(models.values())
    wait_until("the gateway to serve every model", lambda: wanted <= {m.id for m in client.models.list().data} or None)


def contributors(stack: Stack, models: dict[str, str]) -> dict[str, str]:
    """Address → what it contributed, over all models."""
    found = {}
    for name, model in models.items():
        for payee, share_ppm in stack.run("model", "show", model)["tree"]["payees"]:
            found[payee] = name if share_ppm == 1_000_000 else f"{name} ({share_ppm / 10_000:g} %)"
    return found
