"""What export writes, as the real Triton takes it: generated configs, exports at work, killed exports, polling."""

from __future__ import annotations

import json
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import TensorProto, helper
from tokenizers import Tokenizer, models, pre_tokenizers

from export.repository import ModelRepository
from export.serving import ServingOptions
from export.triton_config import parse
from server import TritonServer
from server.errors import ServerError
from tests.tiny_repository import INPUTS, publish, stage

Factory = Callable[..., TritonServer]
POLL = ("--model-control-mode=poll", "--repository-poll-secs=1")
DEADLINE_S = 120.0
TIMEOUT_S = 60.0
POLLS_S = 2.5  # two polls and a little
VOCABULARY = {"[PAD]": 0, "[UNK]": 1, "bad": 2, "good": 3}


def mean_model(folder: Path) -> None:
    """A graph of one linear layer on the mean token id: logits [2.5 - mean, mean - 2.5], so "good" is positive."""
    ids, mask = (helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "tokens"]) for name in INPUTS)
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 2])
    nodes = [
        helper.make_node("Mul", INPUTS, ["real"]),
        helper.make_node("Cast", ["real"], ["numbers"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["numbers"], ["mean"], axes=[1], keepdims=1),
        helper.make_node("Sub", ["mean", "middle"], ["positive"]),
        helper.make_node("Neg", ["positive"], ["negative"]),
        helper.make_node("Concat", ["negative", "positive"], ["logits"], axis=1),
    ]
    middle = helper.make_tensor("middle", TensorProto.FLOAT, [1], [2.5])
    graph = helper.make_graph(nodes, "mean", [ids, mask], [logits], [middle])
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), folder / "model.onnx"
    )


def word_tokenizer(folder: Path) -> None:
    """A tokenizer that knows two words."""
    tokenizer = Tokenizer(models.WordLevel(VOCABULARY, unk_token="[UNK]"))  # noqa: S106 no secret
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))


GOOD: dict[str, Any] = {"fill": mean_model, "fill_text": word_tokenizer}


@pytest.fixture
def repository(tmp_path: Path) -> ModelRepository:
    """A repository with one export that can be served."""
    repository = ModelRepository(tmp_path / "model_repository")
    publish(repository, **GOOD)
    return repository


@pytest.fixture(scope="module")
def started_during_an_export(
    module_server_factory: Factory, tmp_path_factory: pytest.TempPathFactory
) -> tuple[ModelRepository, TritonServer, str]:
    """A repository, the server that was started on it while an export was staging its files, and the server's log."""
    folder = tmp_path_factory.mktemp("started")
    repository = ModelRepository(folder / "model_repository")
    publish(repository, **GOOD)
    with repository.staging() as staging:  # the lock is held; what a killed export leaves looks the same
        stage(staging, **GOOD)
        stage(staging, "topic", **GOOD)
        server = module_server_factory(repository.path, extra_args=("--log-verbose=1",), log_path=folder / "log")
    return repository, server, (folder / "log").read_text()


@pytest.fixture(scope="module")
def polled(
    module_server_factory: Factory, tmp_path_factory: pytest.TempPathFactory
) -> tuple[ModelRepository, TritonServer]:
    """A repository and the server that polls it."""
    folder = tmp_path_factory.mktemp("polled")
    repository = ModelRepository(folder / "model_repository")
    publish(repository, **GOOD)
    return repository, module_server_factory(repository.path, extra_args=POLL, log_path=folder / "log")


def get(server: TritonServer, path: str) -> Any:
    with urllib.request.urlopen(f"{server.http_url}/v2/{path}", timeout=TIMEOUT_S) as response:
        return json.load(response)


def classify(server: TritonServer, text: str) -> tuple[str, str]:
    """The label of ``text`` and the version that gave it."""
    tensor = {"name": "TEXT", "shape": [1, 1], "datatype": "BYTES", "data": [text]}
    request = urllib.request.Request(
        f"{server.http_url}/v2/models/sentiment/infer",
        json.dumps({"inputs": [tensor]}).encode(),
        {"Connection": "close"},
    )
    with urllib.request.urlopen(request, timeout=TIMEOUT_S) as response:
        answer = json.load(response)
    outputs = {output["name"]: output["data"] for output in answer["outputs"]}
    return outputs["LABEL"][0], answer["model_version"]


def loaded(server: TritonServer) -> set[str]:
    """Every model and version that is ready, "sentiment 1"."""
    request = urllib.request.Request(f"{server.http_url}/v2/repository/index", b"{}", method="POST")
    with urllib.request.urlopen(request, timeout=TIMEOUT_S) as response:
        models = json.load(response)
    return {f"{model['name']} {model['version']}" for model in models if model.get("state") == "READY"}


def wait_for(server: TritonServer, *expected: str) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not loaded(server) >= set(expected):
        assert time.monotonic() < deadline, f"{expected} not among {loaded(server)}:\n{server.log_tail()}"
        time.sleep(0.1)


def test_generated_configs_load_and_say_in_triton_what_they_say_on_disk(
    started_during_an_export: tuple[ModelRepository, TritonServer, str],
) -> None:
    repository, server, _ = started_during_an_export
    assert loaded(server) == {"sentiment 1", "sentiment_fp32 1", "sentiment_int8 1"}
    for model in repository.models():
        written = parse((repository.path / model / "config.pbtxt").read_text())
        config = get(server, f"models/{model}/config")
        assert "default_queue_policy" not in config["dynamic_batching"]
        assert config["dynamic_batching"]["max_queue_delay_microseconds"] == 0
        assert config["max_batch_size"] == written.max_batch_size
        assert [(group["kind"], group["count"]) for group in config["instance_group"]] == [
            ("KIND_CPU", written.instance_group[0].count)
        ]
        assert config["version_policy"]["latest"]["num_versions"] == written.version_policy.latest.num_versions
        assert {name: value["string_value"] for name, value in config["parameters"].items()} == {
            name: value.string_value for name, value in written.parameters.items()
        }
        for side in ("input", "output"):
            found = [(tensor["name"], [int(dim) for dim in tensor["dims"]]) for tensor in config[side]]
            assert found == [(tensor.name, list(tensor.dims)) for tensor in getattr(written, side)]
        assert [sample["name"] for sample in config["model_warmup"]] == [sample.name for sample in written.model_warmup]
    assert classify(server, "good good") == ("positive", "1")
    assert classify(server, "bad") == ("negative", "1")


def test_the_warm_up_runs(started_during_an_export: tuple[ModelRepository, TritonServer, str]) -> None:
    """Triton counts a warm-up sample as no request, but logs it."""
    _, server, log = started_during_an_export
    for model in ("sentiment_fp32", "sentiment_int8"):
        assert f"model '{model}' instance {model}_0_0 is running warmup sample 'one text'" in log
    assert server.running


@pytest.mark.skipif(Path("/dev/nvidiactl").exists(), reason="shows a refusal; run it on a machine without a GPU")
def test_gpu_configs_are_understood(server_factory: Factory, tmp_path: Path) -> None:
    """Triton reads them whole, then looks for the GPU."""
    repository = ModelRepository(tmp_path / "model_repository")
    publish(repository, options=ServingOptions(gpu_accelerator="tensorrt"), precisions=("int8", "fp16"), **GOOD)
    with pytest.raises(ServerError, match=r"sentiment_fp16 has kind KIND_GPU but no GPUs are available"):
        server_factory(repository.path, model_config_name="gpu")


def test_a_server_that_starts_does_not_see_an_export_at_work(
    started_during_an_export: tuple[ModelRepository, TritonServer, str],
) -> None:
    _, server, log = started_during_an_export
    assert loaded(server) == {"sentiment 1", "sentiment_fp32 1", "sentiment_int8 1"}
    assert log.count("successfully loaded") == 3, log
    assert ".export" not in log, log


def test_a_polling_server_does_not_see_an_export_at_work(polled: tuple[ModelRepository, TritonServer]) -> None:
    repository, server = polled
    before, log = loaded(server), repository.path.parent / "log"
    loads = log.read_text().count("successfully loaded")
    with repository.staging() as staging:
        stage(staging, **GOOD)
        stage(staging, "topic", **GOOD)
        time.sleep(POLLS_S)
    assert loaded(server) == before
    assert log.read_text().count("successfully loaded") == loads
    assert ".export" not in log.read_text()


def test_why_nothing_is_staged_inside_the_repository(server_factory: Factory, repository: ModelRepository) -> None:
    """Should this Triton ever start here, staging could move into the repository, which is simpler."""
    (repository.path / ".export" / "sentiment" / "2").mkdir(parents=True)
    with pytest.raises(ServerError, match=r"\.export"):
        server_factory(repository.path)


def test_a_polling_triton_takes_a_new_version_while_it_answers(polled: tuple[ModelRepository, TritonServer]) -> None:
    """The version that the served text model calls stays loaded until the next text model is ready.

    Triton loads the new versions of all models at once. A text model that is ready a moment before its tensor model
    waits for it; no request fails, and none is answered by a mixture.
    """
    repository, server = polled
    answers: list[Any] = []
    enough = threading.Event()

    def answer() -> Any:
        try:
            return classify(server, "good")
        except urllib.error.HTTPError as exc:
            return exc.code

    def ask() -> None:
        while not enough.is_set():
            answers.append(answer())

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        assert publish(repository, **GOOD) == 2
        wait_for(server, "sentiment 2", "sentiment_int8 2", "sentiment_int8 1")
        time.sleep(POLLS_S)
    finally:
        enough.set()
        asking.join()
    assert set(answers) == {("positive", "1"), ("positive", "2")}
    assert loaded(server) == {
        "sentiment 2",
        *(f"sentiment_{precision} {version}" for precision in ("fp32", "int8") for version in (1, 2)),
    }


def test_the_version_before_the_last_is_let_go_and_a_changed_option_reaches_the_server(
    server_factory: Factory, repository: ModelRepository
) -> None:
    publish(repository, **GOOD)
    publish(repository, options=ServingOptions(max_batch_size=4, cache_size=0), **GOOD)
    server = server_factory(repository.path)
    expected = {"sentiment 3", *(f"sentiment_{precision} {v}" for precision in ("fp32", "int8") for v in (2, 3))}
    assert loaded(server) == expected
    assert classify(server, "good") == ("positive", "3")
    assert get(server, "models/sentiment/config")["max_batch_size"] == 4
    assert get(server, "models/sentiment/config")["parameters"]["cache_size"]["string_value"] == "0"
    assert classify(server, "bad") == ("negative", "3")
