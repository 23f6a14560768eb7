"""Fingerprints name work on disk for good: a change here orphans everybody's store."""

import json
import math
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from teddy.artifacts.fingerprint import canonical, file_digest, fingerprint


@dataclass(frozen=True)
class Inner:
    lr: float
    names: tuple[str, ...]


@dataclass(frozen=True)
class Outer:
    epochs: int
    inner: Inner


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def test_a_known_value():
    # The first sixteen digits of `printf '{"a":1,"b":[0.5,null]}' | sha256sum`.
    assert fingerprint({"b": [0.5, None], "a": 1}) == "f1a92042e7c3ddd4"


@given(st.dictionaries(st.text(), JSON, max_size=6))
def test_the_order_of_keys_does_not_matter_and_a_trip_through_json_neither(content):
    backwards = dict(reversed(content.items()))
    assert fingerprint(content) == fingerprint(backwards)
    assert fingerprint(content) == fingerprint(json.loads(json.dumps(canonical(content))))


def test_a_dataclass_is_its_fields():
    content = Outer(3, Inner(0.1, ("a", "b")))
    assert fingerprint(content) == fingerprint({"inner": {"names": ["a", "b"], "lr": 0.1}, "epochs": 3})


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"a": 1}, {"a": 2}),
        ({"a": 1}, {"b": 1}),
        ([1, 2], [2, 1]),
        (1, "1"),
        (0, False),
        (None, ""),
        (0.1, 0.1 + math.ulp(0.1)),
        ({"a": {"b": 1}}, {"a": 1, "b": {}}),
    ],
)
def test_different_content_has_another_name(one, other):
    assert fingerprint(one) != fingerprint(other)


def test_a_set_has_no_order_and_a_path_is_its_text():
    assert fingerprint({"b", "a", "c"}) == fingerprint(["a", "b", "c"])
    assert fingerprint(Path("x") / "y") == fingerprint("x/y")


@pytest.mark.parametrize("content", [len, lambda: 0, torch.zeros(2), object(), int, 1j, b"bytes", {"a": [print]}])
def test_what_has_no_stable_text_is_refused(content):
    with pytest.raises(TypeError, match="has no stable fingerprint"):
        fingerprint(content)


def test_file_digest_is_sha256_of_the_bytes(tmp_path):
    file = tmp_path / "file"
    file.write_bytes(b"abc")
    # FIPS 180-2, appendix B.1
    assert file_digest(file) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
