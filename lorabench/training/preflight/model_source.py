"""Find a base model's config.json: in a folder, in the Hugging Face cache, or on the hub."""

from __future__ import annotations

import os
import socket
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast
from urllib.parse import urlsplit

from lorabench.adapters.config import mapping
from lorabench.errors import LorabenchError
from lorabench.files import at_home, is_file, is_folder, is_there, read_plain
from lorabench.json_text import parse_json
from lorabench.text import visible

if TYPE_CHECKING:
    from transformers import PretrainedConfig

    from lorabench.training.config.run_config import RunConfig

REACHED_WITHIN = 0.6  # seconds that the hub has to answer, so that being offline is said within one
_ANSWERED_WITHIN = 5.0
_LARGEST = 16_000_000  # bytes of a config.json
_MOST = 10_000  # layers, or experts in each


class ModelNotFound(LorabenchError):
    """A base model whose config.json is not here, or cannot be used."""


@dataclass(frozen=True, slots=True)
class ModelSource:
    """Where a base model is, and its configuration; `folder` holds config.json."""

    name: str
    place: Literal["folder", "cache", "hub"]
    folder: Path
    config: PretrainedConfig


def find_model(name: str, revision: str = "main") -> ModelSource:
    """Find a base model by TRL's `model_name_or_path` and read its configuration, no weights.

    A folder of that name comes first, as in transformers; then the cache; then, unless HF_HUB_OFFLINE is
    set, the hub, which has to answer within 0.6 seconds. Python code that comes with a model is not run,
    whatever trust_remote_code says: who opens a configuration has not decided yet to train it.

    Raises:
        ModelNotFound: nothing of that name; an adapter instead of a model; an architecture that the
            installed transformers does not know, or that is such code; one of absurd size.
    """
    place, folder = _locate(name, revision)
    return ModelSource(name, place, folder, _read_config(name, folder))


def source_of(config: RunConfig) -> ModelSource:
    """Find the base model of a run.

    Raises:
        ModelNotFound: as `find_model`, or because the configuration names none.
    """
    name = config.get("model_name_or_path")
    if not name:
        raise ModelNotFound(
            "model_name_or_path is not set: there is no base model.", "Name a folder, or a model on the hub."
        )
    return find_model(str(name), str(config.get("model_revision")))


def _locate(name: str, revision: str) -> tuple[Literal["folder", "cache", "hub"], Path]:
    from huggingface_hub import constants, hf_hub_download, try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    path = at_home(name)
    if is_folder(path):
        return "folder", path
    if is_there(path):
        raise ModelNotFound(f"{visible(name)} is a file, not a model's folder.")
    try:
        cached = try_to_load_from_cache(name, "config.json", revision=revision)
    except HFValidationError:
        raise ModelNotFound(
            f"There is no folder {visible(name)}.", "Give a model's folder, or its name on the hub."
        ) from None
    if isinstance(cached, str):
        return "cache", Path(cached).parent
    hint = "Give a local folder, or load it once while online."
    if constants.HF_HUB_OFFLINE:
        raise ModelNotFound(
            f"{visible(name)} is no folder and not in the cache; HF_HUB_OFFLINE is set.", hint
        )
    if not _hub_answers(constants.ENDPOINT):
        raise ModelNotFound(
            f"{visible(name)} is no folder and not in the cache, and the hub cannot be reached.", hint
        )
    try:
        fetched = hf_hub_download(name, "config.json", revision=revision, etag_timeout=_ANSWERED_WITHIN)
    except (OSError, ValueError) as error:
        raise ModelNotFound(
            f"{visible(name)} cannot be had from the hub: {_first_line(error)}", hint
        ) from error
    return "hub", Path(fetched).parent


def _hub_answers(endpoint: str) -> bool:
    """Tell within 0.6 seconds whether the hub can be reached; a name server may keep one waiting for long."""
    if any(os.environ.get(name) for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")):
        return True
    address = urlsplit(endpoint)
    port = address.port or (80 if address.scheme == "http" else 443)
    answered = threading.Event()

    def knock() -> None:
        try:
            socket.create_connection((address.hostname or "", port), timeout=REACHED_WITHIN).close()
        except OSError:
            return
        answered.set()

    knocking = threading.Thread(target=knock, daemon=True)
    knocking.start()
    knocking.join(REACHED_WITHIN)
    return answered.is_set()


def _read_config(name: str, folder: Path) -> PretrainedConfig:
    from transformers import AutoConfig

    if not is_file(folder / "config.json"):
        if is_file(folder / "adapter_config.json"):
            raise ModelNotFound(
                f"{visible(name)} holds an adapter, not a base model.",
                "Name the base model here; resume_from_checkpoint goes on from a checkpoint.",
            )
        raise ModelNotFound(f"{visible(name)} has no config.json.", "Is it a model in transformers' format?")
    try:
        told = parse_json(read_plain(folder / "config.json", _LARGEST))
        _check_size(told)
        _check_architectures(mapping(told).get("architectures"))
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    except Exception as error:
        # transformers 5 checks few of the values, and computes with the others: anything may be raised.
        if "trust_remote_code" in str(error):
            raise own_code(name) from error
        raise unusable(name, error) from error
    return cast("PretrainedConfig", config)


def _check_size(config: object) -> None:
    """Refuse what would take hours to be built, even without weights."""
    for field, value in mapping(config).items():
        if isinstance(value, int) and value > _MOST and ("layers" in field or "experts" in field):
            raise ValueError(f"{visible(field)} is more than {_MOST:,}")
        _check_size(value)


def _check_architectures(names: object) -> None:
    if names is not None and not (isinstance(names, list) and all(isinstance(name, str) for name in names)):
        raise ValueError("architectures has to be a list of class names")


def unusable(name: str, error: Exception) -> ModelNotFound:
    """Say that transformers can make no model of a config.json, and why."""
    why = _first_line(error)
    if not isinstance(error, OSError | ValueError | RuntimeError):
        why = f"{type(error).__name__}: {why}"
    return ModelNotFound(f"The config.json of {visible(name)} cannot be used: {why}")


def own_code(name: str) -> ModelNotFound:
    """Say why a model that needs its own code is not looked into."""
    return ModelNotFound(
        f"{visible(name)} comes with Python code of its own, which is not run to check a configuration.",
        "lorabench train --override runs it where trust_remote_code is true: for code that you trust only.",
    )


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return visible(lines[0] if lines else type(error).__name__)
