"""What both clients do between two steps: retries, deadlines, splitting, whose error it is. No server, no clock."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any, TypeVar

import pytest

import bert_triton_client as btc
from bert_triton_client import wire
from bert_triton_client.flows import Ask, Flow, Flows, Infer, Pause, Question, canary_request
from bert_triton_client.planning import Chunk, Planner

T = TypeVar("T")

CONFIG: dict[str, Any] = {
    "name": "sentiment",
    "backend": "bert_text",
    "max_batch_size": 4,
    "input": [{"name": "TEXT", "data_type": "TYPE_STRING", "dims": [1]}],
    "output": [{"name": "LABEL", "data_type": "TYPE_STRING", "dims": [1]}],
    "parameters": {
        "task": {"string_value": "text-classification"},
        "tensor_model": {"string_value": "sentiment_int8"},
    },
}
TENSOR_CONFIG: dict[str, Any] = {
    "name": "sentiment_int8",
    "backend": "onnxruntime",
    "max_batch_size": 4,
    "input": [{"name": "input_ids", "data_type": "TYPE_INT64", "dims": ["-1"]}],
}


class Server:
    """Answers steps on a clock of its own: every inference takes 1 s, a pause its time."""

    def __init__(self, config: dict[str, Any] = CONFIG) -> None:
        self.config = config
        self.now = 0.0
        self.took_s = 1.0
        self.faults: list[BaseException | None] = []  # one an inference, None = it works
        self.batches: list[list[bytes]] = []
        self.pauses: list[float] = []
        self.timeouts: list[float] = []
        self.asked: list[Question] = []
        self.traceparents: list[str | None] = []  # one an inference

    def clock(self) -> float:
        return self.now

    def run(self, flow: Flow[T]) -> T:
        outcome: Any = None
        error: BaseException | None = None
        try:
            while True:
                step = flow.send(outcome) if error is None else flow.throw(error)
                outcome = error = None
                try:
                    outcome = self.do(step)
                except btc.BertTritonError as exc:
                    error = exc
        except StopIteration as stop:
            return stop.value

    def do(self, step: Any) -> Any:
        if isinstance(step, Pause):
            self.pauses.append(step.seconds)
            self.now += step.seconds
            return None
        self.timeouts.append(step.timeout_s)
        if isinstance(step, Ask):
            self.asked.append(step.question)
            return self.config if step.question is Question.CONFIG else True
        return self.infer(step)

    def infer(self, step: Infer) -> wire.InferAnswer:
        self.traceparents.append(step.traceparent)
        self.now += min(self.took_s, step.timeout_s)
        if self.took_s > step.timeout_s:
            raise btc.DeadlineExceededError("transport")
        tensor = step.request.inputs[0]
        texts = wire.decode_bytes(tensor)
        self.batches.append(texts)
        if self.faults and (fault := self.faults.pop(0)):
            raise fault
        if len(texts) > self.config["max_batch_size"]:
            raise btc.BatchTooLargeError("batch-size must be <= ")
        for index, text in enumerate(texts):
            if text.startswith(b"bad"):
                raise btc.InvalidTextError(f"text {index}: bad", index=index, reason="bad")
        return classified(texts)


def classified(texts: list[bytes]) -> wire.InferAnswer:
    count = len(texts)
    tensors = (
        wire.RawTensor("LABEL", "BYTES", (count, 1), wire.encode_bytes(texts)),
        wire.RawTensor("SCORE", "FP32", (count, 1), struct.pack(f"<{count}f", *[1.0] * count)),
        wire.RawTensor("PROBABILITIES", "FP32", (count, 1), struct.pack(f"<{count}f", *[1.0] * count)),
    )
    return wire.InferAnswer("sentiment", "1", {tensor.name: tensor for tensor in tensors})


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def flows(server: Server) -> Flows:
    return Flows(btc.ClientConfig("grpc://localhost"), server.clock)


def classify(server: Server, flows: Flows, texts: list[Any], **options: Any) -> list[Any]:
    info = server.run(flows.text_model("text-classification", None, None, None))
    options = {"call": None, "on_error": "raise", **options}
    return [
        answer
        for chunk in flows.planner(info).split(texts)
        for answer in server.run(flows.classify(info, None, chunk, **options))
    ]


def labels(answers: list[Any]) -> list[str]:
    return [answer.label if isinstance(answer, btc.Classification) else f"!{answer.index}" for answer in answers]


# --- Splitting ---


def test_requests_hold_at_most_the_servers_max_batch_size(server: Server, flows: Flows) -> None:
    texts = [f"t{i}" for i in range(10)]
    assert labels(classify(server, flows, texts)) == texts
    assert [len(batch) for batch in server.batches] == [4, 4, 2]


def test_the_config_is_asked_for_once(server: Server, flows: Flows) -> None:
    for _ in range(3):
        classify(server, flows, ["a"])
    assert server.asked == [Question.CONFIG]


def test_a_smaller_max_batch_size_after_a_reload_is_learnt(server: Server, flows: Flows) -> None:
    classify(server, flows, ["a"])
    server.config = {**CONFIG, "max_batch_size": 1}
    texts = ["a", "b", "c", "d"]
    assert labels(classify(server, flows, texts)) == texts
    server.batches.clear()
    assert labels(classify(server, flows, texts)) == texts
    assert [len(batch) for batch in server.batches] == [1, 1, 1, 1]


def test_a_bad_text_in_a_half_keeps_its_place(server: Server, flows: Flows) -> None:
    classify(server, flows, ["a"])
    server.config = {**CONFIG, "max_batch_size": 1}
    with pytest.raises(btc.InvalidTextError) as caught:
        classify(server, flows, ["a", "b", "c", "bad"])
    assert caught.value.index == 3


# --- Bad texts ---


def test_the_index_of_a_bad_text_counts_in_the_callers_list(server: Server, flows: Flows) -> None:
    texts = [f"t{i}" for i in range(6)] + ["bad"]
    with pytest.raises(btc.InvalidTextError, match=r"^text 6: bad$") as caught:
        classify(server, flows, texts)
    assert caught.value.index == 6


def test_bad_texts_do_not_lose_the_others(server: Server, flows: Flows) -> None:
    texts = ["a", "bad", None, "b", "\ud800", "c", "bad", "d", "bad"]
    found = labels(classify(server, flows, texts, on_error="return"))
    assert found == ["a", "!1", "!2", "b", "!4", "c", "!6", "d", "!8"]


def test_a_chunk_of_nothing_but_bad_texts(server: Server, flows: Flows) -> None:
    assert labels(classify(server, flows, ["bad"] * 5, on_error="return")) == ["!0", "!1", "!2", "!3", "!4"]
    assert labels(classify(server, flows, [None] * 5, on_error="return")) == ["!0", "!1", "!2", "!3", "!4"]


def test_an_index_beyond_the_request_is_passed_on(server: Server, flows: Flows) -> None:
    server.faults = [btc.InvalidTextError("text 9: ?", index=9)]
    with pytest.raises(btc.InvalidTextError):
        classify(server, flows, ["a"], on_error="return")


# --- Retries ---


@pytest.mark.parametrize("fault", [btc.ServerUnreachableError("gone"), btc.OverloadedError("full")])
def test_what_is_safe_to_retry_is_retried(server: Server, flows: Flows, fault: btc.BertTritonError) -> None:
    server.faults = [fault] * 4
    assert labels(classify(server, flows, ["a"])) == ["a"]
    assert len(server.pauses) == 4
    assert all(pause <= bound for pause, bound in zip(server.pauses, [0.1, 0.2, 0.4, 0.8], strict=True))


@pytest.mark.parametrize(
    "fault",
    [
        btc.InvalidRequestError("x"),
        btc.AccessDeniedError("x"),
        btc.ModelNotFoundError("x"),
        btc.ServerFaultError("x"),
        btc.UnexpectedAnswerError("x"),
        btc.ClientClosedError("x"),
    ],
)
def test_nothing_else_is_retried(server: Server, flows: Flows, fault: btc.BertTritonError) -> None:
    server.faults = [fault]
    with pytest.raises(type(fault)):
        classify(server, flows, ["a"])
    assert server.pauses == []


def test_retries_end(server: Server, flows: Flows) -> None:
    server.faults = [btc.ServerUnreachableError("gone")] * 9
    with pytest.raises(btc.ServerUnreachableError):
        classify(server, flows, ["a"])
    assert len(server.batches) == 5  # one try and max_retries


def test_a_call_of_many_requests_waits_for_a_full_queue_until_the_deadline(server: Server, flows: Flows) -> None:
    server.took_s = 0.01
    server.faults = [btc.OverloadedError("full")] * 20
    assert labels(classify(server, flows, ["a"], patient=True)) == ["a"]
    server.faults = [btc.OverloadedError("full")] * 1000
    began_s = server.now
    # The jitter of the waits decides whether the deadline passes between two tries or during one.
    with pytest.raises((btc.OverloadedError, btc.DeadlineExceededError)):
        classify(server, flows, ["a"], patient=True, call=flows.call_deadline(5.0))
    assert server.now - began_s <= 5.0 + 1e-6


# --- Deadlines ---


def test_a_timeout_is_for_all_requests_of_a_call(server: Server, flows: Flows) -> None:
    with pytest.raises(btc.DeadlineExceededError, match=r"no answer within 2\.5 s"):
        classify(server, flows, ["a"] * 20, call=flows.call_deadline(2.5))
    assert server.now == pytest.approx(2.5)
    assert server.timeouts[1:] == pytest.approx([2.5, 1.5, 0.5])


def test_without_one_every_request_has_its_own(server: Server) -> None:
    flows = Flows(btc.ClientConfig("grpc://localhost", request_timeout_s=1.5), server.clock)
    assert len(classify(server, flows, ["a"] * 40)) == 40
    assert set(server.timeouts) == {1.5}


def test_the_clients_timeout_holds_where_the_call_names_none(server: Server) -> None:
    flows = Flows(btc.ClientConfig("grpc://localhost", timeout_s=7.0), server.clock)
    call = flows.call_deadline(None)
    assert call is not None
    assert call.remaining_s() == 7.0


def test_a_retry_never_goes_past_the_deadline(server: Server, flows: Flows) -> None:
    server.took_s = 0.4
    server.faults = [btc.ServerUnreachableError("gone")] * 9
    with pytest.raises((btc.ServerUnreachableError, btc.DeadlineExceededError)):
        classify(server, flows, ["a"], call=flows.call_deadline(1.0))
    assert server.now <= 1.0 + 1e-9


def test_an_unreachable_server_at_the_deadline_is_the_cause(server: Server, flows: Flows) -> None:
    server.faults = [btc.ServerUnreachableError("gone")]
    with pytest.raises(btc.DeadlineExceededError) as caught:
        classify(server, flows, ["a"], call=flows.call_deadline(1.0))
    assert isinstance(caught.value.__cause__, btc.ServerUnreachableError)


@pytest.mark.parametrize("timeout_s", [0, -1, float("nan"), "5"])
def test_bad_timeouts_are_refused(flows: Flows, timeout_s: Any) -> None:
    with pytest.raises(btc.InvalidConfigError, match="timeout_s"):
        flows.call_deadline(timeout_s)


# --- Models ---


@pytest.mark.parametrize("version", ["x", "0", 0, -1, "1.5", "²", ""])
def test_bad_versions_are_refused_alike_over_both_protocols(flows: Flows, version: Any) -> None:
    if version == "":
        assert flows.target("m", version) == ("m", "")
        return
    with pytest.raises(btc.InvalidRequestError, match="expected a whole number"):
        flows.target("m", version)


def test_a_tensor_model_and_another_task_are_refused(flows: Flows) -> None:
    with pytest.raises(btc.InvalidRequestError, match=r"takes tensors input_ids.*infer\(\)"):
        Server(TENSOR_CONFIG).run(flows.text_model("text-classification", "sentiment_int8", None, None))
    other = {**CONFIG, "parameters": {"task": {"string_value": "feature-extraction"}}}
    with pytest.raises(btc.InvalidRequestError, match="does feature-extraction"):
        Server(other).run(flows.text_model("text-classification", "embed", None, None))


@pytest.mark.parametrize("config", [[], {}, {"name": "x", "input": 3}, {"name": "x", "max_batch_size": "many"}])
def test_what_is_no_config_is_an_unexpected_answer(config: Any) -> None:
    with pytest.raises(btc.UnexpectedAnswerError):
        btc.ModelInfo.from_config(config)


def test_a_model_without_batching_gets_one_text_a_request(flows: Flows) -> None:
    server = Server({**CONFIG, "max_batch_size": 0})
    info = server.run(flows.model_info("sentiment", None, None))
    assert [len(chunk.texts) for chunk in flows.planner(info).split("abc")] == [1, 1, 1]
    assert wire.encode_texts("m", "", [b"a"], batched=False).inputs[0].shape == (1,)


def test_canaries_fit_text_and_tensor_models() -> None:
    (text,) = canary_request(btc.ModelInfo.from_config(CONFIG)).inputs
    assert (text.datatype, text.shape, len(wire.decode_bytes(text))) == ("BYTES", (1, 1), 1)
    (other,) = canary_request(btc.ModelInfo.from_config(CONFIG)).inputs
    assert wire.decode_bytes(text) != wire.decode_bytes(other), "a cache would answer the same text again"
    (ids,) = canary_request(btc.ModelInfo.from_config(TENSOR_CONFIG)).inputs
    assert (ids.datatype, ids.shape) == ("INT64", (1, 1))


# --- Waiting and health ---


def test_waiting_goes_on_until_the_canary_answers(server: Server, flows: Flows) -> None:
    server.faults = [btc.ServerFaultError("stub is not healthy"), btc.ServerUnreachableError("gone"), None]
    server.run(flows.wait_until_ready(60, None))
    assert len(server.batches) == 3


def test_waiting_in_vain_says_for_what(server: Server, flows: Flows) -> None:
    server.faults = [btc.ServerFaultError("stub is not healthy")] * 99
    with pytest.raises(btc.NotReadyError, match=r"not ready after 5 s: stub is not healthy") as caught:
        server.run(flows.wait_until_ready(5, None))
    assert isinstance(caught.value.__cause__, btc.ServerFaultError)
    assert server.now <= 5.1


@pytest.mark.parametrize("fault", [btc.WrongProtocolError("x"), btc.AccessDeniedError("x"), btc.ClientClosedError("x")])
def test_waiting_does_not_wait_for_the_impossible(server: Server, flows: Flows, fault: btc.BertTritonError) -> None:
    server.faults = [fault]
    with pytest.raises(type(fault)):
        server.run(flows.wait_until_ready(60, None))


def test_health_reports_a_fault_instead_of_raising_it(server: Server, flows: Flows) -> None:
    assert server.run(flows.health(None, None)) == btc.Health(True, True, 1000.0)
    server.faults = [btc.ServerFaultError("stub is not healthy")]
    health = server.run(flows.health(None, None))
    assert (health.ok, health.canary_ms, health.reason) == (False, None, "stub is not healthy")


# --- Reading Triton's answers, which differ in form between the protocols ---


def test_statistics_of_both_protocols_read_the_same() -> None:
    http = {"count": 2, "ns": 4_000_000}
    grpc = {"count": "2", "ns": "4000000"}

    def row(pair: dict[str, Any], number: Callable[[int], Any]) -> dict[str, Any]:
        names = ("success", "queue", "compute_input", "compute_infer", "compute_output")
        return {
            "model_stats": [
                {
                    "name": "m",
                    "version": "1",
                    "inference_count": number(6),
                    "execution_count": number(3),
                    "inference_stats": dict.fromkeys(names, pair),
                }
            ]
        }

    expected = btc.ModelStatistics("m", "1", 2, 0, 6, 3, 2.0, 6.0, 0)
    assert btc.ModelStatistics.from_json(row(http, int)) == [expected]
    assert btc.ModelStatistics.from_json(row(grpc, str)) == [expected]
    assert expected.mean_batch_size == 2.0
    assert btc.ModelStatistics("m", "1", 0, 0, 0, 0, 0.0, 0.0, 0).mean_batch_size == 0.0


def test_indexes_of_both_protocols_read_the_same() -> None:
    rows = [{"name": "b", "version": "10", "state": "READY"}, {"name": "b", "version": "9"}, {"name": "a"}]
    expected = [btc.ModelStatus("a", "", ""), btc.ModelStatus("b", "9", ""), btc.ModelStatus("b", "10", "READY")]
    assert btc.ModelStatus.from_index(rows) == btc.ModelStatus.from_index({"models": rows}) == expected


@pytest.mark.parametrize("read", [btc.ModelStatus.from_index, btc.ModelStatistics.from_json])
@pytest.mark.parametrize("value", [3, [3], {"models": [3], "model_stats": [3]}])
def test_what_is_neither_is_an_unexpected_answer(read: Callable[[Any], Any], value: Any) -> None:
    with pytest.raises(btc.UnexpectedAnswerError):
        read(value)


def test_chunks_and_planners_of_a_flow_are_plain_values() -> None:
    assert next(iter(Planner(1, 1).split(["a"]))) == Chunk(0, (b"a",))


# --- Traces ---


class Traces:
    """A ``traceparent`` for every time it is asked."""

    def __init__(self) -> None:
        self.given: list[str] = []

    def __call__(self) -> str:
        self.given.append(f"00-{len(self.given) + 1:032x}-00f067aa0ba902b7-01")
        return self.given[-1]


def traced(server: Server) -> tuple[Flows, Traces]:
    traces = Traces()
    return Flows(btc.ClientConfig("grpc://localhost", traceparent=traces), server.clock), traces


def test_every_request_of_a_call_has_its_trace_and_the_next_call_another(server: Server) -> None:
    flows, traces = traced(server)
    server.faults = [btc.OverloadedError("full")]  # one more try of the first request
    texts = ["a", "b", "bad", "d", "e"]
    classify(server, flows.of_call(), texts, on_error="return")
    assert len(server.batches) == 4, "full, bad, without the bad one, the second request"
    assert (server.traceparents, len(traces.given)) == ([traces.given[0]] * 4, 1)
    classify(server, flows.of_call(), ["f"])
    assert server.traceparents[4:] == traces.given[1:] != traces.given[:1]
    assert server.asked == [Question.CONFIG], "what one call learns is known to the next"


def test_halves_have_the_trace_of_the_whole(server: Server) -> None:
    flows, traces = traced(server)
    classify(server, flows.of_call(), ["a"])
    server.config = {**CONFIG, "max_batch_size": 1}
    classify(server, flows.of_call(), ["a", "b"])
    assert server.traceparents[1:] == [traces.given[1]] * 3


def test_canaries_have_a_trace(server: Server) -> None:
    flows, traces = traced(server)
    server.faults = [btc.ServerFaultError("stub is not healthy"), None]
    server.run(flows.of_call().wait_until_ready(60, None))
    server.run(flows.of_call().health(None, None))
    assert server.traceparents == [traces.given[0], *traces.given]


def test_no_trace_where_there_is_none(server: Server, flows: Flows) -> None:
    without = Flows(btc.ClientConfig("grpc://localhost", traceparent=lambda: None), server.clock)
    for each in (flows, without):
        classify(server, each.of_call(), ["a"])
    assert server.traceparents == [None, None]


def test_a_bad_trace_ends_the_call_before_its_first_step(server: Server) -> None:
    flows = Flows(btc.ClientConfig("grpc://localhost", traceparent=lambda: "abc"), server.clock)
    with pytest.raises(btc.InvalidConfigError, match=r"traceparent\(\) returned 'abc'"):
        flows.of_call()
