"""Asks a gateway for everything it promises, with the official client. Every check is a function; all run, and any failure
fails the whole. The address and the key come from the client's own environment variables."""

import json
import math
import os
import re
import sys
import time
import traceback
from typing import Literal

import openai
import pydantic

CLIENT = openai.OpenAI(max_retries=2, timeout=120)
MODEL = "smollm2"
EMBEDDER = os.environ["DIVIDEND_EMBEDDER"]
PATCH = os.environ["DIVIDEND_PATCH"]
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


PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 16}, "age": {"type": "integer", "minimum": 0, "maximum": 130}},
    "required": ["name", "age"],
    "additionalProperties": False,
}


@check
def answers_have_the_form_of_a_schema():
    form = {"type": "json_schema", "json_schema": {"name": "person", "strict": True, "schema": PERSON}}
    for temperature in (0, 1.5):
        answer = chat("Describe a person.", response_format=form, max_tokens=60, temperature=temperature, seed=3, n=2)
        for choice in answer.choices:
            person = json.loads(choice.message.content)
            assert set(person) == {"name", "age"} and 0 <= person["age"] <= 130, person
            assert choice.finish_reason == "stop"
    streamed = chat("Describe a person.", response_format=form, max_tokens=60, stream=True)
    text = "".join(choice.delta.content or "" for chunk in streamed for choice in chunk.choices)
    assert set(json.loads(text)) == {"name", "age"}, text


@check
def answers_have_the_form_of_a_pydantic_model():
    class Colour(pydantic.BaseModel):
        name: Literal["red", "green", "blue"]
        warm: bool

    answer = CLIENT.chat.completions.parse(
        model=MODEL, messages=[{"role": "user", "content": "A colour?"}], response_format=Colour, max_tokens=40, temperature=0
    )
    assert isinstance(answer.choices[0].message.parsed, Colour)


@check
def answers_match_a_regex_or_a_choice():
    date = text(max_tokens=20, extra_body={"structured_outputs": {"regex": r"\d{4}-\d\d"}}).choices[0].text
    assert re.fullmatch(r"\d{4}-\d\d", date), date
    word = chat(extra_body={"structured_outputs": {"choice": ["yes", "no"]}}).choices[0].message.content
    assert word in ("yes", "no"), word
    anything = chat("JSON?", response_format={"type": "json_object"}, max_tokens=60).choices[0]
    assert anything.message.content.lstrip().startswith("{"), anything
    assert anything.finish_reason == "length" or isinstance(json.loads(anything.message.content), dict), anything


def wait_for(model):
    """A model is loaded some moments after it is registered."""
    for _ in range(600):
        if any(entry.id == model for entry in CLIENT.models.list().data):
            return
        time.sleep(0.1)
    raise AssertionError(f"{model} is not served")


@check
def a_patch_answers_over_its_base_and_earns_by_itself():
    wait_for(PATCH)
    asked = dict(messages=[{"role": "user", "content": "Name three colours."}], max_tokens=12, temperature=0)
    patched, again = (CLIENT.chat.completions.create(model=PATCH, **asked) for _ in range(2))
    base = CLIENT.chat.completions.create(model=MODEL, **asked)
    assert patched.choices[0].message.content == again.choices[0].message.content
    assert patched.choices[0].message.content != base.choices[0].message.content
    assert patched.usage.dividend["model"] == PATCH and base.usage.dividend["model"] != PATCH


@check
def embeddings_are_near_where_meanings_are():
    wait_for(EMBEDDER)
    texts = ["A cat sits on the mat.", "A kitten rests on a rug.", "Interest rates rose again."]
    answer = CLIENT.embeddings.create(model=EMBEDDER, input=texts)
    vectors = [entry.embedding for entry in answer.data]
    assert [entry.index for entry in answer.data] == [0, 1, 2] and {len(vector) for vector in vectors} == {384}
    near, far = (sum(a * b for a, b in zip(vectors[0], vectors[at])) for at in (1, 2))
    assert near > 0.5 > far, (near, far)
    floats = CLIENT.embeddings.create(model=EMBEDDER, input=texts[0], encoding_format="float", dimensions=384)
    assert all(abs(a - b) < 1e-6 for a, b in zip(floats.data[0].embedding, vectors[0]))
    by_ids = CLIENT.embeddings.create(model=EMBEDDER, input=[101, 1037, 4937, 102])
    assert len(by_ids.data[0].embedding) == 384
    assert answer.usage.prompt_tokens == answer.usage.total_tokens == answer.usage.dividend["tokens_in"] > 0
    assert answer.usage.dividend["tokens_out"] == 0 and int(answer.usage.dividend["charge_pico"]) > 0
    task = {entry.id: entry.task for entry in CLIENT.models.list().data}
    assert task[EMBEDDER] == "embed" and task[MODEL] == "generate"


def embed(**parameters):
    return CLIENT.embeddings.create(**{"model": EMBEDDER, "input": "a", **parameters})


@check
def embeddings_that_cannot_be_are_refused_by_name():
    refused("dimensions", embed, dimensions=100)
    refused("input", embed, input=[])
    refused("input", embed, input="word " * 3000)
    refused("input", embed, input=[1_000_000])
    refused("model", embed, model=MODEL)
    refused("model", lambda: CLIENT.chat.completions.create(model=EMBEDDER, messages=[{"role": "user", "content": "x"}]))


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
    schema = lambda schema: {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    refused("response_format", chat, response_format=schema({"type": "object", "unknownKeyword": 1}))
    refused("response_format", chat, response_format=schema({"type": "string", "pattern": "("}))
    refused("response_format", chat, response_format=schema({"$ref": "https://example.com/schema"}))
    refused("response_format", chat, response_format={"type": "yaml"})
    refused("structured_outputs", chat, extra_body={"structured_outputs": {"regex": "("}})
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
