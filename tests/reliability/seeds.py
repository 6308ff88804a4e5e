"""Chance that can be had again: a seed that is printed, and FINERY_SEED to repeat it."""

import os
import random


def dice_of() -> tuple[int, random.Random]:
    """A seed, and dice thrown by it."""
    seed = int(os.environ.get("FINERY_SEED") or random.SystemRandom().randrange(10**6))
    return seed, random.Random(seed)
