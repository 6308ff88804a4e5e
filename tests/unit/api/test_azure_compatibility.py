"""The page of differences from Azure is the table's, and the table and the routes know each other."""

from pathlib import Path

from finery.api.azure import compatibility


def test_the_page_is_up_to_date() -> None:
    page = Path(__file__).parents[3] / "docs" / "azure-compatibility.md"
    assert page.read_text(encoding="utf-8") == compatibility.page()


def test_every_route_is_in_the_table_and_the_other_way_round() -> None:
    from finery.api.app import NOUNS
    from finery.api.azure import routes

    paths = {route.path for router in routes.routers(noun.router for noun in NOUNS) for route in router.routes}
    for part in compatibility.TABLE:
        assert any(path.startswith(part.path) for path in paths), part.path
    named = tuple(part.path for part in compatibility.TABLE)
    assert {path for path in paths if not path.startswith(named)} == set()
