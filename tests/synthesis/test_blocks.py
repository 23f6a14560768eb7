"""Blocks cover every image once, in the paper's order."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from teddy.synthesis.blocks import Block, make_blocks, make_groups


@given(
    classes=st.integers(1, 30),
    ipc=st.integers(1, 7),
    batch=st.integers(1, 40),
)
def test_every_image_is_in_exactly_one_block_of_at_most_the_batch_size(classes, ipc, batch):
    blocks = make_blocks(classes, ipc, batch)
    images = Counter((label, slot) for block in blocks for label, slot in zip(block.classes, block.slots, strict=True))
    assert images == Counter((label, slot) for label in range(classes) for slot in range(ipc))
    assert all(len(block) <= batch for block in blocks)
    assert [block.index for block in blocks] == list(range(len(blocks)))


def test_few_classes_are_balanced_in_every_block():
    blocks = make_blocks(num_classes=10, ipc=50, batch_size=100)
    assert len(blocks) == 5
    assert all(set(Counter(block.classes).values()) == {10} for block in blocks)


def test_many_classes_come_as_the_papers_groups_of_one_hundred():
    blocks = make_blocks(num_classes=1000, ipc=2, batch_size=100)
    assert len(blocks) == 20
    assert blocks[3].classes == tuple(range(300, 400))
    assert set(blocks[3].slots) == {0}
    assert set(blocks[13].slots) == {1}


@given(sizes=st.lists(st.integers(1, 3), max_size=12), at_once=st.integers(1, 5))
def test_groups_keep_the_order_and_hold_blocks_of_one_size(sizes, at_once):
    blocks = [Block(index, (0,) * size, (0,) * size) for index, size in enumerate(sizes)]
    groups = make_groups(blocks, at_once)
    assert [block for group in groups for block in group] == blocks
    assert all(0 < len(group) <= at_once and len({len(block) for block in group}) == 1 for group in groups)


def test_full_blocks_fill_the_groups_and_the_last_smaller_one_goes_alone():
    blocks = make_blocks(num_classes=10, ipc=52, batch_size=100)
    assert [len(block) for block in blocks] == [100] * 5 + [20]
    assert [[block.index for block in group] for group in make_groups(blocks, 3)] == [[0, 1, 2], [3, 4], [5]]
