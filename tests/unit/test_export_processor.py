"""The processor, from files that look like /proc/cpuinfo."""

from __future__ import annotations

from pathlib import Path

from export import processor


def cpuinfo(folder: Path, text: str) -> Path:
    path = folder / "cpuinfo"
    path.write_text(text, encoding="utf-8")
    return path


def test_x86(tmp_path: Path) -> None:
    path = cpuinfo(
        tmp_path, "model name\t: Some CPU @ 2 GHz\nvmx flags\t: avx2\nflags\t\t: fpu amx_int8 avx512_vnni\n\n" * 2
    )
    assert processor.name(path) == "Some CPU @ 2 GHz"
    assert processor.features(path) == ("avx512_vnni", "amx_int8")


def test_arm(tmp_path: Path) -> None:
    path = cpuinfo(tmp_path, "processor\t: 0\nFeatures\t: fp asimddp bf16\n")
    assert processor.features(path) == ("asimddp", "bf16")
    assert processor.name(path)


def test_a_system_that_does_not_say(tmp_path: Path) -> None:
    assert processor.features(tmp_path / "absent") == ()
    assert processor.name(tmp_path / "absent")
