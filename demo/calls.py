"""The callers of the demo: the official `openai` client, over API keys and over payment channels."""

import concurrent.futures
import dataclasses
import itertools

import openai

PROMPTS = [
    "Name a colour and say what it makes you think of.",
    "In one sentence, what is a royalty?",
    "Write a short greeting for a new colleague.",
    "What is two plus three?",
    "Give me one tip for writing clear code.",
    "Which ocean is the largest?",
]


@dataclasses.dataclass
class Caller:
    """Somebody who calls: a name for the table, and a client that pays by key or through a signing proxy."""

    name: str
    pays_by: str
    client: openai.OpenAI


@dataclasses.dataclass
class Call:
    """What the caller itself saw of one call; compared with the journal later."""

    caller: str
    pays_by: str
    model: str
    streamed: bool
    cancelled: bool
    receipt: str
    pieces: int
    """Pieces of text that reached the caller: at least that many tokens were generated."""
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    """Both None where the caller left before the usage came."""


def client(base_url: str, api_key: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=base_url, api_key=api_key, timeout=120, max_retries=4)


def plain(caller: Caller, model: str, prompt: str, max_tokens: int) -> Call:
    raw = caller.client.chat.completions.with_raw_response.create(
        model=model, messages=[{"role": "user", "content": prompt}], max_tokens=max_tokens, temperature=0.7, seed=7
    )
    answer = raw.parse()
    return Call(
        caller.name, caller.pays_by, model, False, False, raw.headers["dividend-receipt"],
        1 if answer.choices[0].message.content else 0, answer.usage.prompt_tokens, answer.usage.completion_tokens,
    )


def streamed(caller: Caller, model: str, prompt: str, max_tokens: int, leave_after: int | None = None) -> Call:
    """A streamed call; with `leave_after` the caller hangs up after so many pieces of text."""
    stream = caller.client.chat.completions.create(
        model=model, messages=[{"role": "user", "content": prompt}], max_tokens=max_tokens, temperature=0.7,
        stream=True, stream_options={"include_usage": True},
    )
    call = Call(
        caller.name, caller.pays_by, model, True, leave_after is not None, stream.response.headers["dividend-receipt"], 0
    )
    with stream:
        for chunk in stream:
            if chunk.usage is not None:
                call.prompt_tokens, call.completion_tokens = chunk.usage.prompt_tokens, chunk.usage.completion_tokens
            if chunk.choices and chunk.choices[0].delta.content:
                call.pieces += 1
                if call.pieces == leave_after:
                    break
    return call


def make_calls(callers: list[Caller], models: list[str], count: int, max_tokens: int, progress) -> list[Call]:
    """`count` calls spread over callers and models: every second one streamed, every eighth left half-way."""

    def one(number: int) -> Call:
        caller = callers[number % len(callers)]
        model = models[number // len(callers) % len(models)]
        prompt = PROMPTS[number % len(PROMPTS)]
        if number % 8 == 3:
            call = streamed(caller, model, prompt, max_tokens * 2, leave_after=max_tokens // 3)
        elif number % 2 == 1:
            call = streamed(caller, model, prompt, max_tokens)
        else:
            call = plain(caller, model, prompt, max_tokens)
        progress()
        return call

    with concurrent.futures.ThreadPoolExecutor(max_workers=4) as pool:
        return list(pool.map(one, range(count)))


def spread(callers: list[Caller]) -> str:
    by = {kind: [c.name for c in group] for kind, group in itertools.groupby(callers, key=lambda c: c.pays_by)}
    return "; ".join(f"{kind}: {', '.join(names)}" for kind, names in by.items())
