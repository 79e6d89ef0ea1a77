# SPDX-License-Identifier: Apache-2.0
"""Completion for bash, fish and zsh, generated from the parser: `python3 packaging/completion.py SHELL`.

shtab does not generate fish in Debian 12 and 13, and cannot complete the PFs of the host.
"""

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from vfagent.cli.main import VERBS
from vfagent.cli.parser import SCHEMAS, parser

# Commands that list the values of a placeholder; their syntax is the same in all three shells.
CARDS = (
    "sh -c 'for pf in /sys/bus/pci/devices/*/sriov_totalvfs; do pf=${pf%/sriov_totalvfs};"
    " test -d $pf && echo ${pf##*/} && ls $pf/net; done 2>/dev/null'"
)
GUESTS = r"""vfagent guest list --json 2>/dev/null | sed -n 's/^ *"name": "\(.*\)",$/\1/p'"""
LISTS = {
    "PF": CARDS,
    "CARD": CARDS,
    "NAME": GUESTS,
    "GUEST": GUESTS,
    "OUTPUT": f"echo {' '.join(SCHEMAS)} | tr ' ' '\\n'",
    "VERB": f"echo {' '.join(sorted(VERBS))} | tr ' ' '\\n'",
}


@dataclass(frozen=True, slots=True)
class Command:
    """`path`: "guest start", or "" for the program itself; `value`: the placeholder of its arguments."""

    path: str
    options: tuple[tuple[str, str], ...]
    takes: tuple[tuple[str, str], ...]  # options with a value, and its placeholder
    commands: tuple[tuple[str, str], ...] = ()
    value: str = ""


def walk(command: argparse.ArgumentParser, path: str = "") -> Iterator[Command]:
    options, takes = list[tuple[str, str]](), list[tuple[str, str]]()
    commands, value = dict[str, str](), ""
    for action in command._actions:
        if isinstance(action, argparse._SubParsersAction):
            commands = {choice.dest: choice.help or "" for choice in action._choices_actions}
            for name, inner in action.choices.items():
                yield from walk(inner, f"{path} {name}".strip())
        elif action.option_strings:
            options.append((action.option_strings[-1], action.help or ""))
            takes += [] if action.nargs == 0 else [(action.option_strings[-1], str(action.metavar))]
        else:
            value = str(action.metavar)
    yield Command(path, tuple(options), tuple(takes), tuple(commands.items()), value)


def _words(pairs: tuple[tuple[str, str], ...]) -> str:
    return " ".join(name for name, _ in pairs)


def _valued(commands: list[Command]) -> dict[str, str]:
    return dict(sorted({pair for command in commands for pair in command.takes}))


def bash(commands: list[Command]) -> Iterator[str]:
    valued = _valued(commands)
    yield "_vfagent()"
    yield "{"
    yield "    local cur prev words cword path= i"
    yield "    _init_completion -n : || return"
    yield "    for ((i = 1; i < cword; i++)); do"
    yield '        case "${path:+$path }${words[i]}" in'
    yield f"            {'|'.join(f'*{name}' for name in valued)}) ((i++)) ;;"
    yield f"            {'|'.join(f'{command.path!r}' for command in commands if command.path)})"
    yield '                path+="${path:+ }${words[i]}" ;;'
    yield "        esac"
    yield "    done"
    yield '    case "$prev" in'
    for name, kind in valued.items():
        yield f"        {name}) {_bash_value(kind)}; return ;;"
    yield "    esac"
    yield '    case "$path" in'
    for command in commands:
        yield f"        {command.path!r})"
        yield "            if [[ $cur == -* ]]; then"
        yield f"                {_bash_words(_words(command.options))}"
        yield "            else"
        offered = _bash_value(command.value) if command.value else _bash_words(_words(command.commands))
        yield f"                {offered}"
        yield "            fi ;;"
    yield "    esac"
    yield '    __ltrim_colon_completions "$cur"'
    yield "}"
    yield "complete -F _vfagent vfagent"


def _bash_value(kind: str) -> str:
    match kind:
        case "CARD|FILE":
            return f"{_bash_value('CARD')}; {_bash_value('FILE')}"
        case "DIR":
            return "_filedir -d"
        case "FILE":
            return "_filedir"
        case _ if kind in LISTS:
            return _bash_words(f"$({LISTS[kind]})")
    return ":"


def _bash_words(words: str) -> str:
    return f'COMPREPLY=($(compgen -W "{words}" -- "$cur"))'


def zsh(commands: list[Command]) -> Iterator[str]:
    valued = _valued(commands)
    yield "#compdef vfagent"
    yield 'local at="" i; local -a offered'
    yield "for ((i = 2; i < CURRENT; i++)); do"
    yield '    case "${at:+$at }${words[i]}" in'
    yield f"        ({'|'.join(f'*{name}' for name in valued)}) ((i++)) ;;"
    yield f"        ({'|'.join(f'{command.path!r}' for command in commands if command.path)})"
    yield '            at="${at:+$at }${words[i]}" ;;'
    yield "    esac"
    yield "done"
    yield 'case "${words[CURRENT-1]}" in'
    for name, kind in valued.items():
        yield f"    ({name}) {_zsh_value(kind)}; return ;;"
    yield "esac"
    yield 'case "$at" in'
    for command in commands:
        yield f"    ({command.path!r})"
        yield f"        offered=({' '.join(_zsh_described(pair) for pair in command.options)})"
        yield "        [[ $PREFIX == -* ]] && { _describe option offered; return }"
        if command.commands:
            yield f"        offered=({' '.join(_zsh_described(pair) for pair in command.commands)})"
            yield "        _describe command offered"
        if command.value:
            yield f"        {_zsh_value(command.value)}"
        yield "        ;;"
    yield "esac"


def _zsh_value(kind: str) -> str:
    match kind:
        case "CARD|FILE":
            return f"{_zsh_value('CARD')}; {_zsh_value('FILE')}"
        case "DIR":
            return "_directories"
        case "FILE":
            return "_files"
        case _ if kind in LISTS:
            return f'compadd -- ${{(f)"$({LISTS[kind]})"}}'
    return ":"


def _zsh_described(pair: tuple[str, str]) -> str:
    name, text = pair
    return _quoted(f"{name}:{text}")


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


def fish(commands: list[Command]) -> Iterator[str]:
    valued = _valued(commands)
    yield "function __vfagent_at --argument-names wanted"
    yield "    set --local path"
    yield "    set --local skip"
    yield "    for word in (commandline --tokenize --cut-at-cursor --current-process)[2..]"
    yield "        if set --query skip[1]"
    yield "            set --erase skip[1]"
    yield f"        else if contains -- $word {' '.join(valued)}"
    yield "            set skip 1"
    yield (
        "        else if contains -- (string join ' ' -- $path $word) "
        f"{' '.join(f'{command.path!r}' for command in commands if command.path)}"
    )
    yield "            set --append path $word"
    yield "        end"
    yield "    end"
    yield '    test "$path" = "$wanted"'
    yield "end"
    yield "complete --command vfagent --no-files"
    for command in commands:
        yield from _fish_command(command)


def _fish_command(command: Command) -> Iterator[str]:
    at = f'complete --command vfagent --condition "__vfagent_at {command.path!r}"'
    takes = dict(command.takes)
    for name, text in command.options:
        value = f" --require-parameter{_fish_value(takes[name])}" if name in takes else ""
        yield f"{at} --long-option {name.removeprefix('--')}{value} --description {_fish_quoted(text)}"
    for name, text in command.commands:
        yield f"{at} --arguments {name} --description {_fish_quoted(text)}"
    if command.value:
        yield f"{at}{_fish_value(command.value)}"


def _fish_value(kind: str) -> str:
    match kind:
        case "CARD|FILE":
            return f"{_fish_value('CARD')}{_fish_value('FILE')}"
        case "DIR":
            return ' --arguments "(__fish_complete_directories)"'
        case "FILE":
            return " --force-files"
        case _ if kind in LISTS:
            return f" --arguments {_fish_quoted(f'({LISTS[kind]})')}"
    return ""


def _fish_quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


SHELLS = {"bash": bash, "fish": fish, "zsh": zsh}


def main() -> None:
    shell = argparse.ArgumentParser(description="Prints the completion of one shell.")
    shell.add_argument("shell", choices=SHELLS)
    print("\n".join(SHELLS[shell.parse_args().shell](list(walk(parser())))))


if __name__ == "__main__":
    main()
