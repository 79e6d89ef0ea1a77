# SPDX-License-Identifier: Apache-2.0
"""Messages for text that is not TOML: what to write instead, the same with every parser."""

import pytest

from tests.unit.policy.conftest import Problems

PF = '[[pf]]\nname = "a"\n'

REPORTED = {
    'a = 1\nname = "abc\nb = 2\n': '2:8: found a string without its closing ", allowed is " at its end',
    "name = 'abc\nb = 2\n": "1:8: found a string without its closing ', allowed is ' at its end",
    'a = """abc\nb = 2\n': '1:5: found a string without its closing """, allowed is """ at its end',
    "name = storage\n": '1:8: found storage, allowed is a string in quotes: "storage"',
    "match = { driver = igb }\n": '1:20: found igb, allowed is a string in quotes: "igb"',
    "vfs = [storage:0]\n": '1:8: found storage:0, allowed is a string in quotes: "storage:0"',
    "vfs = [\n  storage:0,\n]\n": '2:3: found storage:0, allowed is a string in quotes: "storage:0"',
    "memory = 512M\n": '1:13: found 512M, allowed is a string in quotes: "512M"',
    "address = 10.0.0.1/24\n": '1:15: found 10.0.0.1/24, allowed is a string in quotes: "10.0.0.1/24"',
    "trust = yes\n": "1:9: found yes, allowed is true or false",
    "trust = True # sure\n": "1:9: found True, allowed is true or false",
    "vlan = 010\n": "1:9: found 010, allowed is 10, a number without leading zeros",
    "name = “a”\n": "1:8: found “, allowed are straight quotes",
    "name =\nb = 2\n": '1:7: found no value, allowed is one after "="',
    'name: "a"\n': '1:5: found ":" after a key, allowed is "=": name = "a"',
    'name "a"\n': '1:6: found a key without "=" after it, allowed is key = value',
    "[agent]\nresync == 3\n": '2:9: found "==", allowed is "="',
    f"{PF}vfs := 4\n": '3:5: found a key without "=" after it, allowed is key = value',
    f"{PF}vf count = 4\n": "3:4: found a space in a key, allowed is a key of one word, with an underscore",
    f"{PF}vfs\N{NO-BREAK SPACE}= 4\n": "3:4: found U+00A0 (no-break space) outside of a string, allowed is ASCII there",
    f"{PF}vf\N{CYRILLIC SMALL LETTER DZE} = 4\n": (
        "3:3: found \N{CYRILLIC SMALL LETTER DZE} U+0455 (cyrillic small letter dze) outside of a string, allowed is "
        "ASCII there"
    ),
    "[pf storage]\nvfs = 4\n": "1:5: found a name in a header, allowed is [[pf]], and name = below it",
    '[agent "main"]\n': "1:8: found a name in a header, allowed is one word",
    '[[pf]]\rname = "a"\r': "1:7: found lines that end with CR alone, allowed is LF (tr '\\r' '\\n')",
    f"{PF}vfs = 4 mtu = 9000\n": (
        '3:9: found "mtu = 9000" after a value, allowed is the end of the line: one key = value in each'
    ),
    f"{PF}vfs = 4,\n": '3:8: found "," after a value, allowed is the end of the line: one key = value in each',
    f"{PF}match = {{ driver: 'igb' }}\n": '3:17: found a key without "=" after it, allowed is key = value',
    f"{PF}match = {{ driver = 'igb'\nvfs = 4\n": "3:9: found no } for this bracket, allowed is } at its end",
    f"{PF}match = ( driver = 'igb' )\n": "3:9: found (, allowed is { } for a table, [ ] for an array, or a value",
    f"{PF}vfs = max\n": '3:7: found max, allowed is 0 to 65535 or "max" or a share such as "50%", did you mean "max"?',
    f"{PF}vfs = four\n": '3:7: found four, allowed is 0 to 65535 or "max" or a share such as "50%"',
    f"{PF}[[pf.vf]]\nmax_tx_rate = 10G\n": "4:17: found 10G, allowed is 0 to 4294967295 Mbit/s, did you mean 10000?",
    f"{PF}[[pf.vf]]\nindex = 0-3\n": (
        '4:10: found 0-3, allowed is VF indices such as "0", "0-2", "0,2,5-7", or "*", did you mean "0-3"?'
    ),
    "[[pf]]\nname = $NAME\n": "2:8: found $NAME, a variable that was not replaced, allowed is a value",
    "[[pf]]\nname = `a`\n": (
        '2:8: found `a`, allowed is a name of letters, digits, _, . and -, at most 64, did you mean "a"?'
    ),
    "vfs = 1;\n": '1:8: found ";", allowed is nothing after a value',
    '// mine\nname = "a"\n': '1:1: found "//", allowed is "#" before a comment',
    PF + 'name = "b"\n': '3:1: found "name" a second time, allowed is once: it is already in line 2',
    '[agent]\nresync = "5min"\n[agent]\nmetrics = ""\n': (
        "3:1: found [agent] a second time, allowed is once: put its keys below the one in line 1"
    ),
    'agent.resync = "5min"\n[agent]\nmetrics = ""\n': (
        "2:1: found [agent] a second time, allowed is once: put its keys below the one in line 1"
    ),
    '[pf]\nname = "a"\n[pf]\nname = "b"\n': "3:1: found [pf] besides the one in line 1, allowed is [[pf]] for each",
    '[pf]\nname = "a"\n[[pf]]\nname = "b"\n': ("3:1: found [pf] besides the one in line 1, allowed is [[pf]] for each"),
    PF + "[pf.vf]\nvlan = 1\n[[pf.vf]]\n": (
        "5:1: found [pf.vf] besides the one in line 3, allowed is [[pf.vf]] for each"
    ),
    PF + "[pf]\nvfs = 1\n": "3:1: found [pf] besides the one in line 1, allowed is [[pf]] for each",
    "[[pf]\n": "1:5: found unbalanced brackets, allowed is [[pf]]",
    "[agent\n": "1:7: found unbalanced brackets, allowed is [agent]",
    'image = "C:\\wyz"\n': (
        "1:14: found a backslash in a string, allowed is \\\\ for one, or a string in single quotes"
    ),
}


@pytest.mark.parametrize(("text", "expected"), REPORTED.items())
def test_a_common_mistake_gets_its_location_and_a_correction(problems: Problems, text: str, expected: str) -> None:
    location, _, message = expected.partition(": ")
    assert problems(text) == [f"policy.toml:{location}: not TOML: {message}"]


@pytest.mark.parametrize(
    "text",
    [
        '[[pf]]\n[pf.match]\ndriver = "igb"\n[[pf]]\n[pf.match]\ndriver = "ice"\n',
        "[agent.metrics_tls]\n[agent]\n",
        '[[pf]]\nmatch.driver = "igb"\nmatch.path = "x"\n',
    ],
)
def test_allowed_repetitions_are_not_reported(problems: Problems, text: str) -> None:
    assert not [line for line in problems(text) if "not TOML" in line]


@pytest.mark.parametrize(
    "text", ["a = 1 b = 2\n", "= 1\n", 'a = "x"y\n', "a = [1\n", "]\n", "a.\n", "\\\n", "'\n", 'x = ""\n"\n']
)
def test_any_other_mistake_gets_the_parser_s_message(problems: Problems, text: str) -> None:
    (line,) = problems(text)
    assert ": not TOML: " in line


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('[pf]\nname = "a"\n', "1:1: pf: found [pf], allowed is [[pf]], for one or several"),
        (
            PF + 'vlan = { id = 1, name = "v" }\n',
            "3:8: pf[0].vlan: found [pf.vlan], allowed is [[pf.vlan]], for one or several",
        ),
    ],
)
def test_a_table_instead_of_an_array_gets_the_right_brackets(problems: Problems, text: str, expected: str) -> None:
    assert f"policy.toml:{expected}" in problems(text)


def test_advice_takes_time_in_proportion_to_a_line(problems: Problems) -> None:
    """Seen: 67 s for a word of 80 kB, and the watchdog ended the service at each start."""
    word = "x" * 800_000
    [line] = problems(f"name = {word}\n")
    assert line.startswith(f"policy.toml:1:8: not TOML: found {'x' * 64}, allowed is a string in quotes")


def test_advice_in_a_long_line_goes_by_what_is_near(problems: Problems) -> None:
    [line] = problems(f'a = ["{"x" * 5000}", yes]\n')
    assert "found yes, allowed is true or false" in line
