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
_ENDED = re.compile(r"[.!?]+[\"')\]]*$")


def sentences(text: str) -> list[tuple[int, int]]:
    """Where the sentences of a text begin and end; longer ones than a window are left to the windows.

    One behind a short one is there twice: with it, and by itself, since a few harmless words can make it look harmless.
    """
    found: list[tuple[int, int]] = []
    begin = last = 0
    for end in (*(match.end() for match in _END.finditer(text)), len(text)):
        if end - begin < SHORT and end < len(text):
            last = end
            continue
        if begin < end <= begin + WINDOW:
            found.append((begin, end))
        if begin < last and SHORT <= end - last <= WINDOW:
            found.append((last, end))
        begin = last = end
    return found


def unfinished(text: str) -> int:
    """Where the sentence begins that a text breaks off in; the text's end where it breaks off in none."""
    if _ENDED.search(text):
        return len(text)
    return max((match.end() for match in _END.finditer(text)), default=0)


NEW = 240
"""Most characters of a passage that weren't in an earlier one."""


def passages(text: str, begin: int) -> list[str]:
    """What is read of a text that was read up to `begin`: passages of a window at most that show what is new with what
    stands before it. Each begins with a sentence, where one begins there."""
    found = []
    for start in range(begin, len(text), NEW) or [begin]:
        end = min(start + NEW, len(text))
        earliest = max(0, end - WINDOW)
        starts = [0, *(match.end() for match in _END.finditer(text, earliest, start))]
        first = next((place for place in starts if place >= earliest and place <= start), earliest)
        found.append(text[first:end])
    return found
