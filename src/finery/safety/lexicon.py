"""Swear words, for the annotation `profanity` alone: coarse, not harmful by itself. English. Knows no severity."""

import re

_STEMS = (
    "arsehole", "arseholes", "asshole", "assholes", "ass", "bastard", "bastards", "bitch", "bitches", "bollocks",
    "bullshit", "cock", "cocks", "cocksucker", "crap", "cunt", "cunts", "dick", "dickhead", "dickheads", "fag",
    "faggot", "faggots", "fuck", "fucked", "fucker", "fuckers", "fucking", "fucks", "goddamn", "hoe", "hoes", "jackass",
    "motherfucker", "motherfuckers", "motherfucking", "nigga", "niggas", "nigger", "niggers", "piss", "pissed", "prick",
    "pricks", "pussy", "retard", "retarded", "retards", "shit", "shithead", "shits", "shitty", "slut", "sluts", "twat",
    "twats", "wanker", "wankers", "whore", "whores", "wtf",
)  # fmt: skip
_PROFANITY = re.compile(rf"(?<![^\W_])(?:{'|'.join(sorted(_STEMS, key=len, reverse=True))})(?![^\W_])", re.IGNORECASE)


def has_profanity(folded: str) -> bool:
    """Whether a swear word stands in a text whose disguises `normalise.fold` took off."""
    return _PROFANITY.search(folded) is not None
