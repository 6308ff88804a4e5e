"""The catalog's facts are of the right form, and reading them costs the control plane nothing heavy."""

import re
import subprocess
import sys

import pytest

from finery.core.errors import UnknownModel
from finery.modeling import catalog, sources

ASKED_FOR = {
    "smollm2-135m-instruct",
    "phi-3-mini-4k-instruct",
    "phi-3-mini-128k-instruct",
    "phi-3-medium-4k-instruct",
    "phi-3-medium-128k-instruct",
    "phi-3.5-mini-instruct",
    "phi-4-mini-instruct",
    "phi-4",
}


@pytest.mark.parametrize("model", catalog.CATALOG.values(), ids=lambda model: model.id)
def test_entries_can_be_pulled_by_what_they_say(model: catalog.CatalogModel) -> None:
    assert sources.ID_PATTERN.fullmatch(model.id)
    assert model.licence_url.startswith("https://")
    assert 1e-5 < model.learning_rate < 1e-2
    if model.source.startswith("wheel:"):
        assert re.fullmatch(r"wheel:[\w.-]+==[\w.]+#\S+\.gguf", model.source)
        assert re.fullmatch(r"[0-9a-f]{64}", model.sha256 or "")
    else:
        assert re.fullmatch(r"hf:[\w.-]+/[\w.-]+", model.source)
        assert model.revision is None or re.fullmatch(r"[0-9a-f]{40}", model.revision)


def test_the_models_people_ask_for_are_there() -> None:
    assert set(catalog.CATALOG) >= ASKED_FOR
    assert catalog.find(catalog.STARTER_MODEL).source.startswith("wheel:")
    with pytest.raises(UnknownModel, match="phi-4-mini-instruct"):
        catalog.find("phi-5")


def test_the_control_planes_part_imports_nothing_heavy() -> None:
    code = (
        "import sys; import finery.modeling.catalog, finery.modeling.sources, finery.modeling.template, "
        "finery.modeling.manifests, finery.modeling.adapters, finery.modeling.merging; "
        "print(sorted({'torch', 'transformers', 'gguf', 'peft', 'huggingface_hub', 'pydantic'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
