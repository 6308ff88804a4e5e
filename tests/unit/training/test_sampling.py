"""Drawn answers: transformers' own when greedy, with the log-probabilities of a plain forward pass."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from finery.modeling.template import Example
from finery.training.model import TrainableModel
from finery.training.packing import pack
from finery.training.sampling import Ask, Sampler
from finery.training.spec import LoraSpec, RunSpec

MakeRun = Callable[..., tuple[Path, RunSpec]]

FAMILIES = ("llama", "phi3", "qwen2")
END = 2
PROMPTS = [[1, 70, 80, 90, 100], [30, 31], [1, *range(40, 60)]]


def load(spec: RunSpec, *, shaken: bool = False) -> TrainableModel:
    model = TrainableModel.load(spec, "cpu")
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in model.trainable.values() if shaken else ():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    model.train(False)
    return model


def sampler(model: TrainableModel, **options: Any) -> Sampler:
    return Sampler(model, (END,), **{"max_tokens": 24, "cache_tokens": 10_000, **options})


def asks(*seeds: int) -> list[Ask]:
    return [Ask(prompt=prompt, seeds=seeds) for prompt in PROMPTS]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("method", ["lora", "full"])
def test_greedy_answers_are_those_of_transformers(make_run: MakeRun, family: str, method: str) -> None:
    spec = make_run(family, method=method)[1]
    theirs = AutoModelForCausalLM.from_pretrained(spec.model_folder).eval()
    found = sampler(load(spec), greedy=True).answers(asks(1))
    for prompt, [answer] in zip(PROMPTS, found, strict=True):
        tokens = torch.tensor([prompt])
        expected = theirs.generate(
            tokens, attention_mask=torch.ones_like(tokens), max_new_tokens=24, do_sample=False, eos_token_id=END
        )
        assert answer.tokens == expected[0, len(prompt) :].tolist()


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("fields", [{}, {"lora": LoraSpec(rank=4, alpha=8, dora=True)}, {"method": "qlora"}])
def test_logprobs_are_those_of_the_forward_pass(make_run: MakeRun, family: str, fields: dict[str, Any]) -> None:
    model = load(make_run(family, **fields)[1], shaken=True)
    for prompt, group in zip(PROMPTS, sampler(model).answers(asks(1, 2, 3, 4)), strict=True):
        for answer in group:
            document = Example(
                tokens=[*prompt, *answer.tokens], weights=[0.0] * len(prompt) + [1.0] * len(answer.tokens)
            )
            packed = pack([document], "cpu")
            with torch.no_grad():
                hidden = model.hidden(packed)[packed.trained_N]
                expected = model.token_logprobs(hidden, packed.targets_T[packed.trained_N])
            torch.testing.assert_close(torch.tensor(answer.logprobs), expected, rtol=1e-4, atol=1e-4)


def test_an_answer_ends_at_an_end_token_or_is_cut(make_run: MakeRun) -> None:
    model = load(make_run()[1])
    answers = [answer for group in sampler(model).answers(asks(*range(40))) for answer in group]
    ended = [answer for answer in answers if answer.ended]
    assert 0 < len(ended) < len(answers)
    for answer in answers:
        assert (END in answer.tokens) == answer.ended == (answer.tokens[-1] == END)
        assert answer.ended or len(answer.tokens) == 24


def test_what_is_drawn_hangs_on_its_seed_alone(make_run: MakeRun) -> None:
    model = load(make_run()[1], shaken=True)
    together = sampler(model).answers(asks(*range(12)))
    in_parts = sampler(model, cache_tokens=1).answers(asks(*range(12)))
    assert [[answer.tokens for answer in group] for group in in_parts] == [
        [answer.tokens for answer in group] for group in together
    ]
    alone = sampler(model).answers([Ask(prompt=PROMPTS[1], seeds=(5,))])[0][0]
    assert alone.tokens == together[1][5].tokens
    assert len({tuple(answer.tokens) for answer in together[0]}) == 12


def test_tokens_come_as_often_as_the_model_says(make_run: MakeRun) -> None:
    model = load(make_run()[1])
    drawn = sampler(model, max_tokens=1).answers([Ask(prompt=PROMPTS[0], seeds=range(4000))])[0]
    packed = pack([Example(tokens=PROMPTS[0], weights=[0.0] * len(PROMPTS[0]))], "cpu")
    with torch.no_grad():
        likely = model.logits(model.hidden(packed)[packed.last_D]).softmax(-1)[0]
    often = torch.bincount(torch.tensor([answer.tokens[0] for answer in drawn]), minlength=len(likely)) / 4000
    deviation = (likely * (1 - likely) / 4000).sqrt()
    assert bool(((often - likely).abs() <= 5 * deviation + 1e-3).all())
