# SPDX-License-Identifier: Apache-2.0
"""A program that opens a VF's VFIO group as a VMM does."""

VF_USER = b"""#!/usr/bin/python3
import ctypes, fcntl, os, struct, sys, time
address = sys.argv[1]
group = os.path.basename(os.readlink(f"/sys/bus/pci/devices/{address}/iommu_group"))
container, opened = os.open("/dev/vfio/vfio", os.O_RDWR), os.open(f"/dev/vfio/{group}", os.O_RDWR)
fcntl.ioctl(opened, 0x3B68, struct.pack("i", container))  # VFIO_GROUP_SET_CONTAINER
fcntl.ioctl(container, 0x3B66, 1)  # VFIO_SET_IOMMU, type 1
device = fcntl.ioctl(opened, 0x3B6A, ctypes.create_string_buffer(address.encode() + b"\\0"))  # GET_DEVICE_FD
time.sleep(100000)
"""
