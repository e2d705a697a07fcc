"""In which arithmetic the run will compute here, and whether this device can."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lorabench.runs.device import read_capability
from lorabench.training.config.precision import Precision, choose_precision, four_bit_dtype
from lorabench.training.preflight.finding import Finding, Mend

if TYPE_CHECKING:
    from lorabench.training.config.run_config import RunConfig

CHECK = "precision"
Capability = tuple[int, int]


def precision_findings(
    config: RunConfig, capability: Capability | None = None, *, look: bool = True
) -> list[Finding]:
    """Say the precision with its reason, and what this device cannot do.

    `capability` is the GPU's CUDA compute capability, None for a CPU; with `look` it is read by NVML.
    """
    if look and capability is None:
        capability = read_capability()
    chosen = effective_precision(config, capability)
    findings = [Finding(CHECK, "ok", chosen.reason)]
    if capability is None and not config.get("use_cpu") and config.get("bf16") is not False:
        message = "There is no GPU here: without use_cpu the trainer refuses bf16, and looks for a GPU."
        findings.append(Finding(CHECK, "warning", message, mend=Mend("train on the CPU", {"use_cpu": True})))
    automatic = Mend("let lorabench choose", {"precision": "auto"})
    if capability is None and chosen.fp16:
        findings.append(
            Finding(
                CHECK, "error", "fp16 needs a GPU: its loss scaling does not run on a CPU.", mend=automatic
            )
        )
    elif capability is not None and capability < (8, 0) and chosen.bf16:
        has = f"{capability[0]}.{capability[1]}"
        message = f"bf16 needs compute capability 8.0; this GPU has {has} and emulates it slowly."
        findings.append(Finding(CHECK, "warning", message, mend=automatic))
    quantized = config.get("load_in_4bit") or config.get("load_in_8bit")
    if (chosen.bf16 or chosen.fp16) and config.get("dtype") == "float32" and not quantized:
        name = "bfloat16" if chosen.bf16 else "float16"
        message = (
            f"dtype is float32: the frozen weights take 4 bytes each and are cast to {name} in every product."
        )
        findings.append(Finding(CHECK, "advice", message, mend=Mend(f"load them in {name}", {"dtype": name})))
    emulated = four_bit_dtype(capability) == "float16"
    if config.get("load_in_4bit") and config.get("dtype") == "bfloat16" and emulated:
        message = "dtype is bfloat16, in which 4-bit weights are multiplied: this GPU emulates it slowly."
        findings.append(
            Finding(CHECK, "warning", message, mend=Mend("load them in float16", {"dtype": "float16"}))
        )
    if capability is None and quantized:
        message = "4-bit and 8-bit weights need a GPU to train on in reasonable time."
        mend = Mend("load them whole", {"load_in_4bit": False, "load_in_8bit": False})
        findings.append(Finding(CHECK, "warning", message, mend=mend))
    return findings


def effective_precision(config: RunConfig, capability: Capability | None) -> Precision:
    """Return what the trainer will be told; on `use_cpu` the GPU does not count."""
    return choose_precision(None if config.get("use_cpu") else capability, str(config.get("precision")))
