"""A comparison as a page of its own (HTML with its pictures inside), as Markdown, and its pictures; knows
`Comparison.to_json`, and the same shape of one model that has a head.

Texts of models may hold anything: in the page they are escaped, and it runs no script and loads nothing.
"""

import re
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from finery.evaluation import metrics, plots

Json = Mapping[str, Any]

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; color: #222 }
table { border-collapse: collapse; margin: 1rem 0 }
td, th { padding: .3rem .8rem; text-align: right; vertical-align: top; border-bottom: 1px solid #ddd }
td:first-child, th:first-child { text-align: left }
svg { max-width: 100%; height: auto }
.better { color: #00734f } .worse { color: #b34400 } .verdict { font-size: 1.2rem; font-weight: 600 }
.examples th { text-align: left }
.examples td { text-align: left; white-space: pre-wrap; overflow-wrap: anywhere; max-width: 22rem }
"""

_EXAMPLE_CHARACTERS = 400
_LABELS_PICTURE = "f1_by_label.svg"
_CURVES_PICTURE = "learning_curves.svg"
_MOST_LABELS = 40
"""Of which a picture can be read."""


def html(report: Json, *, title: str = "Evaluation") -> str:
    """The whole report as one page."""
    drawn = pictures(report)
    parts = [
        f"<h1>{escape(title)}</h1>",
        f'<p class="verdict {report["verdict"]}">{escape(report["sentence"])}</p>',
        f"<p>{report['rows']} rows, metric {escape(report['metric'])}.</p>",
        "<h2>Figures</h2>",
        _table(*_figures(report)),
    ]
    if _LABELS_PICTURE in drawn:
        parts += ["<h2>F1 of each label</h2>", drawn[_LABELS_PICTURE]]
    for number, pair in enumerate(report["comparisons"], 1):
        parts += _pair(pair, drawn[_name("differences", number, pair["first"])])
    for number, model in enumerate(report["models"], 1):
        parts += _model(number, model, drawn)
    if _CURVES_PICTURE in drawn:
        parts += ["<h2>Learning curves</h2>", drawn[_CURVES_PICTURE]]
    head = f'<meta charset="utf-8"><title>{escape(title)}</title><style>{_STYLE}</style>'
    return f'<!doctype html><html lang="en"><head>{head}</head><body>{"".join(parts)}</body></html>\n'


def pictures(report: Json) -> dict[str, str]:
    """Every picture of the page as SVG, by the name of its file."""
    drawn = {}
    if report["labels"] and len(report["labels"]) <= _MOST_LABELS:
        series = [
            (model["model"], [row["f1"] for row in model["classification"]["per_label"]]) for model in report["models"]
        ]
        drawn[_LABELS_PICTURE] = plots.bars(report["labels"], series)
    for number, pair in enumerate(report["comparisons"], 1):
        drawn[_name("differences", number, pair["first"])] = plots.intervals(_known_shares(pair), unit=" pts")
    for number, model in enumerate(report["models"], 1):
        drawn |= _model_pictures(number, model)
    if report.get("curves"):
        lines = [(line["name"], line["points"]) for line in report["curves"]]
        drawn[_CURVES_PICTURE] = plots.curves(lines, x="step", y="loss")
    return drawn


def _model_pictures(number: int, model: Json) -> dict[str, str]:
    drawn = {}
    if (found := model["classification"]) and "confusion" in found:
        picture = plots.confusion(found["confusion"], found["labels"], found["predicted_labels"])
        drawn[_name("confusion", number, model["model"])] = picture
    if found := model.get("calibration"):
        draw = _label_reliability if "label_calibration" in model else plots.reliability
        drawn[_name("calibration", number, model["model"])] = draw(_dots(found))
    for place, found in enumerate(model.get("label_calibration", ())[:_MOST_LABELS], 1):
        drawn[_name("calibration", f"{number}-{place}", found["label"])] = _label_reliability(_dots(found))
    if found := model.get("values"):
        dots = [(each["predicted"], each["actual"], each["answers"]) for each in found["bins"]]
        ends = [edge for said, came, _ in dots for edge in (said, came)]
        drawn[_name("values", number, model["model"])] = plots.reliability(
            dots, x="predicted value, mean of a bin", y="actual value", ends=(min(ends), max(ends))
        )
    return drawn


def _label_reliability(dots: Sequence[tuple[float, float, int]]) -> str:
    return plots.reliability(dots, x="how likely the label was said to be", y="how often it was there")


def _dots(calibrated: Json) -> list[tuple[float, float, int]]:
    return [(each["confidence"], each["accuracy"], each["answers"]) for each in calibrated["bins"]]


def markdown(report: Json, *, title: str = "Evaluation") -> str:
    """The report without pictures."""
    lines = [f"# {title}", "", f"**{report['sentence']}**", "", *_markdown_table(*_figures(report))]
    for pair in report["comparisons"]:
        lines += ["", f"## {pair['second']} against {pair['first']}", "", pair["sentence"], ""]
        rows = [[name, _signed(found, name)] for name, found in pair["differences"].items()]
        lines += _markdown_table(["metric", "difference (95 % interval)"], rows)
        for side in ("worse", "better"):
            lines += ["", f"### {pair[f'num_{side}']} answers got {side}", ""]
            lines += _markdown_table(*_examples(pair, side)) if pair[side] else ["None."]
    for model in report["models"]:
        lines += _markdown_model(model)
    return "\n".join(lines) + "\n"


def _model(number: int, model: Json, drawn: Mapping[str, str]) -> list[str]:
    name, parts = model["model"], []
    if picture := drawn.get(_name("confusion", number, name)):
        parts += [f"<h2>Confusion: {escape(name)}</h2>", picture]
    if found := model.get("calibration"):
        parts += [f"<h2>Calibration: {escape(name)}</h2>", f"<p>{_calibrated(found)}</p>"]
        parts.append(drawn[_name("calibration", number, name)])
    if calibrated := model.get("label_calibration"):
        parts += ["<h2>Calibration of each label</h2>", _table(*_label_calibration(calibrated))]
    for place, found in enumerate(model.get("label_calibration", ())[:_MOST_LABELS], 1):
        picture = drawn[_name("calibration", f"{number}-{place}", found["label"])]
        parts += [f"<h3>{escape(found['label'])}</h3>", picture]
    if found := model.get("values"):
        parts += [f"<h2>Predicted and actual values: {escape(name)}</h2>", f"<p>{_valued(found)}</p>"]
        parts += [drawn[_name("values", number, name)], _table(*_value_bins(found))]
    return parts


def _markdown_model(model: Json) -> list[str]:
    lines = []
    if found := model.get("calibration"):
        lines += ["", f"## Calibration: {model['model']}", "", _calibrated(found), ""]
        bins = [
            [
                f"{each['low']:.1f} to {each['high']:.1f}",
                f"{each['confidence']:.3f}",
                f"{each['accuracy']:.3f}",
                str(each["answers"]),
            ]
            for each in found["bins"]
        ]
        lines += _markdown_table(["bin", "how sure", "how often right", "answers"], bins)
    if calibrated := model.get("label_calibration"):
        lines += ["", "## Calibration of each label", "", *_markdown_table(*_label_calibration(calibrated))]
    if found := model.get("values"):
        lines += ["", f"## Predicted and actual values: {model['model']}", "", _valued(found), ""]
        lines += _markdown_table(*_value_bins(found))
    return lines


def _pair(pair: Json, picture: str) -> list[str]:
    parts = [
        f"<h2>{escape(pair['second'])} against {escape(pair['first'])}</h2>",
        f'<p class="{pair["verdict"]}">{escape(pair["sentence"])}</p>',
        picture,
        _table(
            ["metric", "difference (95 % interval)"],
            [[name, _signed(found, name)] for name, found in pair["differences"].items()],
        ),
    ]
    if pair["forgetting"] and pair["forgetting"]["lost"]:
        lost = "".join(f"<li>{escape(question)}</li>" for question in pair["forgetting"]["lost"])
        parts.append(f"<h3>General questions it no longer gets right</h3><ul>{lost}</ul>")
    for side in ("worse", "better"):
        parts.append(f"<h3>{pair[f'num_{side}']} answers got {side}</h3>")
        if pair[side]:
            parts.append(_table(*_examples(pair, side), kind="examples"))
    return parts


def _known_shares(pair: Json) -> list[tuple[str, float, float, float]]:
    """Differences in points with their intervals, of what is a share."""
    return [
        (name, 100 * found["value"], 100 * found["low"], 100 * found["high"])
        for name, found in pair["differences"].items()
        if _is_share(name) and found["value"] is not None
    ]


def _calibrated(found: Json) -> str:
    return (
        f"{found['answers']} answers: on average {found['confidence']:.1%} sure, {found['accuracy']:.1%} right; "
        f"expected calibration error {found['expected_calibration_error']:.1%}."
    )


def _label_calibration(calibrated: Sequence[Json]) -> tuple[list[str], list[list[str]]]:
    rows = [
        [
            each["label"],
            f"{each['confidence']:.1%}",
            f"{each['accuracy']:.1%}",
            f"{each['expected_calibration_error']:.1%}",
        ]
        for each in calibrated
    ]
    return ["label", "how likely it was said to be", "how often it was there", "expected calibration error"], rows


def _valued(found: Json) -> str:
    return (
        f"{found['answers']} answers: on average {found['predicted']:.4g} predicted, {found['actual']:.4g} actual; "
        f"the bins are off by {found['calibration_error']:.3g} on average."
    )


def _value_bins(found: Json) -> tuple[list[str], list[list[str]]]:
    def span(low: float | None, high: float | None) -> str:
        if low is None:
            return "all" if high is None else f"up to {high:.4g}"
        return f"above {low:.4g}" if high is None else f"{low:.4g} to {high:.4g}"

    rows = [
        [
            span(each["low"], each["high"]),
            f"{each['predicted']:.4g}",
            f"{each['actual']:.4g}",
            str(each["answers"]),
        ]
        for each in found["bins"]
    ]
    return ["predicted", "mean predicted", "mean actual", "answers"], rows


def _name(kind: str, number: int | str, name: str) -> str:
    return f"{kind}-{number}-{re.sub('[^A-Za-z0-9._-]+', '_', name)[:80]}.svg"


def _figures(report: Json) -> tuple[list[str], list[list[str]]]:
    models = report["models"]
    names = dict.fromkeys(name for model in models for name in model["figures"])
    rows = [[name, *(_plain(model["figures"].get(name), name) for model in models)] for name in names]
    if any(model.get("calibration") for model in models):
        cells = (model.get("calibration") for model in models)
        rows.append(
            ["expected calibration error"]
            + [f"{100 * found['expected_calibration_error']:.1f} %" if found else "" for found in cells]
        )
    for name, shown in (
        ("errors", "answers that failed"),
        ("cut_answers", "answers cut at the limit"),
        ("general_questions_right", "general questions right"),
        ("prompt_tokens", "prompt tokens"),
        ("completion_tokens", "answer tokens"),
        ("seconds_median", "seconds an answer, median"),
        ("seconds_p95", "seconds an answer, p95"),
    ):
        if any(model[name] is not None for model in models):
            rows.append([shown, *(_number(model[name]) for model in models)])
    return ["", *(model["model"] for model in models)], rows


def _examples(pair: Json, side: str) -> tuple[list[str], list[list[str]]]:
    rows = [
        [str(each["row"]), *(_cut(each[name]) for name in ("question", "reference", "first", "second"))]
        for each in pair[side]
    ]
    return ["row", "question", "reference", pair["first"], pair["second"]], rows


def _is_share(name: str) -> bool:
    metric = metrics.METRICS.get(name)
    return metric is not None and (metric.kind != "likelihood" or name == "token_accuracy")


def _plain(found: Json | None, name: str) -> str:
    if found is None or found["value"] is None:
        return ""
    if found["low"] is None:
        return _one(found["value"], name)
    return f"{_one(found['value'], name)} ({_one(found['low'], name)} to {_one(found['high'], name)})"


def _signed(found: Json, name: str) -> str:
    if found["value"] is None:
        return ""
    # Of two shares: a difference of points, not so many percent more.
    value, low, high = (_one(found[key], name, "+").removesuffix(" %") for key in ("value", "low", "high"))
    return f"{value}{' points' if _is_share(name) else ''} ({low} to {high})"


def _one(value: float | None, name: str, sign: str = "") -> str:
    if value is None:
        return "∞"
    return f"{100 * value:{sign}.1f} %" if _is_share(name) else f"{value:{sign}.4g}"


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,}" if isinstance(value, int) else f"{value:.2f}"


def _cut(text: str) -> str:
    return text if len(text) <= _EXAMPLE_CHARACTERS else f"{text[:_EXAMPLE_CHARACTERS]}…"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]], *, kind: str = "") -> str:
    def line(cells: Sequence[str], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in cells) + "</tr>"

    return f'<table class="{kind}">{line(heads, "th")}{"".join(line(row, "td") for row in rows)}</table>'


def _markdown_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(_cell(cell) for cell in cells) + " |"

    return [line(heads), "|" + "---|" * len(heads), *(line(row) for row in rows)]


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").replace("<", "&lt;").split())
