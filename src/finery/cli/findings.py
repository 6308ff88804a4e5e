"""What a check of a file found: by line, with the way out. Takes the JSON of a report, from here or from the server."""

from typing import Any

from finery.cli.console import err, plain

SHOWN = 20
"""Findings shown before the rest is only counted."""

_STYLES = {"error": "red", "warning": "yellow"}


def show(report: dict[str, Any], *, more: str) -> None:
    """Print a report's findings, errors first, on standard error; `more` says how to see those left out."""
    from rich.text import Text

    findings = sorted(report.get("findings") or [], key=lambda finding: finding.get("level") != "error")
    console = err()
    explained: set[str | None] = set()
    for finding in findings[:SHOWN]:
        style = _STYLES.get(finding.get("level", ""), "")
        console.print(Text.assemble((plain(_place(finding)), style), plain(finding["message"])), soft_wrap=True)
        # The way out of each kind of fault, once.
        if finding.get("help") and finding.get("code") not in explained:
            explained.add(finding.get("code"))
            console.print(Text(f"    {plain(finding['help'])}", style="dim"), soft_wrap=True)
    left = len(findings) - SHOWN + int(report.get("truncated_findings") or 0)
    if left > 0:
        console.print(Text(f"… and {left:,} more: {plain(more)}", style="dim"), soft_wrap=True)


def counted(report: dict[str, Any], level: str) -> str:
    """How many findings have a level, in words: `3 errors`, `at least 200 errors`."""
    number = sum(finding.get("level") == level for finding in report.get("findings") or [])
    words = f"{number:,} {level}{'' if number == 1 else 's'}"
    return f"at least {words}" if report.get("truncated_findings") else words


def _place(finding: dict[str, Any]) -> str:
    path = finding.get("path") or "$"
    line = f"line {finding['line']}: " if finding.get("line") else ""
    return line if path == "$" else f"{line}{path}: "
