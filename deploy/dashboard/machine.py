"""What it all runs on: the machine, its GPUs, and Prometheus itself."""

from __future__ import annotations

from .grafana import BLUE, RED, Panel, Query, Row
from .queries import UTILISATION

MACHINE = Row(
    "Machine",
    (
        Panel("CPU", [Query("nv_cpu_utilization", "{{instance}}")], "percentunit", "Of the whole machine.", maximum=1),
        Panel(
            "Memory",
            [
                Query("nv_cpu_memory_used_bytes", "{{instance}} used"),
                Query("nv_cpu_memory_total_bytes", "{{instance}} of"),
            ],
            "bytes",
        ),
        Panel(
            "Pinned memory",
            [Query("nv_pinned_memory_pool_used_bytes / nv_pinned_memory_pool_total_bytes", "{{instance}}")],
            "percentunit",
            "For copies to a GPU.",
            maximum=1,
        ),
        Panel(
            "GPU",
            [Query("nv_gpu_utilization", "{{gpu_uuid}}")],
            "percentunit",
            "Expected: 70 to 90 %.",
            thresholds=[(0.0, BLUE), *UTILISATION],
            maximum=1,
        ),
        Panel(
            "GPU memory",
            [Query("gpu:memory_used:ratio", "{{gpu_uuid}}")],
            "percentunit",
            "Expected: under 90 %.",
            thresholds=[(0.9, RED)],
            maximum=1,
        ),
        Panel(
            "GPU power",
            [Query("nv_gpu_power_usage", "{{gpu_uuid}}"), Query("nv_gpu_power_limit", "{{gpu_uuid}} limit")],
            "watt",
        ),
    ),
)

MONITORING = Row(
    "Monitoring itself",
    (
        Panel(
            "Scrapes",
            [Query("scrape_duration_seconds", "{{job}} {{instance}}")],
            "s",
            "How long a page of metrics takes.",
        ),
        Panel(
            "Rules that fail",
            [
                Query(
                    "sum by (rule_group) (increase(prometheus_rule_evaluation_failures_total[$__rate_interval]))",
                    "{{rule_group}}",
                )
            ],
        ),
        Panel("Series", [Query("prometheus_tsdb_head_series", "{{instance}}")], description="In Prometheus' memory."),
    ),
)
