"""What `bench.settings` edits and how it sums up; no server."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import ModelConfig

from bench.neighbour import Neighbour
from bench.settings import Cell, rows_of, table
from bench.variants import SETTINGS, THREADS, Configs, repository_with, values_of

TEXT = """
name: "m" backend: "bert_text" dynamic_batching { } instance_group { count: 1 kind: KIND_CPU }
parameters { key: "tensor_model" value { string_value: "m_int8" } }
parameters { key: "max_tokens" value { string_value: "300" } }
parameters { key: "cache_size" value { string_value: "10" } }
"""
TENSOR = 'name: "m_int8" backend: "%s" instance_group { count: 1 } parameters { key: "%s" value { string_value: "2" } }'


def configs(engine: str = "onnxruntime") -> Configs:
    return Configs(
        text_format.Parse(TEXT, ModelConfig()), text_format.Parse(TENSOR % (engine, THREADS[engine]), ModelConfig())
    )


@pytest.mark.parametrize("engine", THREADS)
@pytest.mark.parametrize("setting", SETTINGS)
def test_what_is_written_is_read_and_the_own_value_comes_first(setting: str, engine: str) -> None:
    own, *others = values_of(setting, configs(engine), 2)
    assert own == SETTINGS[setting].read(configs(engine))
    assert len({own, *others}) == len(others) + 1 >= 2
    for value in others if setting != "engine" else []:
        edited = configs(engine)
        SETTINGS[setting].write(edited, value)
        assert SETTINGS[setting].read(edited) == value


def test_values() -> None:
    assert values_of("budget", configs(), 2) == ["300", "128", "256", "512", "1024"]
    assert values_of("threads", configs(), 2) == ["1x2", "2x1", "2x2"]
    assert values_of("threads", configs("openvino"), 8) == ["1x2", "1x8", "8x1", "2x8"]
    assert values_of("engine", configs("openvino"), 2) == ["openvino", "onnxruntime"]


def test_every_instance_has_a_call_under_way_and_one_waits() -> None:
    edited = configs()
    SETTINGS["threads"].write(edited, "4x1")
    assert edited.tensor.instance_group[0].count == 4
    assert edited.text.parameters["calls_in_flight"].string_value == "5"


def test_instances_of_openvino_share_one_pool_of_threads() -> None:
    edited = configs("openvino")
    SETTINGS["threads"].write(edited, "2x4")
    parameters = {key: value.string_value for key, value in edited.tensor.parameters.items()}
    assert parameters == {"INFERENCE_NUM_THREADS": "8", "NUM_STREAMS": "2"}
    assert edited.tensor.instance_group[0].count == 2


def test_another_engine_needs_another_export() -> None:
    SETTINGS["engine"].write(configs("openvino"), "openvino")
    with pytest.raises(ValueError, match="exported for onnxruntime, not for openvino"):
        SETTINGS["engine"].write(configs("onnxruntime"), "openvino")


def test_a_copy_has_the_value_and_no_cache_and_the_source_stays(tmp_path: Path) -> None:
    source = tmp_path / "source"
    for config in (configs().text, configs().tensor):
        (source / config.name / "1").mkdir(parents=True)
        (source / config.name / "config.pbtxt").write_text(text_format.MessageToString(config))
    (source / "m_int8/1/model.onnx").write_bytes(b"weights")
    (source / "m/1/labels.json").write_text("[]")
    (source / "unrelated").mkdir()
    before = {path: path.read_bytes() for path in source.rglob("*") if path.is_file()}

    target = repository_with("budget", "64", source, "m", tmp_path / "target")

    edited = Configs.of(target, "m")
    assert SETTINGS["budget"].read(edited) == "64"
    assert edited.text.parameters["cache_size"].string_value == "0"
    assert (target / "m_int8/1/model.onnx").samefile(source / "m_int8/1/model.onnx")
    assert not (target / "m/1/labels.json").samefile(source / "m/1/labels.json")
    assert not (target / "unrelated").exists()
    assert {path: path.read_bytes() for path in source.rglob("*") if path.is_file()} == before


def cell(value: str, number: int, per_s: float, p50_ms: float, p99_ms: float, neighbour: float = 0.0) -> Cell:
    return Cell("budget", value, neighbour, 16, number, per_s, p50_ms, p99_ms, 2000 / per_s, 1)


def test_ratios_are_taken_within_a_round() -> None:
    # The second round was twice as slow for both, the third only for the reference.
    cells = [cell("512", 0, 100, 10, 20), cell("128", 0, 90, 5, 30)]
    cells += [cell("512", 1, 50, 20, 40), cell("128", 1, 45, 10, 60)]
    cells += [cell("512", 2, 50, 20, 40), cell("128", 2, 90, 5, 30)]
    reference, other = rows_of(cells)
    assert (reference.value, reference.throughput_ratio, reference.p50_ratio, reference.p99_ratio) == ("512", 1, 1, 1)
    assert (other.value, other.sentences_per_s, other.p50_ms, other.p99_ms) == ("128", 90, 5, 30)
    assert (other.throughput_ratio, other.p50_ratio, other.p99_ratio) == (0.9, 0.5, 1.5)
    assert other.failures == 3


def test_a_neighbour_is_a_row_of_its_own_with_a_reference_of_its_own() -> None:
    cells = [cell("512", 0, 100, 10, 20), cell("512", 0, 40, 30, 90, 0.5), cell("128", 0, 60, 20, 45, 0.5)]
    alone, beside, other = rows_of(cells)
    assert (alone.neighbour, beside.neighbour, beside.throughput_ratio) == (0.0, 0.5, 1.0)
    assert other.throughput_ratio == 1.5
    lines = table(rows_of(cells)).splitlines()
    assert lines[0] == "### max_tokens: tokens of one call"
    assert lines[-1] == "| 50% | 16 | 128 | 60.0 | 20.0 | 45.0 | 33.3 | 1.50 | 0.67 | 0.50 | 0.67 | 1 |"


def test_a_neighbour_burns_and_is_gone_afterwards() -> None:
    with Neighbour(0.5, cores=2) as neighbour:
        pids = neighbour.pids
        assert len(pids) == 2
        assert all(Path(f"/proc/{pid}").exists() for pid in pids)
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
    with Neighbour(0.0) as nobody:
        assert nobody.pids == []
    with pytest.raises(ValueError, match=r"share is 1\.5; expected 0 to 1"):
        Neighbour(1.5)


def test_a_neighbour_ends_by_itself_when_its_benchmark_is_gone() -> None:
    script = Path(sys.modules[Neighbour.__module__].__file__ or "")
    somebody_else = os.getppid()
    subprocess.run([sys.executable, "-I", script, "0.5", str(somebody_else)], check=True, timeout=60)
