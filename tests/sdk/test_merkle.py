"""Merkle trees: the fast ways against the definition, and against the test vectors of Certificate Transparency."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from facekeep.merkle import EMPTY_ROOT, Frontier, SlotTree, leaf_hash, node_hash, root_of

# https://github.com/google/certificate-transparency/blob/master/cpp/merkletree/merkle_tree_test.cc
ENTRIES = [
    bytes.fromhex(text)
    for text in ("", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f")
]
ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]

hashes = st.integers(0, 2**32).map(lambda number: leaf_hash(number.to_bytes(5, "big")))


@pytest.mark.parametrize("size", range(1, 9))
def test_certificate_transparency_vectors(size: int) -> None:
    leaves = [leaf_hash(entry) for entry in ENTRIES[:size]]
    frontier = Frontier()
    for leaf in leaves:
        frontier = frontier.append(leaf)
    assert root_of(leaves).hex() == ROOTS[size - 1] == frontier.root().hex() == SlotTree(leaves).root().hex()


def test_no_leaves() -> None:
    assert root_of([]) == Frontier().root() == SlotTree().root() == EMPTY_ROOT


@given(st.lists(hashes, max_size=70))
def test_the_frontier_has_the_root_of_the_definition(leaves: list[bytes]) -> None:
    frontier = Frontier()
    for number, leaf in enumerate(leaves, start=1):
        frontier = frontier.append(leaf)
        assert frontier.root() == root_of(leaves[:number])
        assert Frontier(frontier.size, frontier.edge) == frontier


@given(st.lists(st.tuples(st.integers(0, 40), st.none() | hashes), max_size=60), st.lists(hashes, max_size=20))
def test_slots_replaced_and_cleared_have_the_root_of_the_definition(
    changes: list[tuple[int, bytes | None]], start: list[bytes]
) -> None:
    tree, model = SlotTree(start), list(start)
    for slot, leaf in changes:
        if leaf is None:
            tree.clear(slot)
            if slot < len(model):
                model[slot] = SlotTree.EMPTY
                while model and model[-1] == SlotTree.EMPTY:
                    model.pop()
        else:
            tree.replace(slot, leaf)
            model.extend([SlotTree.EMPTY] * (slot + 1 - len(model)))
            model[slot] = leaf
        assert len(tree) == len(model)
        assert tree.root() == root_of(model)


@given(st.lists(hashes, min_size=2, max_size=30, unique=True), st.data())
def test_two_leaves_that_change_places_change_the_root(leaves: list[bytes], data: st.DataObject) -> None:
    first = data.draw(st.integers(0, len(leaves) - 2))
    second = data.draw(st.integers(first + 1, len(leaves) - 1))
    swapped = list(leaves)
    swapped[first], swapped[second] = swapped[second], swapped[first]
    assert SlotTree(swapped).root() != SlotTree(leaves).root()


@given(st.binary(min_size=32, max_size=32), st.binary(min_size=32, max_size=32))
def test_a_node_is_never_a_leaf(left: bytes, right: bytes) -> None:
    # Second preimage: without the prefixes an inner node could be passed off as an entry.
    assert node_hash(left, right) != leaf_hash(left + right)


@pytest.mark.parametrize(("size", "edge"), [(1, ()), (-1, ()), (3, (b"\0" * 32,)), (1, (b"short",))])
def test_a_frontier_that_does_not_fit_its_size_is_refused(size: int, edge: tuple[bytes, ...]) -> None:
    with pytest.raises(ValueError, match="frontier"):
        Frontier(size, edge)
