"""The page of differences is the table's, and the table names routes that are there."""

from pathlib import Path

from finery.api.openai import compatibility


def test_the_page_is_up_to_date() -> None:
    page = Path(__file__).parents[3] / "docs" / "compatibility.md"
    assert page.read_text(encoding="utf-8") == compatibility.page()


def test_every_noun_is_in_the_table_and_the_other_way_round() -> None:
    from finery.api.app import NOUNS
    from finery.api.openai import tokens

    paths = {route.path.removeprefix("/v1") for noun in (*NOUNS, tokens) for route in noun.router.routes}
    for noun in compatibility.TABLE:
        assert any(path.startswith(noun.path) for path in paths), noun.path
    named = tuple(noun.path for noun in compatibility.TABLE)
    others = {path for path in paths if not path.startswith(named)}
    assert others <= {"/detokenize", "/tokenizer_info", "/webhook_event_types"}
