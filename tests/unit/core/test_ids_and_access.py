"""Names, ids and keys."""

from hypothesis import given
from hypothesis import strategies as st

from finery.core import access, ids
from finery.core.errors import InvalidRequest


def test_ids_are_different_and_keep_their_prefix() -> None:
    made = {ids.new_id("file-") for _ in range(1000)}
    assert len(made) == 1000
    assert all(name.startswith("file-") and len(name) == 29 for name in made)


def test_checkpoint_names_are_taken_apart_again() -> None:
    name = ids.model_name("smollm2", "default", None)
    assert name.startswith("ft:smollm2:default::")
    assert ids.split_checkpoint_name(ids.checkpoint_name(name, 25)) == (name, 25)
    assert ids.split_checkpoint_name(name) is None


@given(st.text(max_size=80))
def test_a_suffix_can_stand_in_a_path_or_is_refused(suffix: str) -> None:
    try:
        ids.check_suffix(suffix)
    except InvalidRequest:
        return
    assert suffix.isascii()
    assert not set(suffix) & set("/\\:%?# \0")


def test_keys_tell_mistyped_from_unknown() -> None:
    secret = access.new_secret()
    assert access.looks_like_key(secret)
    for position in range(len(secret)):
        other = "0" if secret[position] != "0" else "1"
        assert not access.looks_like_key(secret[:position] + other + secret[position + 1 :])


def test_neither_digest_nor_hint_shows_the_key() -> None:
    secret = access.new_secret()
    assert secret not in access.digest(secret)
    assert len(access.hint(secret)) < len(secret) // 2
