"""Plain completions and token routes, as evaluation harnesses use them."""

from pathlib import Path
from typing import Any

import openai
import pytest

from servers import Server
from tiny_models import write_model

MODEL = "tiny-phi3"
TEXT = "the ticket is about red"


@pytest.fixture(scope="module")
def client(server: Server) -> openai.OpenAI:
    # Read loosely: the SDK's own types refuse what OpenAI answers here (a first logprob of null, no finish reason yet).
    return server.openai(_strict_response_validation=False)


@pytest.fixture(scope="module")
def tokens(server: Server) -> list[int]:
    with server.http() as http:
        return list(http.post("/tokenize", json={"model": MODEL, "prompt": TEXT}).json()["tokens"])


def test_tokens_go_there_and_back(server: Server, tokens: list[int]) -> None:
    with server.http() as http:
        assert http.post("/v1/detokenize", json={"model": MODEL, "tokens": tokens}).json() == {"prompt": TEXT}
        spelled = http.post("/tokenize", json={"prompt": TEXT, "return_token_strs": True}).json()
        assert spelled["tokens"] == tokens
        assert spelled["count"] == len(spelled["token_strs"]) == len(tokens)
        chat = http.post("/tokenize", json={"messages": [{"role": "user", "content": "hi"}]}).json()
        assert chat["count"] > 2
        info = http.get("/tokenizer_info").json()
        assert info["eos_token"] == "<|im_end|>"
        assert "im_start" in info["chat_template"]
        for body in ({"tokens": [10**6]}, {"tokens": [-1]}, {"tokens": ["a"]}):
            assert http.post("/detokenize", json=body).status_code == 400
        assert http.post("/tokenize", json={}).status_code == 400
        assert http.post("/tokenize", json={"model": "nope", "prompt": "x"}).status_code == 404


def test_a_harness_scores_its_prompt(client: openai.OpenAI, tokens: list[int]) -> None:
    asked: dict[str, Any] = {"model": MODEL, "max_tokens": 1, "temperature": 0, "logprobs": 1, "echo": True, "seed": 1}
    by_ids = client.completions.create(prompt=[tokens, tokens[:2]], **asked)
    by_text = client.completions.create(prompt=TEXT, **asked)
    assert [choice.index for choice in by_ids.choices] == [0, 1]
    scored = by_ids.choices[0].logprobs
    assert scored.token_logprobs[0] is None
    assert scored.top_logprobs[0] is None
    assert all(value <= 0 for value in scored.token_logprobs[1:])
    assert len(scored.tokens) == len(tokens) + 1
    assert scored.token_logprobs[1:] == pytest.approx(by_text.choices[0].logprobs.token_logprobs[1:], abs=1e-3)
    assert by_ids.choices[0].text.startswith(TEXT)
    assert scored.text_offset == [sum(map(len, scored.tokens[:i])) for i in range(len(scored.tokens))]


def test_prompts_times_n_and_best_of(client: openai.OpenAI) -> None:
    answer = client.completions.create(model=MODEL, prompt=["red", "blue"], n=2, max_tokens=4, seed=1)
    assert [choice.index for choice in answer.choices] == [0, 1, 2, 3]
    best = client.completions.create(model=MODEL, prompt="red", n=1, best_of=4, max_tokens=4, seed=1, logprobs=0)
    every = client.completions.create(model=MODEL, prompt="red", n=4, max_tokens=4, seed=1, logprobs=0)
    means = {c.text: sum(c.logprobs.token_logprobs) / len(c.logprobs.token_logprobs) for c in every.choices}
    assert best.choices[0].text == max(means, key=lambda text: means[text])


def test_a_stream_says_the_same(client: openai.OpenAI) -> None:
    asked: dict[str, Any] = {"model": MODEL, "prompt": TEXT, "max_tokens": 8, "temperature": 0}
    chunks = list(client.completions.create(stream=True, stream_options={"include_usage": True}, **asked))
    plain = client.completions.create(**asked)
    assert "".join(c.choices[0].text for c in chunks if c.choices) == plain.choices[0].text
    assert chunks[-1].usage.total_tokens == plain.usage.total_tokens


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"suffix": "end"}, "suffix"),
        ({"best_of": 2, "n": 3}, "best_of"),
        ({"best_of": 2, "stream": True}, "streamed"),
        ({"logprobs": 6}, "logprobs"),
        ({"prompt": [10**9]}, "1000000000"),
        ({"prompt": []}, "prompts"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"prompt": "red " * 3000}, "tokens"),
        ({"prompt": [["a"]]}, "prompt"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cant_be_is_refused_by_name(client: openai.OpenAI, options: dict[str, Any], said: str) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        client.completions.create(**{"model": MODEL, "prompt": "red", **options})
    assert said in refused.value.message


def test_a_model_with_tokens_for_it_fills_in_the_middle(tmp_path: Path) -> None:
    from finery.modeling import sources

    raw = write_model(tmp_path / "raw", "qwen2", special=["<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"])
    sources.import_folder(tmp_path / "models", raw, "coder")
    server = Server(tmp_path / "home", tmp_path / "models").start()
    try:
        client = server.openai()
        asked: dict[str, Any] = {"model": "coder", "max_tokens": 4, "temperature": 0}
        middle = client.completions.create(prompt="red is", suffix=" and nice", **asked)
        spelled = "<|fim_prefix|>red is<|fim_suffix|> and nice<|fim_middle|>"
        assert middle.choices[0].text == client.completions.create(prompt=spelled, **asked).choices[0].text
        echoed = client.completions.create(prompt="red is", suffix=" and nice", echo=True, logprobs=0, **asked)
        assert echoed.choices[0].text == "red is" + middle.choices[0].text
        assert echoed.choices[0].logprobs.text_offset[0] == len("red is")
    finally:
        server.stop()
