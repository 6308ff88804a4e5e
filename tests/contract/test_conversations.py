"""Conversations by the unmodified SDK: kept, added to by hand and by responses, read in pages, deleted."""

from typing import Any

import openai
import pytest

from servers import Server

MODEL = "tiny-phi3"


@pytest.fixture(scope="module")
def client(server: Server) -> openai.OpenAI:
    return server.openai()


def said(text: str) -> Any:
    return {"type": "message", "role": "user", "content": text}


def texts(client: openai.OpenAI, conversation: str, **page: Any) -> list[str]:
    return [item.content[0].text for item in client.conversations.items.list(conversation, **page)]


def test_items_are_kept_listed_in_pages_and_forgotten(client: openai.OpenAI) -> None:
    made = client.conversations.create(items=[said("one"), said("two")], metadata={"topic": "numbers"})
    added = client.conversations.items.create(made.id, items=[said("three")])
    assert texts(client, made.id) == ["three", "two", "one"]
    assert texts(client, made.id, order="asc", limit=1) == ["one", "two", "three"]
    assert client.conversations.items.retrieve(added.last_id, conversation_id=made.id).content[0].text == "three"
    assert client.conversations.items.delete(added.last_id, conversation_id=made.id).id == made.id
    assert texts(client, made.id, order="asc") == ["one", "two"]
    assert client.conversations.update(made.id, metadata={"topic": "words"}).metadata == {"topic": "words"}
    assert client.conversations.delete(made.id).deleted
    for call in (client.conversations.retrieve, client.conversations.items.list):
        with pytest.raises(openai.NotFoundError, match=made.id):
            call(made.id)


@pytest.mark.parametrize("streamed", [False, True])
def test_a_response_goes_on_from_a_conversation_and_adds_to_it(client: openai.OpenAI, streamed: bool) -> None:
    made = client.conversations.create(items=[said("red")])
    asked: Any = {"model": MODEL, "conversation": made.id, "input": "blue", "max_output_tokens": 5, "temperature": 0}
    if streamed:
        *_, last = client.responses.create(**asked, stream=True)
        response = last.response
    else:
        response = client.responses.create(**asked)
    assert response.conversation.id == made.id
    chat = client.chat.completions.create(
        model=MODEL,
        messages=[{"role": "user", "content": "red"}, {"role": "user", "content": "blue"}],
        max_tokens=5,
        temperature=0,
    )
    assert response.output_text == chat.choices[0].message.content
    assert response.usage.input_tokens == chat.usage.prompt_tokens
    assert texts(client, made.id, order="asc") == ["red", "blue", response.output_text]
    counted = client.responses.input_tokens.count(model=MODEL, input="green", conversation={"id": made.id})
    longer = client.responses.create(**asked | {"input": "green", "conversation": {"id": made.id}, "store": False})
    assert longer.usage.input_tokens == counted.input_tokens > response.usage.input_tokens
    assert len(texts(client, made.id)) == 5
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(longer.id)


def test_what_cant_be_is_refused_and_adds_nothing(client: openai.OpenAI) -> None:
    made = client.conversations.create()
    first = client.responses.create(model=MODEL, input="red", max_output_tokens=2)
    with pytest.raises(openai.BadRequestError, match="previous_response_id or from conversation"):
        client.responses.create(
            model=MODEL, input="blue", previous_response_id=first.id, conversation=made.id, max_output_tokens=2
        )
    with pytest.raises(openai.BadRequestError, match="object with an id"):
        client.responses.create(model=MODEL, input="blue", conversation={"id": ""}, max_output_tokens=2)
    with pytest.raises(openai.NotFoundError, match="conv_absent"):
        client.responses.create(model=MODEL, input="blue", conversation="conv_absent", max_output_tokens=2)
    computer: Any = {"type": "computer_call", "id": "x"}
    with pytest.raises(openai.BadRequestError, match=r"items\[1\].*computer_call"):
        client.conversations.items.create(made.id, items=[said("one"), computer])
    with pytest.raises(openai.BadRequestError, match="items"):
        client.conversations.items.create(made.id, items=[said("x")] * 21)
    assert texts(client, made.id) == []
