"""How many parameters will be trained, exactly as PEFT counts them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lorabench.training.preflight.finding import Finding, Mend
from lorabench.training.preflight.meta_model import described

if TYPE_CHECKING:
    from lorabench.training.config.run_config import RunConfig

CHECK = "trainable"


def trainable_findings(config: RunConfig) -> list[Finding]:
    """Say trainable and total parameters and their share, as `print_trainable_parameters` prints them.

    Tied weights count once. Nothing trained is an error, and so is everything: that is full fine-tuning.
    """
    model = described(config)
    if model is None:
        return []
    if not config.get("use_peft"):
        message = f"All {model.total:,} parameters would be trained: use_peft is off, so there is no LoRA."
        return [Finding(CHECK, "error", message, mend=Mend("turn LoRA on", {"use_peft": True}))]
    trainable, total = model.trainable, model.total
    if model.problem:
        return []  # the coverage says why there are no adapters
    if not trainable:
        return [Finding(CHECK, "error", f"0 of {total:,} parameters = 0 %: nothing would be trained.")]
    share = 100 * trainable / total
    parts = model.trained or {}
    split = ", ".join(f"{kind} {count:,}" for kind, count in parts.items()) if len(parts) > 1 else ""
    message = f"{trainable:,} of {total:,} = {share:.4f} %"
    if trainable == total:
        return [Finding(CHECK, "error", f"{message}: everything would be trained.", split)]
    largest = max(parts, key=lambda kind: parts[kind])
    if largest != "LoRA" and len(parts) > 1:
        message += f", most of it {largest}"
    return [Finding(CHECK, "ok", f"{message}.", split)]
