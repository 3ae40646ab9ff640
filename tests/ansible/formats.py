"""What programs read in the files that roles write: sections and keys of each format, and how many words a value has."""

import json
import re
import shlex
from collections.abc import Callable
from typing import Any
from xml.etree import ElementTree

Shape = list[Any]


def unit(text: str) -> Shape:
    """Read a unit as systemd does: where lines end, what continues them, what is a comment."""
    found: Shape = []
    section, begun = "", ""
    for line in re.split(r"\r\n|[\n\r\0]", text):
        if line.lstrip().startswith(("#", ";")):
            found.append("comment")
            continue
        begun += line
        if _is_continued(line):
            begun = begun[:-1] + " "
            continue
        logical, begun = begun.strip(), ""
        if logical.startswith("["):
            section = logical
            found.append(section)
        elif logical:
            key, _, value = logical.partition("=")
            found.append((section, key.strip(), len(shlex.split(value))))
    return found


def _is_continued(line: str) -> bool:
    return (len(line) - len(line.rstrip("\\"))) % 2 == 1


def environment(text: str) -> Shape:
    """Read a file of ``EnvironmentFile=`` as systemd does; values may go over lines where quotes are open."""
    found: Shape = []
    at = 0
    while at < len(text):
        if text[at] in " \t\n\r":
            at += 1
        elif text[at] in "#;":
            at = _line_end(text, at)
            found.append("comment")
        else:
            equals, end = text.find("=", at), _line_end(text, at)
            if equals < 0 or equals > end:
                found.append(("no assignment", text[at:end]))
                at = end
                continue
            key = text[at:equals].strip()
            at, lines = _value_end(text, equals + 1)
            found.append((key, lines))
    return found


def _line_end(text: str, at: int) -> int:
    match = re.search(r"[\n\r]", text[at:])
    return at + match.start() if match else len(text)


def _value_end(text: str, at: int) -> tuple[int, int]:
    """Return where a value ends, and over how many lines it goes."""
    quote, begin = "", at
    while at < len(text):
        char = text[at]
        if char == "\\" and quote != "'":
            at += 1
        elif quote:
            quote = "" if char == quote else quote
        elif char in "\"'":
            quote = char
        elif char in "\n\r":
            break
        at += 1
    return at, len(text[begin:at].splitlines())


def lines_of_columns(text: str) -> Shape:
    """Read what has a thing on each line and columns in it, such as limits."""
    return ["comment" if line.startswith("#") else len(line.split()) for line in text.splitlines()]


def sysctl(text: str) -> Shape:
    """Read kernel settings: a key and a value on each line."""
    return [line if line.startswith(("#", ";")) else _keyed(line, "=") for line in text.splitlines() if line.strip()]


def fields(text: str) -> Shape:
    """Read what Debian has fields in: sources and preferences, where a blank continues and an empty line separates."""
    found: Shape = []
    for line in text.splitlines():
        if line.startswith("#"):
            found.append("comment")
        elif not line.strip():
            found.append("next paragraph")
        else:
            found.append("continued" if line[0] in " \t" else _keyed(line, ":"))
    return found


def _keyed(line: str, separator: str) -> tuple[str, int]:
    key, found, value = line.partition(separator)
    return (key.strip() if found else f"no key: {line}"), len(value.split())


def apt_configuration(text: str) -> Shape:
    """Read apt's configuration: words, strings and what ends and nests them."""
    tokens = re.findall(r"//[^\n]*|#[^\n]*|/\*.*?\*/|\"[^\"]*\"|[{};]|[^\s{};\"]+", text, re.DOTALL)
    return ["comment" if token.startswith(("//", "#", "/*")) else "string" if token[0] == '"' else token for token in tokens]


def nftables(text: str) -> Shape:
    """Read rules of nftables: their tokens, elements of sets and numbers as such."""
    tokens = re.findall(r"#[^\n]*|\"[^\"]*\"|[{};,]|[^\s{};,\"]+", re.sub(r"(elements = {)([^{}\"#;$]*)", _elements, text))
    return ["number" if token.isdecimal() else token for token in tokens]


def _elements(match: re.Match[str]) -> str:
    return match[1] + " , ".join("element" for part in match[2].split(",") for _ in part.split())


def xml(text: str) -> Shape:
    """Read XML: elements and their attributes."""
    return [(element.tag, sorted(element.attrib)) for element in ElementTree.fromstring(text).iter()]


def json_keys(text: str) -> Shape:
    """Read JSON: every key, and the type of every value."""
    return _typed(json.loads(text))


def _typed(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _typed(part) for key, part in value.items()}
    return [_typed(part) for part in value] if isinstance(value, list) else type(value).__name__


def one_line(text: str) -> Shape:
    """Read a file that holds one secret."""
    return [len(text.splitlines()), len(text.split())]


def shell(text: str) -> Shape:
    """Read a script: its words."""
    return [len(shlex.split(text, comments=True))]


READERS: dict[str, Callable[[str], Shape]] = {
    "muster-node.service.j2": unit,
    "muster-node-devices.service.j2": unit,
    "muster.service.j2": unit,
    "muster.env.j2": environment,
    "apt.conf.j2": apt_configuration,
    "ipset.xml.j2": xml,
    "limits.conf.j2": lines_of_columns,
    "muster-firewall.nft.j2": nftables,
    "nvidia.sources.j2": fields,
    "preferences.j2": fields,
    "sysctl.conf.j2": sysctl,
}
