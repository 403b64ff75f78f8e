"""Which versions were rolled back from: a restart must not serve them again.

<folder>/withdrawn.json    {model: [versions]}
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from server.errors import ControlError

WITHDRAWN_FILE = "withdrawn.json"


def read_withdrawn(folder: Path) -> dict[str, set[int]]:
    """The versions, by model, that were rolled back from.

    Raises:
        ControlError: they cannot be read. Served again by mistake they would do what they were rolled back for.
    """
    path = folder / WITHDRAWN_FILE
    try:
        written = json.loads(path.read_text(encoding="utf-8"))
        return {str(model): {int(version) for version in versions} for model, versions in written.items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, AttributeError) as exc:
        raise ControlError(f"{path} cannot be read: {exc}; correct it, or remove it to serve every version") from exc


def write_withdrawn(folder: Path, withdrawn: Mapping[str, Iterable[int]]) -> None:
    """Keeps what `read_withdrawn` reads, as one step.

    Raises:
        ControlError: it cannot be written.
    """
    path = folder / WITHDRAWN_FILE
    text = json.dumps({model: sorted(versions) for model, versions in sorted(withdrawn.items()) if versions}, indent=1)
    draft = path.with_suffix(".draft")
    try:
        with draft.open("w", encoding="utf-8") as file:
            file.write(text + "\n")
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except OSError as exc:
        raise ControlError(f"{path} cannot be written: {exc}; nothing was changed") from exc
