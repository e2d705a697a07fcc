"""The change of ΔW, against dense matrices."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lorabench.training.audit.change import change_of


def test_the_change_of_the_update_is_the_dense_one() -> None:
    numbers = np.random.default_rng(3)
    a, b, da, db = (numbers.normal(size=shape) for shape in ((4, 30), (20, 4), (4, 30), (20, 4)))
    da, db = 1e-3 * da, 1e-3 * db
    change = change_of(*map(torch.tensor, (a, b, a + da, b + db)), scaling=2.5)
    assert change.norm == pytest.approx(np.linalg.norm(2.5 * ((b + db) @ (a + da) - b @ a)), rel=1e-9)
    assert change.by_a == pytest.approx(np.linalg.norm(2.5 * (b + db) @ da), rel=1e-9)
    assert change.by_b == pytest.approx(np.linalg.norm(2.5 * db @ a), rel=1e-9)
    assert change.norm_before == pytest.approx(np.linalg.norm(2.5 * b @ a), rel=1e-9)
