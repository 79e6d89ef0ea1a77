# SPDX-License-Identifier: Apache-2.0
"""The page as a whole: golden, and by the judgement of Prometheus' own tools.

`python -m tests.unit.metrics.views >tests/unit/metrics/page.txt` writes it anew; read the diff.
"""

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client.exposition import generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from tests.rules.project import imports, modules, none_of
from tests.unit.metrics import views
from vfagent.metrics import vf_traffic
from vfagent.metrics.counters import Counters
from vfagent.metrics.page import FAMILIES, collect, render
from vfagent.metrics.view import View
from vfagent.model.status import PolicyStatus
from vfagent.reconcile.status import snapshot

GOLDEN = Path(__file__).with_name("page.txt")


def sample(text: str, name: str, *labels: str) -> list[str]:
    """The values of a family's samples that have these labels: `pf="0000:3b:00.0"`."""
    found = [line for line in text.splitlines() if re.match(rf"{name}[{{ ]", line)]
    return [line.rpartition(" ")[2] for line in found if all(label in line for label in labels)]


def test_the_page_is_as_written() -> None:
    assert views.text(views.view()) == GOLDEN.read_text()


def test_promtool_has_nothing_to_say_of_the_page() -> None:
    done = subprocess.run(["promtool", "check", "metrics"], input=GOLDEN.read_bytes(), capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_promtool_would_tell_of_a_mistake() -> None:
    page = b"# HELP vfagent_vf_count x\n# TYPE vfagent_vf_count gauge\nvfagent_vf_count 1\n"
    assert (
        subprocess.run(["promtool", "check", "metrics"], input=page, capture_output=True, check=False).returncode == 3
    )


def test_prometheus_client_s_page_says_the_same() -> None:
    class Registry:
        def collect(self) -> list[Metric]:
            return list(collect(views.view()))

    theirs = list(text_string_to_metric_families(generate_latest(Registry()).decode()))
    managed = list(text_string_to_metric_families(GOLDEN.read_text()))
    assert managed[: len(theirs)] == theirs
    assert len(managed) == len(theirs) + len(vf_traffic.FAMILIES)


def test_every_family_that_is_declared_is_on_the_page_and_no_other() -> None:
    shown = re.findall(r"^# TYPE (\S+) (\S+)$", GOLDEN.read_text(), re.MULTILINE)
    assert sorted(shown) == sorted((family.name, family.kind.value) for family in FAMILIES)


def test_samples_have_the_labels_that_are_declared() -> None:
    declared = {family.name.removesuffix("_total"): set(family.labels) for family in FAMILIES}
    for metric in text_string_to_metric_families(GOLDEN.read_text()):
        for found in metric.samples:
            assert set(found.labels) - {"le"} == declared[metric.name], found


def test_no_label_is_called_type() -> None:
    assert not [family for family in FAMILIES if "type" in family.labels]


@pytest.mark.parametrize("name", ["vfagent_pf_mtu_bytes", "vfagent_pf_carrier", "vfagent_pf_vfs_actual"])
def test_what_is_not_known_of_a_pf_is_absent(name: str) -> None:
    text = GOLDEN.read_text()
    assert sample(text, name, views.STORAGE)
    assert not sample(text, name, views.FRESH)


def test_counters_that_a_kernel_does_not_have_are_absent() -> None:
    name = "vfagent_vf_transmit_dropped_packets_total"
    assert not sample(GOLDEN.read_text(), name, 'vf="0"')
    assert sample(GOLDEN.read_text(), name, 'vf="1"') == ["0.0"]


def test_a_vf_that_is_gone_is_gone_from_the_page_at_once() -> None:
    found = views.view()
    pf = replace(found.status.pfs[0], vfs=found.status.pfs[0].vfs[1:])
    text = views.text(replace(found, status=replace(found.status, pfs=(pf,))))
    assert 'vf="1"' in text
    assert 'vf="0"' not in text


def test_a_bad_policy_on_disk_is_told_and_the_one_in_force_too() -> None:
    policy = replace(views.POLICY, problems=("policy.toml:1: vsf",))
    text = views.text(View(snapshot((), policy, "1", ready=True), Counters()))
    assert sample(text, "vfagent_policy_last_reload_successful") == ["0.0"]
    assert sample(text, "vfagent_policy_info", 'digest="0123456789ab"') == ["1.0"]


def test_a_bad_policy_at_start_leaves_none_in_force() -> None:
    text = views.text(View(snapshot((), PolicyStatus((), "", 1.0, ("bad",)), "1", ready=True), Counters()))
    assert sample(text, "vfagent_policy_last_reload_successful") == ["0.0"]
    assert not sample(text, "vfagent_policy_info")
    assert not sample(text, "vfagent_policy_last_reload_success_timestamp_seconds")


@pytest.mark.parametrize(
    "name", ['a"b', "a\\b", "a\nb", "a\x1b[31mb", "a\u202eb", "e\udce4", "}{", "#", "ä" * 200], ids=ascii
)
def test_what_a_card_calls_itself_cannot_break_the_page(name: str) -> None:
    found = views.view()
    pf = replace(found.status.pfs[0], model=name, interface=name, driver=name, rule=name)
    text = views.text(replace(found, status=replace(found.status, pfs=(pf,))))
    assert all(char.isprintable() or char == "\n" for char in text)
    infos = [one for one in text_string_to_metric_families(text) if one.name == "vfagent_pf_info"]
    assert [set(found.labels) for one in infos for found in one.samples] == [
        {"pf", "netdev", "driver", "model", "rule"}
    ]
    done = subprocess.run(["promtool", "check", "metrics"], input=text.encode(), capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_page_is_kept_compressed_and_comes_back_in_small_pieces() -> None:
    page = render(views.view())
    pieces = list(page.unpacked())
    assert b"".join(pieces).decode() == GOLDEN.read_text()
    assert page.size == len(GOLDEN.read_bytes())
    assert len(page.packed) < page.size / 4
    assert max(map(len, pieces)) <= 1 << 15


def test_the_types_come_without_an_http_server() -> None:
    program = "import sys, vfagent.metrics.page; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "prometheus_client.metrics_core" in loaded
    assert not loaded & {"http.server", "wsgiref", "email", "prometheus_client.exposition"}


def test_nothing_of_this_is_loaded_before_somebody_asks() -> None:
    program = "import sys, vfagent.service.agent; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "vfagent.metrics.endpoint" in loaded
    assert not loaded & {"prometheus_client", "vfagent.metrics.server", "vfagent.metrics.page", "vfagent.metrics.tls"}


WATCHED_RENDERING = """
import sys
from tests.unit.metrics import views
from vfagent.metrics.page import render
found, view, done = [], views.view(), False
render(view)  # once before, since what is needed is imported then
sys.addaudithook(lambda event, arguments: done or found.append((event, arguments)))
render(view)
done = True
touching = ("open", "os.", "socket.", "subprocess.", "import", "ctypes.")
touched = [one for one in found if one[0].startswith(touching)]
sys.exit(repr(touched) if touched else 0)
"""


def test_a_scrape_reads_no_file_and_asks_the_kernel_nothing() -> None:
    done = subprocess.run([sys.executable, "-c", WATCHED_RENDERING], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_collectors_know_nothing_of_the_kernel() -> None:
    allowed = ("collections.abc", "vfagent.metrics", "vfagent.model.status", "vfagent.kernel.vf_counters")
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
