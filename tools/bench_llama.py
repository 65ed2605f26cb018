"""llama.cpp's tokens per second on a GGUF file, as JSON: the leg of tools/bench_engine.py that needs llama-cpp-python.

As llama-bench measures: tokens without meaning, nothing sampled. Keys and values are f16, flash attention and
repacked weights are llama.cpp's own choice.
"""

import argparse
import json
import statistics
import time

import llama

SHORT_PROMPT = 8


def tokens(model, seed, count):
    """Ids that are no control tokens, other ones for each seed."""
    return [((seed * 7919 + at) * 2654435761 >> 7) % min(20000, model.size // 2) + 1000 for at in range(count)]


def prefill(model, ctx, prompt, seed):
    rows = [(token, 0, at, at == prompt - 1) for at, token in enumerate(tokens(model, seed, prompt))]
    ctx.clear()
    start = time.perf_counter()
    for first in range(0, prompt, ctx.limit):
        ctx.decode(rows[first:first + ctx.limit])
    return prompt / (time.perf_counter() - start)


def decode(model, ctx, streams, generate, seed):
    """Short prompts, untimed; then one token of each stream at a time."""
    texts = [tokens(model, seed + stream, SHORT_PROMPT + generate) for stream in range(streams)]
    ctx.clear()
    ctx.decode([(texts[stream][at], stream, at, 0) for stream in range(streams) for at in range(SHORT_PROMPT)])
    start = time.perf_counter()
    for at in range(SHORT_PROMPT, SHORT_PROMPT + generate):
        ctx.decode([(text[at], stream, at, True) for stream, text in enumerate(texts)])
        ctx.logits(streams - 1)
    return streams * generate / (time.perf_counter() - start)


def median(measure, runs):
    """Of several runs, after one that warms up."""
    return statistics.median([measure(seed) for seed in range(0, 100 * (runs + 1), 100)][1:])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True)
    parser.add_argument("--prompt", type=int, default=512)
    parser.add_argument("--generate", type=int, default=128)
    parser.add_argument("--concurrency", default="1,2,4,8,16")
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--runs", type=int, default=3)
    args = parser.parse_args()
    model = llama.Model(args.model)
    ctx = llama.Context(model, args.prompt, threads=args.threads)
    report = {"version": llama.VERSION, "threads": args.threads}
    report["prefill_tok_s"] = median(lambda seed: prefill(model, ctx, args.prompt, seed), args.runs)
    ctx.close()
    report["decode_tok_s"] = {}
    for streams in map(int, args.concurrency.split(",")):
        ctx = llama.Context(model, SHORT_PROMPT + args.generate, streams, threads=args.threads)
        measured = median(lambda seed: decode(model, ctx, streams, args.generate, seed), args.runs)
        report["decode_tok_s"][str(streams)] = measured
        ctx.close()
    print(json.dumps(report))


main()
