"""A pool of one fully trained teacher (SRe2L's case): the base model itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from teddy.pool.members import ModelPool
    from teddy.pool.trajectory import BaseTraining


class SinglePool:
    """The well-trained base model as the only teacher.

    Args:
        base: where it comes from: ``trained``, ``pretrained`` or the path of a weight file.
    """

    def __init__(self, base: str) -> None:
        self.base = base

    def check(self, base: BaseTraining) -> None:
        """Raises BadInput if the base model cannot be had."""
        from teddy.pool.base import check_base

        check_base(base, self.base)

    def make(self, base: BaseTraining, label: str) -> ModelPool:
        """The pool of the base model alone.

        Raises:
            BadInput: the base model's weights cannot be had or do not fit.
        """
        from teddy.pool.base import base_model
        from teddy.pool.members import ModelPool

        member = base_model(base, self.base)
        return ModelPool((member,), base.dataset.spec, label, seconds=member.seconds)
