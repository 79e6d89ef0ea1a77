# SPDX-License-Identifier: Apache-2.0
"""The dashboard as a picture, from what a Prometheus saw on the lab's host.

    python3 -m tests.lab.picture record run.json            boots a VM, and lets things happen in it
    python3 -m tests.lab.picture draw run.json docs/dashboard.png

Drawing needs matplotlib (Debian: python3-matplotlib), which nothing else does. Panels are drawn as Grafana would: its
grid, its joins of tables, its units and thresholds.
"""

import argparse
import json
import re
import time
from math import isnan
from pathlib import Path
from typing import Any

from tests.lab.facts import netdev
from tests.lab.nic import Igb
from tests.lab.prometheus import Prometheus, dashboard_panels, dashboard_queries
from tests.lab.test_monitoring import LATE, MORE, PF, UNIT, clock, guest, phase, reload_with
from tests.lab.test_monitoring import payload as lab_payload
from tests.lab.vm import VM

CHOSEN = {"job": "vfagent", "instance": "127.0.0.1:9862", "pf": PF}
STEP_S = 2
Panel = dict[str, Any]
Row = dict[str, str]


# What happens


def record() -> dict[str, Any]:
    with VM([Igb("igb0")], lab_payload(), hypervisor=True) as vm:
        prometheus, began = Prometheus(vm), clock(vm)
        _story(vm, prometheus)
        return {"panels": _asked(prometheus, began, clock(vm)), "began": began}


def _story(vm: VM, prometheus: Prometheus) -> None:
    """A boot, a guest, a hotplug, drift, crashes, and a change that a guest holds up."""
    prometheus.until(guest("running"))
    time.sleep(30)
    vm.hotplug(Igb("igb1"))
    prometheus.until(phase(LATE, "converged"))
    time.sleep(20)
    for vf, vlan in ((1, 20), (2, 30)):
        vm.run(f"ip link set {netdev(vm, PF)} vf {vf} vlan {vlan}")
        time.sleep(10)
    for _ in range(2):
        vm.run(f"systemctl kill --signal=SEGV {UNIT}")
        time.sleep(3)
        prometheus.until(guest("running"))
        time.sleep(15)
    reload_with(vm, MORE)
    prometheus.until(phase(PF, "deferred"))
    time.sleep(20)


def _asked(prometheus: Prometheus, began: float, end: float) -> list[Panel]:
    results: dict[int, list[Any]] = {}
    for panel, target in dashboard_queries(**CHOSEN):
        result = prometheus.over(target["expr"], began, end, STEP_S)
        results.setdefault(panel["id"], []).append({"target": target, "result": result})
    return [panel | {"found": results.get(panel["id"], [])} for panel in dashboard_panels()]


# How Grafana shows it


def shown(value: float, unit: str | None) -> str:
    match unit:
        case "percentunit":
            return f"{100 * value:.0f} %"
        case "s":
            return f"{value:.3g} s" if value >= 1 else f"{1000 * value:.3g} ms"
        case "dateTimeFromNow":
            return time.strftime("%H:%M:%S", time.gmtime(value / 1000))
        case _:
            return f"{value:.3g}" if value % 1 else f"{value:.0f}"


def named(legend: str, labels: Row) -> str:
    return re.sub(r"\{\{(\w+)\}\}", lambda placeholder: labels.get(placeholder[1], ""), legend)


def last(series: dict[str, Any]) -> float:
    return float(series["values"][-1][1])


def table(panel: Panel, end: float) -> list[Row]:
    """What is there at the end, after the panel's own transformations."""
    steps = {item["id"]: item["options"] for item in panel["transformations"]}
    rows = _joined(panel, end, steps.get("joinByField", {}).get("byField"))
    names, renamed = steps["filterFieldsByName"]["include"]["names"], steps.get("organize", {}).get("renameByName", {})
    units = {
        item["matcher"]["options"]: item["properties"][0]["value"] for item in panel["fieldConfig"].get("overrides", ())
    }
    return [{renamed.get(name, name): _cell(row, name, units.get(renamed.get(name))) for name in names} for row in rows]


def _joined(panel: Panel, end: float, key: str | None) -> list[Row]:
    rows: dict[str, Row] = {}
    for asked in panel["found"]:
        for series in asked["result"]:
            if end - series["values"][-1][0] <= 2 * STEP_S:
                labels = series["metric"]
                place = rows.setdefault(labels.get(key, "") if key else json.dumps(labels), {})
                place |= labels | {f"Value #{asked['target']['refId']}": series["values"][-1][1]}
    return [rows[place] for place in sorted(rows)]


def _cell(row: Row, name: str, unit: str | None) -> str:
    text = row.get(name, "")
    return shown(float(text), unit) if name.startswith("Value #") and text else text


# The picture

_INK, _FAINT, _GREEN, _RED = "#24292e", "#8a9099", "#1a7f37", "#cf222e"
_WIDE_IN, _ROW_IN, _LETTER_IN, _DPI = 15.0, 0.27, 0.085, 100


def draw(run: dict[str, Any], path: Path) -> None:
    import matplotlib as mpl
    from matplotlib import pyplot

    mpl.rcParams.update({"font.size": 8, "axes.edgecolor": "#d0d7de", "axes.linewidth": 0.6, "text.color": _INK})
    panels = run["panels"]
    end = max(
        point[0]
        for panel in panels
        for asked in panel["found"]
        for series in asked["result"]
        for point in series["values"]
    )
    height = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in panels)
    figure = pyplot.figure(figsize=(_WIDE_IN, height * _ROW_IN), dpi=_DPI, facecolor="white")
    for panel in panels:
        place = panel["gridPos"]
        left, bottom = place["x"] / 24, 1 - (place["y"] + place["h"]) / height
        _draw_panel(figure, panel, (left, bottom, place["w"] / 24, place["h"] / height), run["began"], end)
    figure.savefig(path, dpi=_DPI, metadata={"Software": None})
    _fewer_colours(path)


def _draw_panel(figure: Any, panel: Panel, box: tuple[float, float, float, float], began: float, end: float) -> None:
    left, bottom, width, height = box
    title = panel["title"].replace("$instance", CHOSEN["instance"]).replace("$pf", CHOSEN["pf"])
    top = bottom + height
    if panel["type"] == "row":
        figure.text(left + 0.006, bottom + height / 2, f"▾ {title}", fontsize=11, weight="bold", va="center")
        return
    inch_x, inch_y = 1 / figure.get_figwidth(), 1 / figure.get_figheight()
    figure.text(left + 0.1 * inch_x, top - 0.16 * inch_y, title, fontsize=8.5, weight="bold", va="center")
    inner = (left + 0.1 * inch_x, bottom + 0.1 * inch_y, width - 0.2 * inch_x, height - 0.4 * inch_y)
    frame = figure.add_axes(
        (left + 0.03 * inch_x, bottom + 0.03 * inch_y, width - 0.06 * inch_x, height - 0.06 * inch_y)
    )
    frame.set(xticks=(), yticks=(), facecolor="none")
    match panel["type"]:
        case "stat":
            _draw_stat(figure, panel, inner)
        case "table":
            _draw_table(figure, table(panel, end), inner)
        case "timeseries":
            _draw_series(figure, panel, inner, began, end)


def _draw_stat(figure: Any, panel: Panel, box: tuple[float, float, float, float]) -> None:
    defaults, parts = panel["fieldConfig"]["defaults"], []
    for asked in panel["found"]:
        for series in asked["result"]:
            legend = named(asked["target"]["legendFormat"], series["metric"])
            text = shown(last(series), defaults.get("unit"))
            by_name = panel["options"].get("textMode") == "name"
            parts.append((legend if by_name else " ".join(filter(None, (legend, text))), last(series)))
    limit = max(
        (step["value"] for step in defaults.get("thresholds", {}).get("steps", ()) if step["value"]), default=None
    )
    bad = limit is not None and any(value >= limit for _, value in parts)
    left, bottom, width, height = box
    text = "   ".join(text for text, _ in parts) or "no data"
    colour = _FAINT if not parts else _RED if bad else _GREEN
    figure.text(left + width / 2, bottom + height / 2, text, fontsize=17, color=colour, ha="center", va="center")


def _draw_table(figure: Any, rows: list[Row], box: tuple[float, float, float, float]) -> None:
    left, bottom, width, height = box
    if not rows:
        figure.text(left + width / 2, bottom + height / 2, "no data", color=_FAINT, ha="center", va="center")
        return
    axes = figure.add_axes(box)
    axes.axis("off")
    titles = list(rows[0])
    cells = [titles, *([row[title] for title in titles] for row in rows)]
    widths = [max(len(row[i]) for row in cells) + 2 for i in range(len(titles))]
    room = max(sum(widths), width * figure.get_figwidth() / _LETTER_IN)
    starts = [sum(widths[:i]) / room for i in range(len(titles))]
    line = 0.2 / (height * figure.get_figheight())
    for number, row in enumerate(cells):
        for start, cell in zip(starts, row, strict=True):
            axes.text(start, 1 - (number + 0.5) * line, cell, color=_FAINT if number == 0 else _INK, va="center")


def _draw_series(figure: Any, panel: Panel, box: tuple[float, float, float, float], began: float, end: float) -> None:
    from matplotlib.ticker import FuncFormatter

    left, bottom, width, height = box
    inch_x, inch_y = 1 / figure.get_figwidth(), 1 / figure.get_figheight()
    axes = figure.add_axes((left + 0.45 * inch_x, bottom + 0.4 * inch_y, width - 0.5 * inch_x, height - 0.45 * inch_y))
    unit = panel["fieldConfig"]["defaults"].get("unit")
    for asked in panel["found"]:
        for series in asked["result"]:
            points = _with_gaps(series["values"])
            if all(isnan(value) for _, value in points):
                continue  # the quantile of nothing
            label = named(asked["target"]["legendFormat"], series["metric"])
            axes.plot([at - began for at, _ in points], [value for _, value in points], linewidth=1.2, label=label)
    axes.set_xlim(0, end - began)
    axes.grid(color="#eaeef2", linewidth=0.6)
    axes.tick_params(length=0, labelsize=7, colors=_FAINT)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda at, _: f"{at / 60:.1f} min" if at else "0"))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: shown(value, unit)))
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    if axes.lines:
        columns = max(1, int(width * figure.get_figwidth() / 1.5))
        axes.legend(loc="upper left", bbox_to_anchor=(-0.04, -0.1), ncol=columns, frameon=False, fontsize=7)
        axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]))
    else:
        text = panel.get("description", "no data")
        axes.text(0.5, 0.5, text, color=_FAINT, ha="center", va="center", transform=axes.transAxes)


def _with_gaps(values: list[list[Any]]) -> list[tuple[float, float]]:
    """Where a series was away, its line is interrupted."""
    points: list[tuple[float, float]] = []
    for at, value in values:
        if points and at - points[-1][0] > 2 * STEP_S:
            points.append((at, float("nan")))
        points.append((at, float(value)))
    return points


def _fewer_colours(path: Path) -> None:
    from PIL import Image

    Image.open(path).convert("RGB").quantize(128).save(path, optimize=True)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python3 -m tests.lab.picture", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", choices=("record", "draw"))
    parser.add_argument("run", type=Path)
    parser.add_argument("picture", type=Path, nargs="?", default=Path("docs/dashboard.png"))
    options = parser.parse_args()
    if options.what == "record":
        options.run.write_text(json.dumps(record()))
    else:
        draw(json.loads(options.run.read_text()), options.picture)


if __name__ == "__main__":
    main()
