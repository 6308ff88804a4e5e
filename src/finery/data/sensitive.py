"""Personal data and secrets in a text, found by their form and, where there is one, their checksum.

Checksums: Luhn for cards (ISO/IEC 7812-1), mod 97 for IBAN (ISO 13616), CRC-32 for GitHub's tokens, dates for the
Indonesian NIK. What has none must have an unmistakable form. It finds no names and no addresses: that takes a model.
"""

import base64
import ipaddress
import re
import zlib
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

PERSONAL = ("email", "phone", "credit_card", "iban", "ip_address", "us_ssn", "id_nik")
SECRET = (
    "private_key", "aws_key", "github_token", "openai_key", "anthropic_key", "slack_token", "stripe_key", "google_key",
    "huggingface_token", "azure_key", "jwt", "password",
)  # fmt: skip
KINDS = PERSONAL + SECRET


@dataclass(frozen=True, kw_only=True, slots=True)
class Match:
    """Personal data or a secret, as characters of the text."""

    kind: str
    """One of `KINDS`."""
    start: int
    end: int


def find(text: str, kinds: Collection[str] = KINDS) -> list[Match]:
    """Everything found, by place; where two overlap, the one whose kind is more certain stays."""
    found: list[Match] = []
    for hinted, finders in _GATES:
        # Nearly every text is clean: one look for a hint spares a look for each kind.
        if hinted(text):
            for finder in finders:
                if finder.kind in kinds:
                    found += [match for match in finder.matches(text) if not _overlaps(match, found)]
    return sorted(found, key=lambda match: match.start)


def mask(text: str, kinds: Collection[str] = KINDS) -> tuple[str, Counter[str]]:
    """The text with each find replaced by its kind, such as `[EMAIL]`, and how often each kind was found."""
    counts: Counter[str] = Counter()
    parts, place = [], 0
    for match in find(text, kinds):
        parts += [text[place : match.start], f"[{match.kind.upper()}]"]
        place = match.end
        counts[match.kind] += 1
    return "".join([*parts, text[place:]]), counts


def _overlaps(match: Match, others: list[Match]) -> bool:
    return any(match.start < other.end and other.start < match.end for other in others)


@dataclass(frozen=True, slots=True)
class _Finder:
    """Finds one kind by pattern; what counts is the pattern's group `it`, or all of it; `holds` is the checksum."""

    kind: str
    pattern: re.Pattern[str]
    holds: Callable[[str], bool] | None = None

    def matches(self, text: str) -> Iterator[Match]:
        group = "it" if "it" in self.pattern.groupindex else 0
        for match in self.pattern.finditer(text):
            if self.holds is None or self.holds(match.group(group)):
                yield Match(kind=self.kind, start=match.start(group), end=match.end(group))


def _email(address: str) -> bool:
    """Not one of the names reserved for examples (RFC 2606)."""
    domain = address.rpartition("@")[2].lower()
    reserved = ("example.com", "example.org", "example.net", "example", "test", "invalid", "localhost")
    return not any(domain == name or domain.endswith("." + name) for name in reserved)


def _phone(number: str) -> bool:
    digits = re.sub(r"\D", "", number)
    return 9 <= len(digits) <= 15 and len(set(digits)) > 2


def _luhn(number: str) -> bool:
    digits = [int(digit) for digit in number if digit.isdigit()]
    if not 13 <= len(digits) <= 19 or len(set(digits)) < 2:
        return False
    doubled = [digit * 2 - 9 if digit > 4 else digit * 2 for digit in digits[-2::-2]]
    return (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0


def _iban(number: str) -> bool:
    compact = number.replace(" ", "").upper()
    if _IBAN_LENGTHS.get(compact[:2]) != len(compact):
        return False
    return int("".join(str(int(sign, 36)) for sign in compact[4:] + compact[:4])) % 97 == 1


def _ip(address: str) -> bool:
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return False
    return not (found.is_loopback or found.is_unspecified or found.is_multicast)


def _nik(number: str) -> bool:
    """Province 11 to 96, a birth date (day + 40 for women), a serial number above 0."""
    day = int(number[6:8])
    day -= 40 if day > 40 else 0
    return 11 <= int(number[:2]) <= 96 and 1 <= day <= 31 and 1 <= int(number[8:10]) <= 12 and number[12:] != "0000"


def _github(token: str) -> bool:
    """The last six characters are the CRC-32 of those before them, in base 62."""
    secret, checksum = token[4:-6], token[-6:]
    number, digits = zlib.crc32(secret.encode()), ""
    while number:
        number, digit = divmod(number, 62)
        digits = _BASE62[digit] + digits
    return digits.rjust(6, "0") == checksum


def _jwt(token: str) -> bool:
    header = token.partition(".")[0]
    try:
        return b'"alg"' in base64.urlsafe_b64decode(header + "=" * (-len(header) % 4))
    except ValueError:
        return False


def _password(value: str) -> bool:
    """Letters and digits mixed, and no placeholder."""
    signs = set(value)
    return len(signs) >= 6 and any(map(str.isdigit, value)) and any(map(str.isalpha, value)) and value[0] not in "<[{$"


_BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_IBAN_LENGTHS = {
    "AD": 24, "AE": 23, "AL": 28, "AT": 20, "AZ": 28, "BA": 20, "BE": 16, "BG": 22, "BH": 22, "BR": 29, "BY": 28,
    "CH": 21, "CR": 22, "CY": 28, "CZ": 24, "DE": 22, "DK": 18, "DO": 28, "EE": 20, "EG": 29, "ES": 24, "FI": 18,
    "FO": 18, "FR": 27, "GB": 22, "GE": 22, "GI": 23, "GL": 18, "GR": 27, "GT": 28, "HR": 21, "HU": 28, "IE": 22,
    "IL": 23, "IQ": 23, "IS": 26, "IT": 27, "JO": 30, "KW": 30, "KZ": 20, "LB": 28, "LC": 32, "LI": 21, "LT": 20,
    "LU": 20, "LV": 21, "MC": 27, "MD": 24, "ME": 22, "MK": 19, "MR": 27, "MT": 31, "MU": 30, "NL": 18, "NO": 15,
    "PK": 24, "PL": 28, "PS": 29, "PT": 25, "QA": 29, "RO": 24, "RS": 22, "SA": 24, "SE": 24, "SI": 19, "SK": 24,
    "SM": 27, "TN": 24, "TR": 26, "UA": 29, "VA": 22, "VG": 24, "XK": 20,
}  # fmt: skip
_WORD = r"(?<![\w@./-])"
_END = r"(?![\w@-])"
_CARDS = r"[2-6]\d{12,18}|[2-6]\d{3}([ -])\d{4}\1\d{4}\1\d{1,7}|3\d{3}([ -])\d{6}\2\d{5}"
_PHONES = "|".join(
    (
        r"\+[1-9]\d{0,2}(?:[ .-]?\(?\d{1,4}\)?){2,5}",  # international
        r"(?:1[ .-])?\(\d{3}\) ?\d{3}[ .-]\d{4}",  # (202) 555-0143
        r"(?:1[ .-])?\d{3}([.-])\d{3}\1\d{4}",  # 202-555-0143
        r"08\d{2}([ -]?)\d{4}\2\d{3,5}",  # Indonesian mobile
        r"0\d{2,4}[ /-]\d{3,4}[ -]?\d{3,4}",  # with a trunk 0
    )
)


def _finder(kind: str, pattern: str, holds: Callable[[str], bool] | None = None) -> _Finder:
    return _Finder(kind, re.compile(pattern), holds)


_KEYS = (
    _finder(
        "private_key", r"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY-----(?:[\s\S]*?-----END (?:[A-Z]+ )*PRIVATE KEY-----)?"
    ),
    _finder("aws_key", rf"{_WORD}(?:AKIA|ASIA)[A-Z2-7]{{16}}{_END}"),
    _finder("github_token", r"\bgh[pousr]_[A-Za-z0-9]{36}\b", _github),
    _finder("anthropic_key", r"\bsk-ant-[A-Za-z0-9_-]{20,}"),
    _finder("openai_key", r"\bsk-(?!ant-)(?:proj-|svcacct-)?[A-Za-z0-9_-]{32,}"),
    _finder("slack_token", r"\bxox[abeoprs]-[0-9A-Za-z-]{20,}"),
    _finder("stripe_key", r"\b[rs]k_live_[0-9A-Za-z]{16,}"),
    _finder("google_key", r"\bAIza[0-9A-Za-z_-]{35}(?![\w-])"),
    _finder("huggingface_token", r"\bhf_[A-Za-z]{34}\b"),
    _finder("azure_key", r"\b(?:AccountKey|SharedAccessKey)=(?P<it>[A-Za-z0-9+/]{42,86}={1,2})"),
    _finder("jwt", r"\beyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]{10,}", _jwt),
)
_PASSWORDS = (
    _finder(
        "password",
        r"(?i)\b(?:password|passwd|pwd|passphrase|secret|api[_-]?key|access[_-]?token)\b['\"]?\s?(?:[:=]|\bis\b)\s?"
        r"['\"]?(?P<it>[^\s'\",;]{8,64})",
        _password,
    ),
)
_ADDRESSES = (
    _finder("email", r"(?<![\w.+-])[A-Za-z0-9][\w.+%-]{0,63}@(?:[A-Za-z0-9-]+\.)+[A-Za-z]{2,24}(?![\w-])", _email),
)
_NUMBERS = (
    _finder("iban", rf"{_WORD}[A-Z]{{2}}\d{{2}}(?: ?[A-Z0-9]{{4}}){{2,7}}(?: ?[A-Z0-9]{{1,3}})?(?![A-Za-z0-9])", _iban),
    # Without a checksum, only where it is called so.
    _finder("id_nik", rf"(?i)\b(?:nik|ktp|nomor induk(?: kependudukan)?)\b[^\d\n]{{0,20}}(?P<it>\d{{16}}){_END}", _nik),
    _finder("credit_card", rf"{_WORD}(?:{_CARDS}){_END}", _luhn),
    _finder("us_ssn", rf"{_WORD}(?!000|666|9\d\d)\d{{3}}-(?!00)\d{{2}}-(?!0000)\d{{4}}{_END}"),
    _finder("phone", rf"(?<![\w.+/-])(?:{_PHONES})(?![\d-]\d|\w)", _phone),
)
_IPS = (
    _finder("ip_address", rf"{_WORD}(?:\d{{1,3}}\.){{3}}\d{{1,3}}(?![\w.]\w|\w)", _ip),
    _finder("ip_address", r"(?<![\w:.])(?:[0-9A-Fa-f]{1,4}:|:){2,7}[0-9A-Fa-f]{1,4}(?![\w:])", _ip),
)


def _holds_word(*words: str, folded: bool = False) -> Callable[[str], bool]:
    def hint(text: str) -> bool:
        searched = text.lower() if folded else text
        for word in words:  # noqa: SIM110 - any() with a generator takes twice as long, and every text comes here
            if word in searched:
                return True
        return False

    return hint


def _holds_pattern(pattern: str) -> Callable[[str], bool]:
    search = re.compile(pattern).search
    return lambda text: search(text) is not None


# A hint each for several kinds, quick to see. In the order of certainty: what is found first keeps its place.
_GATES: tuple[tuple[Callable[[str], bool], tuple[_Finder, ...]], ...] = (
    (
        _holds_word(
            "PRIVATE KEY", "AKIA", "ASIA", "ghp_", "gho_", "ghu_", "ghs_", "ghr_", "sk-", "xox", "k_live_", "AIza",
            "hf_", "Key=", "eyJ",
        ),
        _KEYS,
    ),
    (_holds_word("pass", "pwd", "secret", "key", "token", folded=True), _PASSWORDS),
    (_holds_word("@"), _ADDRESSES),
    (_holds_pattern(r"\d[\d .()/-]{7,}\d"), _NUMBERS),
    (_holds_pattern(r"\d\.\d{1,3}\.\d|:[0-9A-Fa-f]{0,4}:"), _IPS),
)  # fmt: skip
