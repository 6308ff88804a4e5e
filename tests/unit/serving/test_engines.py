"""One contract for every engine: the same questions, the same answers as transformers and PEFT give them."""

import asyncio
import json
import math
import shutil
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from finery.core.errors import ContextOverflow, CorruptArtifact, InvalidRequest, UnknownModel
from finery.modeling import sources
from finery.serving.answers import Answers
from finery.serving.config import ServerConfig
from finery.serving.engines import ENGINES, make_engine
from finery.serving.engines.base import Sampling, Token
from finery.serving.protocol import AnswerToken, Delta, Finish, GenerateRequest

QUESTION = [{"role": "user", "content": "How hot is the iron?"}]
T = TypeVar("T")
SLACK = 0.06
"""llama.cpp computes in f16: two tokens whose log-probabilities are closer than this may change places."""


class Served:
    """A loaded engine and its answers, on one event loop."""

    def __init__(self, runner: asyncio.Runner, config: ServerConfig, folder: Path) -> None:
        self.run = runner.run
        self.engine = make_engine(config, folder)
        self.run(self.engine.load())
        self.answers = Answers(self.engine, sources.load(Path(config.model_folder)))

    def ask(self, **fields: Any) -> tuple[str, list[AnswerToken], Finish]:
        """The whole answer: text, tokens, finish."""
        parts = self.parts(**fields)
        deltas = [part for part in parts if isinstance(part, Delta)]
        finish = parts[-1]
        assert isinstance(finish, Finish)
        return "".join(delta.text for delta in deltas), [token for delta in deltas for token in delta.tokens], finish

    def parts(self, **fields: Any) -> list[Delta | Finish]:
        """The answer as it comes."""
        request = GenerateRequest(**({"messages": QUESTION, "temperature": 0.0, "max_tokens": 12} | fields))
        return self.run(_collect(self.answers.answer(request)))

    def tokens(self, **fields: Any) -> list[Token]:
        """What the engine itself gives."""
        return self.run(_collect(self.engine.generate(Sampling(**({"temperature": 0.0, "max_tokens": 12} | fields)))))

    def prompt(self) -> list[int]:
        return self.answers.encode(GenerateRequest(messages=QUESTION))


async def _collect(items: AsyncIterator[T]) -> list[T]:
    return [item async for item in items]


@pytest.fixture(
    scope="module", params=[(engine, family) for engine in ENGINES for family in ("llama", "phi3")], ids=str
)
def case(request: pytest.FixtureRequest) -> tuple[str, str]:
    if request.param[0] == "vllm":
        request.getfixturevalue("real_vllm")
    return request.param


@pytest.fixture(scope="module")
def family(case: tuple[str, str]) -> str:
    return case[1]


@pytest.fixture(scope="module")
def served(
    case: tuple[str, str],
    tiny_models: dict[str, Path],
    tiny_adapters: dict[str, list[Path]],
    tmp_path_factory: pytest.TempPathFactory,
) -> Any:
    engine, family = case
    config = ServerConfig(
        model_folder=str(tiny_models[family]),
        engine=engine,
        precision="fp32",
        adapters={"first": str(tiny_adapters[family][0]), "second": str(tiny_adapters[family][1])},
        slots=2,
        threads=1,
        context_tokens=160,
    )
    with asyncio.Runner() as runner:
        served = Served(runner, config, tmp_path_factory.mktemp("server"))
        yield served
        runner.run(served.engine.close())


@pytest.fixture(scope="module")
def reference(
    family: str, tiny_models: dict[str, Path], tiny_adapters: dict[str, list[Path]]
) -> Callable[[str | None, list[int]], torch.Tensor]:
    """transformers and PEFT: log-probabilities [T, V] of what follows each of the tokens."""
    base = AutoModelForCausalLM.from_pretrained(tiny_models[family], dtype=torch.float32)
    adapted = PeftModel.from_pretrained(base, tiny_adapters[family][0], adapter_name="first")
    adapted.load_adapter(tiny_adapters[family][1], adapter_name="second")

    def logprobs(adapter: str | None, tokens: list[int]) -> torch.Tensor:
        ids = torch.tensor([tokens])
        with torch.inference_mode():
            if adapter is None:
                with adapted.disable_adapter():
                    return adapted(ids).logits[0].log_softmax(-1)
            adapted.set_adapter(adapter)
            return adapted(ids).logits[0].log_softmax(-1)

    return logprobs


@pytest.mark.parametrize("adapter", [None, "first", "second"])
def test_greedy_answers_equal_transformers_and_peft(served: Served, reference: Any, adapter: str | None) -> None:
    prompt = served.prompt()
    answer = [token.id for token in served.tokens(prompt=prompt, adapter=adapter, max_tokens=24)]
    logprobs = reference(adapter, prompt + answer)[len(prompt) - 1 : -1]
    for place, (token, there) in enumerate(zip(answer, logprobs, strict=True)):
        assert there.max() - there[token] < SLACK, f"token {place} of {answer}"


def test_adapters_change_the_answer_and_only_where_named(served: Served) -> None:
    answers = {name: served.ask(adapter=name)[0] for name in (None, "first", "second", None, "first")}
    assert len({answers[None], answers["first"], answers["second"]}) == 3
    assert [served.ask(adapter=name)[0] for name in (None, "first", "second")] == list(answers.values())


def test_greedy_is_deterministic_whatever_the_cache_holds(served: Served) -> None:
    first = served.ask(max_tokens=30)
    served.ask(messages=[{"role": "user", "content": "Something else, and longer than before."}])
    assert served.ask(max_tokens=30)[0] == first[0]


@pytest.mark.parametrize("adapter", [None, "first"])
def test_scores_equal_transformers_and_peft(served: Served, reference: Any, adapter: str | None) -> None:
    tokens = served.answers.tokenize("The smith heats 🦙 the iron, é<|im_end|>\nand folds it.")
    scored = served.run(served.answers.score(tokens, adapter=adapter, top=5))
    logprobs = reference(adapter, tokens)[:-1]
    assert [token.id for token in scored] == tokens[1:]
    for token, there in zip(scored, logprobs, strict=True):
        assert token.logprob == pytest.approx(float(there[token.id]), abs=SLACK)
        assert [top.logprob for top in token.top_logprobs] == pytest.approx(there.topk(5).values.tolist(), abs=SLACK)


def test_logprobs_come_with_every_token_and_agree_with_the_scores(served: Served) -> None:
    prompt = served.prompt()
    _, tokens, _ = served.ask(prompt_tokens=prompt, messages=None, logprobs=3, max_tokens=20)
    scored = served.run(served.answers.score(prompt + [t.id for t in tokens], adapter=None, top=3, start=len(prompt)))
    for token, expected in zip(tokens, scored, strict=True):
        assert token.logprob == pytest.approx(expected.logprob, abs=SLACK)
        assert len(token.top_logprobs) == 3
        assert bytes(token.bytes or ()).decode(errors="replace") == token.text or token.bytes == ()


def test_stop_strings_end_the_answer_before_them(served: Served) -> None:
    whole, _, _ = served.ask(max_tokens=40)
    stop = whole[10:13]
    text, tokens, finish = served.ask(max_tokens=40, stop=("never said", stop))
    assert text == whole[: whole.index(stop)]
    assert (finish.reason, finish.stop_text) == ("stop", stop)
    assert finish.completion_tokens < 40
    assert len(tokens) <= finish.completion_tokens


def test_the_limit_ends_the_answer_and_is_counted(served: Served) -> None:
    _, tokens, finish = served.ask(max_tokens=7)
    assert (finish.reason, finish.completion_tokens, len(tokens)) == ("length", 7, 7)
    assert finish.prompt_tokens == len(served.prompt())


def test_without_a_limit_the_context_is_the_limit(served: Served) -> None:
    _, _, finish = served.ask(max_tokens=None, logit_bias={2: -100.0, 0: -100.0})
    assert finish.prompt_tokens + finish.completion_tokens == 160
    assert finish.reason == "length"


def test_an_end_of_turn_ends_the_answer_and_is_not_shown(served: Served) -> None:
    text, tokens, finish = served.ask(logit_bias={2: 100.0})
    assert (text, tokens, finish.reason, finish.completion_tokens) == ("", [], "stop", 1)


def test_a_token_that_only_looks_like_an_end_goes_on(served: Served) -> None:
    """<|endoftext|> is an end of turn to llama.cpp, but this model's own list has only <|im_end|>."""
    _, tokens, finish = served.ask(logit_bias={0: 100.0}, max_tokens=3)
    assert [token.id for token in tokens] == [0, 0, 0]
    assert (finish.reason, finish.completion_tokens) == ("length", 3)


def test_the_same_seed_draws_the_same_answer(served: Served) -> None:
    drawn = [served.ask(temperature=1.5, seed=seed, max_tokens=20)[0] for seed in (7, 7, 8, 2**40 + 1)]
    assert drawn[0] == drawn[1]
    assert len(set(drawn)) == 3


def test_drawing_follows_the_models_probabilities(served: Served, reference: Any) -> None:
    prompt = served.prompt()
    probabilities = reference(None, prompt)[-1].exp()
    counts = torch.zeros(len(probabilities))
    for seed in range(150):
        counts[served.tokens(prompt=prompt, temperature=1.0, seed=seed, max_tokens=1)[0].id] += 1
    top = probabilities.topk(3)
    for token, probability in zip(top.indices.tolist(), top.values.tolist(), strict=True):
        spread = math.sqrt(probability * (1 - probability) / 150)
        assert abs(counts[token] / 150 - probability) < 4.5 * spread + 1 / 150


def test_a_small_nucleus_is_greedy(served: Served) -> None:
    assert served.ask(temperature=1.0, top_p=1e-6, seed=3)[0] == served.ask()[0]


def test_penalties_and_biases_move_the_choice(served: Served, reference: Any) -> None:
    prompt = [*served.prompt(), *[90] * 3, 91]
    logits = reference(None, prompt)[-1]
    counts = torch.bincount(torch.tensor(prompt), minlength=len(logits))
    penalised = logits - 2.0 * counts - 1.5 * (counts > 0)
    fields: dict[str, Any] = {"prompt": prompt, "max_tokens": 1, "presence_penalty": 1.5, "frequency_penalty": 2.0}
    assert penalised.max() - penalised[served.tokens(**fields)[0].id] < SLACK
    favourite = int(logits.argmax())
    assert served.tokens(prompt=prompt, max_tokens=1, logit_bias={favourite: -100.0})[0].id != favourite
    assert served.tokens(prompt=prompt, max_tokens=1, logit_bias={93: 100.0})[0].id == 93


def test_text_comes_in_whole_characters_and_adds_up(served: Served) -> None:
    """A random model with a byte-level vocabulary says many tokens that are parts of characters."""
    for seed in range(4):
        parts = served.parts(temperature=1.0, seed=seed, max_tokens=40)
        deltas = [part for part in parts if isinstance(part, Delta)]
        ids = [token.id for delta in deltas for token in delta.tokens]
        assert "".join(delta.text for delta in deltas) == served.answers.detokenize(ids)
        assert parts[-1].completion_tokens - len(ids) in (0, 1)  # type: ignore[union-attr]


def test_a_character_of_several_tokens_comes_at_once(served: Served) -> None:
    llama = served.answers.tokenize("🦙")
    assert len(llama) > 1
    prompt = served.answers.tokenize("no")
    for place, token in enumerate(llama):
        bias = {token: 100.0}
        found = served.tokens(prompt=[*prompt, *llama[:place]], max_tokens=1, logit_bias=bias, logprobs=1)
        assert [(t.id, t.logprob is not None) for t in found] == [(token, True)]


def test_a_prompt_that_does_not_fit_is_refused_with_the_numbers(served: Served) -> None:
    with pytest.raises(ContextOverflow, match=r"2\d\d tokens.*160"):
        served.ask(prompt_tokens=[5] * 201, messages=None)


def test_an_unknown_adapter_is_refused(served: Served) -> None:
    with pytest.raises(UnknownModel, match="'third'"):
        served.ask(adapter="third")


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"temperature": 3.0}, "temperature"),
        ({"top_p": -0.1}, "top_p"),
        ({"logprobs": 21}, "logprobs"),
        ({"max_tokens": -1}, "max_tokens"),
        ({"messages": None, "prompt_tokens": [10**6]}, "prompt"),
        ({"messages": None, "prompt_tokens": []}, "prompt"),
        ({"messages": None}, None),
    ],
)
def test_bad_values_are_refused_by_name(served: Served, fields: dict[str, Any], param: str | None) -> None:
    with pytest.raises(InvalidRequest) as refused:
        served.ask(**fields)
    assert refused.value.param == param


def test_what_an_engine_can_not_do_it_says(served: Served) -> None:
    schema = {"enum": ["hot", "cold"]}
    if served.engine.capabilities.json_schema:
        text, _, finish = served.ask(json_schema=schema, max_tokens=100)
        assert json.loads(text) in schema["enum"]
        assert finish.reason == "stop"
    else:
        with pytest.raises(InvalidRequest, match="json_schema"):
            served.ask(json_schema=schema)


def test_a_grammar_rules_the_answer(served: Served) -> None:
    if not served.engine.capabilities.grammar:
        pytest.skip("the engine says that it has no grammars")
    assert served.ask(grammar='root ::= "yes" | "no"')[0] in ("yes", "no")
    with pytest.raises(InvalidRequest):
        served.ask(grammar="root ::= (((")


def test_echo_shows_the_prompt_with_its_scores(served: Served) -> None:
    text, tokens, _ = served.ask(messages=None, prompt="The smith", echo=True, logprobs=1, max_tokens=2)
    assert text.startswith("The smith")
    assert tokens[0].logprob is None
    assert all(token.logprob is not None for token in tokens[1:])


def test_no_tokens_wanted_is_an_answer_too(served: Served) -> None:
    text, tokens, finish = served.ask(max_tokens=0)
    assert (text, tokens, finish.completion_tokens, finish.reason) == ("", [], 0, "length")


def test_adapters_come_and_go(served: Served, family: str, tiny_adapters: dict[str, list[Path]]) -> None:
    before = served.ask()[0]
    served.run(served.engine.add_adapter("third", tiny_adapters[family][2]))
    third = served.ask(adapter="third")[0]
    assert third not in (before, served.ask(adapter="first")[0])
    served.run(served.engine.remove_adapter("third"))
    with pytest.raises(UnknownModel):
        served.ask(adapter="third")
    assert served.ask()[0] == before


def test_another_bases_adapter_and_a_damaged_one_are_refused(
    served: Served, family: str, tiny_adapters: dict[str, list[Path]], tmp_path: Path
) -> None:
    other = tiny_adapters["phi3" if family == "llama" else "llama"][0]
    with pytest.raises(InvalidRequest):
        served.run(served.engine.add_adapter("other", other))
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    (damaged / "adapter_config.json").write_bytes((tiny_adapters[family][0] / "adapter_config.json").read_bytes())
    (damaged / "adapter_model.safetensors").write_bytes(b"\x00" * 100)
    with pytest.raises(CorruptArtifact):
        served.run(served.engine.add_adapter("damaged", damaged))
    assert sorted(served.engine.adapters()) == ["first", "second"]
    assert served.ask(adapter="first")[2].completion_tokens > 0


def test_a_model_that_went_astray_answers_but_nobody_knows_how_likely(
    case: tuple[str, str], served: Served, family: str, tiny_adapters: dict[str, list[Path]], tmp_path: Path
) -> None:
    if case[0] != "llamacpp":
        pytest.skip("what llama.cpp makes of a model whose numbers are none")
    astray = tmp_path / "astray"
    shutil.copytree(tiny_adapters[family][0], astray, ignore=shutil.ignore_patterns("*.gguf"))
    weights = astray / "adapter_model.safetensors"
    save_file({name: tensor * 1e4 for name, tensor in load_file(weights).items()}, weights)
    served.run(served.engine.add_adapter("astray", astray))
    try:
        _, tokens, finish = served.ask(adapter="astray", logprobs=1, max_tokens=3)
        assert finish.completion_tokens == 3
        assert [token.logprob for token in tokens] == [None] * 3
        prompt = [token.id for token in tokens]
        scored = served.run(served.answers.score(prompt, adapter="astray", top=1, start=1))
        assert [token.logprob for token in scored] == [None, None]
    finally:
        served.run(served.engine.remove_adapter("astray"))
