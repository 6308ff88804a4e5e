"""results.csv keeps every float to the bit, and leaves empty what was not measured."""

from hypothesis import given
from hypothesis import strategies as st

from finery.training.results import COLUMNS, ResultRow, from_csv, to_csv

numbers = st.none() | st.floats(allow_nan=False, allow_infinity=False)
rows = st.builds(ResultRow, step=st.integers(1, 10**6), **{name: numbers for name in COLUMNS if name != "step"})


@given(st.lists(rows, max_size=20))
def test_reading_gives_what_was_written(written: list[ResultRow]) -> None:
    assert from_csv(to_csv(written)) == written


def test_columns_and_empty_cells() -> None:
    text = to_csv([ResultRow(step=1, train_loss=0.5), ResultRow(step=2, train_loss=0.25, full_valid_loss=0.125)])
    assert text.splitlines() == [
        "step,train_loss,train_accuracy,train_mean_token_accuracy,valid_loss,valid_mean_token_accuracy,"
        "full_valid_loss,full_valid_mean_token_accuracy",
        "1,0.5,,,,,,",
        "2,0.25,,,,,0.125,",
    ]
