"""Personal data and secrets planted in real-looking text: found with recall and precision of at least 0.95, by kind."""

import base64
import random
import string
import zlib
from collections import Counter
from collections.abc import Callable

import pytest

from finery.data.sensitive import KINDS, find, mask

LETTERS = string.ascii_letters + string.digits
BASE62 = string.digits + string.ascii_uppercase + string.ascii_lowercase


def digits(rng: random.Random, count: int) -> str:
    return "".join(rng.choices(string.digits, k=count))


def letters(rng: random.Random, count: int, alphabet: str = LETTERS) -> str:
    return "".join(rng.choices(alphabet, k=count))


def card(rng: random.Random) -> str:
    """A number whose last digit makes the Luhn sum a multiple of ten, found by trying all ten."""
    start = rng.choice("456") + digits(rng, 14)
    return next(start + end for end in string.digits if luhn_sum(start + end) % 10 == 0)


def luhn_sum(number: str) -> int:
    doubled = [int(digit) * (2 if place % 2 else 1) for place, digit in enumerate(reversed(number))]
    return sum(value - 9 if value > 9 else value for value in doubled)


def broken_card(rng: random.Random) -> str:
    number = card(rng)
    return number[:-1] + str((int(number[-1]) + 1) % 10)


def german_iban(rng: random.Random) -> str:
    account = digits(rng, 18)
    check = 98 - int(account + "131400") % 97
    return f"DE{check:02}{account}"


def spaced(text: str) -> str:
    return " ".join(text[start : start + 4] for start in range(0, len(text), 4))


def github(rng: random.Random) -> str:
    secret = letters(rng, 30)
    number, checksum = zlib.crc32(secret.encode()), ""
    for _ in range(6):
        number, digit = divmod(number, 62)
        checksum = BASE62[digit] + checksum
    return f"ghp_{secret}{checksum}"


def jwt(rng: random.Random) -> str:
    parts = [b'{"alg":"HS256","typ":"JWT"}', b'{"sub":"%d","iat":1}' % rng.randrange(10**9), rng.randbytes(32)]
    return ".".join(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in parts)


def nik(rng: random.Random) -> str:
    day = rng.randrange(1, 29) + rng.choice([0, 40])
    birth = f"{day:02}{rng.randrange(1, 13):02}{digits(rng, 2)}"
    return f"NIK: {rng.randrange(11, 96)}{digits(rng, 4)}{birth}{rng.randrange(1, 9999):04}"


def pem(rng: random.Random) -> str:
    body = base64.b64encode(rng.randbytes(120)).decode()
    return f"-----BEGIN RSA PRIVATE KEY-----\n{body}\n-----END RSA PRIVATE KEY-----"


PLANTS: dict[str, Callable[[random.Random], str]] = {
    "email": lambda rng: (
        f"{letters(rng, 6).lower()}.{letters(rng, 4).lower()}@{letters(rng, 7).lower()}.{rng.choice(['de', 'co.id'])}"
    ),
    "phone": lambda rng: rng.choice(
        [
            f"+62 812-{digits(rng, 4)}-{digits(rng, 4)}",
            f"({rng.randrange(201, 999)}) 555-{digits(rng, 4)}",
            f"+49 30 {rng.randrange(1000000, 9999999)}",
            f"{rng.randrange(201, 999)}-555-{digits(rng, 4)}",
            f"0812-{digits(rng, 4)}-{digits(rng, 4)}",
        ]
    ),
    "credit_card": lambda rng: rng.choice([str, spaced])(card(rng)),
    "iban": lambda rng: rng.choice([str, spaced])(german_iban(rng)),
    "ip_address": lambda rng: rng.choice(
        [f"203.0.113.{rng.randrange(1, 255)}", f"2001:db8::{rng.randrange(1, 65535):x}:{rng.randrange(1, 65535):x}"]
    ),
    "us_ssn": lambda rng: f"{rng.randrange(100, 600)}-{rng.randrange(10, 99)}-{rng.randrange(1000, 9999)}",
    "id_nik": nik,
    "private_key": pem,
    "aws_key": lambda rng: "AKIA" + letters(rng, 16, string.ascii_uppercase + "234567"),
    "github_token": github,
    "openai_key": lambda rng: "sk-proj-" + letters(rng, 48),
    "anthropic_key": lambda rng: "sk-ant-api03-" + letters(rng, 40),
    "slack_token": lambda rng: f"xoxb-{digits(rng, 12)}-{letters(rng, 24)}",
    "stripe_key": lambda rng: "sk_live_" + letters(rng, 24),
    "google_key": lambda rng: "AIza" + letters(rng, 35),
    "huggingface_token": lambda rng: "hf_" + letters(rng, 34, string.ascii_letters),
    "azure_key": lambda rng: "AccountKey=" + base64.b64encode(rng.randbytes(64)).decode(),
    "jwt": jwt,
    "password": lambda rng: f"password: {letters(rng, 5)}{digits(rng, 3)}!x",
}
# What looks alike and is none: broken checksums, versions, dates, prices, sums, reserved names.
DECOYS: tuple[Callable[[random.Random], str], ...] = (
    broken_card,
    lambda rng: "DE" + digits(rng, 2) + "1" * 18,
    lambda rng: f"{rng.randrange(1, 9)}.{rng.randrange(20)}.{rng.randrange(20)}",
    lambda rng: f"2026-{rng.randrange(1, 13):02}-{rng.randrange(1, 29):02}",
    lambda rng: f"${rng.randrange(1, 999)},{digits(rng, 3)}.{digits(rng, 2)}",
    lambda rng: f"{rng.randrange(10, 99)}*{rng.randrange(10, 99)}={digits(rng, 4)}",
    lambda rng: "someone@example.com",
    lambda rng: "ghp_" + letters(rng, 36, string.ascii_lowercase),
    lambda rng: f"{rng.randrange(10, 24)}:{rng.randrange(10, 60)}:{rng.randrange(10, 60)}",
    lambda rng: "127.0.0.1",
    lambda rng: f"order {digits(rng, 6)}",
    lambda rng: "my password is forgotten",
    lambda rng: "a risk-based task-list",
    lambda rng: f"{rng.randrange(100000, 999999)} + {rng.randrange(100000, 999999)}",
)
SENTENCES = (
    "The customer wrote on Monday that {} was what they had noted down.",
    "Please use {} from now on; thanks!",
    "{} is what it says here.",
    "See: {}",
)


def test_planted_kinds_are_found_with_recall_and_precision_of_95_percent() -> None:
    rng = random.Random(20)
    planted, found, right = Counter[str](), Counter[str](), Counter[str]()
    for _ in range(60):
        for kind, make in PLANTS.items():
            value = make(rng)
            text = rng.choice(SENTENCES).format(value)
            planted[kind] += 1
            for match in find(text):
                found[match.kind] += 1
                right[match.kind] += match.kind == kind and text[match.start : match.end] in value
        for decoy in DECOYS:
            found.update(match.kind for match in find(rng.choice(SENTENCES).format(decoy(rng))))
    assert set(planted) == set(KINDS)
    recall = {kind: right[kind] / planted[kind] for kind in planted}
    precision = {kind: right[kind] / found[kind] for kind in planted}
    assert min(recall.values()) >= 0.95, recall
    assert min(precision.values()) >= 0.95, precision


@pytest.mark.parametrize("decoy", DECOYS)
def test_what_only_looks_alike_is_left_alone(decoy: Callable[[random.Random], str]) -> None:
    rng = random.Random(3)
    texts = [sentence.format(decoy(rng)) for sentence in SENTENCES for _ in range(50)]
    assert sum(bool(find(text)) for text in texts) <= 0.02 * len(texts)


def test_mask_replaces_each_find_by_its_kind_and_counts() -> None:
    masked, counts = mask("Write to ann@mail.de or call +62 812-3456-7890, ann@mail.de.")
    assert masked == "Write to [EMAIL] or call [PHONE], [EMAIL]."
    assert counts == {"email": 2, "phone": 1}
    assert find(masked) == []


def test_only_the_kinds_asked_for_are_masked() -> None:
    assert mask("ann@mail.de 203.0.113.9", ("ip_address",))[0] == "ann@mail.de [IP_ADDRESS]"


def test_password_masks_the_value_not_the_word() -> None:
    assert mask("the password is hunter2xyz.")[0].startswith("the password is [PASSWORD]")


def test_long_hostile_texts_take_linear_time() -> None:
    for text in (
        "1" * 100_000,
        "a@" * 50_000,
        "1-" * 50_000,
        "a." * 50_000 + "@",
        "eyJ" * 30_000,
        ":" * 100_000,
        "+1 " * 30_000,
    ):
        find(text)
