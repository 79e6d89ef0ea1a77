# SPDX-License-Identifier: Apache-2.0
"""Each event has one entry in the journal's catalog, and is logged somewhere."""

import re
import shutil
import subprocess
from pathlib import Path

from tests.rules.project import ROOT, modules
from vfagent.systemd.messages import Message

CATALOG = ROOT / "packaging/vfagent.catalog"


def test_the_catalog_explains_each_event_once() -> None:
    ids = re.findall(r"^-- ([0-9a-f]{32})$", CATALOG.read_text(), re.MULTILINE)
    assert ids == [message.value for message in Message]


def test_each_event_is_logged() -> None:
    text = "\n".join((ROOT / path).read_text() for path in modules())
    assert [
        message.name
        for message in Message
        if f"Message.{message.name})" not in text and f"Message.{message.name}," not in text
    ] == []


def test_systemd_takes_the_catalog(tmp_path: Path) -> None:
    """journalctl --update-catalog --root reads what a package installs, and names lines that it cannot parse."""
    folder = tmp_path / "usr/lib/systemd/catalog"
    folder.mkdir(parents=True)
    shutil.copy(CATALOG, folder)
    (tmp_path / "var/lib/systemd/catalog").mkdir(parents=True)
    update = ["journalctl", "--update-catalog", f"--root={tmp_path}"]
    done = subprocess.run(update, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    database = (tmp_path / "var/lib/systemd/catalog/database").read_bytes()
    assert b"is as its rule says" in database
