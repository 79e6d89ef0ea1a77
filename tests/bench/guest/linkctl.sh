#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Creates and configures VFs; driverctl has overrides for their addresses and binds them.
set -e
PCI=$1
COUNT=$2
PARENT=$(ls /sys/bus/pci/devices/$PCI/net)
echo "$COUNT" > /sys/bus/pci/devices/$PCI/sriov_numvfs
ip link set $PARENT up
for i in $(seq 0 $((COUNT - 1))); do
	ip link set $PARENT vf $i mac 52:54:00:bb:00:0$i vlan 10
done
