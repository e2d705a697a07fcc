"""How much memory the run will take, part by part, as a band."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from lorabench.runs.device import Device, read_capability, read_device
from lorabench.text import human_bytes
from lorabench.training.config.field import ConfigError
from lorabench.training.config.precision import four_bit_dtype
from lorabench.training.preflight.activations import Pass
from lorabench.training.preflight.finding import Finding, Level, Mend
from lorabench.training.preflight.meta_model import MetaModel, buildable, meta_model
from lorabench.training.preflight.model_source import ModelNotFound
from lorabench.training.preflight.precision import effective_precision
from lorabench.training.preflight.steps import adapter_width, optimizer_bytes
from lorabench.training.preflight.trace import activations, traced

if TYPE_CHECKING:
    from peft import LoraConfig
    from transformers import PretrainedConfig

    from lorabench.training.config.run_config import RunConfig

CHECK = "memory"
Band = tuple[float, float]
_WIDTHS = {"float32": 4, "float16": 2, "bfloat16": 2}
# TRL 1.16's fused head scores tiles of this many tokens and words (trl.kernels.chunked_logprob).
_TILE = (4096, 32768)
_CONTEXT_GPU = (0.4e9, 1.3e9)
_CONTEXT_CPU = (0.5e9, 1.0e9)


@dataclass(frozen=True, slots=True)
class Setting:
    """What of a configuration decides its memory; `optimizer` is bytes of state for a trained parameter."""

    batch: int
    length: int
    packed: bool
    dtype: str
    autocast: str | None
    bits: int
    nested: bool
    checkpointing: bool
    attention: str | None
    adapter: int
    optimizer: float
    paged: bool
    gpu: bool
    flash: bool = True

    @property
    def run(self) -> Pass:
        """The micro-batch as the model sees it; packed rows are joined to one."""
        batch, length = (1, self.batch * self.length) if self.packed else (self.batch, self.length)
        dtype = (self.autocast or self.dtype) if self.bits < 16 else self.dtype
        # As build.train_in_float32 and SFTTrainer, for a quantized model, do.
        trained = "bfloat16" if self.adapter == 2 else "float32" if self.autocast == "float16" else None
        return Pass(
            batch,
            length,
            dtype,
            self.autocast,
            self.attention,
            trained,
            gpu=self.gpu,
            flash=self.flash,
            int8=self.bits == 8,
        )


def memory_findings(
    config: RunConfig, *, longest: int | None = None, device: Device | None = None
) -> list[Finding]:
    """Say how much memory the run takes, from the least to the most, against what the device has free.

    `longest` is the longest row in tokens, where the data are known; rows are padded no further than that.
    """
    try:
        source = buildable(config)
        lora = config.peft_config()
    except (ModelNotFound, ConfigError):
        return []  # other checks say so
    model = meta_model(source.config, lora)
    if lora is None or not model.trainable:
        return []
    device = device or read_device()
    setting = setting_of(config, source.config, longest)
    parts = estimate(source.config, lora, model, setting)
    low, high = total(parts)
    savings = []
    for mend, other in _alternatives(config, setting):
        saved = high - total(estimate(source.config, lora, model, other))[1]
        if saved > 0.02 * high:
            savings.append((saved, mend))
    savings.sort(key=lambda pair: -pair[0])
    finding = _finding(parts, (low, high), savings, device, setting)
    least, most = traced(source.config, lora, model, setting.run)
    if least is not most:
        formula = "activations by a formula: this model's forward pass cannot be followed without weights"
        finding = replace(finding, detail=f"{finding.detail}\n{formula}")
    return [finding]


def setting_of(config: RunConfig, model: PretrainedConfig, longest: int | None = None) -> Setting:
    """Read from a configuration what decides its memory."""
    capability = read_capability()
    gpu = capability is not None and not config.get("use_cpu")
    precision = effective_precision(config, capability)
    autocast = {"bf16": "bfloat16", "fp16": "float16"}.get(precision.name)
    dtype = str(config.get("dtype"))
    if dtype not in _WIDTHS:
        dtype = str(model.dtype).removeprefix("torch.") if model.dtype else "float32"
    limit = config.get("max_length") or model.get_text_config().max_position_embeddings
    length = int(limit) if longest is None or config.get("packing") else min(int(limit), longest)
    width = 4 if precision.fp16 else adapter_width(config)  # as build.train_in_float32 makes it
    return Setting(
        batch=int(config.get("per_device_train_batch_size")),
        length=length,
        packed=bool(config.get("packing") or config.get("padding_free")),
        dtype=dtype if dtype in _WIDTHS else "float32",
        autocast=autocast if autocast != dtype or width == 4 else None,
        bits=4 if config.get("load_in_4bit") else 8 if config.get("load_in_8bit") else 16,
        nested=bool(config.get("use_bnb_nested_quant")),
        checkpointing=bool(config.get("gradient_checkpointing")),
        attention=config.get("attn_implementation") if config.get("attn_implementation") == "eager" else None,
        adapter=width,
        optimizer=optimizer_bytes(config, width),
        paged="paged" in str(config.get("optim")),
        gpu=gpu,
        flash=capability is not None and capability >= (8, 0),
    )


def estimate(
    config: PretrainedConfig, lora: LoraConfig | None, model: MetaModel, setting: Setting
) -> Mapping[str, Band]:
    """Return for each part its least and most bytes.

    - weights: their width by dtype. NF4 takes half a byte and 4 bytes of scale for 64 (Dettmers et al. 2023,
      "QLoRA", https://arxiv.org/abs/2305.14314: 0.5 bits a parameter, 0.127 with nested quantization);
      LLM.int8 one byte. Embeddings, norms and the head are not quantized, nor a mixture's experts.
    - adapter, gradients: a gradient of the same width for each trained parameter.
    - optimizer: see `steps.optimizer_bytes`; a paged one may lie in the host's memory altogether.
    - activations: counted on fake tensors (trace.py). The backward pass adds gradients of what it goes
      through: at the most as much as the largest layer keeps.
    - logits: see `_logits`.
    - overhead: the CUDA context and its kernels ("Model training anatomy",
      https://huggingface.co/docs/transformers/model_memory_anatomy: 1.3 GB on an old V100), or Python and its
      libraries; and at the most a tenth of all for what the allocator cannot use.
    """
    trainable = model.trainable
    adapter = float(trainable * setting.adapter)
    optimizer = trainable * setting.optimizer
    base = weight_bytes(model, setting)
    least, most = activations(config, lora, model, setting.run)
    kept = least.kept(setting.checkpointing), most.kept(setting.checkpointing) + most.largest_layer
    parts: dict[str, Band] = {
        "weights": (base, base),
        "adapter": (adapter, adapter),
        "gradients": (adapter, adapter),
        "optimizer": (0.0 if setting.paged else optimizer, optimizer),
        "activations": kept,
        "logits": _logits(config, setting),
    }
    low, high = _CONTEXT_GPU if setting.gpu else _CONTEXT_CPU
    parts["overhead"] = low, high + 0.1 * total(parts)[1]
    return parts


def _logits(config: PretrainedConfig, setting: Setting) -> Band:
    """Bytes for the loss, which SFTTrainer 1.16 computes in tiles (trl.kernels.chunked_logprob).

    It scores up to 4,096 tokens at a time in one buffer of 32,768 words, however small the vocabulary, and
    keeps the hidden states' gradient in float32. Triton works in the buffer itself, and on the trained
    tokens alone, which may be few; without a GPU five tiles in float32 stand beside it.
    """
    text = config.get_text_config()
    tokens = setting.batch * setting.length
    width = _WIDTHS[setting.autocast or setting.dtype]
    buffer = min(tokens, _TILE[0]) * _TILE[1] * width
    tiles = min(tokens, _TILE[0]) * min(int(text.vocab_size), _TILE[1]) * 4 * 5
    gradient = tokens * int(text.hidden_size) * 4
    return (0.0, buffer + gradient) if setting.gpu else (float(buffer), buffer + tiles + gradient)


def weight_bytes(model: MetaModel, setting: Setting) -> float:
    """Bytes of the base model's weights as they are loaded."""
    width = _WIDTHS[setting.dtype]
    each = {4: 0.5 + (0.127 if setting.nested else 0.5) / 8, 8: 1.0}.get(setting.bits, float(width))
    head = model.output_embeddings
    quantized = sum(
        weight.size
        for name, weight in model.weights.items()
        if weight.owner == "Linear" and len(weight.shape) == 2 and name.rpartition(".")[0] != head
    )
    whole = sum(weight.size for weight in model.weights.values()) - quantized
    return quantized * each + whole * width


def total(parts: Mapping[str, Band]) -> Band:
    """Add up the parts."""
    return sum(low for low, _ in parts.values()), sum(high for _, high in parts.values())


def _alternatives(config: RunConfig, setting: Setting) -> list[tuple[Mend, Setting]]:
    """The changes that could make a run fit, each alone; all but the last two leave the result as it is."""
    found = []
    if not setting.checkpointing:
        found.append(
            (Mend("checkpointing", {"gradient_checkpointing": True}), replace(setting, checkpointing=True))
        )
    if setting.batch > 1:
        half = setting.batch // 2
        more = int(config.get("gradient_accumulation_steps")) * setting.batch // half
        changes = {"per_device_train_batch_size": half, "gradient_accumulation_steps": more}
        found.append((Mend(f"batch {half} × {more}", changes), replace(setting, batch=half)))
    if setting.dtype == "float32" and setting.bits == 16 and setting.autocast:
        found.append(
            (
                Mend(f"dtype {setting.autocast}", {"dtype": setting.autocast}),
                replace(setting, dtype=setting.autocast),
            )
        )
    if setting.length > 512:
        half = setting.length // 2
        found.append((Mend(f"max_length {half:,}", {"max_length": half}), replace(setting, length=half)))
    if setting.bits > 4 and setting.gpu:
        dtype, width = four_bit_dtype(read_capability()), 4 if setting.autocast == "float16" else 2
        optimizer = setting.optimizer / setting.adapter * width
        four = replace(setting, bits=4, dtype=dtype, adapter=width, optimizer=optimizer)
        to_four: dict[str, object] = {"load_in_4bit": True, "load_in_8bit": False, "dtype": dtype}
        found.append((Mend("4 bits", to_four), four))
    return found


def _finding(
    parts: Mapping[str, Band], band: Band, savings: list[tuple[float, Mend]], device: Device, setting: Setting
) -> Finding:
    low, high = band
    free = None if device.total is None else device.total - (device.used or 0)
    level: Level = "ok" if free is None or high <= free else "error" if low > free else "warning"
    room = f" of {human_bytes(free)} free" if free is not None else ""
    message = f"{_band(band)}{room}"
    if level == "error":
        message += ": it does not fit"
    elif level == "warning":
        message += ": it may not fit"
    mend = None
    if savings:
        # The least of the changes that suffice, else the one that saves most.
        enough = [pair for pair in savings if free is not None and high - pair[0] <= free]
        saved, mend = enough[-1] if enough and level != "ok" else savings[0]
        message += f"; {mend.label} would save {human_bytes(saved)}"
    lines = [f"{name}: {_band(part)}" for name, part in parts.items()]
    lines += [f"{each.label} would save {human_bytes(saved)}" for saved, each in savings]
    lines.append(f"for batches of {setting.batch} × {setting.length:,} tokens on {device.name}")
    return Finding(CHECK, level, f"{message}.", "\n".join(lines), mend if level != "ok" else None)


def _band(band: Band) -> str:
    low, high = human_bytes(band[0]), human_bytes(band[1])
    if low == high:
        return low
    if low.split(" ")[1] == high.split(" ")[1]:
        return f"{low.split(' ')[0]}–{high}"
    return f"{low}–{high}"
