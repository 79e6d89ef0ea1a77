# SPDX-License-Identifier: Apache-2.0
"""Rules, alerts, runbook and dashboard: promtool accepts them, and their metrics exist."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.rules.project import ROOT, none_of, passes
from vfagent.metrics.page import FAMILIES

FOLDER = ROOT / "packaging/monitoring"
RULES = (FOLDER / "rules/vfagent.yml").read_text()
ALERTS = re.findall(r"^ +- alert: (\S+)$", RULES, re.MULTILINE)
RECORDED = re.findall(r"^ +- record: (\S+)$", RULES, re.MULTILINE)
KNOWN = {family.name for family in FAMILIES}
NUMBERS = {f"{family.name}{suffix}" for family in FAMILIES for suffix in ("", "_bucket", "_sum", "_count")}
VARIABLES = {"$__rate_interval": "5m", "$datasource": "x", "$instance": "a", "$job": "vfagent", "$pf": "0000:3b:00.0"}


def test_promtool_accepts_the_scrape_configuration() -> None:
    passes("promtool", "check", "config", "--syntax-only", FOLDER / "prometheus.yml")


def test_promtool_accepts_the_rules() -> None:
    passes("promtool", "check", "rules", FOLDER / "rules/vfagent.yml")


@pytest.mark.wide
def test_alerts_fire_when_they_should() -> None:
    passes("promtool", "test", "rules", FOLDER / "rules_test.yml")


@pytest.mark.parametrize("name", ALERTS)
def test_every_alert_is_in_the_runbook_and_tested_both_ways(name: str) -> None:
    runbook, tests = (FOLDER / "runbook.md").read_text(), (FOLDER / "rules_test.yml").read_text()
    assert f"\n## {name}\n\n**Means:** " in runbook
    assert f"runbook.md#{name.lower()}\n" in RULES
    assert re.search(rf"alertname: {name}\n +exp_alerts:", tests)
    assert re.search(rf"alertname: {name}}}", tests)


def test_the_runbook_has_exactly_the_alerts() -> None:
    assert re.findall(r"^## (\S+)$", (FOLDER / "runbook.md").read_text(), re.MULTILINE) == ALERTS


def names_in(text: str) -> set[str]:
    return set(re.findall(r"\bvfagent_[a-z0-9_]+", text))


@pytest.mark.parametrize("file", ["rules/vfagent.yml", "rules_test.yml", "dashboard.json", "README.md", "runbook.md"])
def test_every_metric_named_here_exists(file: str) -> None:
    text = (FOLDER / file).read_text().replace("vfagent_pf_vfs_*", "")
    for name in sorted(RECORDED, key=len, reverse=True):
        text = text.replace(name, "")
    none_of([f"{file}: {name}" for name in sorted(names_in(text) - NUMBERS)])


def test_every_recording_rule_is_tested() -> None:
    tests = (FOLDER / "rules_test.yml").read_text()
    assert all(f"- expr: {name}\n" in tests for name in RECORDED)


DASHBOARD: dict[str, Any] = json.loads((FOLDER / "dashboard.json").read_text())


PANELS: list[dict[str, Any]] = [panel for row in DASHBOARD["panels"] for panel in (row, *row.get("panels", ()))]


def queries() -> Iterator[str]:
    for panel in PANELS:
        yield from (target["expr"] for target in panel.get("targets", ()))


def test_the_dashboard_has_variables_for_source_host_and_pf() -> None:
    assert [variable["name"] for variable in DASHBOARD["templating"]["list"]] == ["datasource", "job", "instance", "pf"]
    sources = [panel["datasource"]["uid"] for panel in PANELS if "datasource" in panel]
    assert set(sources) == {"${datasource}"}


def test_the_panels_of_the_dashboard_do_not_overlap() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in PANELS:
        place = panel["gridPos"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not cells & taken, panel["title"]
        assert place["x"] + place["w"] <= 24
        taken |= cells


def test_each_panel_says_what_it_shows_and_in_which_unit() -> None:
    """The rules panel-title-description and panel-units of Grafana's dashboard-linter."""
    shown = [panel for panel in PANELS if panel["type"] != "row"]
    assert not [panel["title"] for panel in shown if not (panel["title"] and panel.get("description"))]
    assert not [panel["title"] for panel in shown if not panel["fieldConfig"]["defaults"].get("unit")]
    assert not [panel["title"] for panel in shown if not panel.get("targets")]


def test_each_query_is_of_the_chosen_job_and_fits_the_time_that_is_shown() -> None:
    """target-job-rule and target-rate-interval-rule; quantiles and drift are of a fixed hour."""
    for query in queries():
        assert query.count('job="$job"') == len(re.findall(r"\bvfagent_\w+|\bup\b", query)), query
        assert set(re.findall(r"\[([^]]+)\]", query)) <= {"$__rate_interval", "1h"}, query


def test_the_dashboard_is_not_editable_and_its_variables_follow_the_time_range() -> None:
    """uneditable-dashboard and template-on-time-change-reload-rule."""
    variables = DASHBOARD["templating"]["list"]
    assert DASHBOARD["editable"] is False
    assert {variable["refresh"] for variable in variables if variable["type"] == "query"} == {2}


def test_the_agent_s_own_work_is_in_a_collapsed_row() -> None:
    (row,) = (panel for panel in PANELS if panel.get("collapsed"))
    assert {"Steps", "Events and rounds", "Stuck workers"} < {panel["title"] for panel in row["panels"]}


def test_promtool_accepts_the_queries_of_the_dashboard(tmp_path: Path) -> None:
    """As rules, which promtool reads, with values in place of the variables."""
    lines = ["groups:", "  - name: dashboard", "    rules:"]
    for number, query in enumerate(queries()):
        for name, chosen in VARIABLES.items():
            query = query.replace(name, chosen)
        lines += [f"      - record: query:number:{number}", f"        expr: {json.dumps(query)}"]
    rules = tmp_path / "queries.yml"
    rules.write_text("\n".join(lines) + "\n")
    passes("promtool", "check", "rules", rules)


def test_the_dashboard_shows_every_other_metric() -> None:
    shown = names_in("\n".join(queries()))
    left_out = KNOWN - {name.removesuffix("_bucket") for name in shown}
    assert left_out <= {
        "vfagent_start_time_seconds",
        "vfagent_ready",
        "vfagent_policy_info",
        "vfagent_policy_files",
        "vfagent_policy_on_disk_active",
        "vfagent_rule_pfs",
        "vfagent_pf_mtu_bytes",
        "vfagent_pf_admin_up",
        "vfagent_pf_carrier",
        "vfagent_pf_mode_info",
        "vfagent_pf_stuck",
        "vfagent_pf_waits_for_turn",
        "vfagent_pf_pending_steps",
        "vfagent_pf_problems",
        "vfagent_bridge_problems",
        "vfagent_vf_transmit_dropped_packets_total",
        "vfagent_vf_receive_broadcast_packets_total",
        "vfagent_vf_receive_multicast_packets_total",
    }
