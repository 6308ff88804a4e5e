"""Every text of the Studio has its Indonesian words, and a translation keeps what is filled in."""

import ast
import json
import re
from pathlib import Path

import pytest

import finery.studio
from finery.core.hyperparameters import KNOBS
from finery.studio.words import LANGUAGES, Words, preferred

FOLDER = Path(finery.studio.__file__).parent
TRANSLATIONS = json.loads((FOLDER / "locale" / "id.json").read_text(encoding="utf-8"))


def spoken() -> set[str]:
    """Texts that the code and the templates ask a translation for."""
    texts = set()
    for path in FOLDER.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not (isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant)):
                continue
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if name in ("t", "words", "Refused"):
                texts.add(str(node.args[0].value))
    for path in (FOLDER / "templates").iterdir():
        texts |= {found[1] for found in re.findall(r"""\bt\(\s*(["'])(.*?)\1""", path.read_text(encoding="utf-8"))}
    return texts


def test_every_text_is_translated() -> None:
    assert len(spoken()) > 200
    assert sorted(spoken() - TRANSLATIONS.keys()) == []


def test_texts_of_tables_are_translated() -> None:
    pytest.importorskip("nicegui")
    from finery.studio import frame, parts
    from finery.studio.pages import catalog, costs, doctor, fine_tune, job, monitoring, quotas, roles

    texts = {word for word, _ in parts.STATUS_WORDS.values()} | {*catalog.TASK_NAMES.values(), *fine_tune.STEPS}
    texts |= {*fine_tune.METHOD_NAMES.values(), *job.METRIC_NAMES.values(), *catalog.CHOICE_NAMES.values()}
    texts |= {group for group, _ in frame.NAVIGATION if group}
    texts |= {name for _, entries in frame.NAVIGATION for _, name, _ in entries}
    texts |= {KNOBS[name].help for name in fine_tune.ADVANCED} | set(monitoring.WINDOWS.values())
    texts |= {*costs.METERS.values(), *costs.PERIODS.values(), *quotas.QUOTAS.values(), *roles.KINDS.values()}
    texts |= {*doctor.NAMES, *doctor.STATES, *(word for word, _ in costs.STATES.values())}
    assert sorted(texts - TRANSLATIONS.keys()) == []


def test_a_translation_keeps_what_is_filled_in() -> None:
    for english, translated in TRANSLATIONS.items():
        assert sorted(re.findall(r"\{\w+\}", english)) == sorted(re.findall(r"\{\w+\}", translated)), english


def test_the_guides_own_labels_stay_as_the_guide_has_them() -> None:
    words = Words("id")
    for label in ("Model catalog", "Fine-tune", "Next", "Automatic split of training data", "Batch size multiplier"):
        assert words(label) == label
    assert words("Training data") == "Data pelatihan"
    assert words("Task type") == "Jenis tugas"


@pytest.mark.parametrize(
    ("header", "language"),
    [("id-ID,id;q=0.9,en;q=0.8", "id"), ("in", "id"), ("de,en-GB;q=0.7", "en"), ("", "en"), ("fr", "en")],
)
def test_the_browsers_language_is_spoken(header: str, language: str) -> None:
    assert preferred(header) == language
    assert language in LANGUAGES
