"""Chat completions by the unmodified SDK: tools, JSON, sampling, streams, stored completions, refusals."""

import json
from typing import Any, Literal

import openai
import pytest
from pydantic import BaseModel

from servers import Server

HELLO: list[Any] = [{"role": "user", "content": "hello"}]
MODEL = "tiny-phi3"


class Colour(BaseModel):
    name: Literal["red", "green"]
    nice: bool


def tool(name: str) -> Any:
    properties = {"colour": {"type": "string", "enum": ["red", "blue"]}}
    parameters = {"type": "object", "properties": properties, "required": ["colour"], "additionalProperties": False}
    return {"type": "function", "function": {"name": name, "parameters": parameters, "strict": True}}


@pytest.fixture(scope="module")
def client(server: Server) -> openai.OpenAI:
    return server.openai()


def test_a_named_tool_is_called_by_any_model(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model=MODEL,
        messages=HELLO,
        tools=[tool("paint"), tool("mix")],
        tool_choice={"type": "function", "function": {"name": "mix"}},
    )
    message = answer.choices[0].message
    assert message.content is None
    (call,) = message.tool_calls
    assert call.function.name == "mix"
    assert json.loads(call.function.arguments)["colour"] in ("red", "blue")


def test_required_tools_are_called_plain_and_streamed(client: openai.OpenAI) -> None:
    asked: dict[str, Any] = {
        "model": MODEL,
        "messages": HELLO,
        "tools": [tool("paint"), tool("mix")],
        "tool_choice": "required",
        "seed": 3,
    }
    plain = client.chat.completions.create(**asked).choices[0]
    assert plain.finish_reason == "tool_calls"
    assert plain.message.tool_calls[0].function.name in ("paint", "mix")
    with client.chat.completions.stream(**asked) as stream:
        streamed = stream.get_final_completion().choices[0]
    assert streamed.finish_reason == "tool_calls"
    (call,), (other,) = streamed.message.tool_calls, plain.message.tool_calls
    assert (call.function.name, call.function.arguments) == (other.function.name, other.function.arguments)
    after = [
        *HELLO,
        plain.message.model_dump(exclude_none=True, include={"role", "content", "tool_calls"}),
        {"role": "tool", "tool_call_id": other.id, "content": "done"},
    ]
    assert client.chat.completions.create(model=MODEL, messages=after, tools=asked["tools"], max_tokens=3).choices


def test_parse_gives_the_type_that_was_asked_for(client: openai.OpenAI) -> None:
    parsed = client.chat.completions.parse(model=MODEL, messages=HELLO, response_format=Colour).choices[0].message
    assert isinstance(parsed.parsed, Colour)
    with client.chat.completions.stream(model=MODEL, messages=HELLO, response_format=Colour) as stream:
        for event in stream:
            assert event.type
        assert isinstance(stream.get_final_completion().choices[0].message.parsed, Colour)
    text = client.chat.completions.create(
        model=MODEL, messages=HELLO, response_format={"type": "json_object"}, max_tokens=60
    )
    assert text.choices[0].message.content.startswith("{")


def test_sampling_options_do_what_they_say(client: openai.OpenAI) -> None:
    def ask(**options: Any) -> Any:
        return client.chat.completions.create(model=MODEL, messages=HELLO, **{"max_tokens": 12, **options})

    first, again = ask(seed=5, n=3), ask(seed=5, n=3)
    texts = [choice.message.content for choice in first.choices]
    assert texts == [choice.message.content for choice in again.choices]
    assert len(set(texts)) == 3
    assert [choice.index for choice in first.choices] == [0, 1, 2]
    assert first.usage.completion_tokens <= 36
    scored = ask(logprobs=True, top_logprobs=4, temperature=0).choices[0]
    assert len(scored.logprobs.content[0].top_logprobs) == 4
    assert scored.logprobs.content[0].logprob == scored.logprobs.content[0].top_logprobs[0].logprob
    greedy = scored.message.content
    stop = greedy[2:4]
    assert ask(temperature=0, stop=stop).choices[0].message.content == greedy[: greedy.index(stop)]
    token = client.post(
        "/tokenize", cast_to=object, body={"model": MODEL, "prompt": "red", "add_special_tokens": False}
    )
    only = ask(logit_bias={token["tokens"][0]: 100}, max_tokens=3).choices[0].message.content
    assert only == only[: len(only) // 3] * 3


def test_streams_of_several_answers_come_side_by_side(client: openai.OpenAI) -> None:
    chunks = list(
        client.chat.completions.create(
            model=MODEL,
            messages=HELLO,
            n=2,
            seed=5,
            max_tokens=8,
            stream=True,
            logprobs=True,
            stream_options={"include_usage": True},
        )
    )
    plain = client.chat.completions.create(model=MODEL, messages=HELLO, n=2, seed=5, max_tokens=8)
    for index in (0, 1):
        parts = [c.choices[0] for c in chunks if c.choices and c.choices[0].index == index]
        assert parts[0].delta.role == "assistant"
        assert parts[-1].finish_reason == plain.choices[index].finish_reason
        assert "".join(p.delta.content or "" for p in parts) == plain.choices[index].message.content
    assert chunks[-1].choices == []
    assert chunks[-1].usage.total_tokens == plain.usage.total_tokens


def test_text_parts_are_joined_and_developers_are_heard(client: openai.OpenAI) -> None:
    def ask(messages: list[Any]) -> str:
        answer = client.chat.completions.create(model=MODEL, messages=messages, temperature=0, max_tokens=8)
        return str(answer.choices[0].message.content)

    parts = [{"type": "text", "text": "hel"}, {"type": "text", "text": "lo"}]
    assert ask([{"role": "user", "content": parts}]) == ask(HELLO)
    system = [{"role": "system", "content": "red"}, *HELLO]
    assert ask([{"role": "developer", "content": "red"}, *HELLO]) == ask(system)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]}, "image_url"),
        ({"messages": [{"role": "wizard", "content": "x"}]}, "wizard"),
        ({"n": 129}, "n: "),
        ({"n": 128}, "131072"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
        ({"logit_bias": {str(i): 1 for i in range(1025)}}, "logit_bias"),
        ({"logit_bias": {"-1": 1}}, "logit_bias"),
        ({"stop": ["a", "b", "c", "d", "e"]}, "stop"),
        ({"max_tokens": -1}, "max_tokens"),
        ({"tools": [{"type": "custom", "custom": {"name": "x"}}]}, "custom"),
        ({"tools": [tool("a")], "tool_choice": {"type": "function", "function": {"name": "b"}}}, "'b'"),
        ({"tool_choice": "required"}, "no tools"),
        ({"tools": [tool("a")], "tool_choice": "sometimes"}, "sometimes"),
        ({"response_format": {"type": "yaml"}}, "yaml"),
        ({"response_format": {"type": "json_schema", "json_schema": {"name": "x"}}}, "schema"),
        ({"temperature": "warm"}, "temperature"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cant_be_is_refused_by_name(client: openai.OpenAI, options: dict[str, Any], said: str) -> None:
    for stream in (False, True):
        with pytest.raises(openai.BadRequestError) as refused:
            client.chat.completions.create(**{"model": MODEL, "messages": HELLO, "stream": stream, **options})
        assert said in refused.value.message


def test_huge_and_unknown_things_do_no_harm(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model=MODEL,
        messages=HELLO,
        max_tokens=10**12,
        stop=["a", "e", "r", " "],
        seed=10**15,
        extra_body={"no_such_field": 1, "verbosity": "low"},
    )
    assert answer.choices[0].finish_reason in ("stop", "length")


def test_stored_completions_are_kept_until_they_are_deleted(client: openai.OpenAI, server: Server) -> None:
    api = client.chat.completions
    ids = [
        api.create(model=MODEL, messages=HELLO, max_tokens=3, store=True, metadata={"turn": str(i)}).id
        for i in range(3)
    ]
    unstored = api.create(model=MODEL, messages=HELLO, max_tokens=3).id
    with pytest.raises(openai.NotFoundError):
        api.retrieve(unstored)
    assert [item.id for item in api.list(model=MODEL, limit=2)][-3:] == ids
    assert [item.id for item in api.list(metadata={"turn": "1"})] == [ids[1]]
    assert api.update(ids[0], metadata={"turn": "x"}).metadata == {"turn": "x"}
    # The SDK's own type knows answers only, so the strict client would refuse a user's message.
    loose = server.openai(_strict_response_validation=False).chat.completions
    assert [message.content for message in loose.messages.list(ids[0])] == ["hello"]
    assert api.delete(ids[0]).deleted
    with pytest.raises(openai.NotFoundError):
        api.retrieve(ids[0])
