"""Canonical JSON: one value, one spelling, and every other spelling refused."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from facekeep.canonical import parse_canonical, to_canonical

keys = st.text(st.characters(max_codepoint=127), max_size=8)
scalars = st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.text(max_size=20)
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4), max_leaves=20)


@given(values)
def test_round_trip(value: Any) -> None:
    data = to_canonical(value)
    assert parse_canonical(data) == value
    assert to_canonical(parse_canonical(data)) == data


@given(st.dictionaries(keys, scalars, max_size=6))
def test_the_order_of_keys_does_not_matter(value: dict[str, Any]) -> None:
    assert to_canonical(dict(reversed(value.items()))) == to_canonical(value)


@given(values.filter(lambda value: isinstance(value, dict | list) and len(value) > 0))
def test_the_same_value_with_white_space_is_refused(value: Any) -> None:
    loose = json.dumps(value, sort_keys=True, ensure_ascii=False, indent=1).encode()
    with pytest.raises(ValueError, match="canonical"):
        parse_canonical(loose)


def test_rfc_8785_spelling_of_strings() -> None:
    # RFC 8785 section 3.2.2.2: short escapes where there are some, \u00xx in lower case for other controls, nothing else.
    text = '€$\u000f\nA\'B"\\\\"/\u007f\u2028'
    assert to_canonical(text) == b'"\xe2\x82\xac$\\u000f\\nA\'B\\"\\\\\\\\\\"/\x7f\xe2\x80\xa8"'


@pytest.mark.parametrize(
    "spelling",
    [
        b'{"b":1,"a":2}', b'{"a":1,"a":1}', b'{"a":1,"a":2}', b'{"a": 1}', b' 1', b"1 ", b"1.0", b"1e2", b"-0", b"01", b"NaN",
        b"Infinity", b'"\\u0041"', b'"\\/"', b'"\\u000A"', b"9007199254740992", b'{"\xc3\xa9":1}', b"\xff", b"", b"{",
        b'\xef\xbb\xbf1', b'"\\ud800"', b"[" * 40 + b"]" * 40, b"[" * 100_000, b"1" * 5000,
    ],
)  # fmt: skip
def test_another_spelling_is_refused(spelling: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the message differs with the reason
        parse_canonical(spelling)


@pytest.mark.parametrize("value", [1.0, float("nan"), 2**53, b"bytes", {1: 2}, {"é": 1}, {1, 2}, "\ud800"])
def test_a_value_outside_the_subset_is_refused(value: object) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        to_canonical(value)


@given(st.binary(max_size=40))
def test_bytes_parse_or_raise_value_error_and_nothing_else(data: bytes) -> None:
    try:
        value = parse_canonical(data)
    except ValueError:
        return
    assert to_canonical(value) == data
