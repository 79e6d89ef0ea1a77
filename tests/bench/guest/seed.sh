#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The manual procedure's steps S1 to S5 as a script.
set -e
PCI=$1
COUNT=$2
PARENT=$(ls /sys/bus/pci/devices/$PCI/net)
echo "$COUNT" > /sys/class/net/$PARENT/device/sriov_numvfs
modprobe vfio_pci
ip link set $PARENT up
for i in $(seq 0 $((COUNT - 1))); do
	ip link set $PARENT vf $i mac 52:54:00:bb:00:0$i vlan 10
	VF=$(basename $(readlink /sys/class/net/$PARENT/device/virtfn$i))
	[ -e /sys/bus/pci/devices/$VF/driver ] && echo $VF > /sys/bus/pci/devices/$VF/driver/unbind
	echo vfio-pci > /sys/bus/pci/devices/$VF/driver_override
	echo $VF > /sys/bus/pci/drivers/vfio-pci/bind
done
