"""OpenVINO itself, without its telemetry. Every module here imports it from this one."""

from __future__ import annotations

import sys

# `import openvino` imports its converter, openvino.tools.ovc, which sends a usage event over the network and writes to
# ~/intel, unless a file there says no. It does without the converter, and the converter without openvino_telemetry.
for _name in ("openvino_telemetry", "openvino.tools.ovc"):
    sys.modules.setdefault(_name, None)  # type: ignore[arg-type]

try:
    import openvino
except ImportError as error:
    raise ImportError(
        f"backend openvino needs the Python package openvino ({error}); install it with "
        "`python -m pip install -c constraints.txt openvino`, or use NVIDIA's container, which has its own"
    ) from error

__all__ = ["openvino"]
