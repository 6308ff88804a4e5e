"""What a deployment may be asked to be."""

from typing import Any

import pytest

from finery.core.deployments import DEFAULT_CAPACITY, Deployment, DeploymentStatus, check_count, check_sku
from finery.core.errors import InvalidRequest


def test_a_sku_is_what_was_given_over_what_was_there_over_the_default() -> None:
    assert check_sku(None) == {"name": "Standard", "capacity": DEFAULT_CAPACITY}
    assert check_sku({"capacity": 3}) == {"name": "Standard", "capacity": 3}
    assert check_sku({"name": None, "capacity": 5}, {"name": "GlobalStandard", "capacity": 3}) == {
        "name": "GlobalStandard",
        "capacity": 5,
    }


@pytest.mark.parametrize(
    ("sku", "param"),
    [
        ({"capacity": 0}, "sku.capacity"),
        ({"capacity": -1}, "sku.capacity"),
        ({"capacity": 2.5}, "sku.capacity"),
        ({"capacity": True}, "sku.capacity"),
        ({"capacity": "10"}, "sku.capacity"),
        ({"capacity": 10**9}, "sku.capacity"),
        ({"name": "Free"}, "sku.name"),
        ({"name": ["Standard"]}, "sku.name"),
        ({"tier": "S0"}, "sku"),
    ],
)
def test_what_is_no_sku_is_refused_by_its_field(sku: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        check_sku(sku)
    assert refused.value.param == param


def test_a_count_names_itself_where_it_is_none() -> None:
    assert check_count(16, most=16, what="The number of replicas", param="replicas") == 16
    with pytest.raises(InvalidRequest, match=r"replicas is 17; .* from 1 to 16"):
        check_count(17, most=16, what="The number of replicas", param="replicas")


def test_an_update_is_a_deployment_beside_the_one_that_serves() -> None:
    serving = Deployment(
        name="d",
        project_id="p",
        model="a",
        base_model="a",
        status=DeploymentStatus.SUCCEEDED,
        created_at=0,
        updated_at=0,
    )
    assert serving.wanted == serving
    assert not serving.updating
    update = {"changes": {"model": "b", "replicas": 2}, "status": DeploymentStatus.CREATING, "status_details": None}
    changing = Deployment(**{name: getattr(serving, name) for name in Deployment.__slots__} | {"update": update})
    assert changing.updating
    wanted = changing.wanted
    assert (changing.model, wanted.model, wanted.replicas, wanted.update) == ("a", "b", 2, None)
