"""Responses by the unmodified SDK: plain, streamed, with tools and JSON, going on from one another."""

import json
import time
from typing import Any, Literal

import openai
import pytest
from pydantic import BaseModel

from servers import Server

MODEL = "tiny-phi3"
PARAMETERS = {
    "type": "object",
    "properties": {"a": {"enum": ["red"]}},
    "required": ["a"],
    "additionalProperties": False,
}
TOOL: Any = {"type": "function", "name": "paint", "parameters": PARAMETERS, "strict": False}


class Colour(BaseModel):
    name: Literal["red", "green"]


@pytest.fixture(scope="module")
def client(server: Server) -> openai.OpenAI:
    return server.openai()


def test_a_response_is_kept_and_the_next_goes_on_from_it(client: openai.OpenAI) -> None:
    first = client.responses.create(
        model=MODEL, input="red", instructions="be nice", max_output_tokens=5, temperature=0, metadata={"k": "v"}
    )
    assert first.status in ("completed", "incomplete")
    assert client.responses.retrieve(first.id).output_text == first.output_text
    assert [item.content[0].text for item in client.responses.input_items.list(first.id)] == ["red"]
    second = client.responses.create(
        model=MODEL, input="blue", previous_response_id=first.id, max_output_tokens=5, temperature=0
    )
    chat = client.chat.completions.create(
        model=MODEL,
        messages=[
            {"role": "user", "content": "red"},
            {"role": "assistant", "content": first.output_text},
            {"role": "user", "content": "blue"},
        ],
        max_tokens=5,
        temperature=0,
    )
    assert second.output_text == chat.choices[0].message.content
    assert second.usage.input_tokens == chat.usage.prompt_tokens
    counted = client.responses.input_tokens.count(model=MODEL, input="blue", previous_response_id=first.id)
    assert counted.input_tokens == second.usage.input_tokens
    with pytest.raises(openai.ConflictError):
        client.responses.cancel(first.id)
    client.responses.delete(first.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(first.id)
    unkept = client.responses.create(model=MODEL, input="red", store=False, max_output_tokens=3)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(unkept.id)


def test_events_are_numbered_and_add_up(client: openai.OpenAI) -> None:
    with client.responses.stream(model=MODEL, input="red", text_format=Colour, temperature=0) as stream:
        events = list(stream)
        final = stream.get_final_response()
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert [event.type for event in events[:4]] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
    ]
    text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert text == final.output_text
    assert text == client.responses.parse(model=MODEL, input="red", text_format=Colour, temperature=0).output_text


def test_tools_and_json(client: openai.OpenAI) -> None:
    called = client.responses.create(model=MODEL, input="red", tools=[TOOL], tool_choice="required")
    (call,) = called.output
    assert (call.type, call.name, json.loads(call.arguments)) == ("function_call", "paint", {"a": "red"})
    streamed = list(
        client.responses.create(
            model=MODEL,
            input="red",
            tools=[TOOL],
            tool_choice={"type": "function", "name": "paint"},
            stream=True,
        )
    )
    arguments = "".join(e.delta for e in streamed if e.type == "response.function_call_arguments.delta")
    assert json.loads(arguments) == {"a": "red"}
    after: list[Any] = [
        {"role": "user", "content": "red"},
        call.model_dump(exclude_none=True),
        {"type": "function_call_output", "call_id": call.call_id, "output": "done"},
    ]
    assert client.responses.create(model=MODEL, input=after, tools=[TOOL], max_output_tokens=3).usage.input_tokens
    parsed = client.responses.parse(model=MODEL, input="red", text_format=Colour)
    assert parsed.output_parsed.name in ("red", "green")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"background": True, "store": False}, "store"),
        ({"input": [{"type": "computer_call"}]}, "computer_call"),
        ({"input": []}, "empty"),
        ({"tools": [{"type": "web_search"}]}, "web_search"),
        ({"text": {"format": {"type": "yaml"}}}, "yaml"),
        ({"max_output_tokens": 0}, "max_output_tokens"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cant_be_is_refused_by_name(client: openai.OpenAI, options: dict[str, Any], said: str) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        client.responses.create(**{"model": MODEL, "input": "red", **options})
    assert said in refused.value.message
    with pytest.raises(openai.NotFoundError):
        client.responses.create(model=MODEL, input="red", previous_response_id="resp_nothing")


def test_a_compaction_stands_for_the_conversation(client: openai.OpenAI) -> None:
    turns: list[Any] = [{"role": "user", "content": "red"}, {"role": "assistant", "content": "nice"}]
    compacted = client.responses.compact(model=MODEL, input=turns)
    (item,) = compacted.output
    assert item.type == "compaction"
    assert compacted.usage.input_tokens > client.responses.input_tokens.count(model=MODEL, input=turns).input_tokens
    going_on: list[Any] = [item.model_dump(exclude_none=True), {"role": "user", "content": "blue"}]
    alone = client.responses.input_tokens.count(model=MODEL, input="blue").input_tokens
    assert client.responses.input_tokens.count(model=MODEL, input=going_on).input_tokens > alone
    assert client.responses.create(model=MODEL, input=going_on, max_output_tokens=3).status == "incomplete"
    with pytest.raises(openai.BadRequestError, match=r"input\[0\] is a compaction that isn't kept here"):
        client.responses.create(model=MODEL, input=[{"type": "compaction", "encrypted_content": "cmp_x"}])


def test_a_response_must_name_a_model_unless_the_operator_did(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="No model is named"):
        client.responses.create(input="red")


def ended(client: openai.OpenAI, response: Any) -> Any:
    """The response once it is no longer being written."""
    end = time.monotonic() + 60
    while response.status in ("queued", "in_progress") and time.monotonic() < end:
        time.sleep(0.05)
        response = client.responses.retrieve(response.id)
    return response


def test_a_background_response_is_written_while_nobody_waits(client: openai.OpenAI) -> None:
    asked: dict[str, Any] = {"model": MODEL, "input": "red", "max_output_tokens": 5, "temperature": 0}
    begun = client.responses.create(background=True, metadata={"k": "v"}, **asked)
    assert (begun.status, begun.background, begun.output) == ("queued", True, [])
    whole = ended(client, begun)
    plain = client.responses.create(**asked)
    assert (whole.status, whole.output_text, whole.id) == (plain.status, plain.output_text, begun.id)
    assert (whole.background, whole.metadata, whole.usage.output_tokens) == (True, {"k": "v"}, 5)
    *_, last = client.responses.retrieve(begun.id, stream=True)
    assert (last.type, last.response.output_text) == (f"response.{plain.status}", plain.output_text)
    after = client.responses.create(model=MODEL, input="blue", previous_response_id=begun.id, max_output_tokens=1)
    assert after.usage.input_tokens > whole.usage.input_tokens + whole.usage.output_tokens
    with pytest.raises(openai.ConflictError):
        client.responses.cancel(begun.id)


def test_a_background_response_can_be_cancelled(client: openai.OpenAI) -> None:
    begun = client.responses.create(model=MODEL, input="red", background=True, max_output_tokens=900)
    with pytest.raises(openai.ConflictError, match="wait for its end"):
        client.responses.create(model=MODEL, input="blue", previous_response_id=begun.id)
    assert client.responses.cancel(begun.id).status == "cancelled"
    time.sleep(1)
    assert client.responses.retrieve(begun.id).status == "cancelled"
    with pytest.raises(openai.NotFoundError):
        client.responses.create(model="nothing", input="red", background=True)
