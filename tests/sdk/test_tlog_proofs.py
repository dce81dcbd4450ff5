"""Proofs and tiles against the slow reference: the tree straight from its definition."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facekeep.errors import LogError
from facekeep.merkle import EMPTY_ROOT, leaf_hash, root_of
from facekeep.tlog import make_consistency, make_inclusion, tiles_of, tree_root, verify_consistency, verify_inclusion
from facekeep.tlog.tiles import Tile
from facekeep.tlog.tree import TileHashes, TileTree, perfect_root

LEAVES = [leaf_hash(bytes([number % 251, number // 251])) for number in range(1500)]


class Direct:
    """Hashes from the definition."""

    def read(self, level: int, index: int) -> bytes:
        return root_of(LEAVES[index << level : index + 1 << level])


sizes = st.integers(1, 200)


@given(sizes, st.data())
def test_every_inclusion_proof_verifies_and_no_other(size: int, data: st.DataObject) -> None:
    index = data.draw(st.integers(0, size - 1))
    root = root_of(LEAVES[:size])
    proof = make_inclusion(Direct(), index, size)
    verify_inclusion(LEAVES[index], index, size, proof, root)
    wrong: list[tuple[bytes, int, int, tuple[bytes, ...], bytes]] = [
        (LEAVES[index + 1], index, size, proof, root),
        (LEAVES[index], index, size, (*proof, LEAVES[0]), root),
        (LEAVES[index], index, size, proof, LEAVES[1]),
        (LEAVES[index], size, size, proof, root),
        (LEAVES[index], -1, size, proof, root),
    ]
    if proof:
        place = data.draw(st.integers(0, len(proof) - 1))
        wrong.append((LEAVES[index], index, size, proof[:place] + proof[place + 1 :], root))
        wrong.append((LEAVES[index], index, size, (*proof[:place], LEAVES[-1], *proof[place + 1 :]), root))
        wrong.append((LEAVES[index], index ^ 1, size, proof, root))
    for case in wrong:
        with pytest.raises(LogError) as caught:
            verify_inclusion(*case)
        assert caught.value.code == "log.bad_proof"


@given(st.integers(0, 200), st.integers(0, 200), st.data())
def test_every_consistency_proof_verifies_and_no_other(one: int, two: int, data: st.DataObject) -> None:
    old, new = sorted((one, two))
    roots = root_of(LEAVES[:old]), root_of(LEAVES[:new])
    proof = make_consistency(Direct(), old, new)
    verify_consistency(old, new, proof, *roots)
    other = root_of(LEAVES[1 : new + 1])
    wrong: list[tuple[int, int, tuple[bytes, ...], bytes, bytes]] = [(old, new, (*proof, LEAVES[0]), *roots)]
    if old:
        wrong.append((old, new, proof, roots[0], LEAVES[-1]))
        wrong.append((old, new, proof, other, roots[1]))
    if old < new:
        wrong.append((new, old, proof, roots[1], roots[0]))
    if proof:
        place = data.draw(st.integers(0, len(proof) - 1))
        wrong.append((old, new, proof[:place] + proof[place + 1 :], *roots))
        wrong.append((old, new, (*proof[:place], LEAVES[-1], *proof[place + 1 :]), *roots))
    for case in wrong:
        with pytest.raises(LogError) as caught:
            verify_consistency(*case)
        assert caught.value.code == "log.bad_proof"


def test_an_empty_tree_has_one_root() -> None:
    verify_consistency(0, 0, (), EMPTY_ROOT, EMPTY_ROOT)
    with pytest.raises(LogError):
        verify_consistency(0, 0, (), EMPTY_ROOT, LEAVES[0])
    with pytest.raises(LogError):
        verify_consistency(0, 1, (), LEAVES[0], LEAVES[0])


def test_the_proofs_of_rfc_6962_section_2_1_3() -> None:
    # The tree of seven leaves there; its nodes by their names.
    def range_of(start: int, end: int) -> bytes:
        return root_of(LEAVES[start:end])

    a, b, c, d, e, f = (LEAVES[number] for number in range(6))
    g, h, i, k, low, j = range_of(0, 2), range_of(2, 4), range_of(4, 6), range_of(0, 4), range_of(4, 7), LEAVES[6]
    assert make_inclusion(Direct(), 0, 7) == (b, h, low)
    assert make_inclusion(Direct(), 3, 7) == (c, g, low)
    assert make_inclusion(Direct(), 4, 7) == (f, j, k)
    assert make_inclusion(Direct(), 6, 7) == (i, k)
    assert make_consistency(Direct(), 3, 7) == (c, d, g, low)
    assert make_consistency(Direct(), 4, 7) == (low,)
    assert make_consistency(Direct(), 6, 7) == (i, j, k)
    assert a != e


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 700), min_size=1, max_size=4).filter(lambda parts: sum(parts) <= 1500), st.data())
def test_a_tree_grown_in_steps_is_that_of_the_definition(parts: list[int], data: st.DataObject) -> None:
    tree, tiles = TileTree(), {}
    for part in parts:
        tiles.update(tree.extend(LEAVES[tree.size : tree.size + part]))
        size = tree.size
        current = tiles | dict(tree.partial_tiles())
        assert tree.root() == root_of(LEAVES[:size])
        assert {tile for tile in current if tile in set(tiles_of(size))} == set(tiles_of(size))
        # Stopped and started again.
        tree = TileTree.load(size, current.__getitem__)
        assert tree.root() == root_of(LEAVES[:size])
    if tree.size:
        reader = TileHashes(tree.size, (tiles | dict(tree.partial_tiles())).__getitem__)
        index = data.draw(st.integers(0, tree.size - 1))
        assert make_inclusion(reader, index, tree.size) == make_inclusion(Direct(), index, tree.size)
        assert make_consistency(reader, index, tree.size) == make_consistency(Direct(), index, tree.size)
        assert tree_root(reader, index) == root_of(LEAVES[:index])


def test_tiles_hold_the_hashes_the_specification_names() -> None:
    tree = TileTree()
    tiles = dict(tree.extend(LEAVES[:1024]))
    assert tiles[Tile(0, 3)] == b"".join(LEAVES[768:1024])
    partial = dict(tree.partial_tiles())
    assert partial == {Tile(1, 0, 4): b"".join(root_of(LEAVES[start : start + 256]) for start in range(0, 1024, 256))}
    assert perfect_root(LEAVES[:256]) == root_of(LEAVES[:256])


def test_a_tile_of_another_length_is_refused() -> None:
    with pytest.raises(LogError):
        TileTree.load(3, lambda _: b"\0" * 95)
    with pytest.raises(LogError):
        TileHashes(3, lambda _: b"\0" * 95).read(0, 1)
    with pytest.raises(LogError):
        TileHashes(3, lambda _: b"\0" * 96).read(2, 0)
