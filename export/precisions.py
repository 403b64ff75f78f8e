"""Builds each precision from the fused FP32 graph, for one engine at a time: a row of `BUILDERS` per precision.

fused ──┬── pack for ONNX Runtime ──┬── fp32
        │                           └── int8 ┐
        ├── pack for OpenVINO ──────┬── int8 ┴ one of the two is kept (`export.pipeline`)
        │                           └── bf16: the FP32 graph, computed in BF16
        └── fp16: for GPUs, padded
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from bert_triton_client.contract import ONNXRUNTIME
from export import calibration, engines, graph, half, pack, quantize
from export.calibration import Candidate, Measured
from export.data import MIN_CALIBRATION_TEXTS
from export.errors import EngineError, UsageError
from export.evaluation import Classifier, TokenisedTexts
from export.gates import LIMITS
from export.manifest import GateResult, GraphReport
from export.progress import Steps
from export.quantize import RECIPES, Recipe
from export.shapes import Shapes

UNCALIBRATED_RECIPE = "per-token"


@dataclass(frozen=True)
class Material:
    """What the precisions are built from.

    Attributes:
        fused: the file of the fused FP32 graph.
        calibration: texts to calibrate INT8 on; None when there are none.
        shapes: awkward shapes, and the checkpoint's logits for those.
        int8_recipe: the recipe to use; None chooses by the calibration text.
        int8_engines: the engines that INT8 is built for.
        packing: whether graphs drop the padding where they can.
        threads: of the sessions that measure.
        steps: where progress is told.
    """

    fused: Path
    calibration: TokenisedTexts | None
    shapes: Shapes
    int8_recipe: str | None
    int8_engines: tuple[str, ...]
    packing: bool
    threads: int
    steps: Steps
    _graphs: dict[str, Any] = field(default_factory=dict)

    def graph(self, engine: str) -> Any:
        """The FP32 graph laid out for ``engine``, an `onnx.ModelProto`, without padding unless packing is off."""
        import onnx

        if engine not in self._graphs:
            fused = onnx.load(self.fused)
            self._graphs[engine] = pack.pack(fused, engine) if self.packing else fused
        return self._graphs[engine]

    def recipe(self, engine: str) -> Recipe:
        """The recipe for ``engine``: the best of all, or the best that this engine runs.

        Raises:
            EngineError: it runs none of those that could be tried.
        """
        best, candidates = self.candidates
        if engine in RECIPES[best].engines:
            return RECIPES[best]
        runnable = [candidate for candidate in candidates if engine in RECIPES[candidate.recipe].engines]
        if not runnable or self.calibration is None:
            raise EngineError(
                f"int8 is not published for {engine}, which does not run the recipe {best}: give --calibration-data "
                f"with at least {MIN_CALIBRATION_TEXTS} texts and leave --int8-recipe out, or export with --engine "
                f"{ONNXRUNTIME}"
            )
        return RECIPES[calibration.best(runnable, len(self.calibration))]

    @cached_property
    def candidates(self) -> tuple[str, list[Candidate]]:
        """The name of the best INT8 recipe that one of the engines runs, and how those that were tried did.

        They are tried with ONNX Runtime, which runs them all; what an engine makes of its recipe is for the gates to
        say.
        """
        wanted = _wanted(self.int8_recipe, self.calibration is not None)
        recipes = [recipe for recipe in wanted if set(recipe.engines) & set(self.int8_engines)] or wanted
        measured = self.measured
        if self.calibration is None or measured is None:
            return recipes[0].name, []
        model = self.graph(ONNXRUNTIME)

        def progress(candidate: Candidate) -> None:
            self.steps.say(
                f"int8: recipe {candidate.recipe}: agreement {candidate.agreement:.4f}, RMS {candidate.rms:.4f}, "
                f"{candidate.one_text_ms:.2f} ms a text"
            )

        return calibration.choose(
            recipes,
            lambda recipe: quantize.quantize(model, recipe, measured.ranges),
            self.calibration,
            measured.logits,
            shapes=self.shapes,
            limit=LIMITS["int8"].logits,
            threads=self.threads,
            progress=progress,
        )

    @cached_property
    def measured(self) -> Measured | None:
        """What ONNX Runtime's graph did on the calibration text; the activations of OpenVINO's have the same names."""
        if self.calibration is None:
            return None
        model = self.graph(ONNXRUNTIME)
        tensors = list(dict.fromkeys(node.input[0] for node in quantize.products(model)))
        with self.steps.bar("int8: measuring activations", len(self.calibration)) as progress:
            return calibration.measure(model, tensors, self.calibration, self.threads, progress)


@dataclass(frozen=True, eq=False)
class Variant:
    """A precision built for one engine.

    Attributes:
        path: its file.
        packed: whether the graph drops the padding.
        recorded: what should be recorded about how it was built.
    """

    precision: str
    engine: str
    path: Path
    packed: bool
    graph: GraphReport
    opset: dict[str, int]
    ir_version: int
    recorded: tuple[GateResult, ...] = ()

    def classifier(self, threads: int, *, calls: int = 1) -> Classifier:
        """As `engines.classifier`."""
        return engines.classifier(self.engine, self.path, self.precision, threads, calls=calls)


def build(precision: str, engine: str, material: Material, target: Path) -> Variant:
    """Writes the graph of ``precision`` for ``engine`` to ``target``.

    Raises:
        QualityError: the graph cannot be had in that precision.
    """
    import onnx

    recorded = BUILDERS[precision](engine, material, target)
    model = onnx.load(target)
    return Variant(
        precision=precision,
        engine=engine,
        path=target,
        packed=pack.is_packed(model),
        graph=graph.describe(model, target.stat().st_size),
        opset=graph.opsets(model),
        ir_version=model.ir_version,
        recorded=tuple(recorded),
    )


def _build_fp32(engine: str, material: Material, target: Path) -> list[GateResult]:
    """The FP32 graph; that of bf16 too, which is the same but for what it is computed in."""
    import onnx

    onnx.save(material.graph(engine), target)
    return []


def _build_fp16(engine: str, material: Material, target: Path) -> list[GateResult]:  # noqa: ARG001
    half.convert(material.fused, target)
    return []


def _build_int8(engine: str, material: Material, target: Path) -> list[GateResult]:
    import onnx

    recipe = material.recipe(engine)
    ranges = material.measured.ranges if material.measured else None
    onnx.save(quantize.quantize(material.graph(engine), recipe, ranges), target)
    candidates = material.candidates[1]
    detail: dict[str, Any] = {
        "recipe": recipe.name,
        "texts": len(material.calibration) if material.calibration else 0,
        "candidates": [asdict(candidate) for candidate in candidates],
    }
    agreement = next((candidate.agreement for candidate in candidates if candidate.recipe == recipe.name), None)
    # Not a gate, but a choice that the manifest must explain; it holds the precision to nothing.
    return [GateResult("calibration", "int8", agreement, None, passed=True, detail=detail)]


def _wanted(recipe: str | None, calibrated: bool) -> Sequence[Recipe]:
    """The recipes to try: the one asked for, or those that the calibration text allows."""
    if recipe is not None:
        if RECIPES[recipe].needs_calibration and not calibrated:
            raise UsageError(
                "--int8-recipe", recipe, f"at least {MIN_CALIBRATION_TEXTS} texts of --calibration-data with it"
            )
        return [RECIPES[recipe]]
    if not calibrated:
        return [RECIPES[UNCALIBRATED_RECIPE]]
    return [recipe for recipe in RECIPES.values() if recipe.candidate]


BUILDERS: dict[str, Callable[[str, Material, Path], list[GateResult]]] = {
    "fp32": _build_fp32,
    "fp16": _build_fp16,
    "bf16": _build_fp32,
    "int8": _build_int8,
}
