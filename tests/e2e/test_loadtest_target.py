"""Targets and payloads against the real Triton: the demo models, foreign models by their configs alone, every fault."""

from __future__ import annotations

import socket
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bert_triton_client import Client
from loadtest.access import Access
from loadtest.cell import CellSpec, TensorNames, TextSource
from loadtest.errors import LoadTestError, TargetError, UsageError
from loadtest.payloads import Payloads
from loadtest.target import Target, check_batch_size, inspect
from loadtest.wire import connector
from server import TritonServer
from tests.e2e import client_models, foreign_models, triton

PROTOCOLS = ("grpc", "http")


def url(server: TritonServer, protocol: str) -> str:
    return server.grpc_url if protocol == "grpc" else server.http_url


def look(
    server: TritonServer,
    model: str,
    protocol: str = "grpc",
    *,
    version: str = "",
    access: Access | None = None,
    **names: object,
) -> Target:
    wanted = TensorNames(**names)  # type: ignore[arg-type]
    return inspect(url(server, protocol), model, version=version, names=wanted, access=access or Access())


def ask(target: Target, batch_size: int, *, times: int = 3, access: Access | None = None, **names: object) -> Payloads:
    """Sends a few requests and fails unless every reply is right."""
    wanted = TensorNames(**names)  # type: ignore[arg-type]
    spec = CellSpec("a", "batch-size", target.url, target.model, batch_size=batch_size, names=wanted)
    payloads = Payloads(spec, target)
    connection = connector(target.url, target.model, "", access or Access())()
    try:
        for _ in range(times):
            request = payloads.next()
            first, again = connection.call(request, 30), connection.call(request, 30)
            assert payloads.check(first) is None
            assert payloads.same(first, again)
    finally:
        connection.close()
    return payloads


# --- The demo models ---


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_demo_text_model(demo_server: TritonServer, protocol: str) -> None:
    target = look(demo_server, "sentiment", protocol)
    assert (target.kind, target.version, target.triton_version) == ("text", "1", "2.51.0")
    assert (target.precision, target.tensor_model, target.max_batch_size) == ("int8", "sentiment_int8", 64)
    assert target.instances.startswith("1 x KIND_CPU; sentiment_int8: 2 x KIND_CPU, ")
    assert target.instances.endswith(("threads", "thread"))
    assert target.batching.startswith("dynamic, no queue delay, max_batch_size 64")
    assert target.cache == "text cache of 10000"
    assert ask(target, 1).lengths.startswith("words: ")
    ask(target, 8)
    check_batch_size(target, 64)
    with pytest.raises(UsageError, match="batch size 65: model 'sentiment' takes at most 64"):
        check_batch_size(target, 65)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_demo_tensor_models(demo_server: TritonServer, protocol: str) -> None:
    target = look(demo_server, "sentiment_fp32", protocol)
    assert (target.kind, target.precision, target.tensor_model, target.cache) == ("tensors", "fp32", None, "")
    assert {one.role: one.name for one in target.inputs} == {
        name: name for name in ("input_ids", "attention_mask", "token_type_ids")
    }
    assert ask(target, 4).lengths.startswith("tokens: ")
    assert ask(target, 2, sequence_length=16).lengths == "tokens: 16 each"


def test_no_cache_answers_a_text_unless_repeats_are_wanted(demo_server: TritonServer) -> None:
    target = look(demo_server, "sentiment")
    for share, least, most in ((0.0, 0, 0), (1.0, 200, 399)):
        spec = CellSpec("a", "b", target.url, "sentiment", batch_size=20, texts=TextSource(repeat_share=share))
        connection = connector(target.url, "sentiment", "", Access())()
        before = cache_hits(demo_server)
        for index in range(20):
            payloads = Payloads(spec, target, process_index=index % 2)  # every one a process of its own
            assert payloads.check(connection.call(payloads.next(), 30)) is None
        connection.close()
        assert least <= cache_hits(demo_server) - before <= most


def cache_hits(server: TritonServer) -> int:
    with urllib.request.urlopen(server.metrics_url, timeout=10) as response:
        lines = response.read().decode().splitlines()
    return sum(int(float(line.split()[-1])) for line in lines if line.startswith("bert_text_cache_hits_total"))


# --- Foreign models ---


@pytest.fixture(scope="module")
def server(
    module_server_factory: Callable[..., TritonServer], tmp_path_factory: pytest.TempPathFactory
) -> TritonServer:
    repository, backends = foreign_models.write(tmp_path_factory.mktemp("foreign"))
    loaded = [f"--load-model={name}" for name in foreign_models.CONFIGS if name not in ("broken", "unloaded")]
    flags = ("--model-control-mode=explicit", "--cache-config=local,size=10485760")
    started = module_server_factory(repository, backends=backends, extra_args=(*flags, *loaded))
    assert "the weights are not there" in triton.load(started.http_url, "broken")
    return started


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    ("model", "batch_size", "names"),
    [
        ("text_open", 3, {}),
        ("text_unbatched", 3, {}),
        ("text_single", 1, {}),
        ("text_cached", 8, {"text": "TEXT"}),
        ("bert_fixed", 8, {}),
        ("bert_fixed", 1, {"sequence_length": 20}),
        ("bert_unbatched_fp16", 5, {}),
        (
            "bert_torch",
            2,
            {"input_ids": "input__0", "token_type_ids": "input__1", "attention_mask": "input__2"},
        ),
        ("bert_optional", 2, {}),
    ],
)
def test_foreign_models_answer(
    server: TritonServer, protocol: str, model: str, batch_size: int, names: dict[str, object]
) -> None:
    target = look(server, model, protocol, **names)
    ask(target, batch_size, **names)


def test_the_same_target_over_both_protocols(server: TritonServer) -> None:
    for model in ("text_open", "text_cached", "bert_fixed", "bert_unbatched_fp16"):
        one, other = (look(server, model, protocol) for protocol in PROTOCOLS)
        assert {**vars(one), "url": ""} == {**vars(other), "url": ""}


def test_settings_of_foreign_models(server: TritonServer) -> None:
    fixed = look(server, "bert_fixed")
    assert fixed.batching == "dynamic, queue delay 0.1 ms, max_batch_size 8, preferred 4, 8"
    assert (fixed.instances, fixed.precision, fixed.fixed_length) == ("1 x KIND_CPU", "", 128)
    unbatched = look(server, "bert_unbatched_fp16")
    assert (unbatched.batching, unbatched.precision, unbatched.fixed_length) == ("none", "fp16", None)
    assert look(server, "text_cached").cache == "response cache"


def test_tritons_response_cache_answers_repeats_only(server: TritonServer) -> None:
    target = look(server, "text_cached")

    def hits() -> int:
        with Client(server.grpc_url) as client:
            return client.statistics("text_cached")[0].cache_hits

    for share, expected in ((0.0, 0), (1.0, 200)):  # of 300 draws from a pool of 100, at least 200 are repeats
        spec = CellSpec("a", "b", target.url, "text_cached", texts=TextSource(repeat_share=share))
        payloads, connection = Payloads(spec, target), connector(target.url, "text_cached", "", Access())()
        before = hits()
        for _ in range(300):
            assert payloads.check(connection.call(payloads.next(), 30)) is None
        connection.close()
        found = hits() - before
        assert found >= expected
        assert (found == 0) == (share == 0)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_only_wanted_outputs_are_asked_for_and_checked(server: TritonServer, protocol: str) -> None:
    names = {"input_ids": "input__0", "token_type_ids": "input__1", "attention_mask": "input__2"}
    target = look(server, "bert_torch", protocol, outputs=("output__1",), **names)
    assert [output.name for output in target.outputs] == ["output__1"]
    ask(target, 2, outputs=("output__1",), **names)
    with pytest.raises(UsageError, match=r"--output-tensor nope: .* has output__0 \(FP32 \[2\]\), output__1"):
        look(server, "bert_torch", protocol, outputs=("nope",), **names)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_version_that_answers(server: TritonServer, protocol: str) -> None:
    assert look(server, "versioned", protocol).version == "2"
    assert look(server, "versioned", protocol, version="1").version == "1"
    with pytest.raises(TargetError, match=r"no version 7 that is ready; it has versions 1, 2"):
        look(server, "versioned", protocol, version="7")
    with pytest.raises(UsageError, match="version 'latest'"):
        look(server, "versioned", protocol, version="latest")


# --- Faults ---


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    ("model", "names", "error", "said"),
    [
        (
            "nope",
            {},
            TargetError,
            r"no model 'nope' at .*; it has bert_fixed, .*\(not ready: broken, unloaded\): name one",
        ),
        (
            "broken",
            {},
            TargetError,
            r"'broken' \(version 1\) .* is UNAVAILABLE, not ready: .*the weights are not there",
        ),
        ("unloaded", {}, TargetError, "'unloaded' is in the repository of .* but not loaded"),
        ("image", {}, TargetError, r"pixels \(FP32 \[3, 8, 8\]\).*of unknown use.*--text-tensor"),
        ("text_pair", {}, TargetError, "QUESTION .*, CONTEXT .* of unknown use"),
        ("bert_torch", {}, TargetError, "input__0 .* input__2 .*--attention-mask-tensor"),
        ("bert_position", {}, TargetError, r"input position_ids \(INT64 \[-1\]\) is of unknown use"),
        ("decoupled", {}, TargetError, "any number of times"),
        ("bert_fixed", {"sequence_length": 129}, UsageError, "--sequence-length 129: .* at most the 128"),
        ("bert_fixed", {"vocabulary_size": 1}, UsageError, "--vocabulary-size 1"),
        ("bert_fixed", {"input_ids": "ids"}, UsageError, "--input-ids-tensor ids: .* no such input"),
        ("text_open", {"attention_mask": "QUERY"}, UsageError, "is BYTES, expected INT32 or INT64"),
    ],
)
def test_faults_of_models_are_named(
    server: TritonServer, protocol: str, model: str, names: dict[str, object], error: type[LoadTestError], said: str
) -> None:
    with pytest.raises(error, match=said):
        look(server, model, protocol, **names)


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_faults_of_servers_are_named(server: TritonServer, protocol: str, silent_port: int) -> None:
    def said(address: str, timeout_s: float = 60.0) -> str:
        with pytest.raises(TargetError) as caught:
            inspect(address, "text_open", names=TensorNames(), access=Access(), timeout_s=timeout_s)
        return str(caught.value)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        free = listener.getsockname()[1]
    assert "start one (python -m server), or give --url" in said(f"{protocol}://127.0.0.1:{free}")
    other = server.http_url if protocol == "grpc" else server.grpc_url
    assert f"does not speak {protocol}" in said(f"{protocol}://{other.partition('://')[2]}")
    assert f"{protocol}://127.0.0.1:{silent_port}" in said(f"{protocol}://127.0.0.1:{silent_port}", 0.5)
    with pytest.raises(UsageError, match="URL 'localhost:8001'"):
        inspect("localhost:8001", "m", names=TensorNames(), access=Access())


def test_an_http_server_that_is_no_triton_is_named(server: TritonServer) -> None:
    with pytest.raises(TargetError, match="is no Triton"):
        inspect(server.http_url + "/base", "text_open", names=TensorNames(), access=Access())


# --- Restricted APIs ---


@pytest.fixture(scope="module", params=["metadata", "model-config,model-repository", "model-config"])
def restricted(
    request: pytest.FixtureRequest,
    module_server_factory: Callable[..., TritonServer],
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[str, TritonServer]:
    """APIs that take a key, and the server that wants it."""
    apis = str(request.param)
    repository, backends = foreign_models.write(tmp_path_factory.mktemp("restricted"))
    flags = (f"--grpc-restricted-protocol={apis}:pass=word", f"--http-restricted-api={apis}:pass=word")
    return apis, module_server_factory(
        repository, backends=backends, models=["text_open", "bert_fixed"], extra_args=flags
    )


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_restricted_apis_cost_settings_not_the_measurement(restricted: tuple[str, TritonServer], protocol: str) -> None:
    apis, server = restricted
    for model, batch_size in (("text_open", 3), ("bert_fixed", 8)):
        target = look(server, model, protocol)
        assert target.version == "1"
        assert (target.triton_version == "") == (apis == "metadata")
        assert target.instances.startswith("not told") == ("model-config" in apis)
        ask(target, batch_size)
    with pytest.raises(TargetError, match="nope"):
        look(server, "nope", protocol)
    header = "triton-grpc-protocol-pass" if protocol == "grpc" else "pass"
    access = Access(headers={header: "word"})
    target = look(server, "bert_fixed", protocol, access=access)
    assert (target.instances, target.triton_version) == ("1 x KIND_CPU", "2.51.0")
    ask(target, 8, access=access)


def test_a_server_that_tells_nothing_is_named(server_factory: Callable[..., TritonServer], tmp_path: Path) -> None:
    repository, backends = foreign_models.write(tmp_path)
    flags = ("--grpc-restricted-protocol=model-config,metadata:pass=word",)
    server = server_factory(repository, backends=backends, models=["text_open"], extra_args=flags)
    with pytest.raises(TargetError, match=r"restricts what must be known of the model: .*--header"):
        look(server, "text_open")


# --- What the client says for it ---


@pytest.mark.parametrize("kind", client_models.CLIENTS)
def test_the_client_tells_what_a_target_is_made_of(server: TritonServer, kind: str) -> None:
    with client_models.connect(server, kind) as client:
        assert client.server_info().version == "2.51.0"
        assert "statistics" in client.server_info().extensions
        metadata = client.model_metadata("versioned")
        assert metadata.versions == ("1", "2")
        assert metadata.inputs[0].dims == (-1, 1)
        assert client.model_metadata("versioned", version=1).name == "versioned"
        info = client.model_info("bert_optional")
        assert [one.optional for one in info.inputs] == [False, True]
        assert (info.instance_groups[0].kind, info.instance_groups[0].count) == ("KIND_CPU", 1)
        assert client.model_info("decoupled").decoupled
