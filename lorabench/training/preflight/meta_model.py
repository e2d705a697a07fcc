"""Build the base model and its adapters on PyTorch's meta device: names and shapes, no weights."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from lorabench.text import visible
from lorabench.training.config.field import ConfigError
from lorabench.training.preflight.finding import Finding
from lorabench.training.preflight.model_source import ModelNotFound, ModelSource, source_of, unusable
from lorabench.training.preflight.patterns import patterns_problem

if TYPE_CHECKING:
    from peft import LoraConfig, PeftModel
    from torch import nn
    from transformers import PretrainedConfig, PreTrainedModel

    from lorabench.training.config.run_config import RunConfig

_KINDS = {"lora_magnitude_vector": "DoRA magnitudes", "modules_to_save": "modules_to_save", "lora_": "LoRA"}


@dataclass(frozen=True, slots=True)
class Weight:
    """A parameter of the base model: its shape, and the class of the module that holds it."""

    shape: tuple[int, ...]
    size: int
    owner: str


@dataclass(frozen=True, slots=True)
class MetaModel:
    """What a base model with its adapters is made of; counts are parameters, a tied one counted once.

    `modules` maps each module's path to its class. `matches` maps each target, as written, to the modules
    that it reaches by PEFT's own matching. `adapted` maps what PEFT did adapt to its rank; `experts` are
    adapted parameters (target_parameters, or what PEFT made of a mixture's targets, which are `fused`).
    `saved` are the modules of modules_to_save. `trained` splits `trainable` by kind. `problem` is what PEFT
    said when it refused, or why it was not `asked`; nothing is adapted then.
    """

    modules: Mapping[str, str]
    weights: Mapping[str, Weight]
    tied: tuple[tuple[str, ...], ...]
    input_embeddings: str | None
    output_embeddings: str | None
    matches: Mapping[str, tuple[str, ...]]
    total: int
    adapted: Mapping[str, int]
    experts: tuple[str, ...] = ()
    fused: tuple[str, ...] = ()
    saved: tuple[str, ...] = ()
    trained: Mapping[str, int] | None = None
    warnings: tuple[str, ...] = ()
    problem: str = ""
    asked: bool = True

    @property
    def trainable(self) -> int:
        """How many parameters get a gradient."""
        return sum((self.trained or {}).values())


def meta_model(config: PretrainedConfig, lora: LoraConfig | None) -> MetaModel:
    """Return the model that `config` describes with the adapters that `lora` asks for; None trains it whole.

    Built once for each pair of configurations: coverage, trainable share and memory all read this.
    For Llama-2-70B it takes about a second and 25 MB.
    """
    settings = None if lora is None else json.dumps(lora.to_dict(), sort_keys=True, default=_plain)  # type: ignore[no-untyped-call]
    return _built(config.to_json_string(use_diff=False), settings, _Held(config, lora))


def described(config: RunConfig) -> MetaModel | None:
    """Return the model that a run would train; None without a base model, which `model_findings` says."""
    try:
        source = buildable(config)
    except ModelNotFound:
        return None
    try:
        lora = config.peft_config()
    except ConfigError as error:
        return _unasked(meta_model(source.config, None), error.message)
    return meta_model(source.config, lora)


def buildable(config: RunConfig) -> ModelSource:
    """Find the base model of a run, and see that it can be built of its config.json.

    Raises:
        ModelNotFound: as `source_of`; or transformers cannot build it, with what it said.
    """
    source = source_of(config)
    try:
        meta_model(source.config, None)
    except Exception as error:
        raise unusable(source.name, error) from error
    return source


def model_findings(config: RunConfig) -> list[Finding]:
    """Say which base model was found and where, or why not."""
    try:
        source = buildable(config)
    except ModelNotFound as error:
        return [Finding("model", "error", error.message, error.hint)]
    where = {"folder": "in its folder", "cache": "in the Hugging Face cache", "hub": "on the hub"}[
        source.place
    ]
    architecture = (source.config.architectures or [type(source.config).__name__])[0]
    layers = getattr(source.config.get_text_config(), "num_hidden_layers", None)
    depth = f", {layers} layers" if layers else ""
    return [Finding("model", "ok", f"{visible(source.name)} {where}: {visible(architecture)}{depth}.")]


def own_modules(config: RunConfig) -> list[str]:
    """List the modules of a model that a training is about to load, by code of its own where that is trusted.

    Raises:
        Exception: whatever such code raises.
    """
    from transformers import AutoConfig

    trust = bool(config.get("trust_remote_code"))
    told = AutoConfig.from_pretrained(
        config.get("model_name_or_path"),
        revision=config.get("model_revision"),
        trust_remote_code=trust,
    )
    return [name for name, _ in base_model(told, trust=trust).named_modules()]


def _unasked(model: MetaModel, problem: str) -> MetaModel:
    return replace(model, trained={}, problem=problem, asked=False)


class _Held:
    """Carry what cannot be hashed past the cache: all of these are equal."""

    def __init__(self, config: PretrainedConfig, lora: LoraConfig | None) -> None:
        self.config, self.lora = config, lora

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Held)

    def __hash__(self) -> int:
        return 0


def _plain(value: object) -> object:
    return sorted(value) if isinstance(value, set | frozenset) else str(value)


@lru_cache(maxsize=8)
def _built(_config: str, _lora: str | None, held: _Held) -> MetaModel:
    from peft.utils.other import ModulesToSaveWrapper

    model = base_model(held.config)
    if held.lora is not None:
        problem = patterns_problem(held.lora, [name for name, _ in model.named_modules()])
        if problem:
            return _unasked(_describe(model, None), problem)
    described = _describe(model, held.lora)
    if held.lora is None:
        return replace(described, trained={"the whole model": described.total})
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            adapted = inject(model, held.lora)
        except (ValueError, TypeError, NotImplementedError, KeyError, AttributeError) as error:
            return replace(described, problem=visible(error))
    tuner: Any = adapted.base_model
    layers: dict[str, Any] = dict(model.named_modules())
    ranks = {name: int(layers[name].r["default"]) for name in tuner.targeted_module_names}
    experts = tuple(getattr(tuner, "targeted_parameter_names", ()))
    trained: dict[str, int] = {}
    for name, parameter in adapted.named_parameters():
        if parameter.requires_grad:
            kind = next((kind for mark, kind in _KINDS.items() if mark in name), "biases and others")
            trained[kind] = trained.get(kind, 0) + parameter.numel()
    told = [str(each.message) for each in caught if issubclass(each.category, UserWarning | RuntimeWarning)]
    return replace(
        described,
        total=adapted.get_nb_trainable_parameters()[1],
        adapted=ranks,
        experts=experts,
        fused=_fused(held.lora, adapted.peft_config["default"]) if experts else (),
        saved=tuple(name for name, layer in layers.items() if isinstance(layer, ModulesToSaveWrapper)),
        trained=trained,
        warnings=tuple(dict.fromkeys(visible(text) for text in told)),
    )


def base_model(config: PretrainedConfig, dtype: Any = None, *, trust: bool = False) -> PreTrainedModel:
    """Build the model on the meta device, of the class that TRL would load (`config.architectures`).

    `trust` lets code that comes with the model run.
    """
    import torch
    import transformers

    names = config.architectures or []
    architecture: Any = getattr(transformers, names[0], None) if names else None
    if architecture is None:
        architecture = transformers.AutoModelForCausalLM
    with torch.device("meta"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if hasattr(architecture, "_from_config"):
            model: PreTrainedModel = architecture._from_config(config, dtype=dtype)
        else:
            model = architecture.from_config(config, dtype=dtype, trust_remote_code=trust)
    return model


def inject(model: PreTrainedModel, lora: LoraConfig) -> PeftModel:
    """Put adapters into a meta model, as `get_peft_model` does.

    The values that PiSSA, OLoRA, LoftQ and the like start from need weights; their shapes do not.
    """
    import copy

    import torch
    from peft import get_peft_model
    from transformers.initialization import no_init_weights

    mine = copy.deepcopy(lora)  # PEFT writes into it
    mine.init_lora_weights = True
    with torch.device("meta"), no_init_weights():
        return get_peft_model(model, mine)


def _describe(model: PreTrainedModel, lora: LoraConfig | None) -> MetaModel:
    modules: dict[str, Any] = dict(model.named_modules())
    shared: dict[int, list[str]] = {}
    weights: dict[str, Weight] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        if id(parameter) not in shared:
            owner = type(modules[name.rpartition(".")[0]]).__name__
            weights[name] = Weight(tuple(parameter.shape), parameter.numel(), owner)
        shared.setdefault(id(parameter), []).append(name)
    return MetaModel(
        modules={name: type(module).__name__ for name, module in modules.items() if name},
        weights=weights,
        tied=tuple(tuple(names) for names in shared.values() if len(names) > 1),
        input_embeddings=_path_of(modules, model.get_input_embeddings()),
        output_embeddings=_path_of(modules, model.get_output_embeddings()),  # type: ignore[no-untyped-call]
        matches={} if lora is None else _matches(model, lora),
        total=sum(weight.size for weight in weights.values()),
        adapted={},
    )


def _path_of(modules: Mapping[str, nn.Module], wanted: nn.Module | None) -> str | None:
    return next((name for name, module in modules.items() if module is wanted and name), None)


def _matches(model: PreTrainedModel, lora: LoraConfig) -> dict[str, tuple[str, ...]]:
    """Ask PEFT for each target alone which modules it reaches."""
    import copy

    from peft.tuners.tuners_utils import _maybe_include_all_linear_layers, check_target_module_exists

    targets: Any = lora.target_modules
    if targets is None:
        targets = _usual_targets(model.config)
    written = [targets] if isinstance(targets, str) else sorted(targets)
    names = [name for name, _ in model.named_modules() if name]
    found = {}
    for target in written:
        alone: Any = copy.copy(lora)
        alone.target_modules = target if isinstance(targets, str) else {target}
        alone = _maybe_include_all_linear_layers(alone, model)
        # PEFT answers an excluded module with an object that is false but not None: bool() suffices.
        found[target] = tuple(name for name in names if check_target_module_exists(alone, name))
    return found


def _fused(written: LoraConfig, used: Any) -> tuple[str, ...]:
    """Targets of a mixture's single experts, which PEFT moved to the parameters that now hold them all."""
    if isinstance(written.target_modules, str) or isinstance(used.target_modules, str):
        return ()
    return tuple(sorted(set(written.target_modules or ()) - set(used.target_modules or ())))


def _usual_targets(config: PretrainedConfig) -> set[str]:
    from peft.utils import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING

    return set(TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING.get(config.model_type, ()))
