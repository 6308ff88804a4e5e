"""Which conversations are captured is what was said last, whoever was looking it up meanwhile."""

from finery.control.traffic import Traffic
from finery.core.capture import CapturePolicy

DEPLOYMENT = ("project", "support")


def test_what_was_looked_up_before_somebody_switched_it_on_does_not_switch_it_off() -> None:
    traffic = Traffic()
    as_of = traffic.policy_changes
    looked_up: dict[tuple[str, str], CapturePolicy] = {}
    traffic.capture(*DEPLOYMENT, CapturePolicy())
    traffic.capture_only(looked_up, as_of=as_of)
    assert traffic._policies == {DEPLOYMENT: CapturePolicy()}
    traffic.capture_only(looked_up, as_of=traffic.policy_changes)
    assert traffic._policies == {}
