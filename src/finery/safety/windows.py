"""A long text as overlapping pieces that a classifier reads one by one. Knows no category."""

WINDOW = 500
"""Characters of a piece: about as many as the encoder takes."""
STRIDE = 350


def windows(text: str) -> list[tuple[int, int]]:
    """Where the pieces of a text begin and end, in characters; the last one ends where the text ends."""
    if len(text) <= WINDOW:
        return [(0, len(text))]
    starts = list(range(0, len(text) - WINDOW, STRIDE))
    return [*((start, start + WINDOW) for start in starts), (len(text) - WINDOW, len(text))]
