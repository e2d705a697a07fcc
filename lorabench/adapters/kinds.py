"""Adapters that are not LoRA, and what each is: their update is no s·B·A, so no number of ours applies."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from lorabench.errors import NotLora
from lorabench.text import shorten, visible

# By PEFT's own names of its types (peft.PeftType of 0.21, and BONE of before).
_KINDS: Mapping[str, str] = {
    "ADALORA": "AdaLoRA, which learns a singular value for each direction (ΔW = B·diag(E)·A)",
    "ADAMSS": "AdaMSS, which adapts segments of the base weight's subspaces",
    "ADAPTION_PROMPT": "adaption prompts (LLaMA-Adapter), which are learned tokens in the attention",
    "BEFT": "BEFT, which learns biases",
    "BOFT": "BOFT, which multiplies the base weight by butterfly rotations",
    "BONE": "Bone, which adds blocks shared along the base weight",
    "C3A": "C3A, which adds block-circular convolutions",
    "CARTRIDGE": "a cartridge, which is a learned key-value cache",
    "CPT": "context-aware prompt tuning, which learns tokens",
    "DEFT": "DEFT, which projects parts of the base weight away",
    "DELORA": "DeLoRA, which normalises its factors",
    "FOURIERFT": "FourierFT, which learns coefficients of a Fourier transform",
    "FROD": "FROD, which shares its bases between the layers",
    "GLORA": "GLoRA, which scales and shifts weights and activations",
    "GRALORA": "GraLoRA, which has a pair of factors for each block of the weight",
    "HIRA": "HiRA, whose update is W ∘ (B·A)",
    "HRA": "HRA, which reflects the base weight (Householder)",
    "IA3": "IA³, which scales activations by learned vectors",
    "LILY": "Lily, which shares factors between the layers",
    "LN_TUNING": "layer-norm tuning, which trains the norms themselves",
    "LOHA": "LoHa, whose update is a Hadamard product of two low-rank ones",
    "LOKR": "LoKr, whose update is a Kronecker product",
    "MISS": "MiSS, which adds one matrix shared along the base weight",
    "MULTITASK_PROMPT_TUNING": "multitask prompt tuning, which learns tokens",
    "OFT": "OFT, which rotates the base weight",
    "OSF": "OSF, which trains within the base weight's singular subspaces",
    "P_TUNING": "p-tuning, which learns an encoder of prompt tokens",
    "PEANUT": "PEANuT, whose update is a small neural network of the base weight",
    "POLY": "Poly, which mixes an inventory of skills",
    "PREFIX_TUNING": "prefix tuning, which learns keys and values before the text",
    "PROMPT_TUNING": "prompt tuning, which learns tokens before the text",
    "PSOFT": "PSOFT, which rotates the base weight in a principal subspace",
    "PVERA": "PVeRA, which scales frozen random factors by learned vectors",
    "RANDLORA": "RandLoRA, which combines frozen random factors",
    "ROAD": "RoAd, which rotates pairs of activations",
    "SHADOW": "a shadow model, which runs beside the base model",
    "SHIRA": "SHiRA, which trains a sparse set of the base weights",
    "SUPERTUNING": "SuperTuning, which trains a selection of the base weights",
    "TINYLORA": "TinyLoRA, which learns a handful of numbers through frozen factors",
    "TRAINABLE_TOKENS": "trainable tokens, which are rows of the embedding",
    "UNILORA": "Uni-LoRA, which projects one learned vector into all factors",
    "VBLORA": "VB-LoRA, which composes its factors from a shared bank of vectors",
    "VERA": "VeRA, which scales frozen random factors by learned vectors",
    "WAVEFT": "WaveFT, which learns wavelet coefficients",
    "XLORA": "X-LoRA, which mixes several LoRA adapters by a learned gate",
}
# A piece of a tensor's name that only this kind has; PEFT's prefixes, and LyCORIS's, which are the same.
_MARKS: Mapping[str, str] = {
    "lora_E": "ADALORA", "adamss_": "ADAMSS", "adaption_prompt": "ADAPTION_PROMPT", "beft_": "BEFT",
    "boft_": "BOFT", "bone_": "BONE", "c3a_": "C3A", "deft_": "DEFT", "delora_": "DELORA",
    "fourierft_": "FOURIERFT", "frod_": "FROD", "glora_": "GLORA", "gralora_": "GRALORA", "hira_": "HIRA",
    "hra_": "HRA", "ia3_": "IA3", "lily_": "LILY", "ln_tuning_": "LN_TUNING", "hada_": "LOHA",
    "lokr_": "LOKR", "miss_": "MISS", "oft_": "OFT", "osf_": "OSF", "peanut_": "PEANUT", "poly_": "POLY",
    "prompt_embeddings": "PROMPT_TUNING", "psoft_": "PSOFT", "pvera_lambda_": "PVERA",
    "randlora_": "RANDLORA", "road_": "ROAD", "shira_": "SHIRA", "supertuning_": "SUPERTUNING",
    "tinylora_": "TINYLORA", "trainable_tokens_": "TRAINABLE_TOKENS", "unilora_": "UNILORA",
    "vblora_": "VBLORA", "vera_lambda_": "VERA", "waveft_": "WAVEFT", "xlora_": "XLORA",
}  # fmt: skip


def check_peft_type(config: Mapping[str, Any], label: str) -> None:
    """Raise NotLora where the configuration says that this is an adapter of another kind."""
    declared = config.get("peft_type")
    if declared is None or str(getattr(declared, "value", declared)).upper() == "LORA":
        return
    raise not_lora(label, str(getattr(declared, "value", declared)).upper())


def check_tensor_names(names: Iterable[str], label: str) -> None:
    """Raise NotLora where the tensors' names tell an adapter of another kind."""
    for name in names:
        for part in name.split("."):
            mark = next((mark for mark in _MARKS if part.startswith(mark)), None)
            if mark:
                raise not_lora(label, _MARKS[mark])


def not_lora(label: str, peft_type: str) -> NotLora:
    """Say in a sentence what an adapter of this PEFT type is."""
    what = _KINDS.get(peft_type, f"an adapter of PEFT type {shorten(visible(peft_type), 40)}")
    return NotLora(
        f"{label} is not LoRA: it holds {what}.", "lorabench shows adapters whose update is s·B·A."
    )
