"""Shamir shares of 32-byte secrets: any `threshold` of them give the secret back, fewer say nothing about it.

The field is the integers modulo 2**256 + 297, the smallest prime above every 32-byte secret, so a secret is shared whole and a
share has 33 bytes whatever it holds. Source: Shamir, "How to share a secret", CACM 1979; decoding: Gao, "A new algorithm for
decoding Reed-Solomon codes", 2003.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from facekeep.errors import FederationError
from facekeep.randomness import Randomness

PRIME = 2**256 + 297
SECRET_SIZE = 32
SHARE_SIZE = 33
_LARGEST_POINT = 2**32


@dataclass(frozen=True, slots=True)
class Share:
    """The value of the sharing polynomial at one point. Points are places in the cohort plus one: 0 is the secret itself.

    Attributes:
        point: 1 .. 2**32. It is not written: who a share belongs to follows from who sent it, so nobody can claim another's point.
        value: element of the field.
    """

    point: int
    value: int = field(repr=False)

    def __post_init__(self) -> None:
        if not 1 <= self.point <= _LARGEST_POINT:
            raise FederationError("federation.malformed", "a share lies at a point from 1 to 2**32")
        if not 0 <= self.value < PRIME:
            raise FederationError("federation.malformed", "the value of a share is not in the field")

    def to_bytes(self) -> bytes:
        """Return the value as 33 bytes, big-endian."""
        return self.value.to_bytes(SHARE_SIZE, "big")

    @classmethod
    def parse(cls, point: int, data: bytes) -> Share:
        """Return the share at `point`.

        Raises:
            FederationError: "federation.malformed" if the length, the point or the value is wrong.
        """
        if len(data) != SHARE_SIZE:
            raise FederationError("federation.malformed", f"a share has {SHARE_SIZE} bytes")
        return cls(point, int.from_bytes(data, "big"))


def split(secret: bytes, threshold: int, points: Sequence[int], randomness: Randomness) -> tuple[Share, ...]:
    """Return one share for each point, in order.

    Raises:
        FederationError: "federation.malformed" if a point is out of range or comes twice.
        ValueError: if the secret has not 32 bytes, or the threshold is not within 1 .. number of points.
    """
    if len(secret) != SECRET_SIZE:
        raise ValueError(f"a secret has {SECRET_SIZE} bytes")
    if not 1 <= threshold <= len(points):
        raise ValueError("the threshold has to be between 1 and the number of points")
    _require_distinct(points)
    # 64 bytes modulo a 257-bit prime: further from uniform by less than 2**-254.
    drawn = randomness.token(64 * (threshold - 1))
    coefficients = [int.from_bytes(drawn[start : start + 64], "big") % PRIME for start in range(0, len(drawn), 64)]
    return tuple(Share(point, _evaluate([int.from_bytes(secret, "big"), *coefficients], point)) for point in points)


def combine(shares: Iterable[Share], threshold: int) -> bytes:
    """Return the secret, if every share given lies on one polynomial of the right degree.

    With exactly `threshold` shares there is nothing to compare, and a false one gives a false secret: callers that can check the
    result use `recover`.

    Raises:
        FederationError: "federation.malformed" if points are wrong, come twice, shares do not fit together, or the secret would
            not have 32 bytes; "federation.aborted" if they are fewer than the threshold.
    """
    given = _require_enough(shares, threshold)
    base = given[:threshold]
    for extra in given[threshold:]:
        if _interpolate(base, extra.point) != extra.value:
            raise FederationError("federation.malformed", "shares of one secret do not fit together")
    return _to_secret(_interpolate(base, 0))


def recover(
    shares: Iterable[Share], threshold: int, is_right: Callable[[bytes], bool] | None = None
) -> tuple[bytes, tuple[int, ...]]:
    """Return the secret and the points whose shares were false: up to half of those beyond the threshold may be.

    A device that sends a false share would otherwise ruin the sum of a whole round.

    Args:
        shares: at least `threshold`.
        threshold: shares needed.
        is_right: says of a secret whether it is the one (the key of a public key, the preimage of a commitment).

    Raises:
        FederationError: "federation.malformed" if points are wrong or come twice, or no secret explains enough of the shares (so
            many are false, or they were dealt falsely); "federation.aborted" if they are fewer than the threshold.
    """
    given = _require_enough(shares, threshold)
    polynomial = _decode(given, threshold)
    if polynomial is None:
        raise FederationError("federation.malformed", "the shares of one secret do not fit together")
    secret = _to_secret(polynomial[0] if polynomial else 0)
    if is_right is not None and not is_right(secret):
        raise FederationError("federation.malformed", "the shares fit together but give another secret than the one announced")
    return secret, tuple(share.point for share in given if _evaluate(polynomial, share.point) != share.value)


def _require_enough(shares: Iterable[Share], threshold: int) -> list[Share]:
    given = list(shares)
    _require_distinct([share.point for share in given])
    if threshold < 1:
        raise ValueError("a threshold is at least 1")
    if len(given) < threshold:
        raise FederationError("federation.aborted", f"{threshold} shares are needed, {len(given)} are here")
    return given


def _require_distinct(points: Sequence[int]) -> None:
    # Point 0 is the secret; a point given twice would count one share as two.
    if len(set(points)) != len(points) or not all(1 <= point <= _LARGEST_POINT for point in points):
        raise FederationError("federation.malformed", "the points of shares are from 1 to 2**32, each once")


def _to_secret(value: int) -> bytes:
    if value >= 2**256:
        raise FederationError("federation.malformed", "the shares do not give a secret of 32 bytes")
    return value.to_bytes(SECRET_SIZE, "big")


def _evaluate(coefficients: Sequence[int], point: int) -> int:
    value = 0
    for coefficient in reversed(coefficients):
        value = (value * point + coefficient) % PRIME
    return value


def _interpolate(shares: Sequence[Share], at: int) -> int:
    total = 0
    for share in shares:
        above, below = share.value, 1
        for other in shares:
            if other is not share:
                above = above * (at - other.point) % PRIME
                below = below * (share.point - other.point) % PRIME
        total += above * pow(below, -1, PRIME)
    return total % PRIME


def _decode(shares: Sequence[Share], threshold: int) -> list[int] | None:
    """Return the polynomial below degree `threshold` that all but (len - threshold) // 2 shares lie on; None if there is none."""
    everything, through = [1], [0]
    for share in shares:  # Newton: `through` meets the shares so far, `everything` is zero at their points
        step = (share.value - _evaluate(through, share.point)) * pow(_evaluate(everything, share.point), -1, PRIME)
        through = _add(through, [coefficient * step % PRIME for coefficient in everything])
        everything = _add([0, *everything], [-share.point * coefficient % PRIME for coefficient in everything])
    if len(_trim(through)) <= threshold:
        return through
    # Gao: Euclid's algorithm on (everything, through), stopped half-way; remainder / cofactor is the polynomial.
    older, newer, older_factor, newer_factor = everything, through, [0], [1]
    while 2 * (len(_trim(newer)) - 1) >= len(shares) + threshold:
        quotient, remainder = _divide(older, newer)
        older, newer = newer, remainder
        older_factor, newer_factor = newer_factor, _add(older_factor, [-c % PRIME for c in _multiply(quotient, newer_factor)])
    if not _trim(newer_factor):
        return None
    quotient, remainder = _divide(newer, newer_factor)
    return quotient if not _trim(remainder) and len(_trim(quotient)) <= threshold else None


def _trim(polynomial: list[int]) -> list[int]:
    while polynomial and polynomial[-1] == 0:
        polynomial.pop()
    return polynomial


def _add(left: Sequence[int], right: Sequence[int]) -> list[int]:
    shorter, longer = sorted((left, right), key=len)
    return [(a + b) % PRIME for a, b in zip(shorter, longer, strict=False)] + list(longer[len(shorter) :])


def _multiply(left: Sequence[int], right: Sequence[int]) -> list[int]:
    product = [0] * (len(left) + len(right))
    for place, factor in enumerate(left):
        for other, value in enumerate(right):
            product[place + other] = (product[place + other] + factor * value) % PRIME
    return product


def _divide(above: Sequence[int], below: list[int]) -> tuple[list[int], list[int]]:
    remainder, divisor = list(above), _trim(list(below))
    quotient = [0] * max(1, len(_trim(remainder)) - len(divisor) + 1)
    inverse = pow(divisor[-1], -1, PRIME)
    while len(remainder) >= len(divisor):
        factor, shift = remainder[-1] * inverse % PRIME, len(remainder) - len(divisor)
        quotient[shift] = factor
        for place, coefficient in enumerate(divisor):
            remainder[shift + place] = (remainder[shift + place] - factor * coefficient) % PRIME
        _trim(remainder)
        if not remainder:
            break
    return quotient, remainder
