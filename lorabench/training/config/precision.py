"""Choose the arithmetic of a run from the GPU at hand.

TRL turns bf16 on unless told otherwise. That fails without a GPU, and on a V100 or T4 it is emulated and
slow (`torch.cuda.is_bf16_supported` says yes there). So `auto` is ours: it stands in run.yaml as
`precision: auto` under `env: LORABENCH:`, beside `bf16: false`. lorabench chooses when it trains; `trl sft`,
which cannot choose, takes the same file unchanged and computes in fp32, on any machine.
"""

from __future__ import annotations

from typing import NamedTuple


class Precision(NamedTuple):
    """What the trainer is told, and why, as a sentence for the screen."""

    bf16: bool
    fp16: bool
    reason: str

    @property
    def name(self) -> str:
        return "bf16" if self.bf16 else "fp16" if self.fp16 else "fp32"


def choose_precision(capability: tuple[int, int] | None, wanted: str = "auto") -> Precision:
    """Return how to compute on a GPU of this CUDA compute capability; None is the CPU.

    `wanted` is `auto`, or what the file asks for: `bf16`, `fp16` or `fp32`. bf16 units came with Ampere
    (8.0), fp16 tensor cores with Volta (7.0); most GPUs before that compute fp16 slower than fp32, or not at
    all (CUDA C++ Programming Guide, "Arithmetic Instructions").
    """
    if wanted != "auto":
        return Precision(wanted == "bf16", wanted == "fp16", f"{wanted}, as the file says.")
    if capability is None:
        return Precision(False, False, "fp32: there is no GPU, and CPUs are slow in 16 bits.")
    version = f"{capability[0]}.{capability[1]}"
    if capability >= (8, 0):
        return Precision(True, False, f"bf16: this GPU has it (compute capability {version} ≥ 8.0).")
    if capability >= (7, 0):
        return Precision(False, True, f"fp16: this GPU has no bf16 (compute capability {version} < 8.0).")
    return Precision(
        False,
        False,
        f"fp32: this GPU is too old for fp16 (compute capability {version} < 7.0).",
    )


def four_bit_dtype(capability: tuple[int, int] | None) -> str:
    """Return the `dtype` for a model in 4 bits: TRL 1.16 multiplies its weights in it, and takes no `auto`.

    Without a GPU it is that of the GPUs of today.
    """
    return "bfloat16" if capability is None or capability >= (8, 0) else "float16"
