"""Tables T1 to T6 of runs that nobody measured: what stands where, and what must not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from loadtest.cell import (
    FAILED,
    INTERRUPTED,
    INVALID,
    Capacity,
    Cost,
    Estimate,
    HardwareRow,
    ModelFacts,
    TextSource,
)
from loadtest.errors import UsageError
from loadtest.report.cell_table import cell_table
from loadtest.report.figures import number, with_interval
from loadtest.report.summary import Summary
from loadtest.report.table import BAD, COMPUTED, GOOD, MEASURED, MISSING, PUBLISHED, Table
from loadtest.report.tables import build, build_all
from tests.loadtest_runs import BATCH_CELLS, HARDWARE, cell, empty_run, facts, full_run


def row(table: Table, name: str) -> dict[str, str]:
    """The first row that begins with ``name``: heading -> text."""
    found = next(values for values in table.rows if values[0].text == name)
    return {column.heading: value.text for column, value in zip(table.columns, found, strict=True)}


def names(table: Table) -> list[str]:
    return [values[0].text for values in table.rows]


def here(table: Table, name: str) -> list[str]:
    """Texts of the measured columns of a row."""
    return [text for heading, text in row(table, name).items() if heading.startswith(MEASURED)]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, ""),
        (float("nan"), ""),
        (0, "0"),
        (1234.5, "1,234"),
        (142.4, "142"),
        (99.96, "100"),
        (21.44, "21.4"),
        (0.03814, "0.0381"),
        (9.512e-05, "0.0000951"),
    ],
)
def test_a_number_has_three_digits_and_never_loses_whole_ones(value: float | None, text: str) -> None:
    assert number(value) == text


def test_an_interval_is_shown_only_where_both_ends_are_known() -> None:
    assert with_interval(Estimate(423, 401, 450)) == "423 (401 to 450)"
    assert with_interval(Estimate(423, 401, None)) == "423"


def test_every_row_has_a_value_for_every_column() -> None:
    for run in (empty_run(), full_run()):
        for table in [*build_all(run), cell_table(run.cells)]:
            assert {len(values) for values in table.rows} <= {len(table.columns)}


def test_the_published_figures_are_those_of_the_reference_tables() -> None:
    published = [
        tuple(value.text for column, value in zip(table.columns, values, strict=True) if column.source == PUBLISHED)
        for table in (build(number, empty_run()) for number in (1, 2, 3, 4, 5, 6))
        for values in table.rows
    ]
    assert published[:4] == [
        ("92.1", "45", "3.2"),
        ("90.3", "78", "2.1"),
        ("85.7", "210", "1.1"),
        ("82.4", "500+", "-"),
    ]
    assert published[4:9] == [
        ("92.1", "438", "45"),
        ("90.3", "254", "22"),
        ("91.8", "110", "18"),
        ("89.5", "134", "20"),
        ("88.2", "219", "30"),
    ]
    assert published[9:14] == [
        ("15", "32", "40"),
        ("45", "142", "65"),
        ("78", "210", "120"),
        ("92", "240", "250"),
        ("95", "260", "480"),
    ]
    assert published[14:19] == [("120", "35"), ("240", "25"), ("480", "15"), ("18", "120"), ("320", "20")]
    assert published[19:24] == [
        ("$200 a month", "800", "$0.008"),
        ("$280 a month", "1,200", "$0.006"),
        ("$320 a month", "1,500", "$0.005"),
        ("$3,500 once", "5,000", "$0.002"),
        ("", "", ""),
    ]
    assert published[24:] == [("< 500 ms",), ("< 0.1 %",), ("70-90 %",), ("> 30 %",), ("by hardware",)]


def test_without_a_measurement_every_row_says_so_and_no_measured_column_has_a_digit() -> None:
    for table in build_all(empty_run()):
        assert not table.measured
        for values in table.rows:
            texts = [v.text for v, c in zip(values, table.columns, strict=True) if c.source == MEASURED]
            assert texts[0].startswith("not measured"), (table.key, values[0])
            assert not any(character.isdigit() for text in texts for character in text)


def test_a_row_fills_itself_when_a_model_of_its_architecture_was_measured() -> None:
    run = empty_run(
        facts=(facts("bert_int8", "int8", "BERT-base", 0.918), facts("bert_fp32", "fp32", "BERT-base", 0.921)),
        cells=(
            cell("precision-bert_fp32-latency", "precision", model="bert_fp32", users=1, p50_ms=44, per_s=22),
            cell("precision-bert_fp32-throughput", "precision", model="bert_fp32", users=8, p50_ms=200, per_s=39),
            cell("precision-bert_int8-latency", "precision", model="bert_int8", users=1, p50_ms=17, per_s=55),
            cell("precision-bert_int8-throughput", "precision", model="bert_int8", users=8, p50_ms=80, per_s=99),
        ),
    )
    t1, t2 = build(1, run), build(2, run)
    assert here(t1, "BERT-base") == ["92.1 (90.7 to 93.5)", "39.0 (37.0 to 41.0)", "1.23", "bert_fp32 (fp32)"]
    assert here(t1, "bert_int8 (BERT-base, int8)")[1] == "99.0 (94.0 to 104)"
    assert here(t2, "BERT-base") == ["92.1 (90.7 to 93.5)", "24.2", "44.0 (42.2 to 45.8)", "bert_fp32 (fp32)"]
    assert here(t2, "INT8 quantised")[3] == "bert_int8 (int8)"
    assert here(t2, "INT8 quantised")[2] == "17.0 (16.3 to 17.7)"
    assert here(t1, "DistilBERT")[0] == "not measured"
    assert names(t2) == ["BERT-base", "DistilBERT", "INT8 quantised", "distilled", "pruned 50 %"]


def test_int8_of_another_architecture_is_not_the_published_int8() -> None:
    run = empty_run(facts=(facts("small_int8", "int8", "bert 6 x 384"), facts("distil_int8", "int8", "DistilBERT")))
    table = build(2, run)
    assert here(table, "INT8 quantised")[0] == "not measured"
    assert here(table, "DistilBERT")[0] == "not measured"
    assert names(table)[5:] == ["distil_int8 (DistilBERT, int8)", "small_int8 (bert 6 x 384, int8)"]


def test_a_model_of_unknown_architecture_fills_no_published_row() -> None:
    table = build(1, empty_run(facts=(ModelFacts("mystery", "", "", None, None, 0, ""),)))
    assert here(table, "classic CRF")[0] == "not measured (not a transformer)"
    assert here(table, "mystery") == ["not measured", "not measured", "not measured", "mystery"]


@pytest.mark.parametrize("verdict", [FAILED, INVALID])
def test_a_cell_that_does_not_count_shows_no_number_as_a_capability(verdict: str) -> None:
    said = "OverloadedError in every third request"
    secret = {"p50_ms": 7777.0, "per_s": 5555.0}
    cells = (
        cell("precision-m-latency", "precision", model="m", users=1, verdict=verdict, reasons=(said,), **secret),
        cell("precision-m-throughput", "precision", model="m", users=4, verdict=verdict, reasons=(said,), **secret),
        cell("batch-size-8", "batch-size", batch_size=8, verdict=verdict, reasons=(said,), **secret),
        cell("capacity-rate-9", "capacity", rate_per_s=9, verdict=verdict, reasons=(said,), **secret),
    )
    run = empty_run(cells=cells, facts=(facts("m", "fp32", "BERT-base"),))
    tables = [*build_all(run), cell_table(run.cells)]
    texts = [value.text for table in tables for values in table.rows for value in values]
    assert not [text for text in texts if "7,777" in text or "5,555" in text or "20,220" in text or "44,440" in text]
    assert here(build(1, run), "BERT-base")[1] == f"{verdict}: {said}"
    assert here(build(2, run), "BERT-base")[2] == f"{verdict}: {said}"
    assert here(build(3, run), "8") == ["", "", "", f"{verdict}: {said}"]
    assert "no batch size measured keeps P99" in " ".join(build(3, run).notes)


def test_an_interrupted_cell_keeps_its_numbers_and_is_marked() -> None:
    stopped = cell("precision-m-throughput", "precision", model="m", users=4, per_s=50, verdict=INTERRUPTED)
    run = empty_run(cells=(stopped,), facts=(facts("m", "fp32", "BERT-base"),))
    assert here(build(1, run), "BERT-base")[1] == "50.0 (47.5 to 52.5), interrupted"


def test_t3_has_the_published_sizes_and_every_further_one() -> None:
    run = empty_run(cells=(*BATCH_CELLS[:2], cell("batch-size-4", "batch-size", batch_size=4, per_s=20, p50_ms=40)))
    table = build(3, run)
    assert names(table) == ["1", "4", "8", "16", "32", "64"]
    assert row(table, "4")["published: sentences/s"] == ""
    assert here(table, "4")[1:] == ["80.0 (76.0 to 84.0)", "104 (93.2 to 115)", "ok, within 500 ms"]
    assert here(table, "16")[0] == "not measured"


def test_t3_says_what_the_utilisation_is_of_and_leaves_it_out_where_the_server_was_not_read() -> None:
    with_counters = build(3, empty_run(cells=(cell("batch-size-1", "batch-size"),)))
    assert "measured here: CPU utilisation, %" in row(with_counters, "1")
    without = build(3, empty_run(cells=(cell("batch-size-1", "batch-size", counted=False),)))
    assert here(without, "1")[0] == "not known"


def test_t3_advises_the_largest_batch_size_within_the_limit() -> None:
    run = empty_run(cells=BATCH_CELLS)
    assert build(3, run).notes[0].startswith("16 is the largest batch size measured that keeps P99 within 500 ms")
    assert build(3, run, 100).notes[0].startswith("1 is the largest")
    assert build(3, run, 10).notes[0].startswith("no batch size")
    assert build(3, run, 100).rows[1][4].tone == BAD
    assert build(3, run).rows[1][4].tone == GOOD
    assert build(3, run).notes[1] == "No interval: the sample is too small for one at batch size 32 (32 answers)."


def test_several_models_have_rows_of_their_own_in_t3() -> None:
    cells = (
        cell("batch-size-8-a", "batch-size", model="a", batch_size=8),
        cell("batch-size-8-b", "batch-size", model="b", batch_size=8),
    )
    table = build(3, empty_run(cells=cells))
    assert [(values[0].text, values[1].text) for values in table.rows if values[3].text] == [("a", "8"), ("b", "8")]


def test_t4_puts_a_measured_machine_beside_the_published_one_that_it_is() -> None:
    t4_machine = HardwareRow("Intel Xeon, 8 cores; NVIDIA T4", "bert", "fp16", 8, "4 users", 130, 61, "2026-11-22", "r")
    own = HardwareRow(HARDWARE, "bert", "int8", 1, "4 users", 68, 412, "2026-11-22", "r")
    table = build(4, empty_run(hardware=(t4_machine, own)))
    assert here(table, "NVIDIA T4") == [
        "130",
        "61.0",
        "Intel Xeon, 8 cores; NVIDIA T4, bert, fp16, batch size 8, 4 users, 2026-11-22, run r",
    ]
    assert here(table, "CPU (16 cores)")[0] == "not measured"
    assert here(table, HARDWARE)[:2] == ["68.0", "412"]
    assert len(table.rows) == 6


def test_t5_computes_the_published_options_by_its_formula_in_a_column_of_its_own() -> None:
    table = build(5, empty_run())
    # $200 / (800/s x 3,600 s x 730 h) x 1,000
    assert row(table, "AWS g4dn.xlarge")[f"{COMPUTED}: per 1,000 requests at full load"] == "$0.0000951"
    assert row(table, "own server (2 x A100)")[f"{COMPUTED}: per 1,000 requests at full load"] == "no monthly price"
    assert "3,600 s x 730 h" in table.notes[0]


def test_t5_shows_a_price_only_where_the_user_gave_one() -> None:
    capacity = Capacity("sentiment", 500, 0.001, None, "", 58, "capacity-rate-58", False)
    unpriced = build(5, empty_run(capacities=(capacity,)))
    assert here(unpriced, "this server, sentiment") == ["give --monthly-price", "58.0", "", "give --monthly-price"]
    assert "at least that" in unpriced.notes[-1]
    paid = Cost("my server", 200, "€", 58, 0.5, 0.00262)
    priced = build(5, empty_run(capacities=(capacity,), costs=(paid,)))
    assert here(priced, "my server") == ["€200", "58.0", "50.0", "€0.00262"]
    assert "this server, sentiment" not in names(priced)


def test_t6_holds_the_thresholds_against_the_cell_that_shows_the_capacity() -> None:
    table = build(6, full_run())
    assert here(table, "P99 latency") == ["468 (419 to 517) ms", "met"]
    assert here(table, "error rate (5xx)") == ["0 % (0 of 571)", "met"]
    assert here(table, "GPU utilisation (memory, compute)")[1] == "not comparable: this is the CPU"
    assert here(table, "cache hit rate")[0] == "not measured (every text is distinct)"


def test_t6_reads_a_cache_only_from_cells_that_repeat_texts() -> None:
    repeating = cell("concurrency-4", "concurrency", per_s=50)
    assert repeating.server is not None
    repeating = replace(
        repeating,
        spec=replace(repeating.spec, texts=TextSource(repeat_share=0.5)),
        server=replace(repeating.server, text_cache_hits=100),
    )
    table = build(6, empty_run(cells=(repeating,)))
    assert here(table, "cache hit rate") == ["20.0 % where 50.0 % of the texts repeat", "not met"]


def test_a_caption_says_what_and_how() -> None:
    caption = build(3, full_run()).caption
    for part in (
        HARDWARE,
        "Triton 2.51.0",
        "sentiment version 1 (text, int8)",
        "instances 1 x KIND_CPU",
        "batching dynamic",
        "gRPC",
        "closed workload, 4 users",
        "batch size 1, 8, 16, 32, 64",
        "log-normal words",
        "10 s a cell after 2.0 s of warm-up",
        "9 failures",
        "2026-11-22",
    ):
        assert part in caption


def test_the_table_of_cells_judges_by_a_limit_only_if_one_is_given() -> None:
    table = cell_table(BATCH_CELLS)
    assert [values[-1].text for values in table.rows[:4]] == ["ok"] * 4
    assert cell_table(BATCH_CELLS, 300).rows[2][-1].text == "ok, over 300 ms"
    failed = table.rows[4]
    assert failed[-1].text.startswith("failed: 9 of 25 requests failed")
    assert [value.tone for value in failed[6:11]] == [MISSING] * 5
    assert [value.text for value in failed[4:6]] == ["16", "9"]


def test_the_summary_counts_verdicts_and_concludes() -> None:
    summary = Summary.of(full_run(), 500)
    assert summary.sentence == "22 cells measured: 20 ok, 1 failed, 1 invalid."
    assert summary.tone == "failed"
    assert any("58.0 requests/s" in finding for finding in summary.findings)
    assert any("16 is the largest batch size" in finding for finding in summary.findings)
    assert summary.warnings[0][1] == ("batch-size-32",)
    assert Summary.of(empty_run(), 500).sentence == "No cell was measured."
    assert Summary.of(empty_run(cells=BATCH_CELLS[:1]), 500).sentence == "1 cell measured, all ok."


def test_there_is_no_table_7() -> None:
    with pytest.raises(UsageError, match="T7: expected T1 to T6"):
        build(7, empty_run())
