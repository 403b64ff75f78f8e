"""LoRA adapters: which weights one has, how it is saved, how it is merged into its base.

Owns the use of peft. An adapter holds two small matrices for every linear layer of the encoder and the
whole of every module that the base does not have (the head), so that base + adapter is the fine-tuned model and
nothing else is needed.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finetune.errors import BaseModelError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from finetune.base import Base
    from finetune.recipe import Recipe

WEIGHTS_FILE = "adapter_model.safetensors"
CONFIG_FILE = "adapter_config.json"

# The update is scaled by alpha / rank. Twice the rank is the customary choice.
_ALPHA_PER_RANK = 2


def wrap(base: Base, recipe: Recipe) -> Any:
    """The base's model with a fresh adapter on every linear layer of its encoder; only the adapter will be trained."""
    from peft import LoraConfig, TaskType, get_peft_model

    config = LoraConfig(
        task_type=TaskType.SEQ_CLS,
        r=recipe.lora_rank,
        lora_alpha=_ALPHA_PER_RANK * recipe.lora_rank,
        lora_dropout=recipe.lora_dropout,
        target_modules=_linear_layers(base),
        modules_to_save=list(base.new_modules),
    )
    return get_peft_model(base.model, config)


def save(model: Any, folder: Path, *, base_name: str) -> None:
    """Saves the adapter alone, naming its base ``base_name``: a path of this machine would mean nothing elsewhere."""
    model.save_pretrained(folder)
    (folder / "README.md").unlink(missing_ok=True)  # peft's is a form to fill in; `finetune.card` writes one
    path = folder / CONFIG_FILE
    config = json.loads(path.read_text(encoding="utf-8"))
    config["base_model_name_or_path"] = base_name
    for name in ("target_modules", "modules_to_save"):
        config[name] = sorted(set(config[name]))  # peft's order is that of a set, and it repeats itself
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def merge(model: PreTrainedModel, folder: Path) -> PreTrainedModel:
    """``model`` with the adapter of ``folder`` added into its own weights.

    Raises:
        BaseModelError: the adapter is not there, or does not fit ``model``.
    """
    from peft import PeftModel
    from safetensors import SafetensorError

    if not (folder / WEIGHTS_FILE).is_file():
        raise BaseModelError(f"no adapter in {folder}: expected {CONFIG_FILE} and {WEIGHTS_FILE}")
    try:
        adapted = PeftModel.from_pretrained(model, str(folder))
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as exc:
        raise BaseModelError(
            f"the adapter in {folder} does not fit its base: {' '.join(str(exc).split())[:300]}"
        ) from exc
    return merge_loaded(adapted)


def merge_loaded(adapted: Any) -> PreTrainedModel:
    """The plain model inside ``adapted``, with the adapter added into its weights; ``adapted`` is used up."""
    return adapted.merge_and_unload(safe_merge=True)


def _linear_layers(base: Base) -> list[str]:
    import torch

    return sorted(
        name
        for name, module in base.model.named_modules()
        if isinstance(module, torch.nn.Linear)
        and not any(name == new or name.startswith(f"{new}.") for new in base.new_modules)
    )
