"""The classifier as a process of its own: `python -m finery.safety.process`. Lines of JSON in, lines of JSON out.

It keeps the encoder's memory out of the control plane, and a text that crashes or stalls it takes nothing else along.
It ends when its input ends, which is when its parent does. Knows no policy.
"""

import json
import os
import sys
from typing import Any

from finery.core.policies import Verdict
from finery.safety.classifier import Classifier


def verdict_json(verdict: Verdict) -> dict[str, Any]:
    """A verdict as JSON; `parse_verdict` is the inverse. Blocklists aren't looked at here."""
    return {
        "severities": dict(verdict.severities),
        "detected": sorted(verdict.detected),
        "scores": dict(verdict.scores),
    }


def parse_verdict(data: dict[str, Any]) -> Verdict:
    """The inverse of `verdict_json`."""
    return Verdict(severities=data["severities"], detected=frozenset(data["detected"]), scores=data["scores"])


def main() -> None:
    """Answer every line until there are no more."""
    # Whatever a library prints must not stand between the answers.
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    classifier = Classifier.load()
    _say(out, {"version": classifier.version})
    for line in sys.stdin:
        asked = json.loads(line)
        try:
            verdicts = classifier.analyze(asked["texts"], asked["scope"])
            _say(out, {"verdicts": [verdict_json(verdict) for verdict in verdicts]})
        except ValueError as error:
            _say(out, {"error": str(error)})


def _say(out: Any, data: dict[str, Any]) -> None:
    out.write(json.dumps(data) + "\n")
    out.flush()


if __name__ == "__main__":
    main()
