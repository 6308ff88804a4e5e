"""The classifier's process: it answers, it is started again when it dies, it is killed when it stalls."""

import os
import signal
import sys

import pytest

from finery.safety.filter import Filter, FilterError

ECHO = """
import json, sys
print(json.dumps({"version": "echo"}), flush=True)
for line in sys.stdin:
    texts = json.loads(line)["texts"]
    if "crash" in texts: sys.exit(3)
    if "hang" in texts:
        import time; time.sleep(60)
    if "long" in texts: print(json.dumps({"error": "too long"}), flush=True); continue
    verdict = {"severities": {"hate": len(texts[0])}, "detected": ["jailbreak"], "scores": {}}
    print(json.dumps({"verdicts": [verdict for _ in texts]}), flush=True)
"""


@pytest.fixture
def echo():
    made = Filter(seconds=2.0, command=[sys.executable, "-c", ECHO])
    yield made
    made.close()


def test_each_text_has_a_verdict(echo: Filter) -> None:
    verdicts = echo.analyze(["abc", "d"])
    assert [verdict.severities["hate"] for verdict in verdicts] == [3, 3]
    assert verdicts[0].detected == {"jailbreak"}
    assert echo.version == "echo"


@pytest.mark.parametrize(("text", "said"), [("crash", "crashed"), ("hang", "took over"), ("long", "too long")])
def test_a_failure_is_told_and_the_next_text_is_answered(echo: Filter, text: str, said: str) -> None:
    with pytest.raises(FilterError, match=said):
        echo.analyze([text])
    assert echo.analyze(["abc"])


def test_a_killed_process_is_started_again(echo: Filter) -> None:
    echo.analyze(["abc"])
    os.kill(echo._process.pid, signal.SIGKILL)
    echo._process.wait()
    assert echo.analyze(["abc"])


def test_a_program_that_isnt_there_is_a_failure() -> None:
    with pytest.raises(FilterError, match="can't be started"):
        Filter(command=["/nonexistent"]).analyze(["abc"])
