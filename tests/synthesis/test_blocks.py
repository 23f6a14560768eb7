"""Blocks cover every image once; teachers are drawn as the paper says."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from teddy.synthesis.blocks import TEACHER_POLICIES, Block, make_blocks, make_groups


@given(
    classes=st.integers(1, 30),
    ipc=st.integers(1, 7),
    batch=st.integers(1, 40),
    order=st.sampled_from(["consecutive", "permuted"]),
)
def test_every_image_is_in_exactly_one_block_of_at_most_the_batch_size(classes, ipc, batch, order):
    blocks = make_blocks(classes, ipc, batch, order, seed=3)
    images = Counter((label, slot) for block in blocks for label, slot in zip(block.classes, block.slots, strict=True))
    assert images == Counter((label, slot) for label in range(classes) for slot in range(ipc))
    assert all(len(block) <= batch for block in blocks)
    assert [block.index for block in blocks] == list(range(len(blocks)))


def test_few_classes_are_balanced_in_every_block():
    blocks = make_blocks(num_classes=10, ipc=50, batch_size=100, class_order="consecutive", seed=0)
    assert len(blocks) == 5
    assert all(set(Counter(block.classes).values()) == {10} for block in blocks)


def test_many_classes_come_as_the_papers_groups_of_one_hundred():
    blocks = make_blocks(num_classes=1000, ipc=2, batch_size=100, class_order="consecutive", seed=0)
    assert len(blocks) == 20
    assert blocks[3].classes == tuple(range(300, 400))
    assert set(blocks[3].slots) == {0}
    assert set(blocks[13].slots) == {1}


def test_permuted_groups_differ_by_slot_and_repeat_by_seed():
    blocks = make_blocks(200, 2, 100, "permuted", seed=1)
    assert blocks[0].classes != blocks[2].classes
    assert blocks == make_blocks(200, 2, 100, "permuted", seed=1)
    assert blocks != make_blocks(200, 2, 100, "permuted", seed=2)


@given(sizes=st.lists(st.integers(1, 3), max_size=12), at_once=st.integers(1, 5))
def test_groups_keep_the_order_and_hold_blocks_of_one_size(sizes, at_once):
    blocks = [Block(index, (0,) * size, (0,) * size) for index, size in enumerate(sizes)]
    groups = make_groups(blocks, at_once)
    assert [block for group in groups for block in group] == blocks
    assert all(0 < len(group) <= at_once and len({len(block) for block in group}) == 1 for group in groups)


def test_full_blocks_fill_the_groups_and_the_last_smaller_one_goes_alone():
    blocks = make_blocks(num_classes=10, ipc=52, batch_size=100, class_order="consecutive", seed=0)
    assert [len(block) for block in blocks] == [100] * 5 + [20]
    assert [[block.index for block in group] for group in make_groups(blocks, 3)] == [[0, 1, 2], [3, 4], [5]]


def block(index: int, slot: int) -> Block:
    return Block(index, classes=(0, 1), slots=(slot, slot))


@pytest.mark.parametrize("policy", sorted(TEACHER_POLICIES))
def test_teachers_are_distinct_members_of_the_pool(policy):
    for iteration in range(20):
        chosen = TEACHER_POLICIES[policy](block(0, 0), iteration, 9, 3, 0)
        assert len(set(chosen)) == 3
        assert set(chosen) <= set(range(9))


def test_block_policy_is_fixed_over_iterations_and_shared_by_an_image_index():
    draw = TEACHER_POLICIES["block"]
    assert draw(block(0, 4), 0, 9, 3, 0) == draw(block(7, 4), 999, 9, 3, 0)
    draws = {tuple(draw(block(slot, slot), 0, 9, 3, 0)) for slot in range(50)}
    assert len(draws) > 20


def test_block_policy_uses_every_member_about_equally_often():
    counts = Counter(k for slot in range(900) for k in TEACHER_POLICIES["block"](block(0, slot), 0, 9, 3, 0))
    # 300 expected for each of the nine; the standard deviation is sqrt(900 * 1/3 * 2/3) = 14.
    assert all(abs(counts[k] - 300) < 5 * 14.2 for k in range(9))


def test_iteration_policy_changes_and_round_robin_visits_all():
    draws = {tuple(TEACHER_POLICIES["iteration"](block(0, 0), t, 9, 3, 0)) for t in range(50)}
    assert len(draws) > 20
    seen = [k for t in range(3) for k in TEACHER_POLICIES["round_robin"](block(0, 0), t, 9, 3, 0)]
    assert sorted(seen) == list(range(9))
