"""What a drill serves, and asks."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from safetensors.numpy import load_file, save_file

from bench.compare.workload import work
from bench.models import MODELS, export_again, exported, read_config, write_config

FREE_PORTS = ("--http-port", "0", "--grpc-port", "0", "--metrics-port", "0")
PRECISION = "int8"
WEIGHTS = "model.safetensors"


@dataclass(frozen=True)
class Served:
    """A model of `bench.models`, in INT8, its cache of answers off.

    Attributes:
        key: of `MODELS`.
        source: its repository.
        texts: sentences and reviews.
    """

    key: str
    source: Path
    texts: Sequence[str]

    @classmethod
    def of(cls, key: str) -> Served:
        """Exports it, once."""
        return cls(key, exported(key, (PRECISION,), serve=PRECISION), work(key).workload.texts)

    @property
    def model(self) -> str:
        """The text model."""
        return MODELS[self.key].text_model

    @property
    def tensor_model(self) -> str:
        """The one behind it."""
        return f"{self.model}_{PRECISION}"

    @property
    def max_tokens(self) -> int:
        """Most tokens of an execution."""
        return int(read_config(self.source, self.model).parameters["max_tokens"].string_value)

    def repository(self, folder: Path, parameters: Mapping[str, str]) -> Path:
        """A copy in ``folder`` with other parameters of the text model."""
        shutil.copytree(self.source, folder, symlinks=True)
        config = read_config(folder, self.model)
        for name, value in parameters.items():
            config.parameters[name].string_value = value
        write_config(folder, self.model, config)
        return folder

    def export_again(self, repository: Path, bias: float) -> None:
        """Adds the next version to ``repository``: of the same checkpoint, ``bias`` added to the last label's logit."""
        with tempfile.TemporaryDirectory() as folder:
            checkpoint = shutil.copytree(MODELS[self.key].checkpoint(), Path(folder) / "checkpoint")
            weights = load_file(checkpoint / WEIGHTS)
            weights["classifier.bias"][-1] += bias
            save_file(weights, checkpoint / WEIGHTS, metadata={"format": "pt"})
            export_again(self.key, checkpoint, repository, PRECISION)

    def __str__(self) -> str:
        return f"{MODELS[self.key].description}, {PRECISION.upper()}"
