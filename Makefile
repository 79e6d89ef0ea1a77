# SPDX-License-Identifier: Apache-2.0
DESTDIR ?=
PYTHON_LIB ?= /usr/lib/python3/dist-packages
INSTALL = install -D -m 0644
# A virtual environment with what the tests need; the first use makes it.
PYTHON = $$(python3 tests/environment.py)
LAB_CACHE ?= $(HOME)/.cache/vfagent-lab

.PHONY: help check test lab demo bench install clean clean-cache
help:
	@echo "make demo     boots a host with an SR-IOV NIC in a VM, and shows what vfagent does"
	@echo "make check    format, lint, types, import rules, and the tests that need no VM"
	@echo "make test     all tests, those in VMs included"
	@echo "make lab      a shell in a running lab VM"
	@echo "make bench    the time from a PF's event to ready VFs, beside other ways to do it"
	@echo "make install  installs for a package, below DESTDIR"

# In two processes: the host tier waits a lot, the others compute.
check:
	@python=$(PYTHON) && said=$$(mktemp) && status=0 && { \
		$$python -m pytest tests/host >$$said 2>&1 & host=$$!; \
		$$python -m pytest tests/rules tests/unit tests/model || status=1; \
		wait $$host || status=1; cat $$said; rm -f $$said; exit $$status; }

test: check
	@python=$(PYTHON) && $$python -m tests.lab.image && $$python -m pytest tests/lab

lab:
	@python3 -m tests.lab.shell --policy config/examples/lab.toml igb

demo:
	@python3 -m tests.lab.demo

bench:
	@python3 -m tests.bench

install:
	find vfagent -name '*.py' -o -name py.typed | while read -r file; do \
		$(INSTALL) "$$file" "$(DESTDIR)$(PYTHON_LIB)/$$file"; done
	install -D -m 0755 packaging/vfagent $(DESTDIR)/usr/bin/vfagent
	$(INSTALL) systemd/vfagent.service $(DESTDIR)/usr/lib/systemd/system/vfagent.service
	$(INSTALL) udev/70-vfagent.rules $(DESTDIR)/usr/lib/udev/rules.d/70-vfagent.rules
	$(INSTALL) packaging/modules-load.d/vfagent.conf $(DESTDIR)/usr/lib/modules-load.d/vfagent.conf
	find packaging/monitoring -type f | while read -r file; do \
		$(INSTALL) "$$file" "$(DESTDIR)/usr/share/doc/vfagent/$${file#packaging/}"; done
	install -d -m 0755 $(DESTDIR)/etc/vfagent

clean:
	rm -rf build .mypy_cache .ruff_cache .pytest_cache .hypothesis tests/lab/evidence *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The lab's images and the tests' environments: they are made again in a few minutes.
clean-cache:
	rm -rf $(LAB_CACHE) $(HOME)/.cache/vfagent
