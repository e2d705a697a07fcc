"""Base alphas beside weightwatcher itself: `pip install 'lorabench[parity]'`, then `pytest -m parity`."""

from __future__ import annotations

import contextlib
import io
import logging
from pathlib import Path
from typing import Any

import pytest

from lorabench.spectra.base_columns import BASE_COLUMNS
from tests.base.conftest import Compare

pytestmark = pytest.mark.parity


def weightwatcher_table(base: Path) -> Any:
    """Return weightwatcher's analyze() of a base model by the modules' names."""
    weightwatcher = pytest.importorskip("weightwatcher")
    from transformers import AutoModelForCausalLM

    logging.disable(logging.CRITICAL)
    with contextlib.redirect_stdout(io.StringIO()):
        model = AutoModelForCausalLM.from_pretrained(base)
        return weightwatcher.WeightWatcher(model=model).analyze().set_index("longname")


def check(analysis: Any, table: Any) -> None:
    value = {column.name: column.value for column in BASE_COLUMNS}
    for comparison in analysis.comparisons:
        theirs = table.loc[comparison.layer.module]
        assert value["base_alpha"](comparison) == pytest.approx(theirs["alpha"], rel=1e-6)
        assert value["base_ks"](comparison) == pytest.approx(theirs["D"], rel=1e-6)
        assert value["base_tail"](comparison) == theirs["num_pl_spikes"]
        assert value["base_xmin"](comparison) == pytest.approx(theirs["xmin"], rel=1e-6)
        assert value["base_norm"](comparison) ** 2 == pytest.approx(theirs["norm"], rel=1e-6)
        assert value["base_sigma1"](comparison) ** 2 == pytest.approx(theirs["spectral_norm"], rel=1e-6)
        assert value["base_stable_rank"](comparison) == pytest.approx(theirs["stable_rank"], rel=1e-6)


def test_the_demo_models_alphas_are_weightwatchers(samples: Path, compare: Compare) -> None:
    table = weightwatcher_table(samples / "demo-model")
    analysis = compare(samples / "style-clean-r16")
    assert len(analysis.comparisons) == 42
    check(analysis, table)


def test_the_alphas_of_stories260k_are_weightwatchers(
    shared_data: Path, stories_adapter: Path, compare: Compare
) -> None:
    table = weightwatcher_table(shared_data / "models" / "stories260K")
    analysis = compare(stories_adapter)
    assert len(analysis.comparisons) == 36
    check(analysis, table)
