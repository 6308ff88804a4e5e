"""Learning rates, held against transformers' schedules and against what any schedule must do."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import get_cosine_schedule_with_warmup, get_linear_schedule_with_warmup

from finery.training.schedules import learning_rate
from finery.training.spec import OptimizerSpec


@given(
    st.sampled_from(["linear", "cosine", "constant"]),
    st.floats(0, 1),
    st.integers(1, 400),
)
def test_rates_stay_in_bounds_and_climb_then_fall(schedule: str, warmup: float, total: int) -> None:
    spec = OptimizerSpec(learning_rate=0.5, schedule=schedule, warmup_ratio=warmup)  # type: ignore[arg-type]
    rates = [learning_rate(spec, step, total) for step in range(1, total + 1)]
    peak = rates.index(max(rates))
    assert all(0 < rate <= 0.5 for rate in rates)
    assert max(rates) == 0.5
    assert rates[: peak + 1] == sorted(rates[: peak + 1])
    assert rates[peak:] == sorted(rates[peak:], reverse=True)


@pytest.mark.parametrize(
    ("schedule", "reference"),
    [("linear", get_linear_schedule_with_warmup), ("cosine", get_cosine_schedule_with_warmup)],
)
def test_after_the_warm_up_equal_to_transformers(schedule: str, reference) -> None:
    spec = OptimizerSpec(learning_rate=3e-4, schedule=schedule, warmup_ratio=0.1)  # type: ignore[arg-type]
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=3e-4)
    scheduler = reference(optimizer, num_warmup_steps=5, num_training_steps=50)
    for step in range(1, 51):
        if step > 5:
            assert learning_rate(spec, step, 50) == pytest.approx(scheduler.get_last_lr()[0], rel=1e-12)
        optimizer.step()
        scheduler.step()


def test_one_step_is_at_the_peak() -> None:
    assert learning_rate(OptimizerSpec(learning_rate=0.1, warmup_ratio=0.5), 1, 1) == 0.1
