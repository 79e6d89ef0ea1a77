# SPDX-License-Identifier: Apache-2.0
DESTDIR ?=
PYTHON_LIB ?= /usr/lib/python3/dist-packages
UNITS ?= /usr/lib/systemd/system
# What the unit starts; pip puts it elsewhere.
PROGRAM ?= /usr/bin/vfagent
# The Python that has vfagent, for the helper that powers guests down. pip writes it into the program's first line, or,
# where its path is long, into the second.
INTERPRETER ?= $(if $(filter-out /usr/bin/vfagent,$(PROGRAM)),$(shell \
	sed -n "1,2s:^[^/]*\(/[^ \"]*/python[0-9.]*\).*:\1:p" $(PROGRAM) | head -n 1),/usr/bin/python3)
# Where the project lives, for the packages' Homepage and Vcs fields: HOMEPAGE=https://git.example.com/vfagent make deb.
HOMEPAGE ?=
# Where the alerts' runbook is read: RUNBOOK=https://wiki.example.com/vfagent-runbook make deb. Each alert is an anchor.
RUNBOOK ?= file:///usr/share/doc/vfagent/monitoring/runbook.md
INSTALL = install -D -m 0644
# A virtual environment with what the tests need; the first use makes it.
PYTHON = $$(python3 tests/environment.py)
LAB_CACHE ?= $(HOME)/.cache/vfagent-lab
BUILD ?= build
VERSION := $(shell sed -n 's/^__version__ = "\(.*\)"/\1/p' vfagent/__init__.py)
MAN = $(patsubst packaging/man/%.md,$(BUILD)/man/%,$(wildcard packaging/man/*.md))
DOC = $(DESTDIR)/usr/share/doc/vfagent
# Debian's place; elsewhere mostly /usr/share/zsh/site-functions.
ZSH ?= /usr/share/zsh/vendor-completions

.PHONY: help docs check check-in-vm test test-linux test-long soak lab demo bench guard man install install-host install-man install-docs sbom source deb rpm release clean clean-cache
help:
	@echo "To see it, as root on Debian; what is missing is installed:"
	@echo "  make demo        a virtual host with SR-IOV cards, and what vfagent does there; a minute, the first time several"
	@echo "  make lab         a shell in such a host; a minute"
	@echo "To install it:"
	@echo "  make deb         a Debian package, in build/; needs the packages of packaging/debian/control"
	@echo "  make rpm         an RPM package, in build/"
	@echo "  make install     installs below DESTDIR; make install-man adds the manual pages, and needs pandoc"
	@echo "  make sbom        what the package is made of and needs, as CycloneDX JSON, in build/"
	@echo "  make release     all of these, the sources, a wheel and their checksums, in build/release/; see HACKING.md"
	@echo "To change it, see HACKING.md:"
	@echo "  make check       format, lint, types, rules, and the tests that need no VM; two minutes"
	@echo "  make check-in-vm the same in a Debian VM; half an hour and more without KVM"
	@echo "  make docs        the site of the documents, in build/; half a minute"
	@echo "  make test        all tests, those in VMs included; half an hour and more"
	@echo "  make test-linux  a guest that is a Linux, with its root on an iSCSI disk; a quarter of an hour"
	@echo "  make test-long   what is not part of CI: packages, the tutorial, faults, a short soak; over an hour"
	@echo "  make soak        all that may happen to a host, at random; half an hour"
	@echo "  make guard       a short benchmark, which fails on a ratio that is worse than its bar; some minutes"
	@echo "  make bench       all tables of docs/performance.md; hours"
	@echo "  make clean       removes what was built; make clean-cache also removes the lab and the tests' environments"

# The host tier and the tools of the rules mostly wait, the others compute.
check:
	@python=$(PYTHON) && said=$$(mktemp) && status=0 && { \
		$$python -m pytest -n 5 --dist loadfile -m "not wide" tests/rules tests/host >$$said 2>&1 & host=$$!; \
		VFAGENT_MODEL_FACTOR=0.5 $$python -m pytest -m "not wide" tests/unit tests/model || status=1; \
		wait $$host || status=1; cat $$said; rm -f $$said; exit $$status; }

# Half an hour and more where the VM is emulated.
check-in-vm:
	@python3 -m tests.lab.check_in_vm

# A VM of the lab mostly waits for one thing after another: two at a time take two thirds of the time.
test: check
	@python=$(PYTHON) && $$python -m pytest -n 2 -m wide && \
		VFAGENT_MODEL_FACTOR=7 $$python -m pytest -n 2 tests/model -m "not wide" && \
		$$python -m tests.lab.image && $$python -m pytest -n 2 --dist loadfile tests/lab -m "not long" --durations=20

# A quarter of an hour of emulation in emulation.
test-linux:
	@python=$(PYTHON) && $$python -m pytest tests/lab/test_linux_guest.py

test-long:
	@python=$(PYTHON) && $$python -m tests.lab.image && $$python -m pytest tests/lab -m long

# At random, from a seed that is printed.
soak:
	@VFAGENT_SOAK_MINUTES=30 $(PYTHON) -m pytest -s tests/lab/test_soak.py

lab:
	@python3 -m tests.lab.shell --policy config/examples/lab.toml $(if $(CARD),$(addprefix --card ,$(CARD)),igb)

demo:
	@python3 -m tests.lab.demo

bench:
	@python3 -m tests.bench
	@$(PYTHON) -m tests.bench.scrapes
	@$(PYTHON) -m tests.bench.scale
	@python3 -m tests.bench.boot
	@$(PYTHON) -m tests.bench.poweron
	@python3 -m tests.bench.cost

# A few minutes of it, and an exit status.
guard:
	@$(PYTHON) -m tests.bench.guard

install: install-host
	find vfagent -name '*.py' -o -name py.typed | while read -r file; do \
		$(INSTALL) "$$file" "$(DESTDIR)$(PYTHON_LIB)/$$file"; done
	install -D -m 0755 packaging/vfagent $(DESTDIR)/usr/bin/vfagent

# All but the program: what pip does not put into its places.
install-host:
	$(INSTALL) systemd/vfagent.service $(DESTDIR)$(UNITS)/vfagent.service
	sed -i 's,/usr/bin/vfagent,$(PROGRAM),' $(DESTDIR)$(UNITS)/vfagent.service
	test -n "$(INTERPRETER)" || { echo "$(PROGRAM) names no Python: say which with INTERPRETER=" >&2; exit 1; }
	for helper in stop-guest ask-guest; do \
		install -D -m 0755 packaging/$$helper $(DESTDIR)/usr/libexec/vfagent/$$helper; \
		sed -i '1s,/usr/bin/python3,$(INTERPRETER),' $(DESTDIR)/usr/libexec/vfagent/$$helper; done
	for unit in vfagent-coldplug.service vfagent-coldplug-settle.service vfagent-vf@.target \
			vfagent-guest@.target vfagent-tpm@.service; do \
		$(INSTALL) systemd/$$unit $(DESTDIR)$(UNITS)/$$unit; done
	install -d -m 0755 $(DESTDIR)$(UNITS)/sysinit.target.wants
	ln -sf ../vfagent-coldplug.service $(DESTDIR)$(UNITS)/sysinit.target.wants/vfagent-coldplug.service
	$(INSTALL) udev/70-vfagent.rules $(DESTDIR)/usr/lib/udev/rules.d/70-vfagent.rules
	$(INSTALL) udev/71-vfagent-networks.rules $(DESTDIR)/usr/lib/udev/rules.d/71-vfagent-networks.rules
	$(INSTALL) packaging/vfagent.catalog $(DESTDIR)/usr/lib/systemd/catalog/vfagent.catalog
	$(INSTALL) systemd/10-vfagent.network $(DESTDIR)/usr/lib/systemd/network/10-vfagent.network
	$(INSTALL) packaging/modules-load.d/vfagent.conf $(DESTDIR)/usr/lib/modules-load.d/vfagent.conf
	find packaging/monitoring -type f | while read -r file; do \
		$(INSTALL) "$$file" "$(DOC)/$${file#packaging/}"; done
	sed -i 's|file:///usr/share/doc/vfagent/monitoring/runbook\.md|$(RUNBOOK)|' $(DOC)/monitoring/rules/vfagent.yml \
		$(DOC)/monitoring/rules_test.yml $(DOC)/monitoring/dashboard.json
	$(INSTALL) config/policy.toml $(DOC)/examples/policy.toml
	for file in config/examples/*.toml; do $(INSTALL) $$file $(DOC)/examples/$${file##*/}; done
	install -d -m 0755 $(DESTDIR)/etc/vfagent $(DESTDIR)/usr/share/vfagent \
		$(DESTDIR)/usr/share/bash-completion/completions $(DESTDIR)$(ZSH) \
		$(DESTDIR)/usr/share/fish/vendor_completions.d
	python3 -B -m vfagent schema >$(DESTDIR)/usr/share/vfagent/policy.schema.json
	python3 -B packaging/completion.py bash >$(DESTDIR)/usr/share/bash-completion/completions/vfagent
	python3 -B packaging/completion.py zsh >$(DESTDIR)$(ZSH)/_vfagent
	python3 -B packaging/completion.py fish >$(DESTDIR)/usr/share/fish/vendor_completions.d/vfagent.fish

# A warning, such as a link that leads nowhere, is an error.
docs:
	@$$(python3 tests/environment.py packaging/site/requirements.txt) -m sphinx --quiet --jobs 2 --fail-on-warning --keep-going \
		--conf-dir packaging/site --doctree-dir $(BUILD)/doctrees --builder html . $(BUILD)/site
	@ln -sf README.html $(BUILD)/site/index.html
	@echo "$(BUILD)/site/index.html"

man: $(MAN)

$(BUILD)/man/%: packaging/man/%.md
	@mkdir -p $(@D)
	pandoc --standalone --from markdown --to man $< --output $@

install-man: man
	for page in $(MAN); do $(INSTALL) $$page $(DESTDIR)/usr/share/man/man$${page##*.}/$${page##*/}; done

# The documents, so that the links between them lead somewhere. The packages have them, too.
install-docs:
	for file in *.md docs/* packaging/man/*.md packaging/ansible/README.md; do \
		$(INSTALL) $$file $(DOC)/$$file; done
	$(INSTALL) packaging/sos/vfagent.py $(DOC)/examples/sos/vfagent.py
	install -d $(DOC)/config
	ln -sf ../monitoring $(DOC)/packaging/monitoring
	ln -sf ../examples/policy.toml $(DOC)/config/policy.toml
	ln -sf ../examples $(DOC)/config/examples

# The tree as it is, with the packaging where each tool wants it. Times and modes do not depend on whoever checked it out:
# dpkg-deb changes only times that are later than the changelog's.
DATE = $(shell sed -n 's/^ -- .*>  //p' packaging/debian/changelog | head -n 1)
SOURCES = LICENSE Makefile NEWS.md README.md DESIGN.md HACKING.md CONTRIBUTING.md SECURITY.md pyproject.toml config docs packaging systemd tests udev vfagent
TREE = $(BUILD)/vfagent-$(VERSION)

$(TREE): FORCE
	rm -rf $(TREE)
	mkdir -p $(TREE)
	tar --exclude=__pycache__ --exclude=evidence --mtime="$(DATE)" --mode=u=rwX,go=rX -c $(SOURCES) | \
		tar -x --preserve-permissions -C $(TREE)
	date=$$(LC_ALL=C TZ=UTC date --date="$(DATE)" "+%a %b %d %Y") && \
		sed -i "s/@VERSION@/$(VERSION)/; s/@DATE@/$$date/" $(TREE)/packaging/rpm/vfagent.spec
	touch -d "$(DATE)" $(TREE) $(TREE)/packaging/rpm $(TREE)/packaging/rpm/vfagent.spec

FORCE:

sbom:
	@mkdir -p $(BUILD)
	python3 packaging/sbom.py >$(BUILD)/vfagent-$(VERSION).cdx.json

# One archive for all packages: the same tree gives the same bytes.
TARBALL = $(BUILD)/vfagent-$(VERSION).tar.gz

$(TARBALL): $(TREE)
	tar -C $(BUILD) --sort=name --owner=0 --group=0 --numeric-owner -c vfagent-$(VERSION) | gzip -n -9 >$@

rpm: $(TARBALL)
	mkdir -p $(BUILD)/rpm/SOURCES
	cp $(TARBALL) $(BUILD)/rpm/SOURCES
	rpmbuild -bb --quiet --nodeps --define "_topdir $(abspath $(BUILD))/rpm" \
		$(if $(HOMEPAGE),--define "given_url $(HOMEPAGE)") $(TREE)/packaging/rpm/vfagent.spec
	mv $(BUILD)/rpm/RPMS/noarch/vfagent-$(VERSION)-*.rpm $(BUILD)

# packaging/debian becomes debian/, and the tree becomes the .orig.tar.gz.
DEBIAN_FIELDS = Homepage: $(HOMEPAGE)\nVcs-Browser: $(HOMEPAGE)\nVcs-Git: $(HOMEPAGE).git
DEBIAN_TREE = cp $(TARBALL) $(BUILD)/vfagent_$(VERSION).orig.tar.gz && cp -a $(TREE)/packaging/debian $(TREE)/debian && \
	sed -i $(if $(HOMEPAGE),'s|^Standards-Version:.*|&\n$(DEBIAN_FIELDS)|',';') $(TREE)/debian/control && cd $(TREE)

source: $(TARBALL)
	$(DEBIAN_TREE) && dpkg-buildpackage --build=source --no-sign --no-check-builddeps
	@ls $(BUILD)/vfagent_*.dsc

deb: $(TARBALL) sbom
	$(DEBIAN_TREE) && dpkg-buildpackage --build=binary --no-sign --no-check-builddeps
	@ls $(BUILD)/vfagent_*.deb

# From a clean tree whose NEWS has the release's date. The tag is the last thing, and local.
RELEASE = $(BUILD)/release
release:
	@python3 packaging/release.py $(VERSION)
	rm -rf $(RELEASE)
	mkdir -p $(RELEASE)
	$(MAKE) source
	$(MAKE) deb
	$(MAKE) rpm
	python3 -m pip wheel --quiet --no-deps --wheel-dir $(RELEASE) $(TREE)
	cp -p $(TARBALL) $(BUILD)/vfagent_$(VERSION)* $(BUILD)/vfagent-$(VERSION)*.rpm $(BUILD)/vfagent-$(VERSION).cdx.json $(RELEASE)
	cd $(RELEASE) && sha256sum -- * >SHA256SUMS
	git tag --annotate --message "vfagent $(VERSION)" v$(VERSION)
	@ls $(RELEASE)

clean:
	rm -rf build .mypy_cache .ruff_cache .pytest_cache .hypothesis tests/lab/evidence *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The lab's images and the tests' environments: they are made again in a few minutes.
clean-cache:
	rm -rf $(LAB_CACHE) $(HOME)/.cache/vfagent
