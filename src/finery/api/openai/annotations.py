"""What the content filter says, in the fields where Azure's clients look for it. OpenAI's strict clients keep such
fields.

Azure begins a stream with a chunk that has no id, object or choices; here the prompt's results stand on the first
ordinary chunk, because OpenAI's types refuse the other.
"""

from typing import Any

from finery.control.gated import Annotation
from finery.control.screening import Gate


def of_prompt(gate: Gate) -> dict[str, Any]:
    """`prompt_filter_results`, as a field to add; nothing where nothing was looked for."""
    if not gate.prompt_results:
        return {}
    return {"prompt_filter_results": [{"prompt_index": 0, "content_filter_results": dict(gate.prompt_results)}]}


def of_choice(annotation: Annotation | None) -> dict[str, Any]:
    """`content_filter_results` of a choice, as a field to add; nothing where nothing was looked for."""
    return {} if annotation is None else {"content_filter_results": annotation.results}


def of_chunk(annotation: Annotation) -> dict[str, Any]:
    """The fields of a chunk that tells how far an answer was checked."""
    offsets = {
        "check_offset": annotation.check_offset,
        "start_offset": annotation.start_offset,
        "end_offset": annotation.end_offset,
    }
    return {**of_choice(annotation), "content_filter_offsets": offsets}


def of_response(gate: Gate, annotation: Annotation | None) -> dict[str, Any]:
    """`content_filters` of a response, as a field to add."""
    found = []
    if gate.prompt_results:
        found.append({"source_type": "prompt", "blocked": False, "content_filter_results": dict(gate.prompt_results)})
    if annotation is not None:
        blocked = any(result.get("filtered") for result in annotation.results.values())
        found.append({"source_type": "completion", "blocked": blocked, **of_chunk(annotation)})
    return {"content_filters": found} if found else {}
