"""What the models do: text models by what ``bert_text`` counts, tensor models by what Triton counts.

Series of ``model:...`` are recorded by ``deploy/prometheus/recording.rules.yml``.
"""

from __future__ import annotations

from .grafana import GREEN, RED, YELLOW, Panel, Query, Row
from .queries import OF_VERSION, P99_S, VERSION, mean, quantiles, rate

TEXT_MODELS = Row(
    "Text models",
    (
        Panel(
            "Requests, by outcome",
            [Query(rate("bert_text_requests_total", "model, version, outcome"), f"{VERSION} {{{{outcome}}}}")],
            "reqps",
            "queue_full, timed_out and failed are errors of the service; invalid and cancelled are the caller's doing.",
            stacked=True,
        ),
        Panel(
            "Latency",
            quantiles("bert_text_request_duration_seconds", "model, version", OF_VERSION, VERSION),
            "s",
            "Of answered requests, from arrival in the model to the answer.",
            thresholds=P99_S,
        ),
        Panel(
            "Texts",
            [
                Query(rate("bert_text_texts_total", "model, version"), f"{VERSION} received"),
                Query(rate("bert_text_executed_texts_total", "model, version"), f"{VERSION} computed"),
            ],
            "short",
            "Per second.",
        ),
        Panel("Texts that wait", [Query(f'model:waiting:sum{{source="bert_text", {OF_VERSION}}}', VERSION)]),
        Panel(
            "Wait of a text",
            [
                Query(
                    mean("bert_text_queue_duration_us_total", "bert_text_executed_texts_total", "1e-6"),
                    f"{VERSION} mean",
                ),
                Query(f"model:expected_wait_seconds:1m{{{OF_VERSION}}}", f"{VERSION} of one that comes now"),
            ],
            "s",
            "For its execution.",
            thresholds=P99_S,
        ),
        Panel(
            "Waiting over computing",
            [Query(f"model:queue_to_compute:ratio_5m{{{OF_VERSION}}}", f"{VERSION} {{{{source}}}}")],
            description="Mean wait over mean execution. 4 is a server that is 89 % busy (M/D/1).",
            thresholds=[(4.0, RED)],
        ),
        Panel(
            "Batch size",
            [Query(f"model:batch_size:mean_5m{{{OF_VERSION}}}", f"{VERSION} {{{{source}}}}")],
            description="Mean texts of an execution; of a tensor model's also for callers of its own.",
        ),
        Panel(
            "Tokens of an execution",
            [
                Query(mean("bert_text_tokens_total", "bert_text_executions_total"), f"{VERSION} tokens"),
                Query(mean("bert_text_padding_tokens_total", "bert_text_executions_total"), f"{VERSION} padding"),
            ],
            description="A packed graph drops the padding before it computes.",
        ),
        Panel(
            "Time of an execution",
            [Query(mean("bert_text_compute_duration_us_total", "bert_text_executions_total", "1e-6"), VERSION)],
            "s",
            "As bert_text sees it, with the wait behind the call before.",
        ),
        Panel(
            "Cache hits",
            [Query(f"model:cache_hits:ratio_1h{{{OF_VERSION}}}", VERSION)],
            "percentunit",
            "Over 1 h; expected: over 30 %.",
            thresholds=[(0.0, YELLOW), (0.3, GREEN)],
            maximum=1,
        ),
        Panel(
            "Texts in the cache", [Query(f"sum by (model, version) (bert_text_cache_entries{{{OF_VERSION}}})", VERSION)]
        ),
        Panel(
            "Texts refused or cut",
            [
                Query(rate("bert_text_rejected_texts_total", "model, version, reason"), f"{VERSION} {{{{reason}}}}"),
                Query(rate("bert_text_truncated_texts_total", "model, version"), f"{VERSION} truncated"),
            ],
            "short",
            "Per second.",
        ),
    ),
)

TENSOR_MODELS = Row(
    "Triton's own counters",
    (
        Panel(
            "Requests that fail",
            [Query(rate("nv_inference_request_failure", "model, version, reason"), f"{VERSION} {{{{reason}}}}")],
            "reqps",
            "Of text models only what is refused at once: read their outcomes above.",
        ),
        Panel(
            "Inferences", [Query(rate("nv_inference_count", "model, version"), VERSION)], "short", "Rows per second."
        ),
        Panel(
            "Pending requests",
            [Query(f"sum by (model, version) (nv_inference_pending_request_count{{{OF_VERSION}}})", VERSION)],
            description="In Triton's queue, which for a text model is always empty.",
        ),
        Panel(
            "Queue",
            [Query(mean("nv_inference_queue_duration_us", "nv_inference_request_success", "1e-6"), VERSION)],
            "s",
            "Mean of a request.",
        ),
        Panel(
            "Compute",
            [Query(mean("nv_inference_compute_infer_duration_us", "nv_inference_request_success", "1e-6"), VERSION)],
            "s",
            "Mean of a request.",
        ),
        Panel(
            "Input and output",
            [
                Query(
                    mean("nv_inference_compute_input_duration_us", "nv_inference_request_success", "1e-6"),
                    f"{VERSION} input",
                ),
                Query(
                    mean("nv_inference_compute_output_duration_us", "nv_inference_request_success", "1e-6"),
                    f"{VERSION} output",
                ),
            ],
            "s",
            "Mean of a request.",
        ),
    ),
)
