"""What a run needs before it may begin; the other refusals are in tests/pipeline/test_detection.py."""

from __future__ import annotations

import pytest

from teddy.config.errors import UserError
from teddy.detection import task


def test_a_missing_package_is_named_with_its_remedy(monkeypatch):
    monkeypatch.setattr(task, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pycocotools; install it with pip install 'teddy-distill\[detection\]'"):
        task.Detection().check(None)
