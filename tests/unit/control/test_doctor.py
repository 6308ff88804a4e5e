"""What the server tells of its own machine."""

from pathlib import Path

from finery import bootstrap
from finery.control import access, doctor, providers
from finery.settings import Settings


def test_what_is_missing_has_its_way_out(tmp_path: Path) -> None:
    plane = bootstrap.control_plane(Settings(home=tmp_path, models=tmp_path / "none"))
    owner = access.authenticate(plane, (tmp_path / "admin.key").read_text().strip())
    providers.unregister(plane, owner, "Finery.Guard")
    found = {check.name: check for check in doctor.look(plane)}
    assert not found["Models"].ok
    assert found["Models"].way_out.startswith("finery models pull ")
    assert not found["Finery.Guard"].ok
    assert found["Finery.Guard"].way_out == "finery providers register Finery.Guard"
    assert found["Finery.Storage"].ok
    assert found["Python"].ok
    for check in found.values():
        assert str(tmp_path) not in check.found
