"""Builds each precision from the fused FP32 graph: a row of `BUILDERS` per precision."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from export import calibration, half, quantize
from export.calibration import Candidate, Measured
from export.data import MIN_CALIBRATION_TEXTS
from export.errors import UsageError
from export.evaluation import TokenisedTexts
from export.gates import LIMITS
from export.manifest import GateResult
from export.progress import Steps
from export.quantize import RECIPES, Recipe
from export.shapes import Shapes

UNCALIBRATED_RECIPE = "per-token"


@dataclass(frozen=True)
class Material:
    """What the precisions are built from.

    Attributes:
        fused: the fused FP32 graph.
        calibration: texts to calibrate INT8 on; None when there are none.
        shapes: awkward shapes, and the checkpoint's logits for those.
        int8_recipe: the recipe to use; None chooses by the calibration text.
        threads: of the sessions that measure.
        steps: where progress is told.
    """

    fused: Path
    calibration: TokenisedTexts | None
    shapes: Shapes
    int8_recipe: str | None
    threads: int
    steps: Steps


def build(precision: str, material: Material, target: Path) -> list[GateResult]:
    """Writes the graph of ``precision`` to ``target``; returns what should be recorded about how that was done.

    Raises:
        QualityError: the graph cannot be had in that precision.
    """
    return BUILDERS[precision](material, target)


def _build_fp32(material: Material, target: Path) -> list[GateResult]:
    shutil.copyfile(material.fused, target)
    return []


def _build_fp16(material: Material, target: Path) -> list[GateResult]:
    half.convert(material.fused, target)
    return []


def _build_int8(material: Material, target: Path) -> list[GateResult]:
    import onnx

    model = onnx.load(material.fused)
    recipes = _candidates(material)
    measured = _measure(model, material)
    recipe, candidates = _choose(model, recipes, material, measured)
    onnx.save(quantize.quantize(model, RECIPES[recipe], measured.ranges if measured else None), target)
    detail: dict[str, Any] = {
        "recipe": recipe,
        "texts": len(material.calibration) if material.calibration else 0,
        "candidates": [asdict(candidate) for candidate in candidates],
    }
    agreement = next((candidate.agreement for candidate in candidates if candidate.recipe == recipe), None)
    # Not a gate, but a choice that the manifest must explain; it holds the precision to nothing.
    return [GateResult("calibration", "int8", agreement, None, passed=True, detail=detail)]


def _measure(model: Any, material: Material) -> Measured | None:
    if material.calibration is None:
        return None
    tensors = list(dict.fromkeys(node.input[0] for node in quantize.products(model)))
    with material.steps.bar("int8: measuring activations", len(material.calibration)) as progress:
        return calibration.measure(model, tensors, material.calibration, material.threads, progress)


def _choose(
    model: Any, recipes: Sequence[Recipe], material: Material, measured: Measured | None
) -> tuple[str, list[Candidate]]:
    if material.calibration is None or measured is None:
        return recipes[0].name, []

    def progress(candidate: Candidate) -> None:
        material.steps.say(
            f"int8: recipe {candidate.recipe}: agreement {candidate.agreement:.4f}, RMS {candidate.rms:.4f}, "
            f"{candidate.one_text_ms:.2f} ms a text"
        )

    return calibration.choose(
        recipes,
        lambda recipe: quantize.quantize(model, recipe, measured.ranges),
        material.calibration,
        measured.logits,
        shapes=material.shapes,
        limit=LIMITS["int8"].logits,
        threads=material.threads,
        progress=progress,
    )


def _candidates(material: Material) -> Sequence[Recipe]:
    """The recipes to try: the one asked for, or those that the calibration text allows."""
    calibrated = material.calibration is not None
    if material.int8_recipe is not None:
        recipe = RECIPES[material.int8_recipe]
        if recipe.needs_calibration and not calibrated:
            raise UsageError(
                "--int8-recipe", recipe.name, f"at least {MIN_CALIBRATION_TEXTS} texts of --calibration-data with it"
            )
        return [recipe]
    if not calibrated:
        return [RECIPES[UNCALIBRATED_RECIPE]]
    return [recipe for recipe in RECIPES.values() if recipe.candidate]


BUILDERS: dict[str, Callable[[Material, Path], list[GateResult]]] = {
    "fp32": _build_fp32,
    "fp16": _build_fp16,
    "int8": _build_int8,
}
