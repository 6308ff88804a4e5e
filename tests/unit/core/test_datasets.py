"""Names and versions of datasets, and what is said when data is deleted."""

import pytest

from finery.core.datasets import deletion_note, parse_reference
from finery.core.errors import InvalidRequest


def test_reference_is_a_name_and_perhaps_a_version() -> None:
    assert parse_reference("tickets") == ("tickets", None)
    assert parse_reference("tickets:12") == ("tickets", 12)


@pytest.mark.parametrize(
    "reference",
    ["", ":1", "tickets:", "tickets:0", "tickets:-1", "tickets:1.0", "tickets:²", "a/b:1", "a:1:2", "a:9999999999"],
)
def test_what_is_no_reference_is_refused(reference: str) -> None:
    with pytest.raises(InvalidRequest):
        parse_reference(reference)


def test_deletion_names_the_jobs_that_used_the_data() -> None:
    assert "no job" in deletion_note("tickets:1", [])
    note = deletion_note("tickets:1", [f"ftjob-{number}" for number in range(7)])
    assert "ftjob-0, ftjob-1, ftjob-2, ftjob-3, ftjob-4 and 2 more" in note
