"""Tokens per second of our kernels, stock candle and llama.cpp on the same files, as a table, with JSON beside it.

The engines take turns, so that a machine that slows down slows all of them. Python's standard library does;
llama.cpp is measured by tools/bench_llama.py where `tools/setup.sh bench` has installed it.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def run(command):
    """The JSON that a program prints last."""
    done = subprocess.run([str(part) for part in command], stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        sys.exit(f"error: {' '.join(map(str, command))} failed\n  remedy: see what it says above")
    return json.loads(done.stdout.splitlines()[-1])


def medians(reports):
    """The median of each figure over several reports of one engine; None if there is none."""
    if not reports:
        return None
    figures = {"prefill_tok_s": statistics.median(report["prefill_tok_s"] for report in reports)}
    streams = reports[0]["decode_tok_s"]
    figures["decode_tok_s"] = {
        count: statistics.median(report["decode_tok_s"][count] for report in reports) for count in streams
    }
    return figures


def measure(args, model):
    """All engines in turns; candle in one turn only: it is slow, and no more than a base line."""
    sizes = ["--model", model, "--prompt", args.prompt, "--generate", args.generate, "--concurrency", args.concurrency]
    sizes += ["--threads", args.threads]
    ours, llamas, candle = [], [], []
    for turn in range(args.turns):
        bench = [args.dividend, "bench", "engine", "--json", *sizes, "--no-candle", "--runs", args.runs]
        ours.append(run(bench))
        if args.llama_python.exists():
            leg = [args.llama_python, ROOT / "tools" / "bench_llama.py", *sizes, "--runs", args.runs]
            llamas.append(run(leg))
        if turn == args.turns // 2 and not args.no_candle:
            bench = [args.dividend, "bench", "engine", "--json", *sizes, "--runs", 1]
            candle.append(run(bench)["stock_candle"])
    result = {"model": Path(model).name, "threads": args.threads, "turns": args.turns, "runs": args.runs}
    result |= {"backend": ours[0]["backend"], "load_ms": statistics.median(report["load_ms"] for report in ours)}
    result |= medians(ours)
    result |= {"stock_candle": medians(candle), "llama_cpp": medians(llamas)}
    if llamas:
        result["llama_cpp"]["version"] = llamas[0]["version"]
    result["bounds"] = {
        key: statistics.median(report["bounds"][key] for report in ours) for key in ("read_gb_s", "int8_gops")
    }
    for other in ("stock_candle", "llama_cpp"):
        result[f"of_{other}"] = ratios(result, result[other])
    return result


def ratios(ours, theirs):
    """Our figures as multiples of theirs."""
    if theirs is None:
        return None
    decode = {count: ours["decode_tok_s"][count] / value for count, value in theirs["decode_tok_s"].items()}
    return {"prefill": ours["prefill_tok_s"] / theirs["prefill_tok_s"], "decode": decode}


def table(result):
    others = [(name, result[key], result[f"of_{key}"]) for name, key in
              (("llama.cpp", "llama_cpp"), ("stock candle", "stock_candle")) if result[key]]
    lines = [f"{result['model']}, {result['threads']} threads; tokens per second, and ours as a multiple"]
    lines.append(f"{'':<14}{result['backend']:>20}" + "".join(f"{name:>14}{'':>9}" for name, _, _ in others))

    def line(what, ours, theirs):
        cells = "".join(f"{value:>14.1f}{f'× {ratio:.2f}':>9}" for value, ratio in theirs)
        lines.append(f"{what:<14}{ours:>20.1f}{cells}")

    line("prefill", result["prefill_tok_s"], [(one["prefill_tok_s"], of["prefill"]) for _, one, of in others])
    for count, value in result["decode_tok_s"].items():
        line(f"decode × {count}", value, [(one["decode_tok_s"][count], of["decode"][count]) for _, one, of in others])
    bounds = result["bounds"]
    lines.append(f"memory read {bounds['read_gb_s']:.1f} GB/s, int8 {bounds['int8_gops']:.0f} GOPS")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="+", type=Path, help="GGUF files")
    parser.add_argument("--dividend", type=Path, default=ROOT / "target" / "debug" / "dividend")
    parser.add_argument("--llama-python", type=Path, default=ROOT / ".cache" / "bench" / "bin" / "python")
    parser.add_argument("--out", type=Path, default=ROOT / "target" / "bench" / "engine.json")
    parser.add_argument("--prompt", type=int, default=512)
    parser.add_argument("--generate", type=int, default=128)
    parser.add_argument("--concurrency", default="1,2,4,8,16", help="streams at once")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--turns", type=int, default=3, help="how often each engine's turn comes")
    parser.add_argument("--runs", type=int, default=3, help="runs in a turn; medians count")
    parser.add_argument("--no-candle", action="store_true", help="leave stock candle out: it is slow")
    args = parser.parse_args()
    if not args.llama_python.exists():
        print("· llama.cpp is left out: tools/setup.sh bench builds it", file=sys.stderr)
    results = []
    for model in args.models:
        if not model.exists():
            sys.exit(f"error: no {model}\n  remedy: tools/setup.sh bench fetches the models")
        results.append(measure(args, model))
        print(table(results[-1]), end="\n\n", flush=True)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps({"models": results}, indent=2) + "\n")
    print(f"· {args.out}", file=sys.stderr)


main()
