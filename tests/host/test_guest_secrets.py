# SPDX-License-Identifier: Apache-2.0
"""A guest's ROM, CHAP secret and VNC password."""

from pathlib import Path

from tests.host.fake_ipxe import fake_ipxe
from tests.host.fake_kernel import FakeKernel
from tests.host.guest_rig import PF, POLICY, ROM, SECOND, Run, Running, bus, kernel, run, runs
from tests.host.test_units import calls

__all__ = ["bus", "kernel", "run"]


def test_a_guest_waits_for_its_rom_until_it_is_built(kernel: FakeKernel, run: Run) -> None:
    kernel.tree.policy(ROM + SECOND)
    kernel.tree.add_pf(PF)

    async def story(agent: Running) -> None:
        await agent.until(lambda: agent.phase("y") == "running" and "Makefile" in str(agent.guest()))
        assert agent.phase() == "waiting"
        fake_ipxe(kernel.tree.root / "usr/src/ipxe")
        agent.guests.reload()
        await runs(agent)

    run(story)
    started = calls(kernel.tree.root / "calls", "StartTransientUnit")
    [rom] = [body for body in started if "iPXE ROM" in str(body)]
    guest = dict(started[-1][2])
    assert dict(rom[2])["PrivateNetwork"] == ["b", True]
    assert Path(dict(guest["LoadCredential"][1])["vf.rom"]).read_bytes().startswith(b"\x55\xaa")


def test_a_chap_secret_is_in_no_message_and_no_property(kernel: FakeKernel, run: Run) -> None:
    kernel.tree.policy(POLICY + '[guest.chap]\nuser = "me"\nsecret = "/etc/vfagent/chap"\n')
    kernel.tree.add_pf(PF)
    secret = kernel.tree.root / "etc/vfagent/chap"

    async def story(agent: Running) -> None:
        await agent.until(lambda: "cannot use it as the CHAP secret: No such file" in str(agent.guest()))
        secret.write_text("open sesame\n")
        secret.chmod(0o644)
        assert "users other than root can read it" in str(await agent.guests.request("start", "x"))
        secret.chmod(0o600)
        assert "is not one line of 1 to 255" in str(await agent.guests.request("start", "x"))
        secret.write_text("opensesame\n")
        assert await agent.guests.request("start", "x") is None
        await runs(agent)

    run(story)
    assert "sesame" not in (kernel.tree.root / "calls").read_text()
    loaded = dict(dict(calls(kernel.tree.root / "calls", "StartTransientUnit")[-1][2])["LoadCredential"][1])
    path = loaded["chap-secret"]
    assert " guest=x " in Path(loaded["command"]).read_text()
    assert Path(path).read_text() == "opensesame"
    assert Path(path).stat().st_mode & 0o077 == 0


def test_a_vnc_password_that_others_can_read_or_vnc_cuts_is_refused(kernel: FakeKernel, run: Run) -> None:
    rule = '[[guest]]\nvnc_remote = "192.0.2.10:0"\nvnc_password = "/etc/vfagent/vnc"'
    kernel.tree.policy(POLICY.replace("[[guest]]", rule))
    kernel.tree.add_pf(PF)
    password = kernel.tree.root / "etc/vfagent/vnc"

    async def story(agent: Running) -> None:
        await agent.until(lambda: "cannot use it as the VNC password: No such file" in str(agent.guest()))
        password.write_text("ninechars\n")
        password.chmod(0o644)
        assert "users other than root can read it" in str(await agent.guests.request("start", "x"))
        password.chmod(0o600)
        assert "is not one line of 1 to 8 " in str(await agent.guests.request("start", "x"))
        password.write_text("opensesa\n")
        assert await agent.guests.request("start", "x") is None
        await runs(agent)

    run(story)
    assert "opensesa" not in (kernel.tree.root / "calls").read_text()
    loaded = dict(dict(calls(kernel.tree.root / "calls", "StartTransientUnit")[-1][2])["LoadCredential"][1])
    assert Path(loaded["vnc-password"]).read_text() == "opensesa"


def test_a_secret_leaves_the_host_with_its_rule(kernel: FakeKernel, run: Run) -> None:
    chap = '[guest.chap]\nuser = "me"\nsecret = "/etc/vfagent/chap"\n'
    kernel.tree.policy(POLICY + chap)
    kernel.tree.add_pf(PF)
    secret = kernel.tree.root / "etc/vfagent/chap"
    secret.write_text("opensesame\n")
    secret.chmod(0o600)
    copies = kernel.tree.root / "run/vfagent/credentials"

    async def story(agent: Running) -> None:
        await runs(agent)
        assert (copies / "x/chap-secret").read_text() == "opensesame"
        agent.reload(POLICY.partition("[[guest]]")[0])
        await agent.until(lambda: agent.guests.guests["x"].placement is None)
        assert (copies / "x/chap-secret").exists(), "systemd reads it again when it restarts the guest"
        assert await agent.guests.request("stop", "x") is None
        await agent.until(lambda: agent.guest() is None)
        assert not list(copies.iterdir())

    run(story)
