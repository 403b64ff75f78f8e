"""The committed dashboard is the generated one, and fits on the page."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from deploy.dashboard.__main__ import PATH, main, text
from deploy.dashboard.grafana import GRID_COLUMNS, Panel, Query
from tests import monitoring


def test_the_committed_dashboard_is_the_generated_one() -> None:
    assert PATH.read_text(encoding="utf-8") == text(), "run: python -m deploy.dashboard"


def test_a_change_is_noticed_and_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "dashboard.json"
    assert main(["--dry-run", "--output", str(file)]) == 1
    assert not file.exists()
    assert main(["--output", str(file)]) == 0
    assert main(["--dry-run", "--output", str(file)]) == 0
    assert "is up to date" in capsys.readouterr().out


def test_panels_have_ids_of_their_own_and_do_not_overlap() -> None:
    panels = monitoring.dashboard()["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= GRID_COLUMNS
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not cells & taken, panel["title"]
        taken |= cells


def test_titles_tell_panels_of_a_row_apart() -> None:
    titles: list[str] = []
    for panel in monitoring.dashboard()["panels"]:
        if panel["type"] == "row":
            titles = []
        assert panel["title"] not in titles
        titles.append(panel["title"])


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"queries": []}, "no query"),
        ({"width": 25}, "width 25"),
        ({"thresholds": [(1.0, "red"), (0.5, "green")]}, "ascending"),
    ],
)
def test_a_panel_that_does_not_fit_is_refused(how: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Panel(**{"title": "one", "queries": [Query("up")], **how})  # type: ignore[arg-type]


def test_grafana_finds_the_dashboard_and_prometheus() -> None:
    provisioning = monitoring.GRAFANA / "provisioning"
    (provider,) = yaml.safe_load((provisioning / "dashboards" / "bert-triton.yml").read_text())["providers"]
    assert provider["type"] == "file"
    assert Path(provider["options"]["path"]).name == PATH.parent.name
    (source,) = yaml.safe_load((provisioning / "datasources" / "prometheus.yml").read_text())["datasources"]
    assert source["type"] == "prometheus"
    config = yaml.safe_load((monitoring.PROMETHEUS / "prometheus.yml").read_text())
    assert source["jsonData"]["timeInterval"] == config["global"]["scrape_interval"]
