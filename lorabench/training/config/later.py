"""What TRL's dataclasses let pass, and transformers refuses once the run has begun to load."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from importlib.util import find_spec
from typing import TYPE_CHECKING

from lorabench.text import visible
from lorabench.training.config.field import FieldProblem
from lorabench.training.preflight.finding import Mend

if TYPE_CHECKING:
    from lorabench.training.config.run_config import RunConfig

_FLASH = {"flash_attention_2": "flash_attn", "flash_attention_3": "flash_attn_interface"}
_OPTIMIZERS_OF_BITSANDBYTES = ("8bit", "paged", "_bnb")


def later_problems(config: RunConfig) -> Iterator[FieldProblem]:
    """Yield values that nobody knows, and packages that a value needs and that are not installed."""
    yield from _reports(config)
    yield from _attention(config)
    yield from _bitsandbytes(config)


def _reports(config: RunConfig) -> Iterator[FieldProblem]:
    from transformers.integrations import integration_utils

    every: list[str] = list(integration_utils.INTEGRATION_TO_CALLBACK)
    here = integration_utils.get_available_reporting_integrations()  # type: ignore[no-untyped-call]
    wanted = config.get("report_to") or []
    names = [wanted] if isinstance(wanted, str) else wanted
    for name in names:
        if name in ("none", "all", *here):
            continue
        if name not in every:
            yield _unknown(config, "report_to", name, ["none", "all", *every])
        elif find_spec(name) is None:
            mend = Mend("report to nobody", {"report_to": "none"})
            yield _missing(config, "report_to", name, f"pip install {name}", mend)


def _attention(config: RunConfig) -> Iterator[FieldProblem]:
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    name = config.get("attn_implementation")
    if not name or "/" in name:  # a kernel on the hub
        return
    known = ["eager", *ALL_ATTENTION_FUNCTIONS.valid_keys()]
    package = _FLASH.get(name)
    if name not in known:
        yield _unknown(config, "attn_implementation", name, known)
    elif package and find_spec(package) is None and find_spec("kernels") is None:
        mend = Mend("attn_implementation sdpa", {"attn_implementation": "sdpa"})
        yield _missing(config, "attn_implementation", name, f"its package is {package}", mend)


def _bitsandbytes(config: RunConfig) -> Iterator[FieldProblem]:
    if find_spec("bitsandbytes") is not None:
        return
    from transformers.training_args import OptimizerNames

    optim = str(config.get("optim"))
    install = "pip install 'lorabench[qlora]'"
    for name in ("load_in_4bit", "load_in_8bit"):
        if config.get(name):
            yield _missing(config, name, "bitsandbytes", install, Mend("load them whole", {name: False}))
    theirs = any(mark in optim for mark in _OPTIMIZERS_OF_BITSANDBYTES) and "torch" not in optim
    if theirs and optim in list(OptimizerNames):
        mend = Mend("optim adamw_torch_fused", {"optim": "adamw_torch_fused"})
        yield _missing(config, "optim", "bitsandbytes", install, mend)


def _missing(config: RunConfig, field: str, what: str, how: str, mend: Mend) -> FieldProblem:
    message = f"{field} needs {what}, which is not installed here: {how}."
    return FieldProblem(field, message, line=config.lines.get(field), mend=mend)


def _unknown(config: RunConfig, field: str, name: str, known: Iterable[str]) -> FieldProblem:
    near = get_close_matches(name, known, n=1)
    meant = f"; did you mean {near[0]}?" if near else "."
    return FieldProblem(
        field,
        f"{field} is {visible(name)}, which transformers does not know{meant}",
        f"one of {', '.join(known)}",
        line=config.lines.get(field),
        mend=Mend(f"write {near[0]}", {field: near[0]}) if near else None,
    )
