# SPDX-License-Identifier: Apache-2.0
"""Prints what the package is made of and needs: a software bill of materials, CycloneDX 1.5 as JSON.

From packaging/debian/control and pyproject.toml. There are no versions: the host's Debian has one of each package, and
fixes it. `vfagent:versions` says which of them vfagent accepts. The same tree gives the same text.
"""

import json
import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
VERSION = re.findall(r'(?m)^__version__ = "(.*)"', (ROOT / "vfagent/__init__.py").read_text())[0]
CONTROL = (ROOT / "packaging/debian/control").read_text()
SCOPES = {"Depends": "required", "Recommends": "optional", "Suggests": "optional"}


def packages(field: str) -> dict[str, str]:
    """The versions that a field of the binary package allows, by name; without substitutions."""
    text = re.search(rf"(?m)^{field}:\n((?: .*\n)+)", CONTROL)
    entries = re.findall(r"(?m)^ ([a-z0-9.+-]+)(?: \(([^)]+)\))?", text[1]) if text else []
    return dict(entries)


def python_requirements() -> dict[str, str]:
    """What pyproject.toml requires, by the name of Debian's package."""
    names = ((re.split(r"[<>=~!]", text)[0].strip(), text) for text in PROJECT["dependencies"])
    return {f"python3-{name.removesuffix('-python')}": text for name, text in names}


def component(name: str, versions: str, scope: str, requirement: str | None) -> dict[str, object]:
    ref = f"pkg:deb/debian/{name}"
    facts = {"vfagent:versions": versions, "vfagent:python-requirement": requirement}
    properties = [{"name": key, "value": value} for key, value in facts.items() if value]
    kind = "library" if name.startswith("python3-") else "application"
    made: dict[str, object] = {"type": kind, "bom-ref": ref, "name": name, "purl": ref, "scope": scope}
    return {**made, "properties": properties} if properties else made


def bill() -> dict[str, object]:
    version, requirements = VERSION, python_requirements()
    needed = [(name, held, scope) for field, scope in SCOPES.items() for name, held in packages(field).items()]
    components = [component(name, held, scope, requirements.get(name)) for name, held, scope in sorted(needed)]
    ref = f"pkg:deb/debian/vfagent@{version}?arch=all"
    licences = [{"license": {"id": PROJECT["license"]["text"]}}]
    main = {"type": "application", "bom-ref": ref, "name": "vfagent", "version": version, "purl": ref}
    depends = [{"ref": ref, "dependsOn": [entry["bom-ref"] for entry in components]}]
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"component": {**main, "description": PROJECT["description"], "licenses": licences}},
        "components": components,
        "dependencies": [*depends, *({"ref": entry["bom-ref"]} for entry in components)],
    }


if __name__ == "__main__":
    print(json.dumps(bill(), indent=2))
