"""Grafana's JSON: panels in rows, laid out from left to right. Knows nothing of what is shown.

The keys are those of dashboard schema version 39 (Grafana 10.3 to 11); later versions migrate it when they load it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

SCHEMA_VERSION = 39
GRID_COLUMNS = 24
ROW_HEIGHT = 1
# The dashboard's variable that names the data source, so that it can be imported anywhere.
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}

GREEN, YELLOW, RED, BLUE = "green", "yellow", "red", "blue"

Json = dict[str, Any]
Kind = Literal["timeseries", "stat", "heatmap", "table"]


@dataclass(frozen=True)
class Query:
    """A PromQL expression and the legend of its series, ``{{label}}`` filled in."""

    expr: str
    legend: str = ""


@dataclass(frozen=True)
class Panel:
    """One picture.

    Attributes:
        title: what it shows.
        queries: where from.
        unit: one of Grafana's: short, percentunit, s, bytes, reqps, ...
        description: what to make of it, behind the panel's "i".
        kind: of panel.
        thresholds: (from this value on, colour), ascending; below the first it is green.
        stacked: whether series add up.
        maximum: of the axis.
        width: of `GRID_COLUMNS`.
        height: in Grafana's units of 30 pixels.

    Raises:
        ValueError: a field does not fit.
    """

    title: str
    queries: Sequence[Query]
    unit: str = "short"
    description: str = ""
    kind: Kind = "timeseries"
    thresholds: Sequence[tuple[float, str]] = ()
    stacked: bool = False
    maximum: float | None = None
    width: int = 8
    height: int = 8

    def __post_init__(self) -> None:
        if not self.queries:
            raise ValueError(f"panel {self.title!r} has no query; give it one")
        if not 1 <= self.width <= GRID_COLUMNS:
            raise ValueError(f"panel {self.title!r} has width {self.width}; expected 1 to {GRID_COLUMNS}")
        if list(self.thresholds) != sorted(self.thresholds):
            raise ValueError(f"panel {self.title!r} has thresholds {self.thresholds}; expected ascending ones")


@dataclass(frozen=True)
class Row:
    """Panels under a heading."""

    title: str
    panels: Sequence[Panel]


@dataclass(frozen=True)
class Variable:
    """A choice at the top of the page: the values of a label, several of them or all."""

    name: str
    query: str


def dashboard(uid: str, title: str, description: str, variables: Sequence[Variable], rows: Sequence[Row]) -> Json:
    """The whole file."""
    return {
        "annotations": {"list": []},
        "description": description,
        "editable": False,
        "fiscalYearStartMonth": 0,
        "graphTooltip": 1,  # the crosshair stands at the same moment in all panels
        "id": None,
        "links": [],
        "panels": list(_laid_out(rows)),
        "refresh": "30s",
        "schemaVersion": SCHEMA_VERSION,
        "tags": ["bert-triton"],
        "templating": {"list": [_datasource_variable(), *map(_variable, variables)]},
        "time": {"from": "now-3h", "to": "now"},
        "timepicker": {},
        "timezone": "browser",
        "title": title,
        "uid": uid,
        "version": 1,
    }


def _laid_out(rows: Sequence[Row]) -> Iterator[Json]:
    """Every row's heading and its panels, as many beside each other as fit."""
    number, y = 1, 0
    for row in rows:
        yield _heading(row, number, y)
        number, y = number + 1, y + ROW_HEIGHT
        x = line_height = 0
        for panel in row.panels:
            if x + panel.width > GRID_COLUMNS:
                x, y, line_height = 0, y + line_height, 0
            yield _panel(panel, number, {"h": panel.height, "w": panel.width, "x": x, "y": y})
            number, x, line_height = number + 1, x + panel.width, max(line_height, panel.height)
        y += line_height


def _heading(row: Row, number: int, y: int) -> Json:
    position = {"h": ROW_HEIGHT, "w": GRID_COLUMNS, "x": 0, "y": y}
    return {"collapsed": False, "gridPos": position, "id": number, "panels": [], "title": row.title, "type": "row"}


def _panel(panel: Panel, number: int, position: Json) -> Json:
    return {
        "datasource": DATASOURCE,
        "description": panel.description,
        "fieldConfig": {"defaults": _defaults(panel), "overrides": []},
        "gridPos": position,
        "id": number,
        "options": _options(panel.kind),
        "targets": [_target(panel.kind, query, index) for index, query in enumerate(panel.queries)],
        "title": panel.title,
        "type": panel.kind,
    }


def _defaults(panel: Panel) -> Json:
    steps = [{"color": GREEN, "value": None}, *({"color": color, "value": value} for value, color in panel.thresholds)]
    defaults: Json = {"thresholds": {"mode": "absolute", "steps": steps}, "unit": panel.unit, "min": 0}
    if panel.maximum is not None:
        defaults["max"] = panel.maximum
    if panel.kind == "timeseries":
        defaults["color"] = {"mode": "palette-classic"}
        defaults["custom"] = {
            "fillOpacity": 30 if panel.stacked else 0,
            "lineWidth": 1,
            "showPoints": "never",
            "spanNulls": False,
            "stacking": {"group": "A", "mode": "normal" if panel.stacked else "none"},
            "thresholdsStyle": {"mode": "line" if panel.thresholds else "off"},
        }
    else:
        defaults["color"] = {"mode": "thresholds"}
    return defaults


_OPTIONS: dict[Kind, Json] = {
    "timeseries": {
        "legend": {"calcs": ["lastNotNull", "max"], "displayMode": "table", "placement": "bottom", "showLegend": True},
        "tooltip": {"mode": "multi", "sort": "desc"},
    },
    "stat": {
        "colorMode": "background",
        "graphMode": "area",
        "justifyMode": "auto",
        "orientation": "auto",
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        "textMode": "auto",
    },
    "heatmap": {
        "calculate": False,
        "cellGap": 1,
        "color": {"mode": "scheme", "scheme": "Oranges", "steps": 32},
        "legend": {"show": True},
        "tooltip": {"mode": "single", "showColorScale": False, "yHistogram": False},
        "yAxis": {"axisPlacement": "left", "unit": "s"},
    },
    "table": {"cellHeight": "sm", "footer": {"show": False}, "showHeader": True},
}


def _options(kind: Kind) -> Json:
    return _OPTIONS[kind]


def _target(kind: Kind, query: Query, index: int) -> Json:
    formats = {"heatmap": "heatmap", "table": "table"}
    return {
        "datasource": DATASOURCE,
        "editorMode": "code",
        "expr": query.expr,
        "format": formats.get(kind, "time_series"),
        "instant": kind == "table",
        "legendFormat": query.legend or "__auto",
        "range": kind != "table",
        "refId": chr(ord("A") + index),
    }


def _datasource_variable() -> Json:
    return {
        "current": {},
        "hide": 0,
        "includeAll": False,
        "label": "data source",
        "multi": False,
        "name": "datasource",
        "options": [],
        "query": "prometheus",
        "refresh": 1,
        "regex": "",
        "type": "datasource",
    }


def _variable(variable: Variable) -> Json:
    return {
        "allValue": ".*",
        "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
        "datasource": DATASOURCE,
        "definition": variable.query,
        "hide": 0,
        "includeAll": True,
        "label": variable.name,
        "multi": True,
        "name": variable.name,
        "options": [],
        "query": {"query": variable.query, "refId": "StandardVariableQuery"},
        "refresh": 2,  # whenever the time range changes
        "regex": "",
        "sort": 1,
        "type": "query",
    }
