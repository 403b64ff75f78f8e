"""The load test, run as a user runs it, against models whose behaviour is known: it must find what theory says.

One model sleeps a set time and serves one request at a time, so a closed load of n users has throughput 1/S and latency
n x S, and an open one beyond that grows a queue. Another fails every fifth request. A third is what a stranger's
repository holds: the tensors of NVIDIA's BERT examples, fixed length, names of their own. (What Poisson arrivals wait
at half the capacity, sample by sample, is in test_loadtest_generator.py.)
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bert_triton_client import Client
from bert_triton_client.errors import ServerFaultError
from loadtest import target
from loadtest.access import Access
from loadtest.cell import TensorNames
from loadtest.samples import Samples
from loadtest.server_side.counters import Watch
from server import TritonServer
from tests.e2e import loadtest_models, loadtest_runner, triton
from tests.e2e.loadtest_models import LONG_SERVICE_S, SERVICE_S

# A window is as long as its requests take; its longest only ends a test that hangs.
SHORT = ("--warm-up-s", "0.5", "--max-duration-s", "30")

# Tensors as in the BERT examples of NVIDIA: INT32, one length, names of their own.
FOREIGN_CONFIG = """
name: "bert_foreign"
backend: "python"
max_batch_size: 8
input [
  {{ name: "input_ids" data_type: TYPE_INT32 dims: [ 128 ] }},
  {{ name: "segment_ids" data_type: TYPE_INT32 dims: [ 128 ] }},
  {{ name: "tokens_that_count" data_type: TYPE_INT32 dims: [ 128 ] }}
]
output [ {{ name: "cls_squad_logits" data_type: TYPE_FP32 dims: [ 128, 2 ] }} ]
instance_group [ {{ kind: KIND_CPU count: 1 }} ]
dynamic_batching {{ }}
"""
FOREIGN_MODEL = """
import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        responses = []
        for request in requests:
            ids, mask = (
                pb_utils.get_input_tensor_by_name(request, name).as_numpy()
                for name in ("input_ids", "tokens_that_count")
            )
            # What a client must get right: a mask of ones and zeros, ids only where it is one.
            assert set(np.unique(mask)) <= {0, 1} and not ids[mask == 0].any() and mask[:, 0].all()
            logits = np.repeat(ids[:, :, None].astype(np.float32), 2, axis=2)
            responses.append(pb_utils.InferenceResponse([pb_utils.Tensor("cls_squad_logits", logits)]))
        return responses
"""


@pytest.fixture(scope="module")
def known_server(
    module_server_factory: Callable[..., TritonServer], tmp_path_factory: pytest.TempPathFactory
) -> TritonServer:
    backends, repository = loadtest_models.write(tmp_path_factory.mktemp("known"))
    triton.write_model(repository, "bert_foreign", config=FOREIGN_CONFIG)
    (repository / "bert_foreign/1/model.py").write_text(FOREIGN_MODEL)
    return module_server_factory(
        repository, backends=backends, models=("sleeper", "slow_sleeper", "flaky", "bert_foreign")
    )


def loadtest(*words: str, folder: Path) -> tuple[subprocess.CompletedProcess[str], list[dict[str, Any]]]:
    """Runs the command; returns its outcome and the cells it left."""
    done = loadtest_runner.here(*words, "--output", str(folder))
    cells = [json.loads(path.read_text()) for path in folder.glob("cells/*.json")]
    return done, sorted(cells, key=lambda cell: cell["spec"]["workload"]["users"] or 0)


def test_a_closed_load_on_a_serial_server(known_server: TritonServer, tmp_path: Path) -> None:
    done, cells = loadtest(
        *(
            "concurrency",
            "--url",
            known_server.grpc_url,
            "--model",
            "slow_sleeper",
            "--metrics-url",
            known_server.metrics_url,
        ),
        *("--users", "1", "4", "--duration-s", "1.5", "--min-requests", "15", *SHORT),
        folder=tmp_path / "run",
    )
    assert len(cells) == 2, done.stderr
    for cell, users in zip(cells, (1, 4), strict=True):
        client, server = cell["client"], cell["server"]
        service_ms = server["models"][0]["compute_infer_ms"]  # a sleep takes longer than it was told on a busy machine
        assert service_ms >= LONG_SERVICE_S * 1000
        # Between two requests of one user lies the way to the server and back.
        assert client["mean_latency_ms"] == pytest.approx(users * service_ms, rel=0.3)
        assert client["latency_ms"]["p50"]["value"] >= users * LONG_SERVICE_S * 1000 * 0.7
        assert client["requests_per_s"]["value"] == pytest.approx(1000 / service_ms, rel=0.3)
        # All that were asked at once at the end of a window may be answered within it.
        assert client["requests_per_s"]["value"] <= 1 / LONG_SERVICE_S + users / client["duration_s"]
        # Little's law: users = throughput x latency, whatever the machine does.
        in_flight = client["requests_per_s"]["value"] * client["mean_latency_ms"] / 1000
        assert in_flight == pytest.approx(users, rel=0.1)
        # All but one wait in Triton's queue.
        assert server["models"][0]["queue_ms"] == pytest.approx((users - 1) * service_ms, rel=0.3, abs=0.2 * service_ms)


def test_an_open_load_above_capacity_shows_its_queue(known_server: TritonServer, tmp_path: Path) -> None:
    """Twice what the server can do: a closed load would call that 20 ms a request; the queue grows by 1 s every 2 s."""
    done, (cell,) = loadtest(
        *("batch-size", "--sizes", "1", "--rate", "100", "--url", known_server.grpc_url, "--model", "sleeper"),
        *("--metrics-url", known_server.metrics_url, "--duration-s", "3", "--min-requests", "1", *SHORT),
        folder=tmp_path / "run",
    )
    assert cell["client"]["latency_ms"]["p95"]["value"] > 1000, done.stderr
    assert cell["client"]["requests_per_s"]["value"] <= 1 / SERVICE_S * 1.02
    said = " ".join([*cell["reasons"], *cell["warnings"]])
    assert "rate" in said


def test_a_model_that_fails_every_fifth_request(known_server: TritonServer, tmp_path: Path) -> None:
    done, (cell,) = loadtest(
        *("concurrency", "--url", known_server.grpc_url, "--model", "flaky", "--users", "2"),
        *("--metrics-url", known_server.metrics_url, "--duration-s", "1", "--min-requests", "100", *SHORT),
        folder=tmp_path / "run",
    )
    client = cell["client"]
    failed = sum(client["failures"].values())
    assert failed == pytest.approx((failed + client["requests"]) / 5, abs=2 * 2)  # what two users had under way
    assert cell["verdict"] == "failed"
    assert "the fifth" in " ".join(client["failure_examples"].values())
    assert done.returncode == 1
    samples = Samples.load(tmp_path / "run/cells" / f"{cell['spec']['id']}.npz")
    assert np.count_nonzero(samples.kind) == failed


def test_failed_responses_are_among_those_that_triton_counts(known_server: TritonServer) -> None:
    """As requests that succeeded, where a Python-based backend marks a response as an error."""
    asked = target.inspect(known_server.grpc_url, "flaky", names=TensorNames(), access=Access())
    watching = Watch(asked, Access(), known_server.metrics_url)
    text = np.array([["a text"]], dtype=object)
    with Client(known_server.grpc_url) as client:

        def fails() -> bool:
            try:
                client.infer("flaky", {"TEXT": text})
            except ServerFaultError:
                return True
            return False

        watching.start()
        failed = sum(fails() for _ in range(20))
        side = watching.stop()
    assert failed == 4
    assert side is not None
    assert (side.models[0].requests, side.models[0].failures) == (20, 0)


def test_a_strangers_model_needs_its_tensor_names_only(known_server: TritonServer, tmp_path: Path) -> None:
    words = ("concurrency", "--url", known_server.http_url, "--model", "bert_foreign", "--users", "1")
    words += ("--batch-size", "2", "--duration-s", "0.5", "--min-requests", "12", *SHORT)
    done, cells = loadtest(*words, folder=tmp_path / "unnamed")
    assert (done.returncode, cells) == (1, [])
    assert "tokens_that_count" in done.stderr
    assert "--attention-mask-tensor" in done.stderr

    done, (cell,) = loadtest(*words, "--attention-mask-tensor", "tokens_that_count", folder=tmp_path / "named")
    assert cell["client"]["failures"] == {}, cell["client"]["failure_examples"]
    assert cell["client"]["requests"] > 10
    assert cell["setting"]["kind"] == "tensors"
    assert "bert_foreign" in done.stdout
