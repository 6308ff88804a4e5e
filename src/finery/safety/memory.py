"""What the encoder's heads said of pieces of text that were read before: the beginning of a conversation, what a stream
said a moment ago. Knows no head and no category.

Hashes are kept, no texts. A piece is known only within the scope that it was read in, a project: how long a text takes
to be read tells nobody what others wrote.
"""

from hashlib import blake2b

import numpy as np
import numpy.typing as npt

MOST_PIECES = 16_384

Array = npt.NDArray[np.float32]


class Memory:
    """Arrays by scope and text; what was asked for longest ago makes way."""

    def __init__(self, most: int = MOST_PIECES) -> None:
        self._most = most
        self._known: dict[bytes, Array] = {}

    def __len__(self) -> int:
        return len(self._known)

    def get(self, scope: str, text: str) -> Array | None:
        """What was put, if it is still there."""
        key = _key(scope, text)
        found = self._known.pop(key, None)
        if found is not None:
            self._known[key] = found
        return found

    def put(self, scope: str, text: str, value: Array) -> None:
        """Keep what a text is."""
        self._known[_key(scope, text)] = value
        while len(self._known) > self._most:
            self._known.pop(next(iter(self._known)))


def _key(scope: str, text: str) -> bytes:
    named = scope.encode("utf-8", "surrogatepass")
    return blake2b(
        len(named).to_bytes(4, "little") + named + text.encode("utf-8", "surrogatepass"), digest_size=16
    ).digest()
