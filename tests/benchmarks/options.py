"""The command line that all benchmarks share, and what happens around a run."""

from __future__ import annotations

import shlex
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import click
import msgspec

from benchmarks import machine, render
from benchmarks.model import Result

#: Everything random in a benchmark begins here.
SEED = 20_231

DEFAULT_JSON = Path("bench-results/latest.json")


class Options(msgspec.Struct, frozen=True):
    """What was asked for. `rounds` and `sizes` (in MB) are the benchmark's own where not given."""

    scratch: Path
    rounds: int | None = None
    quick: bool = False
    sizes: tuple[int, ...] = ()
    #: Names of benchmarks, or of tables as `benchmark/table`; all where empty.
    only: tuple[str, ...] = ()

    def wants(self, name: str) -> bool:
        """Return whether a benchmark, or a table as `benchmark/table`, is to be run."""
        return not self.only or any(
            name == only or name.startswith(f"{only}/") or only.startswith(f"{name}/")
            for only in self.only
        )

    def sizes_of(self, usual: Sequence[int], quick: Sequence[int]) -> tuple[int, ...]:
        """Return the sizes to measure, in MB."""
        return self.sizes or tuple(quick if self.quick else usual)

    def rounds_of(self, usual: int, quick: int) -> int:
        """Return how many rounds to measure."""
        return self.rounds or (quick if self.quick else usual)


#: A benchmark takes options and yields its result.
Benchmark = Callable[[Options], Result]


class Document(msgspec.Struct, frozen=True):
    """What is written as JSON; times in seconds, memory in bytes."""

    machine: machine.Machine
    quick: bool
    results: list[Result]


def command(benchmarks: Mapping[str, Benchmark]) -> click.Command:
    """Return the command that runs these benchmarks."""

    @click.command(context_settings={"help_option_names": ["-h", "--help"]})
    @click.option("--rounds", type=click.IntRange(1), help="Rounds of every measurement.")
    @click.option("--only", multiple=True, metavar="NAME", help="A benchmark, or benchmark/table.")
    @click.option("--quick", is_flag=True, help="Few rounds, small sizes: does it work at all?")
    @click.option("--sizes", metavar="MB,MB", default="", help="Sizes of databases, in MB.")
    @click.option(
        "--json",
        "json_file",
        type=click.Path(path_type=Path, dir_okay=False),
        default=DEFAULT_JSON,
        show_default=True,
        help="Where all samples go.",
    )
    @click.option(
        "--markdown",
        type=click.Path(path_type=Path, dir_okay=False, exists=True),
        help="A page whose tables between markers are replaced.",
    )
    def run(
        rounds: int | None,
        only: tuple[str, ...],
        quick: bool,
        sizes: str,
        json_file: Path,
        markdown: Path | None,
    ) -> None:
        """Measure the farm side by side with its peers."""
        _check_names(only, benchmarks)
        # Folders in memory have to go, also when somebody ends us.
        signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
        with tempfile.TemporaryDirectory(prefix="farm-bench-") as scratch:
            options = Options(Path(scratch), rounds, quick, _sizes(sizes), only)
            results = _run(benchmarks, options, markdown)
        click.echo("\n".join(str(bar) for result in results for bar in result.bars))
        document = Document(machine.look(), quick, results)
        json_file.parent.mkdir(parents=True, exist_ok=True)
        json_file.write_bytes(msgspec.json.format(msgspec.json.encode(document)) + b"\n")
        click.echo(f"all samples: {json_file}")

    return run


def _run(benchmarks: Mapping[str, Benchmark], options: Options, page: Path | None) -> list[Result]:
    results = []
    for name, benchmark in benchmarks.items():
        if not options.wants(name):
            continue
        facts = machine.look()
        click.echo(f"# {facts}\n")
        began = time.perf_counter()
        measured = benchmark(options)
        result = msgspec.structs.replace(measured, seconds=time.perf_counter() - began)
        click.echo(render.text(result))
        results.append(result)
        if page is not None:
            render.insert(page, name, render.markdown(result, facts, _told(options, name)))
    return results


def _told(options: Options, name: str) -> str:
    words = ["python", "-m", "benchmarks", "--only", name]
    words += ["--quick"] if options.quick else []
    words += ["--rounds", str(options.rounds)] if options.rounds else []
    words += ["--sizes", ",".join(map(str, options.sizes))] if options.sizes else []
    return shlex.join(words)


def _sizes(given: str) -> tuple[int, ...]:
    try:
        sizes = tuple(int(size) for size in given.split(",") if size)
    except ValueError:
        sizes = (0,)
    if any(size < 1 for size in sizes):
        raise click.BadParameter(f"expected whole numbers like 1,10, got {given!r}")
    return sizes


def _check_names(only: Iterable[str], benchmarks: Mapping[str, Benchmark]) -> None:
    for name in only:
        if name.partition("/")[0] not in benchmarks:
            known = ", ".join(benchmarks)
            raise click.BadParameter(f"no benchmark {name!r}: choose among {known}")
