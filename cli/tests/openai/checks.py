"""Asks a gateway for everything it promises, with the official client. Every check is a function; all run, and any failure
fails the whole. The address and the key come from the client's own environment variables."""

import math
import sys
import traceback

import openai

CLIENT = openai.OpenAI(max_retries=2, timeout=120)
MODEL = "smollm2"
CHECKS = []


def check(function):
    CHECKS.append(function)
    return function


def chat(content="Name three colours.", **parameters):
    messages = [{"role": "user", "content": content}]
    parameters = {"max_tokens": 12, "temperature": 0, **parameters}
    return CLIENT.chat.completions.create(model=MODEL, messages=messages, **parameters)


def text(prompt="Three colours are red,", **parameters):
    parameters = {"max_tokens": 8, "temperature": 0, **parameters}
    return CLIENT.completions.create(model=MODEL, prompt=prompt, **parameters)


def refused(param, call, **parameters):
    try:
        call(**parameters)
    except openai.BadRequestError as error:
        assert error.param == param, f"{parameters}: the answer names {error.param}: {error.message}"
    else:
        raise AssertionError(f"{parameters} was taken")


@check
def choices_differ_and_repeat_with_their_seed():
    asked = dict(n=3, temperature=1.5, seed=11)
    first, again = (chat(**asked) for _ in range(2))
    texts = [choice.message.content for choice in first.choices]
    assert [choice.index for choice in first.choices] == [0, 1, 2]
    assert len(set(texts)) > 1, texts
    assert texts == [choice.message.content for choice in again.choices]
    alone = chat(**{**asked, "n": 1, "seed": 12}).choices[0].message.content
    assert alone == texts[1], "the second choice is that of the next seed"
    assert first.usage.completion_tokens <= 3 * 12
    assert first.usage.dividend["tokens_out"] == first.usage.completion_tokens


@check
def streamed_choices_are_the_same():
    asked = dict(n=2, temperature=1.2, seed=5)
    texts, reasons, usage = ["", ""], [None, None], None
    for chunk in chat(stream=True, stream_options={"include_usage": True}, **asked):
        usage = chunk.usage or usage
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
            reasons[choice.index] = choice.finish_reason or reasons[choice.index]
    whole = chat(**asked)
    assert texts == [choice.message.content for choice in whole.choices]
    assert reasons == [choice.finish_reason for choice in whole.choices]
    assert usage.completion_tokens == whole.usage.completion_tokens


@check
def likelihoods_are_told_in_both_shapes():
    answer = chat(logprobs=True, top_logprobs=4)
    tokens = answer.choices[0].logprobs.content
    assert len(tokens) == answer.usage.completion_tokens
    assert b"".join(bytes(token.bytes) for token in tokens).decode() == answer.choices[0].message.content
    for token in tokens:
        assert len(token.top_logprobs) == 4 and token.top_logprobs[0].token == token.token, token
        assert sum(math.exp(top.logprob) for top in token.top_logprobs) <= 1.0001
    streamed = []
    for chunk in chat(logprobs=True, top_logprobs=4, stream=True):
        for choice in chunk.choices:
            streamed += choice.logprobs.content if choice.logprobs else []
    assert streamed == tokens
    old = text(logprobs=2).choices[0]
    assert "".join(old.logprobs.tokens) == old.text
    assert [old.text[at : at + len(token)] for at, token in zip(old.logprobs.text_offset, old.logprobs.tokens)] == old.logprobs.tokens
    assert all(len(top) == 2 for top in old.logprobs.top_logprobs)


@check
def bias_and_penalties_bend_the_answer():
    plain = chat()
    # 19556 is "Hello".
    forced = chat(logit_bias={"19556": 100}, logprobs=True)
    assert forced.choices[0].message.content == "Hello" * 12
    assert all(token.logprob < -0.5 for token in forced.choices[0].logprobs.content[:1]), "told without the bias"
    once, often = (
        text("one one one one one one one one", max_tokens=16, frequency_penalty=penalty).choices[0].text
        for penalty in (2.0, 0.0)
    )
    assert len(set(once.split())) > len(set(often.split())), (once, often)
    narrow = chat(temperature=2.0, extra_body={"top_k": 1})
    assert narrow.choices[0].message.content == plain.choices[0].message.content
    assert chat(temperature=2.0, extra_body={"min_p": 1.0}).choices[0].message.content == plain.choices[0].message.content
    assert chat(presence_penalty=1.5, extra_body={"repetition_penalty": 1.3}).choices[0].message.content


@check
def stops_end_the_answer():
    whole = chat(max_tokens=40).choices[0].message.content
    stop = whole[10:14]
    ended = chat(max_tokens=40, stop=[stop])
    assert ended.choices[0].message.content == whole[: whole.index(stop)]
    assert ended.choices[0].finish_reason == "stop"


@check
def what_was_computed_is_told_as_cached():
    prompt = "The quick brown fox jumps over the lazy dog. " * 8
    text(prompt)
    usage = text(prompt).usage
    assert 0 < usage.prompt_tokens_details.cached_tokens < usage.prompt_tokens, usage


@check
def token_ids_are_a_prompt():
    by_ids = text([19556, 28, 905])
    assert by_ids.usage.prompt_tokens == 3
    assert by_ids.choices[0].text


@check
def what_is_not_served_is_refused_by_its_name():
    refused("n", chat, n=0)
    refused("n", chat, n=1000)
    refused("top_logprobs", chat, logprobs=True, top_logprobs=21)
    refused("top_logprobs", chat, top_logprobs=2)
    refused("logit_bias", chat, logit_bias={"49152": 1})
    refused("logit_bias.x", chat, logit_bias={"x": 1})
    refused("stop_token_ids", chat, extra_body={"stop_token_ids": [49_152]})
    refused("min_p", chat, extra_body={"min_p": 2})
    refused("top_k", chat, extra_body={"top_k": -5})
    refused("no_such_parameter", chat, extra_body={"no_such_parameter": 1})
    refused("echo", text, echo=True)
    refused("suffix", text, suffix="x")
    refused("best_of", text, best_of=3)
    refused("prompt", text, prompt=["a", "b"])
    refused("prompt", text, prompt=[49_152])


def main():
    failed = 0
    for function in CHECKS:
        try:
            function()
            print("ok  ", function.__name__)
        except Exception:
            failed += 1
            print("FAIL", function.__name__)
            traceback.print_exc()
    print(f"{len(CHECKS) - failed} of {len(CHECKS)} checks hold")
    sys.exit(failed > 0 or not CHECKS)


if __name__ == "__main__":
    main()
