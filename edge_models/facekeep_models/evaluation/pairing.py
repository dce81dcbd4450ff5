"""Which pictures to compare: LFW's files of pairs, pairs drawn by lot, fewer of them, and sets of them. Pure.

Formats: http://vis-www.cs.umass.edu/lfw/README.txt. View 1 (pairsDevTrain.txt, pairsDevTest.txt): a line with the number N, then
N mated pairs and N non-mated ones. View 2 (pairs.txt): a line with the numbers of sets and N, then for each set the same.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, NoReturn, TypeVar

import numpy as np
from numpy.typing import NDArray

from facekeep_models.evaluation.comparisons import Pair
from facekeep_models.evaluation.errors import EvaluationError

MOST_PAIRS: Final = 1_000_000
_NUMBER: Final = re.compile(r"[0-9]{1,7}", re.ASCII)
# A name becomes a directory: nothing that leads out of the one given.
_NAME: Final = re.compile(r"(?!\.)[^/\\\x00-\x1f\x7f]{1,200}")
_ATTEMPTS_PER_PAIR: Final = 200

Chosen = TypeVar("Chosen", "ListedPair", Pair)


@dataclass(frozen=True, slots=True)
class ListedPicture:
    """A picture as LFW names it: person and number, `<person>/<person>_<number, four digits>.jpg`."""

    person: str
    number: int


@dataclass(frozen=True, slots=True)
class ListedPair:
    """A line of a file of pairs.

    Attributes:
        reference: the picture named first.
        probe: the one named second.
        is_mated: whether both are of one person.
        fold: number of the set, from 0; 0 throughout in View 1.
        line: where it stands, from 1.
    """

    reference: ListedPicture
    probe: ListedPicture
    is_mated: bool
    fold: int
    line: int


@dataclass(frozen=True, slots=True)
class PairList:
    """A file of pairs.

    Attributes:
        sets: 1 in View 1, the number of sets (ten) in View 2.
        has_sets: whether the file is in the format of View 2.
        pairs: the pairs in the order of the file.
    """

    sets: int
    has_sets: bool
    pairs: tuple[ListedPair, ...]


def parse_pairs(data: bytes) -> PairList:
    """Return the pairs of a file in the format of LFW's View 1 or View 2. Nothing is skipped and nothing is guessed.

    Raises:
        EvaluationError: "evaluation.malformed_pairs" with the number of the line. Names are not repeated.
    """
    try:
        lines = data.decode("utf-8").replace("\r\n", "\n").split("\n")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise EvaluationError("evaluation.malformed_pairs", f"Line {line} is not text in UTF-8.") from None
    while lines and not lines[-1].strip():
        lines.pop()
    head = lines[0].split("\t") if lines else []
    if len(head) not in {1, 2} or not all(_NUMBER.fullmatch(field.strip()) for field in head):
        _refuse(1, "the number of pairs, or the numbers of sets and of pairs in each, is expected, between tabs")
    sets, each = (1 if len(head) == 1 else int(head[0])), int(head[-1])
    if sets < 1 or each < 1 or 2 * sets * each > MOST_PAIRS:
        _refuse(1, f"one set or more, one pair or more in each and no more than {MOST_PAIRS} pairs are expected")
    if len(lines) != 1 + 2 * sets * each:
        expected = f"{sets} set(s) of {each} mated and {each} non-mated pairs make {1 + 2 * sets * each} lines"
        _refuse(len(lines), f"the file ends here, but its first line says that {expected}")
    pairs = [
        _parse_pair(line, number + 2, is_mated=number // each % 2 == 0, fold=number // (2 * each))
        for number, line in enumerate(lines[1:])
    ]
    return PairList(sets, len(head) == 2, tuple(pairs))


def _parse_pair(text: str, line: int, *, is_mated: bool, fold: int) -> ListedPair:
    fields = text.split("\t")
    if len(fields) != (3 if is_mated else 4):
        kind = "a mated pair: name, number, number" if is_mated else "a non-mated pair: name, number, name, number"
        _refuse(line, f"{kind} is expected, between tabs; found {len(fields)} field(s)")
    names = fields[:1] if is_mated else fields[0::2]
    numbers = fields[1:] if is_mated else fields[1::2]
    if not all(_NAME.fullmatch(name) and name == name.strip() for name in names):
        _refuse(line, "a name is one to 200 characters without slashes, leading dots or spaces around it")
    if not all(_NUMBER.fullmatch(number) and int(number) > 0 for number in numbers):
        _refuse(line, "the number of a picture is a whole number from 1")
    reference, probe = ListedPicture(names[0], int(numbers[0])), ListedPicture(names[-1], int(numbers[1]))
    if reference == probe:
        _refuse(line, "a picture is not compared with itself")
    if not is_mated and reference.person == probe.person:
        _refuse(line, "a non-mated pair names two people")
    return ListedPair(reference, probe, is_mated, fold, line)


def _refuse(line: int, what: str) -> NoReturn:
    raise EvaluationError("evaluation.malformed_pairs", f"Line {line} of the file of pairs: {what}.")


def draw_pairs(people: NDArray[np.integer], count: int, seed: int) -> tuple[Pair, ...]:
    """Return `count` mated and `count` non-mated pairs, no pair twice, drawn by lot.

    A mated pair: a person of those with several pictures, then two of them, so that nobody counts for the number of their
    pictures. A non-mated pair: two people, then a picture of each.

    Args:
        people: (P,) person of each picture.
        count: pairs of either kind.
        seed: of the lot.

    Raises:
        EvaluationError: "evaluation.too_few_comparisons" if so many different pairs are not found.
    """
    random = np.random.default_rng(seed)
    owners, starts = np.unique(np.sort(people, kind="stable"), return_index=True)
    groups = np.split(np.argsort(people, kind="stable"), starts[1:])
    several = [group for group in groups if len(group) > 1]
    found: dict[bool, set[tuple[int, int]]] = {True: set(), False: set()}
    sizes = np.array([len(group) for group in groups])
    mated = int(np.sum(sizes * (sizes - 1))) // 2
    possible = min(mated, len(people) * (len(people) - 1) // 2 - mated)
    for _ in range(_ATTEMPTS_PER_PAIR * count if count <= possible else 0):
        if len(found[True]) < count and several:
            found[True].add(_in_order(random.choice(several[random.integers(len(several))], 2, replace=False)))
        if len(found[False]) < count and len(owners) > 1:
            first, second = random.choice(len(groups), 2, replace=False)
            found[False].add(_in_order(np.array([random.choice(groups[first]), random.choice(groups[second])])))
        if min(len(pairs) for pairs in found.values()) == count:
            return tuple(Pair(one, other, kind) for kind, pairs in found.items() for one, other in sorted(pairs))
    raise EvaluationError(
        "evaluation.too_few_comparisons",
        f"{count} mated and as many non-mated pairs cannot be drawn from {len(people)} pictures of {len(owners)} people.",
    )


def _in_order(pair: NDArray[np.integer]) -> tuple[int, int]:
    return int(pair.min()), int(pair.max())


def spread_out(pairs: Sequence[Chosen], limit: int) -> tuple[Chosen, ...]:
    """Return at most `limit` mated and `limit` non-mated pairs, evenly over the list."""
    kept: list[Chosen] = []
    for kind in (True, False):
        some = [pair for pair in pairs if pair.is_mated is kind]
        chosen = sorted({index * len(some) // limit for index in range(limit)}) if len(some) > limit else range(len(some))
        kept.extend(some[index] for index in chosen)
    return tuple(kept)


def in_folds(pairs: Sequence[Pair], folds: int) -> tuple[Pair, ...]:
    """Return the pairs dealt out to sets in turn, each kind for itself. People may stand in several sets."""
    counts = {True: 0, False: 0}
    dealt: list[Pair] = []
    for pair in pairs:
        dealt.append(replace(pair, fold=counts[pair.is_mated] % folds))
        counts[pair.is_mated] += 1
    return tuple(dealt)
