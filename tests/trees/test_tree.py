"""Trees: layout and sums worked by hand, and against brute force over random paths."""

from __future__ import annotations

import numpy as np
import pytest

from rwml.trees.tree import Tree, TreeBuilder, pack, side_by_side


def test_layout_by_hand() -> None:
    builder = TreeBuilder()
    builder.add([1, 2, 3, 4])
    builder.add([1, 2, 3, 5])
    builder.add([1, 2, 7, 8, 9, 9])
    builder.add([4, 5])
    tree = builder.build()
    # 1 2 with the larger branch (7 8 9 9) first, then 3 with its two leaves, then the second root.
    assert tree.ids.tolist() == [1, 2, 7, 8, 9, 9, 3, 4, 5, 4, 5]
    assert tree.end.tolist() == [9, 9, 6, 6, 6, 6, 9, 8, 9, 11, 11]
    assert tree.depth.tolist() == [0, 1, 2, 3, 4, 5, 2, 3, 3, 0, 1]
    assert tree.parent.tolist() == [-1, 0, 1, 2, 3, 4, 1, 6, 6, -1, 9]
    assert tree.roots == [(0, 9), (9, 11)]
    assert (tree.num_tokens, tree.num_dense_tokens) == (11, 16)
    assert tree.sharing == pytest.approx(16 / 11)
    assert tree.path(8).tolist() == [0, 1, 6, 8]


def test_loss_fields_by_hand() -> None:
    builder = TreeBuilder()
    builder.add([1, 2, 3, 4], 2, advantage=1.5, coefficient=0.5)
    builder.add([1, 2, 3, 5], 2, advantage=-1.0, coefficient=0.25)
    builder.add([1, 2, 3], 1, cross_entropy=[0.0, 2.0])
    tree = builder.build()
    assert tree.ids.tolist() == [1, 2, 3, 4, 5]
    assert tree.w_pos.tolist() == [0, 0, 0.75, 0.75, 0]
    assert tree.w_neg.tolist() == [0, 0, -0.25, 0, -0.25]
    assert tree.w_kl.tolist() == [0, 0, 0.75, 0.5, 0.25]
    assert tree.w_ce.tolist() == [0, 0, 2, 0, 0]
    assert tree.has_loss.tolist() == [False, False, True, True, True]
    assert np.isnan(tree.old_logp).all()


def test_coefficients_per_token_mask_spans_of_one_path() -> None:
    builder = TreeBuilder()
    builder.add([5, 6, 7, 8, 9], 1, advantage=2.0, coefficient=[0.5, 0.0, 0.0, 0.5])
    tree = builder.build()
    assert tree.w_pos.tolist() == [0, 1, 0, 0, 1]
    assert tree.has_loss.tolist() == [False, True, False, False, True]


def test_a_path_that_ends_inside_another() -> None:
    builder = TreeBuilder()
    builder.add([1, 2, 3, 4], 1, advantage=1.0, coefficient=1.0)
    builder.add([1, 2], 1, advantage=1.0, coefficient=1.0)
    tree = builder.build()
    assert tree.ids.tolist() == [1, 2, 3, 4]
    assert tree.w_pos.tolist() == [0, 2, 1, 1]


def test_a_loss_on_the_first_token_is_refused() -> None:
    with pytest.raises(AssertionError, match="no token precedes the first token"):
        TreeBuilder().add([1, 2], 0, coefficient=1.0)


def test_empty_tree() -> None:
    tree = TreeBuilder().build()
    assert (tree.num_tokens, tree.num_dense_tokens, tree.roots) == (0, 0, [])


@pytest.mark.parametrize("seed", range(20))
def test_random_paths_against_brute_force(seed: int) -> None:
    rng = np.random.default_rng(seed)
    # Three token ids over short paths: prefixes collide at every length.
    paths = [rng.integers(0, 3, rng.integers(1, 9)).tolist() for _ in range(25)]
    builder, expected = TreeBuilder(), {}
    for path in paths:
        weights = rng.random(len(path) - 1)
        builder.add(path, 1, cross_entropy=weights)
        for i in range(len(path)):
            prefix = tuple(path[: i + 1])
            expected[prefix] = expected.get(prefix, 0.0) + (weights[i - 1] if i else 0.0)
    tree = builder.build()
    found = {tuple(tree.ids[tree.path(i)].tolist()): float(tree.w_ce[i]) for i in range(tree.num_tokens)}
    assert found.keys() == expected.keys()
    assert found == pytest.approx(expected, abs=1e-6)
    assert tree.num_tokens == len(expected)
    assert tree.num_dense_tokens == sum(len(path) for path in paths)
    check_invariants(tree)


def check_invariants(tree: Tree) -> None:
    """A token sees exactly its path, sits at its depth, and its largest child comes right after it."""
    visible = tree.visible()
    for i in range(tree.num_tokens):
        path = tree.path(i)
        assert np.flatnonzero(visible[i]).tolist() == path.tolist()
        assert tree.depth[i] == len(path) - 1
        children = np.flatnonzero(tree.parent == i)
        if len(children):
            sizes = tree.end[children] - children
            assert children[0] == i + 1
            assert sizes[0] == sizes.max()


def chain(length: int, first: int) -> Tree:
    builder = TreeBuilder()
    builder.add(range(first, first + length), 1, cross_entropy=1.0)
    return builder.build()


def test_side_by_side_hides_trees_from_one_another() -> None:
    row = side_by_side([chain(2, 10), chain(3, 20)])
    assert row.ids.tolist() == [10, 11, 20, 21, 22]
    assert row.end.tolist() == [2, 2, 5, 5, 5]
    assert row.depth.tolist() == [0, 1, 0, 1, 2]
    assert row.parent.tolist() == [-1, 0, -1, 2, 3]
    assert row.num_dense_tokens == 5
    check_invariants(row)


def test_pack_fills_budgets_largest_first() -> None:
    trees = [chain(n, 100 * n) for n in (3, 7, 5, 2, 12)]
    rows = pack(trees, 10)
    # 12 stands alone over budget; 7 takes 3; 5 takes 2.
    assert [row.num_tokens for row in rows] == [12, 10, 7]
    assert sorted(np.concatenate([row.ids for row in rows])) == sorted(np.concatenate([t.ids for t in trees]))
    assert pack([], 10) == []
