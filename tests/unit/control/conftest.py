"""Whoever calls, for tests that bring a `plane` of their own."""

import pytest

from finery.control.plane import ControlPlane
from finery.core.access import Caller
from finery.storage import projects


@pytest.fixture
def caller(plane: ControlPlane) -> Caller:
    """A caller in the first project."""
    with plane.database.read() as connection:
        project = projects.find_project(connection, "default")
    assert project is not None
    return Caller(project=project, key_id="key_1")
