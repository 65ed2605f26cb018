"""A Dividend stack of its own for the demo: started, asked through its command line, stopped."""

import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time


class CommandFailed(Exception):
    """A `dividend` or `cast` command ended with an error; the message is what it printed."""


class Stack:
    """`dividend up` in a home of its own, on free ports, as a child of this process."""

    def __init__(self, binary: pathlib.Path, home: pathlib.Path):
        self.binary = binary.resolve()
        self.home = home.resolve()
        self.children: list[subprocess.Popen] = []
        self.endpoints: dict = {}

    def __enter__(self):
        self.home.mkdir(parents=True, exist_ok=True)
        self.up = self._spawn("up", "--ports", "0", "--json", log="up.log")
        ready = self.up.stdout.readline()
        if not ready:
            self.up.wait()
            raise CommandFailed(f"dividend up ended with {self.up.returncode}:\n{self.log('up.log')}")
        self.endpoints = json.loads((self.home / "endpoints.json").read_text())
        return self

    def __exit__(self, *_):
        for child in reversed(self.children):
            if child.poll() is None:
                child.send_signal(signal.SIGTERM)
        for child in reversed(self.children):
            try:
                child.wait(timeout=60)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()

    def _spawn(self, *args: str, log: str) -> subprocess.Popen:
        """Starts a long-running command whose first line on stdout says that it is ready."""
        child = subprocess.Popen(
            [self.binary, "--home", self.home, *args],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=open(self.home / log, "w"),
            text=True,
        )
        self.children.append(child)
        return child

    def spawn_ready(self, *args: str, log: str) -> dict:
        """Starts a long-running command and returns the JSON line that it prints when it is ready."""
        line = (child := self._spawn(*args, log=log)).stdout.readline()
        if not line:
            child.wait()
            raise CommandFailed(f"dividend {' '.join(args)} ended with {child.returncode}:\n{self.log(log)}")
        return json.loads(line)

    def run(self, *args: str) -> dict:
        """Runs one command with --json and returns what it answered."""
        done = subprocess.run(
            [self.binary, "--home", self.home, *args, "--json"], capture_output=True, text=True, stdin=subprocess.DEVNULL
        )
        if done.returncode != 0:
            raise CommandFailed(f"dividend {' '.join(args)} ended with {done.returncode}:\n{done.stderr}")
        return json.loads(done.stdout) if done.stdout.strip() else {}

    def lines(self, *args: str) -> list[dict]:
        """Runs one command that prints a JSON object a line."""
        done = subprocess.run([self.binary, "--home", self.home, *args], capture_output=True, text=True)
        if done.returncode != 0:
            raise CommandFailed(f"dividend {' '.join(args)} ended with {done.returncode}:\n{done.stderr}")
        return [json.loads(line) for line in done.stdout.splitlines()]

    def log(self, name: str) -> str:
        return (self.home / name).read_text()[-4000:]


class Chain:
    """Reads and writes the chain with Foundry's `cast`: nothing of Dividend's own is between the demo and the contracts."""

    def __init__(self, cast: pathlib.Path, rpc: str, contracts: dict[str, str]):
        self.cast = cast
        self.rpc = rpc
        self.contracts = contracts

    def _cast(self, *args: str) -> str:
        done = subprocess.run([self.cast, *args], capture_output=True, text=True)
        if done.returncode != 0:
            raise CommandFailed(f"cast {' '.join(args)}:\n{done.stderr}")
        return done.stdout.strip()

    def integers(self, contract: str, signature: str, *args: str) -> list[int]:
        """All integers that a view answers, tuples flattened, bytes and addresses left out."""
        answer = self._cast("call", "--json", "--rpc-url", self.rpc, self.contracts[contract], signature, *map(str, args))
        # cast repeats large figures in scientific notation.
        plain = re.sub(r"\[[0-9.]+e[0-9]+\]|0x[0-9a-fA-F]+", "", answer)
        return [int(figure) for figure in re.findall(r"\d+", plain)]

    def integer(self, contract: str, signature: str, *args: str) -> int:
        (figure,) = self.integers(contract, signature, *args)
        return figure

    def gas_by_contract(self) -> dict[str, int]:
        """Gas of all transactions so far, by the contract that they were sent to."""
        names = {address.lower(): name for name, address in self.contracts.items()}
        gas: dict[str, int] = {}
        for number in range(1, int(self._cast("block-number", "--rpc-url", self.rpc)) + 1):
            receipts = json.loads(self._cast("rpc", "--rpc-url", self.rpc, "eth_getBlockReceipts", hex(number)))
            for receipt in receipts:
                name = names.get((receipt["to"] or "").lower(), "deployment and others")
                gas[name] = gas.get(name, 0) + int(receipt["gasUsed"], 16)
        return gas

    def new_wallet(self, folder: pathlib.Path, name: str, dollars: int) -> tuple[str, pathlib.Path]:
        """A fresh key with gas and test dollars; returns its address and the file that holds it."""
        wallet = json.loads(self._cast("wallet", "new", "--json"))[0]
        path = folder / name
        path.write_text(wallet["private_key"] + "\n")
        os.chmod(path, 0o600)
        self._cast("rpc", "--rpc-url", self.rpc, "anvil_setBalance", wallet["address"], hex(10**18))
        self._cast(
            "send", "--rpc-url", self.rpc, "--private-key", wallet["private_key"], self.contracts["TestDollar"],
            "mint(address,uint256)", wallet["address"], str(dollars * 1_000_000),
        )
        return wallet["address"], path


def wait_until(what: str, ready, timeout_s: float = 120.0, every_s: float = 0.25):
    """Asks `ready` until it answers with something true, and says what was waited for if it never does."""
    until = time.monotonic() + timeout_s
    while not (answer := ready()):
        if time.monotonic() > until:
            raise CommandFailed(f"waited {timeout_s:.0f} s for {what}")
        time.sleep(every_s)
    return answer


def say(text: str):
    print(f"\033[1m==> {text}\033[0m", file=sys.stderr, flush=True)
