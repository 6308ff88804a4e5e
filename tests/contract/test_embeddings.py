"""Embeddings by the unmodified SDK, held against the model's own hidden states."""

import base64
import math
import struct
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from servers import Server

MODEL = "tiny-phi3"


@pytest.fixture(scope="module")
def client(server: Server) -> openai.OpenAI:
    # Read loosely: the SDK's own types refuse what OpenAI answers here (base64, which it asks for itself).
    return server.openai(_strict_response_validation=False)


def test_vectors_are_the_mean_of_the_last_hidden_states(client: openai.OpenAI, tiny_folder: Path) -> None:
    import torch
    from transformers import AutoModel, AutoTokenizer

    folder = tiny_folder / MODEL
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    model = AutoModel.from_pretrained(folder, dtype=torch.float32)
    texts = ["the ticket is about red", "blue"]
    answer = client.embeddings.create(model=MODEL, input=texts)
    for text, item in zip(texts, answer.data, strict=True):
        with torch.no_grad():
            hidden = model(torch.tensor([tokenizer(text)["input_ids"]])).last_hidden_state[0].mean(0)
        # The engine's weights have 16 bits, the reference's 32.
        assert item.embedding == pytest.approx((hidden / hidden.norm()).tolist(), abs=1e-3)
        assert float(torch.tensor(item.embedding) @ (hidden / hidden.norm())) > 0.99999


def test_base64_floats_and_dimensions_agree(client: openai.OpenAI, server: Server) -> None:
    floats = client.embeddings.create(model=MODEL, input="red", encoding_format="float").data[0].embedding
    with server.http() as http:
        body = {"model": MODEL, "input": "red", "encoding_format": "base64"}
        packed = base64.b64decode(http.post("/v1/embeddings", json=body).json()["data"][0]["embedding"])
    assert list(struct.unpack(f"<{len(packed) // 4}f", packed)) == pytest.approx(floats, abs=1e-6)
    short = client.embeddings.create(model=MODEL, input="red", dimensions=8).data[0].embedding
    length = math.sqrt(sum(value**2 for value in floats[:8]))
    assert short == pytest.approx([value / length for value in floats[:8]], abs=1e-5)
    tokens = _tokens(server, "red")
    assert client.embeddings.create(model=MODEL, input=tokens).data[0].embedding == pytest.approx(floats, abs=1e-5)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"input": []}, "0 inputs"),
        ({"input": ["x"] * 2049}, "2049"),
        ({"input": [""]}, "input[0]"),
        ({"input": [10**8]}, "100000000"),
        ({"dimensions": 100_000}, "dimensions"),
        ({"input": "red " * 3000}, "tokens"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cant_be_is_refused_by_name(client: openai.OpenAI, options: dict[str, Any], said: str) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        client.embeddings.create(**{"model": MODEL, "input": "red", **options})
    assert said in refused.value.message


def _tokens(server: Server, text: str) -> list[int]:
    headers = {"authorization": f"Bearer {server.key}"}
    answer = httpx.post(f"{server.url}/tokenize", json={"model": MODEL, "prompt": text}, headers=headers)
    return list(answer.json()["tokens"])
