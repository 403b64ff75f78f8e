"""docker-compose.yml for real: images are built, Triton, gateway and Prometheus run, die, and come back."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from resource import RLIM_INFINITY

import pytest

from bert_triton_client import AccessDeniedError
from server.limits import STACK_BYTES
from tests.e2e import triton
from tests.e2e.compose_engine import Engine, engine
from tests.e2e.compose_stack import KEY, PROJECT, SERVICES, Stack

# The first run makes a base image and builds on it; the later ones find both in build/compose.
pytestmark = pytest.mark.timeout(900)

BACK_TIMEOUT_S = 120.0
IMAGE_LIMIT_BYTES = 600_000_000  # 442 MB as built here; the goal was 1 GB

# Finds a process in its own container by what its command line holds, and sends it a signal.
SIGNAL = """
import os, pathlib, sys
wanted, number = sys.argv[1].encode(), int(sys.argv[2])
for entry in pathlib.Path("/proc").glob("[0-9]*"):
    arguments = (entry / "cmdline").read_bytes().replace(bytes(1), b" ")
    if wanted in arguments and int(entry.name) not in (1, os.getpid()) and b"import os" not in arguments:
        os.kill(int(entry.name), number)
        print(entry.name)
"""
CONNECT = """
import socket, sys
try:
    socket.create_connection((sys.argv[1], 9090), 3).close()
    print("connected")
except OSError as exc:
    print(exc)
"""
# How many texts a model has computed.
COMPUTED = """
import re, sys, urllib.request
metrics = urllib.request.urlopen("http://127.0.0.1:8002/metrics", timeout=10).read().decode()
print(re.search('nv_inference_count{model="%s",version="1"} ([0-9]+)' % sys.argv[1], metrics)[1])
"""
# Mount options of /tmp, and the limit on the stacks of Triton's threads.
LOOK = """
import os, pathlib, resource
print(bool(os.statvfs("/tmp").f_flag & os.ST_NOEXEC))
for entry in pathlib.Path("/proc").glob("[0-9]*"):
    if (entry / "comm").read_text().strip() == "tritonserver":
        print(*resource.prlimit(int(entry.name), resource.RLIMIT_STACK))
"""
SIGKILL = "9"


@pytest.fixture(scope="module")
def container_engine() -> Iterator[Engine]:
    with engine() as found:
        yield found


@pytest.fixture(scope="module")
def stack(container_engine: Engine, demo_repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    made = Stack(container_engine, tmp_path_factory.mktemp("compose"))
    made.build()
    with contextlib.ExitStack() as at_the_end:
        at_the_end.callback(made.down)
        made.up()
        yield made
    assert made.left() == {}


def test_the_image_is_small_and_holds_no_more_than_serving_needs(stack: Stack) -> None:
    image = json.loads(stack.engine.docker("image", "inspect", "bert-triton-cpu:test"))[0]
    assert image["Size"] < IMAGE_LIMIT_BYTES
    packages = stack.python(
        "triton", "import importlib.metadata as m; print(*sorted(d.name for d in m.distributions()))"
    )
    assert packages.split() == ["numpy", "nvidia-pytriton", "onnxruntime", "openvino", "psutil", "tokenizers"]
    # What pip was told (indexes, credentials) stayed in the stage that is thrown away.
    history = stack.engine.docker("history", "--no-trunc", "--format", "{{.CreatedBy}}", "bert-triton-cpu:test")
    assert "pip" not in history


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_can_do_nothing_but_its_work(stack: Stack, service: str) -> None:
    state = stack.inspect(service)
    host = state["HostConfig"]
    assert state["Config"]["User"].split(":")[0] not in ("", "0", "root")
    assert host["ReadonlyRootfs"] and host["CapDrop"] == ["ALL"] and not host["CapAdd"] and not host["Privileged"]
    assert "no-new-privileges:true" in host["SecurityOpt"]
    assert host["Memory"] and host["NanoCpus"] and host["PidsLimit"]
    assert host["RestartPolicy"]["Name"] == "unless-stopped"
    assert all(not mount["RW"] for mount in state["Mounts"] if mount["Type"] == "bind")
    assert host["Tmpfs"]
    assert all({"noexec", "nosuid", "nodev"} <= set(options.split(",")) for options in host["Tmpfs"].values())


def test_triton_runs_without_a_program_in_tmp_and_with_large_stacks(stack: Stack) -> None:
    not_executable, stacks = stack.python("triton", LOOK).splitlines()
    assert not_executable == "True"
    soft, hard = map(int, stacks.split())
    assert soft == (STACK_BYTES if hard == RLIM_INFINITY else min(STACK_BYTES, hard))


def test_orders_to_change_versions_are_taken_from_inside(stack: Stack) -> None:
    said = stack.engine.docker("exec", stack.container("triton"), "python", "-m", "server", "versions")
    assert "sentiment" in said


def test_a_folder_of_keys_that_is_not_there_is_named(stack: Stack, tmp_path: Path) -> None:
    missing = tmp_path / "no-secrets"
    with pytest.raises(AssertionError, match=f"{missing}"):
        stack.compose("run", "--rm", "gateway", timeout_s=60.0, environment={"GATEWAY_SECRETS": str(missing)})
    assert not missing.exists()


def test_only_the_gateway_can_be_reached_and_triton_reaches_nobody(stack: Stack) -> None:
    published = {service: stack.inspect(service)["NetworkSettings"]["Ports"] for service in SERVICES}
    bound = {
        service: [where for ports in found.values() for where in ports or []] for service, found in published.items()
    }
    assert bound["triton"] == []
    assert [where["HostPort"] for where in bound["gateway"]] == [str(stack.gateway_port)]
    assert [where["HostIp"] for where in bound["prometheus"]] == ["127.0.0.1"]
    # Prometheus is on Triton's network and on another one: Triton reaches it on the first, and nobody beyond.
    addresses = [
        stack.inspect("prometheus")["NetworkSettings"]["Networks"][f"{PROJECT}_{network}"]["IPAddress"]
        for network in ("inside", "operators")
    ]
    assert stack.python("triton", CONNECT, addresses[0]) == "connected"
    if stack.engine.has_firewall:  # without one docker cannot keep networks apart
        assert stack.python("triton", CONNECT, addresses[1]) == "timed out"


@pytest.mark.parametrize("scheme", ["https", "grpcs"])
def test_a_text_is_answered_through_the_gateway(stack: Stack, scheme: str) -> None:
    with stack.client(scheme) as client:
        assert [answer.label for answer in client.classify(["A wonderful film.", "Dull and far too long."])] == [
            "positive",
            "negative",
        ]
    with stack.client(scheme, headers={}) as stranger, pytest.raises(AccessDeniedError):
        stranger.classify("Let me in.")


def test_prometheus_has_the_metrics_of_triton_and_gateway(stack: Stack) -> None:
    targets = stack.query("up")
    assert {labels["job"] for labels, _ in targets} == {"triton", "gateway", "prometheus"}
    triton.eventually(lambda: all(up == 1 for _, up in stack.query("up")), 60.0, "a scrape of every target")
    for counted in (
        'bert_text_requests_total{model="sentiment",outcome="answered"}',
        'gateway_requests_total{code="200"}',
    ):
        triton.eventually(partial(_counted, stack, counted), 60.0, counted)
    assert KEY not in stack.log("gateway")
    assert "wonderful" not in stack.log("gateway") + stack.log("triton")


def test_a_killed_server_container_comes_back(stack: Stack) -> None:
    before = stack.inspect("triton")["RestartCount"]
    # From inside: what `docker kill` ends is not restarted, since that is somebody's wish. The command dies with it.
    stack.python("triton", SIGNAL, "python -m server", SIGKILL, detached=True)
    triton.eventually(lambda: stack.inspect("triton")["RestartCount"] > before, 30.0, "a restart of the container")
    triton.eventually(lambda: stack.answers("It came back, wonderful."), BACK_TIMEOUT_S, "an answer")


def test_a_killed_backend_process_comes_back_without_the_container(stack: Stack) -> None:
    triton.eventually(lambda: stack.answers("A pleasure."), BACK_TIMEOUT_S, "an answer")
    restarts, served = stack.inspect("triton")["RestartCount"], stack.log("triton").count("serving again")
    (tensor_model,) = _tensor_models(stack)
    assert stack.python("triton", SIGNAL, f"{tensor_model}_0_0", SIGKILL)
    triton.eventually(
        lambda: stack.log("triton").count("serving again") > served, BACK_TIMEOUT_S, "a restart of Triton"
    )
    triton.eventually(lambda: stack.answers("It came back again, wonderful."), BACK_TIMEOUT_S, "an answer")
    assert stack.inspect("triton")["RestartCount"] == restarts


def test_the_health_check_has_the_model_compute_every_time(stack: Stack) -> None:
    triton.eventually(stack.healthy, BACK_TIMEOUT_S, "health of all services")
    (tensor_model,) = _tensor_models(stack)
    for _ in range(2):  # an answer from the cache would not tell that the model behind it is dead
        before = int(stack.python("triton", COMPUTED, tensor_model))
        stack.engine.docker("exec", stack.container("triton"), "/opt/bert-triton/app/healthcheck.sh")
        assert int(stack.python("triton", COMPUTED, tensor_model)) > before


def _counted(stack: Stack, expression: str) -> bool:
    return any(value for _, value in stack.query(expression))


def _tensor_models(stack: Stack) -> list[str]:
    """The model that computes for the text model."""
    with stack.client("grpcs") as client:
        return [str(client.model_info("sentiment").tensor_model)]
