# SPDX-License-Identifier: Apache-2.0
"""Text from hardware, files and users, made safe to print: on a terminal, in the journal, on the metrics page."""


def printable(text: str) -> str:
    """`text` with everything escaped that can break a line, drive a terminal or not be encoded.

    Escaped are control characters, line separators, format characters (they can reverse the direction of text), and
    the lone surrogates that Python makes of bytes that are not UTF-8. Letters of any script stay as they are.
    """
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else _escaped(char) for char in text)


def _escaped(char: str) -> str:
    r"""As Python spells it: \x1b, \u2028, \U000e0001. The codec passes ASCII, so that is spelled here."""
    return char.encode("ascii", "backslashreplace").decode() if ord(char) > 127 else f"\\x{ord(char):02x}"
