"""What is in a text: harms with severities, attacks, profanity, personal data. Knows no policy, no process, no caller.

The way of a text: disguises off (`normalise`) → cut into windows and sentences → n-grams of all of them → the encoder
on the most suspicious ones → calibrated log-odds → severities. Without the encoder's package the n-grams decide alone.
"""

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from finery.core.policies import CATEGORIES, Verdict
from finery.data import sensitive
from finery.safety import encoder, lexicon
from finery.safety.heads import Heads
from finery.safety.memory import Memory
from finery.safety.normalise import fold
from finery.safety.windows import WINDOW, sentences, windows

log = logging.getLogger(__name__)

ENCODED_WINDOWS = 1
"""How many windows of a long text the encoder reads: those that the n-grams find the most suspicious."""
ENCODED_CHARACTERS = WINDOW
"""And how much of its sentences, the most suspicious ones first: one that is thin in its window is plain by itself. Of
a text that fits into a window every sentence is read that isn't surely harmless, whichever is the most suspicious."""
SURELY_HARMLESS = -3.0
"""Where the n-grams' log-odds of every harm and attack are below this, the encoder isn't asked: of the held-out windows
that it would have put at medium 0.5 % are passed over so, and of plain prompts two thirds cost a millisecond."""
MAX_CHARACTERS = 2_000_000
"""Longest text that is looked at; a longer one counts as a failure of the filter, which the policy decides on."""

NOISE_LOG_ODDS = 4.0
"""Taken off the log-odds of short strings that are no text, such as an untrained model's: what heads see in them is
chance."""
_NOISE_CHARACTERS = 80
_WORD = re.compile(r"[^\W\d_]{4}|[^\x00-\u024f]{2}")
"""Four letters in a row, or two of a script without spaces."""
_NO_TEXT = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ufffd]")

GRAVER = {"sexual_minors": "sexual", "hate_threatening": "hate", "violence_graphic": "violence"}
"""Heads for the gravest kind of a category: where one is sure, the severity is high."""

LOOKED_FOR = (*CATEGORIES, "jailbreak", "indirect_attack")
"""Heads that a policy can block by."""

Array = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Classifier:
    """Heads with or without the encoder."""

    heads: Heads
    encoder: encoder.Encoder | None
    memory: Memory = field(default_factory=Memory)

    @staticmethod
    def load() -> "Classifier":
        """The heads that ship with Finery, and the encoder where it is installed."""
        weights = encoder.find_weights()
        if weights is None:
            log.warning("the text encoder isn't installed (finery[safety]): content is filtered by n-grams alone")
        return Classifier(Heads.load(), encoder.Encoder(weights) if weights else None)

    @property
    def version(self) -> str:
        """Which heads, and whether with the encoder."""
        return self.heads.version + ("" if self.encoder else "-ngrams")

    def analyze(self, texts: Sequence[str], scope: str = "") -> list[Verdict]:
        """A verdict for each text. What was read before in the same scope (a project) costs less.

        Raises:
            ValueError: a text longer than MAX_CHARACTERS.
        """
        return [self._analyze(text, scope) for text in texts]

    def log_odds(self, text: str, scope: str = "") -> Array:
        """(heads,) log-odds of a text: of each head the highest of its windows and sentences."""
        return self._log_odds(fold(text), scope)

    def _log_odds(self, folded: str, scope: str) -> Array:
        whole = windows(folded)
        spans = sorted({*whole, *sentences(folded)})
        linear = self.heads.linear(folded, spans)
        alone = self.heads.alone(linear)
        if self.encoder is None:
            return np.asarray(alone.max(0), np.float32)
        suspicion = alone[:, [self.heads.names.index(name) for name in LOOKED_FOR]].max(1)
        if suspicion.max() < SURELY_HARMLESS:
            return np.asarray(alone.max(0), np.float32)
        chosen = _chosen(spans, [span in whole for span in spans], suspicion)
        network = self._network([folded[begin:end] for begin, end in (spans[i] for i in chosen)], scope)
        return np.asarray(self.heads.joined(linear[chosen], network).max(0), np.float32)

    def _network(self, pieces: list[str], scope: str) -> Array:
        """(pieces, heads) logits of the encoder's heads; of those that were read before from memory."""
        assert self.encoder is not None
        known = [self.memory.get(scope, piece) for piece in pieces]
        new = [piece for piece, found in zip(pieces, known, strict=True) if found is None]
        if new:
            read = dict(zip(new, self.heads.network(self.encoder.encode(new)), strict=True))
            for piece, logits in read.items():
                self.memory.put(scope, piece, logits)
            known = [read[piece] if found is None else found for piece, found in zip(pieces, known, strict=True)]
        return np.stack([found for found in known if found is not None])

    def _analyze(self, text: str, scope: str) -> Verdict:
        if len(text) > MAX_CHARACTERS:
            raise ValueError(f"The text has {len(text):,} characters; the filter reads {MAX_CHARACTERS:,}.")
        folded = fold(text)
        found = self._log_odds(folded, scope) - (NOISE_LOG_ODDS if _is_noise(text, folded) else 0.0)
        odds = dict(zip(self.heads.names, found.tolist(), strict=True)) if text.strip() else {}
        severities = {name: self._severity(name, odds) if odds else 0 for name in CATEGORIES}
        detected = {name for name in ("jailbreak", "indirect_attack") if odds and odds[name] >= self._threshold(name)}
        if lexicon.has_profanity(folded):
            detected.add("profanity")
        if next(iter(sensitive.find(text)), None) is not None:
            detected.add("personal_information")
        scores = {name: round(float(1 / (1 + np.exp(-value))), 6) for name, value in odds.items()}
        return Verdict(severities=severities, detected=frozenset(detected), scores=scores)

    def _severity(self, name: str, odds: dict[str, float]) -> int:
        low, medium, high = self.heads.thresholds[name]
        value = odds[name]
        for head, category in GRAVER.items():
            if category == name and odds[head] >= self._threshold(head) and value >= medium:
                return 7 if head == "sexual_minors" else 6
        steps = (low - 1.0, low, (low + medium) / 2, medium, (medium + high) / 2, high, high + 1.5)
        return sum(value >= step for step in steps)

    def _threshold(self, name: str) -> float:
        return self.heads.thresholds[name][0]


def _chosen(spans: list[tuple[int, int]], wide: list[bool], suspicion: Array) -> list[int]:
    """Which pieces the encoder reads: the most suspicious windows, and sentences as long as they are few."""
    order = np.argsort(-suspicion, kind="stable").tolist()
    chosen = [i for i in order if wide[i]][:ENCODED_WINDOWS]
    left = ENCODED_CHARACTERS
    for i in order:
        begin, end = spans[i]
        if suspicion[i] < SURELY_HARMLESS or left <= 0:
            break
        if i not in chosen and not wide[i]:
            chosen.append(i)
            left -= end - begin
    return chosen


def _is_noise(text: str, folded: str) -> bool:
    return len(text) <= _NOISE_CHARACTERS and (_NO_TEXT.search(text) is not None or _WORD.search(folded) is None)
