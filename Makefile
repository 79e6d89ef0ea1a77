# SPDX-License-Identifier: Apache-2.0
DESTDIR ?=
PYTHON_LIB ?= /usr/lib/python3/dist-packages
INSTALL = install -D -m 0644

.PHONY: install
install:
	find vfagent -name '*.py' -o -name py.typed | while read -r file; do \
		$(INSTALL) "$$file" "$(DESTDIR)$(PYTHON_LIB)/$$file"; done
	install -D -m 0755 packaging/vfagent $(DESTDIR)/usr/bin/vfagent
	$(INSTALL) systemd/vfagent.service $(DESTDIR)/usr/lib/systemd/system/vfagent.service
	$(INSTALL) udev/70-vfagent.rules $(DESTDIR)/usr/lib/udev/rules.d/70-vfagent.rules
	$(INSTALL) packaging/modules-load.d/vfagent.conf $(DESTDIR)/usr/lib/modules-load.d/vfagent.conf
	install -d -m 0755 $(DESTDIR)/etc/vfagent
