# SPDX-License-Identifier: Apache-2.0
"""The Ansible role's package tasks with dnf, in a root whose RPM database has what vfagent requires.

Ansible reaches the root by a program in the place of ssh. systemd does not run there.
"""

import hashlib
import json
import os
import shlex
import subprocess
from dataclasses import asdict
from pathlib import Path

import pytest

from tests.lab.cache import built
from tests.lab.debian import Root, bootstrap, entry, run_in
from tests.lab.install import REPOSITORY
from tests.lab.test_ansible import ROLE, programs, run
from vfagent import __version__

__all__ = ["programs"]

pytestmark = pytest.mark.long

DNF = Root("bookworm", ("dnf", "python3-dnf", "rpm", "python3", "systemd", "udev"))
REQUIRED = """Name: required
Version: 1
Release: 1
Summary: What vfagent requires
License: none
BuildArch: noarch
{provides}
%description
In the place of Fedora's packages.
%files
"""
RELEASE = "Fedora release 42 (Adams)\n"
# By these Ansible knows a Debian, whose package manager it takes for apt's.
OF_DEBIAN = ("usr/bin/apt", "usr/bin/apt-get", "etc/debian_version", "etc/os-release")
PLAYBOOK = """
- hosts: all
  gather_facts: true
  tasks:
    - ansible.builtin.include_role:
        name: vfagent
        tasks_from: package
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    made = built("dnf", asdict(DNF), lambda work: bootstrap(DNF, work / "root"))
    root = tmp_path / "root"
    subprocess.run(["cp", "-a", "--reflink=auto", str(made / "root"), str(root)], check=True)
    for name in OF_DEBIAN:
        (root / name).unlink()
    (root / "etc/os-release").write_text('NAME="Fedora Linux"\nID=fedora\nVERSION_ID=42\n')
    (root / "etc/fedora-release").write_text(RELEASE)
    (root / "etc/redhat-release").symlink_to("fedora-release")
    return root


@pytest.fixture
def rpm(root: Path, tmp_path: Path) -> Path:
    """What it requires is installed first, as a package that provides it."""
    make = ["make", "--silent", "-C", str(REPOSITORY), "rpm", f"BUILD={tmp_path}/build"]
    subprocess.run(make, check=True, capture_output=True)
    [rpm] = (tmp_path / "build").glob("*.rpm")
    listed = subprocess.run(["rpm", "-qp", "--requires", str(rpm)], check=True, capture_output=True, text=True).stdout
    required = {line.replace(">=", "=") for line in listed.splitlines() if not line.startswith("rpmlib(")}
    provides = "\n".join(f"Provides: {line}" for line in sorted(required))
    (tmp_path / "required.spec").write_text(REQUIRED.format(provides=provides))
    build = ["rpmbuild", "-bb", "--quiet", "--define", f"_topdir {tmp_path}/top", str(tmp_path / "required.spec")]
    subprocess.run(build, check=True, capture_output=True)
    run_in(root, ["sh", "-ec", "rpm --install --nodeps /mnt/*.rpm"], {tmp_path / "top/RPMS/noarch": "/mnt"})
    return rpm


def test_dnf_installs_the_rpm_with_the_checksum_and_no_other(
    programs: Path,
    root: Path,
    rpm: Path,
    tmp_path: Path,
) -> None:
    ssh = tmp_path / "ssh"
    ssh.write_text(
        f'#!/bin/sh\nfor last; do :; done\nexec {shlex.join(entry(root, {}, network=False))} sh -c "$last"\n'
    )
    ssh.chmod(0o755)
    playbook = tmp_path / "package.yml"
    playbook.write_text(PLAYBOOK)
    reached = f"ansible_ssh_executable={ssh} ansible_ssh_transfer_method=piped"
    (tmp_path / "hosts").write_text(f"lab {reached} ansible_python_interpreter=/usr/bin/python3\n")

    def play(checksum: str) -> subprocess.CompletedProcess[str]:
        given = json.dumps({"vfagent_rpm": str(rpm), "vfagent_rpm_sha256": checksum})
        os.environ["ANSIBLE_ROLES_PATH"] = str(ROLE / "roles")
        argv = ["--inventory", str(tmp_path / "hosts"), "--extra-vars", given, str(playbook)]
        return run(programs, "ansible-playbook", *argv)

    refused = play("0" * 64)
    assert refused.returncode != 0
    assert "has the SHA-256" in refused.stdout, refused.stdout + refused.stderr
    assert "needs vfagent_rpm_sha256" in play("").stdout
    assert run_in(root, ["sh", "-c", "rpm -q vfagent || true"]) == "package vfagent is not installed\n"
    done = play(hashlib.sha256(rpm.read_bytes()).hexdigest())
    assert "TASK [vfagent : Enable and start the service]" in done.stdout, done.stdout + done.stderr
    assert run_in(root, ["rpm", "-q", "vfagent"]).startswith(f"vfagent-{__version__}-1")
    repeated = play(hashlib.sha256(rpm.read_bytes()).hexdigest())
    assert "changed=0" in repeated.stdout, repeated.stdout
