import dataclasses

import pytest

from finery.core.errors import InvalidRequest
from finery.core.policies import (
    BUILT_IN,
    CATEGORIES,
    DEFAULT,
    LEVELS,
    OFF,
    BlocklistUse,
    ContentFilter,
    Policy,
    Source,
    Verdict,
    check,
    from_body,
    judge,
)


def one(name: str, threshold: str | None = None, **more: object) -> Policy:
    wanted = ContentFilter(name=name, source=Source.PROMPT, severity_threshold=threshold, **more)
    return Policy(name="p", content_filters=(wanted,))


@pytest.mark.parametrize("threshold", ["Low", "Medium", "High"])
@pytest.mark.parametrize("severity", range(8))
def test_what_is_at_least_as_severe_as_the_threshold_is_filtered(threshold: str, severity: int) -> None:
    verdict = Verdict(severities={"hate": severity})
    judged = judge(one("hate", threshold), Source.PROMPT, verdict)
    assert judged.results["hate"]["severity"] == LEVELS[severity // 2]
    assert judged.blocked == (severity >= 2 * (1 + ["Low", "Medium", "High"].index(threshold)))
    assert not judge(one("hate", threshold), Source.COMPLETION, verdict).results


def test_an_annotating_filter_blocks_nothing() -> None:
    judged = judge(one("violence", "Low", blocking=False), Source.PROMPT, Verdict(severities={"violence": 7}))
    assert judged.results == {"violence": {"filtered": False, "severity": "high"}}
    assert not judged.blocked


def test_detections_and_blocklists_have_azures_shapes() -> None:
    policy = dataclasses.replace(
        one("jailbreak"),
        blocklists=(
            BlocklistUse(name="names", source=Source.PROMPT),
            BlocklistUse(name="notes", source=Source.PROMPT, blocking=False),
        ),
    )
    verdict = Verdict(detected=frozenset({"jailbreak"}), blocklist_matches=(("names", "x"), ("notes", "y")))
    judged = judge(policy, Source.PROMPT, verdict)
    assert judged.results == {
        "jailbreak": {"filtered": True, "detected": True},
        "custom_blocklists": {
            "filtered": True,
            "details": [{"id": "names", "filtered": True}, {"id": "notes", "filtered": False}],
        },
    }
    assert judged.reasons == ["jailbreak", "custom_blocklists"]


def test_the_default_policy_blocks_medium_both_ways_and_off_looks_at_nothing() -> None:
    for source in Source:
        for category in CATEGORIES:
            assert judge(DEFAULT, source, Verdict(severities={category: 4})).reasons == [category]
            assert not judge(DEFAULT, source, Verdict(severities={category: 3})).blocked
        assert not OFF.looks_at(source)


def test_what_is_weaker_than_the_default_is_named() -> None:
    assert DEFAULT.weakened == []
    assert BUILT_IN["default-asynchronous"].weakened == []
    loose = dataclasses.replace(
        DEFAULT,
        content_filters=tuple(
            dataclasses.replace(f, severity_threshold="High") if f.name == "hate" else f
            for f in DEFAULT.content_filters
            if f.name != "jailbreak"
        ),
    )
    assert loose.weakened == [
        "hate (Prompt) lets Medium pass",
        "hate (Completion) lets Medium pass",
        "jailbreak (Prompt) is off",
    ]
    assert len(OFF.weakened) > 8


@pytest.mark.parametrize(
    ("policy", "said"),
    [
        (one("anger"), "'anger'"),
        (one("hate", "Extreme"), "'Extreme'"),
        (dataclasses.replace(DEFAULT, content_filters=DEFAULT.content_filters * 2), "two filters hate"),
    ],
)
def test_a_policy_that_cant_be_is_refused_by_name(policy: Policy, said: str) -> None:
    with pytest.raises(InvalidRequest, match=said):
        check(policy)


@pytest.mark.parametrize("policy", BUILT_IN.values(), ids=lambda policy: policy.name)
def test_a_kept_policy_is_the_same_policy(policy: Policy) -> None:
    assert from_body(dataclasses.asdict(policy)) == policy
