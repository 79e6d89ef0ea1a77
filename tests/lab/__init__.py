# SPDX-License-Identifier: Apache-2.0
"""The VM lab: QEMU guests with SR-IOV cards, real udev, systemd and VFIO."""
