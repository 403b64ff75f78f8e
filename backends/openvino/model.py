"""The file Triton imports; what it does is in ``triton_model.py``.

Triton appends this folder to the *end* of ``sys.path`` and imports this file as the top-level module
``model``, so a plain ``import graph`` here would find somebody else's ``graph`` in site-packages
first. The folder is therefore made a package under a name of its own, and its modules import one
another relatively.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path

PACKAGE = "openvino_stand_in"


def _import_sibling(name: str) -> object:
    folder = Path(__file__).resolve().parent
    if PACKAGE not in sys.modules:
        spec = importlib.util.spec_from_file_location(
            PACKAGE, folder / "__init__.py", submodule_search_locations=[str(folder)]
        )
        if spec is None or spec.loader is None:
            raise ImportError(f"cannot import {folder / '__init__.py'}: the backend folder is incomplete")
        package = importlib.util.module_from_spec(spec)
        sys.modules[PACKAGE] = package
        spec.loader.exec_module(package)
    return importlib.import_module(f"{PACKAGE}.{name}")


TritonPythonModel = _import_sibling("triton_model").TritonPythonModel  # type: ignore[attr-defined]
