"""Answers that refuse, told by how they begin, in English, Indonesian, Spanish, German and French."""

import re

_CANNOT = r"(?:can(?:['’]t|not)|am (?:unable|not able) to|['’]m (?:unable|not able) to|won['’]t)"
_DO = r"(?:help|assist|provide|answer|comply|fulfil|do that|create|discuss)"
_REFUSAL = re.compile(
    r"(?i)^\W*(?:"
    r"(?:i(?:['’]m| am) (?:very |so |really )?sorry|sorry|unfortunately|i apologi[sz]e),? (?:but )?"
    rf"(?:i ?{_CANNOT}|as an ai)|"
    rf"i ?{_CANNOT} {_DO}|as an ai\b|as a (?:large )?language model|"
    r"(?:mohon )?maaf,? (?:tetapi |tapi |namun )?(?:saya|aku|kami) (?:tidak|nggak|tak) (?:bisa|dapat)|"
    r"sebagai (?:model bahasa|ai)\b|lo siento,? (?:pero )?no puedo|es tut mir leid,? aber ich kann|"
    r"je suis désolée?,? mais je ne peux)"
)


def is_refusal(answer: str) -> bool:
    """Whether the answer begins as refusals do."""
    return _REFUSAL.search(answer[:300]) is not None
