# SPDX-License-Identifier: Apache-2.0
"""The disk and the OEM strings that configure a guest, from files and from text."""

import base64
import io
import uuid
from pathlib import Path

import pytest
from pycdlib.pycdlib import PyCdlib

from vfagent.errors import VfagentError
from vfagent.guests.seed import oem_strings, seed_image
from vfagent.guests.spec.boot import Boot, Loader
from vfagent.guests.spec.qemu import Guest
from vfagent.policy.types import GuestRule, SeedRule

UUID = str(uuid.UUID(int=1))


def guest(**keys: object) -> Guest:
    return Guest(GuestRule(name="db", **keys), (), Boot(Loader.DISK), kvm=True, uuid=UUID)  # type: ignore[arg-type]


def put(root: Path, name: str, data: bytes, mode: int = 0o600) -> str:
    (root / name).write_bytes(data)
    (root / name).chmod(mode)
    return f"/{name}"


def opened(root: Path, rule: SeedRule) -> dict[str, bytes]:
    """The files of the image, as Linux shows them."""
    image = PyCdlib()
    image.open_fp(io.BytesIO(seed_image(root, rule, guest(seed=rule))))
    assert image.pvd.volume_identifier.strip() == b"cidata"
    files = {}
    for child in image.list_children(rr_path="/"):
        if child is not None and child.is_file():
            data = io.BytesIO()
            name = child.rock_ridge.name().decode()
            image.get_file_from_iso_fp(data, rr_path=f"/{name}")
            files[name] = data.getvalue()
    return files


def test_a_seed_has_the_files_and_texts_of_the_rule(tmp_path: Path) -> None:
    path = put(tmp_path, "network.yaml", b"version: 2\n" * 5000, 0o644)
    seed = opened(tmp_path, SeedRule(user_data="#cloud-config\n", meta_data="instance-id: a\n", network_config=path))
    assert seed == {
        "user-data": b"#cloud-config\n",
        "meta-data": b"instance-id: a\n",
        "network-config": b"version: 2\n" * 5000,
    }


def test_another_seed_is_another_instance_to_cloud_init(tmp_path: Path) -> None:
    path = put(tmp_path, "user.yaml", b"#cloud-config\n")
    rule = SeedRule(user_data=path)
    first, again = opened(tmp_path, rule)["meta-data"], opened(tmp_path, rule)["meta-data"]
    assert first == again
    assert first.endswith(b"\nlocal-hostname: db\n")
    put(tmp_path, "user.yaml", b"#cloud-config\nruncmd: []\n")
    changed = opened(tmp_path, rule)["meta-data"]
    assert changed.startswith(b"instance-id: ")
    assert changed != first


def test_a_seed_has_user_data_and_metadata_in_any_case(tmp_path: Path) -> None:
    """cloud-init takes a disk without either for no seed."""
    assert opened(tmp_path, SeedRule(network_config="version: 2\n")).keys() == {
        "user-data",
        "meta-data",
        "network-config",
    }


def test_a_seed_that_others_can_write_is_refused(tmp_path: Path) -> None:
    rule = SeedRule(user_data=put(tmp_path, "user.yaml", b"#cloud-config\n", 0o666))
    with pytest.raises(VfagentError, match=r"/user.yaml: cannot use it as the user data of the seed: users other than"):
        seed_image(tmp_path, rule, guest(seed=rule))


def test_a_seed_that_systemd_would_not_load_is_refused(tmp_path: Path) -> None:
    path = put(tmp_path, "user.yaml", b"x" * (200 << 10))
    rule = SeedRule(user_data=path, network_config=path)
    with pytest.raises(VfagentError, match=r"its seed has 4[0-9]{5} bytes, allowed are 262144"):
        seed_image(tmp_path, rule, guest(seed=rule))


def test_credentials_are_oem_strings_for_systemd(tmp_path: Path) -> None:
    data = b"a\0b\n\xff"
    path = put(tmp_path, "key", data)
    strings = dict(oem_strings(tmp_path, guest(credentials=(("firstboot.locale", "C.UTF-8"), ("key", path)))))
    assert strings == {
        "oem-firstboot.locale": b"io.systemd.credential.binary:firstboot.locale=" + base64.b64encode(b"C.UTF-8"),
        "oem-key": b"io.systemd.credential.binary:key=" + base64.b64encode(data),
    }


def test_a_credential_that_others_can_read_is_refused(tmp_path: Path) -> None:
    path = put(tmp_path, "key", b"secret", 0o644)
    with pytest.raises(VfagentError, match=r"/key: cannot use it as the credential key: .* can read it"):
        list(oem_strings(tmp_path, guest(credentials=(("key", path),))))


def test_credentials_that_smbios_cannot_hold_are_refused(tmp_path: Path) -> None:
    path = put(tmp_path, "key", b"x" * (20 << 10))
    with pytest.raises(VfagentError, match=r"its credentials come to [0-9]{5} bytes of SMBIOS, allowed are 49152"):
        list(oem_strings(tmp_path, guest(credentials=(("a", path), ("b", path)))))
