"""A text as pieces that a classifier reads one by one: overlapping windows, and its sentences. Knows no category.

A harmful sentence among harmless ones is thin in a window and plain by itself; what needs more than a sentence to be
understood is in a window.
"""

import re

WINDOW = 500
"""Characters of a piece: about as many as the encoder takes."""
STRIDE = 350


def windows(text: str) -> list[tuple[int, int]]:
    """Where the pieces of a text begin and end, in characters; the last one ends where the text ends."""
    if len(text) <= WINDOW:
        return [(0, len(text))]
    starts = list(range(0, len(text) - WINDOW, STRIDE))
    return [*((start, start + WINDOW) for start in starts), (len(text) - WINDOW, len(text))]


SHORT = 24
"""Characters of a sentence that is read together with the next one: by itself it says too little."""
_END = re.compile(r"[.!?]+[\s\"')\]]+|\n+|[。！？]+")


def sentences(text: str) -> list[tuple[int, int]]:
    """Where the sentences of a text begin and end; longer ones than a window are left to the windows."""
    found: list[tuple[int, int]] = []
    begin = 0
    for end in (*(match.end() for match in _END.finditer(text)), len(text)):
        if end - begin < SHORT and end < len(text):
            continue
        if begin < end <= begin + WINDOW:
            found.append((begin, end))
        begin = end
    return found
