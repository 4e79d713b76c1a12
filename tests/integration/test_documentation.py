"""The documentation holds: examples run, commands and options parse, links lead somewhere.

A fenced block whose first line is a comment with a file name (`# farm.toml`, `-- schema.sql`) is
that file. A `console` block has commands after `$`, each followed by what it prints. Blocks are
taken in the order of the page; commands before the first file are parsed only.

Output is compared loosely: what a page shows has to come in its order, other lines may come
between; times, sizes and the machine are ignored, and ` ...` at the end of a line stands for its
rest.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import msgspec
import pytest
from _pytest.config import get_config

from snapfarm.cli import main
from support.suite import clean_environment

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    page.relative_to(ROOT).as_posix()
    for pattern in ("*.md", "docs/*.md", "demo/*.md", "configs/*")
    for page in ROOT.glob(pattern)
)
#: Seconds after which a command of a page is taken for stuck.
LIMIT = 120

_FILE_NAME = re.compile(r"(?:#|--) ([\w./-]+\.\w+)")
#: Lines that name the machine and its versions.
_MACHINE = ("platform ", "rootdir: ", "plugins: ", "cachedir: ")


class Block(msgspec.Struct, frozen=True):
    """A fenced block of a page."""

    line: int
    language: str
    text: str

    @property
    def file(self) -> str | None:
        """The name of the file that the block is, if it is one."""
        found = _FILE_NAME.fullmatch(self.text.partition("\n")[0].strip())
        return found[1] if found else None

    @property
    def commands(self) -> list[tuple[str, list[str]]]:
        """The commands of a `console` block, each with the lines that it shall print."""
        found: list[tuple[str, list[str]]] = []
        for line in self.text.splitlines():
            if line.startswith("$ "):
                found.append((line[2:], []))
            elif found and line.strip():
                found[-1][1].append(line)
        return found


def blocks_of(page: str) -> list[Block]:
    """Return the fenced blocks of a page."""
    text = (ROOT / page).read_text(encoding="utf-8")
    found = []
    for match in re.finditer(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        line = text.count("\n", 0, match.start()) + 1
        found.append(Block(line, match[1], match[2]))
    return found


def pages_with_examples() -> list[str]:
    """Return the pages that show files and commands."""
    return [page for page in PAGES if any(block.file for block in blocks_of(page))]


# ---------------------------------------------------------------- examples


@pytest.mark.parametrize("page", pages_with_examples())
def test_the_examples_of_a_page_run(page: str, tmp_path: Path) -> None:
    ran = 0
    for block in blocks_of(page):
        if block.file:
            file = tmp_path / block.file
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(block.text, encoding="utf-8")
        elif block.language == "console" and any(tmp_path.iterdir()):
            for command, expected in block.commands:
                shown = run(command, tmp_path, f"{page}:{block.line}")
                check_output(expected, shown, f"{page}:{block.line}: {command}")
                ran += 1
    assert ran, f"{page} shows files, and no command that uses them"


def run(command: str, folder: Path, where: str) -> str:
    """Run a command of a page in a folder; return what it printed."""
    environment = clean_environment("PYTHONPATH", "COV_")
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        shlex.split(command),
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    assert done.returncode == 0, f"{where}: {command}: exit {done.returncode}\n{done.stdout}"
    return done.stdout


def check_output(expected: list[str], shown: str, where: str) -> None:
    """Check that the expected lines come in their order."""
    lines: Iterator[str] = map(leveled, shown.splitlines())
    for line in expected:
        if line.startswith(_MACHINE):
            continue
        pattern = re.escape(leveled(line))
        if line.endswith(" ..."):
            pattern = pattern.removesuffix(re.escape("...")) + ".*"
        matches = re.compile(pattern).fullmatch
        assert any(matches(each) for each in lines), f"{where} did not print {line!r}:\n{shown}"


def leveled(line: str) -> str:
    """Return a line of output without what differs from run to run."""
    line = re.sub(r"={3,}", "=", line.rstrip())
    # Columns are as wide as what is in them.
    line = re.sub(r" +", " ", line)
    line = re.sub(r" \(cached: \w+\)", "", line)
    line = re.sub(r"\d+ of (\d+) workers ready", r"\1 workers ready", line)
    return re.sub(r"\d+\.\d+", "#", line)


def test_a_line_that_is_not_printed_is_noticed() -> None:
    check_output(["=== 2 passed in 0.1s ==="], "..\n====== 2 passed in 7.31s ======\n", "page")
    with pytest.raises(AssertionError, match="did not print '3 passed'"):
        check_output(["3 passed"], "2 passed\n", "page")
    with pytest.raises(AssertionError, match="did not print 'first'"):
        check_output(["second", "first"], "first\nsecond\n", "page")


# ---------------------------------------------------------------- commands and options


def commands() -> Iterator[tuple[str, str]]:
    """Yield every command that a page shows, in `console` blocks and in the text, and its page."""
    for page in PAGES:
        for block in blocks_of(page):
            if block.language == "console":
                yield from ((page, command) for command, _ in block.commands)
        for span in spans_of(page):
            if re.match(r"(farm|make|pytest) [\w-]", span):
                yield page, span


def spans_of(page: str) -> list[str]:
    """Return the pieces of code in a page's text."""
    text = (ROOT / page).read_text(encoding="utf-8")
    text = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    return [" ".join(span.replace("\\|", "|").split()) for span in re.findall(r"`([^`]+)`", text)]


@pytest.mark.parametrize(("page", "command"), sorted(set(commands())))
def test_a_command_is_understood(page: str, command: str) -> None:
    # Capitals stand for what the reader puts there.
    words = shlex.split(command.replace(" N", " 2").replace("/path/to/", "/"), comments=True)
    program, arguments = words[0], words[1:]
    if program == "farm":
        parse_farm(arguments)
    elif program == "pytest":
        parse_pytest(arguments)
    elif program == "make":
        targets = {word for word in arguments if "=" not in word}
        assert targets <= make_targets(), command
    elif program == "python" and arguments[0] != "-m":
        assert arguments[0] in {block.file for block in blocks_of(page)}, f"{page}: {command}"
    else:
        assert words[:4] == ["python", "-m", "pip", "install"], f"{page}: unknown: {command}"


def parse_farm(arguments: list[str]) -> None:
    """Parse arguments of `farm`; what `farm run` hands on is parsed as pytest's."""
    command: click.Command = main
    rest = list(arguments)
    while isinstance(command, click.Group) and rest and not rest[0].startswith("-"):
        known = subcommands(command)
        assert rest[0] in known, f"farm has no command {rest[0]!r}"
        command = known[rest.pop(0)]
    if isinstance(command, click.Group) and not rest:
        return
    # A page may name a command without its arguments, as in "farm golden export".
    context = command.make_context(command.name, rest, resilient_parsing=not rest)
    if command.name == "run":
        parse_pytest(list(context.params["pytest_args"]))


def parse_pytest(arguments: list[str]) -> None:
    """Parse arguments of pytest, with the plugins that are installed."""
    get_parser().parse(arguments)


def get_parser() -> pytest.Parser:
    """Return a parser that knows the options of pytest and of the plugins that are installed."""
    config = get_config()
    manager = config.pluginmanager
    manager.load_setuptools_entrypoints("pytest11")
    config.hook.pytest_addhooks.call_historic(kwargs={"pluginmanager": manager})
    return config._parser


def make_targets() -> set[str]:
    """Return the targets of the Makefile."""
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    return set(re.findall(r"^([a-z]+):", text, re.MULTILINE))


def subcommands(group: click.Group) -> dict[str, click.Command]:
    """Return the commands of a group by name, also those that are imported when called."""
    context = click.Context(group)
    found = {name: group.get_command(context, name) for name in group.list_commands(context)}
    return {name: command for name, command in found.items() if command is not None}


def known_options() -> set[str]:
    """Return the long options of `farm`, its commands, pytest and the benchmarks."""
    known = {"--help"}
    for file in (ROOT / "tests/benchmarks").glob("*.py"):
        known.update(re.findall(r'"(--[\w-]+)",', file.read_text(encoding="utf-8")))
    waiting: list[click.Command] = [main]
    while waiting:
        command = waiting.pop()
        known.update(option for each in command.params for option in each.opts)
        if isinstance(command, click.Group):
            waiting += subcommands(command).values()
    parser = get_parser()
    for group in [*parser._groups, parser._anonymous]:
        known.update(name for option in group.options for name in option.names())
    return known


def test_every_option_in_the_text_is_known() -> None:
    known = known_options()
    unknown = [
        f"{page}: {span}"
        for page in PAGES
        for span in spans_of(page)
        if span.startswith("--") and re.split(r"[ =]", span)[0] not in known
    ]
    assert unknown == []


# ---------------------------------------------------------------- links


@pytest.mark.parametrize("page", [page for page in PAGES if page.endswith(".md")])
def test_links_lead_somewhere(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    targets = re.findall(r"\]\((?!https?:)([^)#]+)[^)]*\)", text)
    missing = [one for one in targets if not (ROOT / page).parent.joinpath(one).exists()]
    assert missing == []


def test_every_page_is_in_the_index() -> None:
    index = (ROOT / "docs/README.md").read_text(encoding="utf-8")
    pages = {page.name for page in (ROOT / "docs").glob("*.md")} - {"README.md"}
    assert {page for page in pages if f"]({page})" not in index} == set()
