"""A request in vLLM's words, and its output as tokens. It knows no engine and starts nothing."""

from collections.abc import Iterator, Sequence

from vllm import SamplingParams
from vllm.inputs import TokensInput, tokens_input
from vllm.logprobs import Logprob
from vllm.outputs import CompletionOutput
from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams

from finery.serving.engines.base import Sampling, Token
from finery.serving.engines.vllm_worker import PENALTIES_KEY

_SMALLEST_NUCLEUS = 1e-6
"""vLLM refuses 0; this holds the likeliest token alone as well."""


def prompt_of(tokens: Sequence[int], scope: str) -> TokensInput:
    """A prompt whose cached prefix only prompts of the same scope find."""
    return tokens_input(list(tokens), cache_salt=f"scope:{scope}")


def params_of(sampling: Sampling, eos: Sequence[int]) -> SamplingParams:
    """How to answer. Ends are the model's own end-of-turn tokens, whatever vLLM finds in its files."""
    penalties = [sampling.frequency_penalty, sampling.presence_penalty]
    return SamplingParams(
        max_tokens=sampling.max_tokens,
        temperature=sampling.temperature,
        top_p=max(sampling.top_p, _SMALLEST_NUCLEUS),
        seed=None if sampling.seed is None else sampling.seed % 2**63,
        logprobs=sampling.logprobs,
        logit_bias=dict(sampling.logit_bias) or None,
        extra_args={PENALTIES_KEY: penalties} if any(penalties) else None,
        structured_outputs=_constraint(sampling),
        ignore_eos=True,
        stop_token_ids=list(eos),
        detokenize=False,
        output_kind=RequestOutputKind.DELTA,
    )


def scoring_params(top: int) -> SamplingParams:
    """How to look at a prompt; vLLM answers with one token at least, which nobody wants."""
    return SamplingParams(
        max_tokens=1,
        temperature=0.0,
        prompt_logprobs=top,
        ignore_eos=True,
        detokenize=False,
        output_kind=RequestOutputKind.FINAL_ONLY,
    )


def tokens_of(output: CompletionOutput, top: int | None) -> Iterator[Token]:
    """The tokens of one piece of an answer."""
    for place, token in enumerate(output.token_ids):
        yield Token(id=token) if top is None else token_at(token, output.logprobs[place], top)


def token_at(token: int, found: dict[int, Logprob], top: int) -> Token:
    """A token with what vLLM found at its place: itself, and the likeliest."""
    best = sorted(((other, there.logprob) for other, there in found.items()), key=lambda pair: -pair[1])
    return Token(id=token, logprob=found[token].logprob, top=tuple(best[:top]))


def _constraint(sampling: Sampling) -> StructuredOutputsParams | None:
    if sampling.json_schema is not None:
        return StructuredOutputsParams(json=sampling.json_schema)
    if sampling.grammar is not None:
        return StructuredOutputsParams(grammar=sampling.grammar)
    return None
