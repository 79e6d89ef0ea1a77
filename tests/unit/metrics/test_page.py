# SPDX-License-Identifier: Apache-2.0
"""The whole page: against a golden file, and by Prometheus' own tools.

`python -m tests.unit.metrics.views >tests/unit/metrics/page.txt` rewrites it; read the diff.
"""

import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from tests.rules.project import ROOT, imports, modules, none_of
from tests.unit.metrics import views
from vfagent.metrics.counters import Counters
from vfagent.metrics.families import Kind
from vfagent.metrics.page import FAMILIES, Format, negotiated, render
from vfagent.metrics.view import View
from vfagent.model.numvfs_lock import KernelBusy
from vfagent.model.status import PolicyStatus
from vfagent.reconcile.status import pf_status, snapshot

OPENMETRICS: Any = openmetrics.text_string_to_metric_families
GOLDEN = Path(__file__).with_name("page.txt")
MANUAL = (ROOT / "packaging/man/vfagent-metrics.7.md").read_text().replace("\\_", "_")


def values(text: str, name: str, *labels: str) -> list[str]:
    """The values of a family's samples that have these labels: `pf="0000:3b:00.0"`."""
    samples = [line for line in text.splitlines() if re.match(rf"{name}[{{ ]", line)]
    return [line.rpartition(" ")[2] for line in samples if all(label in line for label in labels)]


def test_the_page_equals_the_golden_file() -> None:
    assert views.text(views.view()) == GOLDEN.read_text()


def test_promtool_accepts_the_page() -> None:
    done = subprocess.run(["promtool", "check", "metrics"], input=GOLDEN.read_bytes(), capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_promtool_reports_a_bad_page() -> None:
    page = b"# HELP vfagent_vf_count x\n# TYPE vfagent_vf_count gauge\nvfagent_vf_count 1\n"
    assert (
        subprocess.run(["promtool", "check", "metrics"], input=page, capture_output=True, check=False).returncode == 3
    )


def test_the_page_in_openmetrics_has_the_same_samples() -> None:
    """By a parser that is stricter than Prometheus: order, names of counters, units, duplicates, the end."""
    families = list(OPENMETRICS(views.text(views.view(), Format.OPENMETRICS)))
    assert families == list(text_string_to_metric_families(GOLDEN.read_text()))


def test_promtool_takes_openmetrics_as_text_where_the_two_agree() -> None:
    """promtool reads the text format alone, where a counter's HELP has its suffix."""
    page = views.text(views.view(), Format.OPENMETRICS)
    done = subprocess.run(["promtool", "check", "metrics"], input=page, text=True, capture_output=True, check=False)
    counters = [family.name for family in FAMILIES if family.kind is Kind.COUNTER]
    assert done.stderr.splitlines() == [f"{name} no help text" for name in sorted(counters)]


def test_no_created_series_is_exported() -> None:
    """A series more for each counter and histogram; Prometheus does not use them."""
    assert "_created" not in views.text(views.view(), Format.OPENMETRICS)


@pytest.mark.parametrize(
    ("accept", "form"),
    [
        ("", Format.TEXT),
        ("*/*", Format.TEXT),
        ("text/plain", Format.TEXT),
        ("text/plain;version=1.0.0", Format.TEXT),
        ("text/html,application/xhtml+xml,*/*;q=0.8", Format.TEXT),
        ("application/openmetrics-text", Format.OPENMETRICS),
        ("application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3", Format.OPENMETRICS),
        ("application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6", Format.OPENMETRICS),
    ],
)
def test_a_client_gets_the_format_it_accepts(accept: str, form: Format) -> None:
    assert negotiated(accept) is form


@pytest.mark.parametrize(
    "accept", ["application/openmetrics-text;version=x", "application/openmetrics-text;version=1.x,=", ";;,"]
)
def test_a_version_that_is_no_number_is_answered(accept: str) -> None:
    assert negotiated(accept) in Format


@pytest.mark.parametrize("form", Format)
def test_the_page_has_the_metrics_of_the_agents_process(form: Format) -> None:
    text = b"".join(render(views.view(), form, os.getpid()).unpacked()).decode()
    parse = OPENMETRICS if form is Format.OPENMETRICS else text_string_to_metric_families
    rest = list(parse(text))[len(FAMILIES) :]
    names = {sample.name for metric in rest for sample in metric.samples}
    assert {"process_cpu_seconds_total", "process_resident_memory_bytes", "process_open_fds"} <= names
    assert all(f"*{name}*" in MANUAL for name in names)


def test_the_page_has_exactly_the_declared_families() -> None:
    shown = re.findall(r"^# TYPE (\S+) (\S+)$", GOLDEN.read_text(), re.MULTILINE)
    assert sorted(shown) == sorted((family.name, family.kind.value) for family in FAMILIES)


def test_samples_have_the_declared_labels() -> None:
    declared = {family.name.removesuffix("_total"): set(family.labels) for family in FAMILIES}
    for metric in text_string_to_metric_families(GOLDEN.read_text()):
        for sample in metric.samples:
            assert set(sample.labels) - {"le"} == declared[metric.name], sample


def test_no_label_is_called_type() -> None:
    assert not [family for family in FAMILIES if "type" in family.labels]


@pytest.mark.parametrize("name", ["vfagent_pf_mtu_bytes", "vfagent_pf_carrier", "vfagent_pf_vfs_actual"])
def test_unknown_values_of_a_pf_are_omitted(name: str) -> None:
    text = GOLDEN.read_text()
    assert values(text, name, views.STORAGE)
    assert not values(text, name, views.FRESH)


def test_counters_that_the_kernel_does_not_report_are_omitted() -> None:
    name = "vfagent_vf_transmit_dropped_packets_total"
    assert not values(GOLDEN.read_text(), name, 'vf="0"')
    assert values(GOLDEN.read_text(), name, 'vf="1"') == ["0.0"]


def test_the_traffic_of_a_removed_vf_is_omitted_at_once() -> None:
    view = views.view()
    pf = replace(view.status.pfs[0], vfs=view.status.pfs[0].vfs[1:])
    text = views.text(replace(view, status=replace(view.status, pfs=(pf,))))
    assert 'vf="1"' in text
    assert 'vf="0"' not in text


def test_an_invalid_policy_on_disk_is_shown_beside_the_active_one() -> None:
    policy = replace(views.POLICY, problems=("policy.toml:1: vsf",))
    text = views.text(View(snapshot((), policy, "1", ready=True), Counters()))
    assert values(text, "vfagent_policy_last_reload_successful") == ["0.0"]
    assert values(text, "vfagent_policy_info", 'digest="0123456789ab"') == ["1.0"]


def test_a_rule_without_a_pf_counts_none_once_the_service_is_ready() -> None:
    assert values(GOLDEN.read_text(), "vfagent_rule_pfs", 'rule="renamed"') == ["0.0"]
    starting = snapshot(views.view().status.pfs, views.POLICY, "1", ready=False)
    assert not values(views.text(View(starting, Counters())), "vfagent_rule_pfs")


def test_a_policy_that_was_not_compared_with_the_one_on_disk_is_neither_active_nor_not() -> None:
    assert values(GOLDEN.read_text(), "vfagent_policy_on_disk_active") == ["0.0"]
    unknown = snapshot((), replace(views.POLICY, on_disk_active=None), "1", ready=True)
    assert not values(views.text(View(unknown, Counters())), "vfagent_policy_on_disk_active")


def test_a_pf_that_waits_to_create_its_vfs_shows_it() -> None:
    state = views.converging()
    state.kernel_busy = KernelBusy("0000:5e:00.0 removes its VFs", hangs=True)
    text = views.text(View(snapshot((pf_status(state),), views.POLICY, "1", ready=True), Counters()))
    assert values(text, "vfagent_pf_waits_for_turn") == ["1.0"]
    assert values(GOLDEN.read_text(), "vfagent_pf_waits_for_turn", views.STORAGE) == ["0.0"]


def test_an_invalid_policy_at_the_start_leaves_none_active() -> None:
    text = views.text(View(snapshot((), PolicyStatus((), "", 1.0, ("bad",)), "1", ready=True), Counters()))
    assert values(text, "vfagent_policy_last_reload_successful") == ["0.0"]
    assert not values(text, "vfagent_policy_info")
    assert not values(text, "vfagent_policy_last_reload_success_timestamp_seconds")


@pytest.mark.parametrize(
    "name", ['a"b', "a\\b", "a\nb", "a\x1b[31mb", "a\u202eb", "e\udce4", "}{", "#", "ä" * 200], ids=ascii
)
def test_what_a_card_calls_itself_cannot_break_the_page(name: str) -> None:
    view = views.view()
    pf = replace(view.status.pfs[0], model=name, interface=name, driver=name, rule=name)
    text = views.text(replace(view, status=replace(view.status, pfs=(pf,))))
    assert all(char.isprintable() or char == "\n" for char in text)
    infos = [family for family in text_string_to_metric_families(text) if family.name == "vfagent_pf_info"]
    assert [set(sample.labels) for family in infos for sample in family.samples] == [
        {"pf", "netdev", "driver", "model", "rule"}
    ]
    done = subprocess.run(["promtool", "check", "metrics"], input=text.encode(), capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_page_is_compressed_and_unpacked_in_small_pieces() -> None:
    page = render(views.view(), Format.TEXT, os.getpid())
    pieces = list(page.unpacked())
    assert b"".join(pieces).decode().startswith(GOLDEN.read_text())
    assert page.size == len(b"".join(pieces))
    assert b"".join(page.pieces()) == page.packed
    assert len(page.packed) < page.size / 4
    assert max(map(len, pieces)) <= 1 << 15


def test_rendering_is_not_imported_before_the_first_client() -> None:
    program = "import sys, vfagent.service.agent; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "vfagent.metrics.endpoint" in loaded
    assert not loaded & {
        "prometheus_client",
        "vfagent.metrics.serving",
        "vfagent.metrics.server",
        "vfagent.metrics.page",
    }


WATCHED_RENDERING = """
import os, sys
from tests.unit.metrics import views
from vfagent.metrics.page import Format, render
events, view, done, pid = [], views.view(), False, os.getppid()
for form in Format:
    render(view, form, pid)  # first, for what it imports
sys.addaudithook(lambda event, arguments: done or events.append((event, arguments)))
for form in Format:
    render(view, form, pid)
done = True
touching = ("open", "os.", "socket.", "subprocess.", "import", "ctypes.")
allowed = {"/proc/stat", *(f"/proc/{pid}/{name}" for name in ("stat", "limits", "fd"))}
touched = [event for event in events if event[0].startswith(touching) and event[1][0] not in allowed]
sys.exit(repr(touched) if touched else 0 if events else "nothing was watched")
"""


def test_rendering_opens_no_socket_and_no_file_but_the_agents_own_in_proc() -> None:
    done = subprocess.run([sys.executable, "-c", WATCHED_RENDERING], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_collectors_do_not_import_kernel_adapters() -> None:
    values = ("vfagent.model.guest_usage", "vfagent.model.status")
    allowed = ("collections.abc", "prometheus_client.metrics_core", "vfagent.metrics", *values)
    files = [f"vfagent/metrics/{name}.py" for name in ("agent", "guests", "pfs", "policy", "vf_traffic", "vfs")]
    collectors = {path: tree for path, tree in modules().items() if path in files}
    assert len(collectors) == len(files)
    none_of(
        [
            f"{path}:{at}: {name}"
            for path, tree in collectors.items()
            for at, name in imports(tree)
            if not name.startswith(allowed)
        ]
    )
