"""The black box tells what a process did last, whenever it was killed."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from snapfarm_worker import blackbox
from snapfarm_worker.blackbox import BlackBox, Phase, Record


def test_last_record_is_read(tmp_path: Path) -> None:
    box = BlackBox(tmp_path / "box")
    box.write(Phase.SETUP, "a.py::test_ü")
    box.phase(Phase.CALL)
    assert blackbox.read(tmp_path / "box") == Record(Phase.CALL, "a.py::test_ü", 0)
    box.item_finished()
    assert blackbox.read(tmp_path / "box") == Record(Phase.IDLE, "", 1)
    box.close()


def test_steps_are_those_of_the_present_subject(tmp_path: Path) -> None:
    box = BlackBox(tmp_path / "box")
    box.write(Phase.CALL, "7")
    box.steps[1] = 3
    box.phase(Phase.CALL)
    assert blackbox.read(tmp_path / "box") == Record(Phase.CALL, "7", 0, 3)
    box.item_finished()
    assert blackbox.read(tmp_path / "box") == Record(Phase.IDLE, "", 1, 0)
    box.close()


def test_missing_and_torn_files_mean_that_nothing_began(tmp_path: Path) -> None:
    torn = tmp_path / "torn"
    torn.write_bytes(b"\x01")
    nothing = Record(Phase.STARTING, "", 0)
    assert blackbox.read(torn) == nothing
    assert blackbox.read(tmp_path / "missing") == nothing


def test_overlong_subject_is_cut_not_refused(tmp_path: Path) -> None:
    box = BlackBox(tmp_path / "box")
    long = "\N{SNOWMAN}" * 100_000
    box.write(Phase.CALL, long)
    record = blackbox.read(tmp_path / "box")
    assert record.phase is Phase.CALL
    assert record.subject == blackbox.abridged(long)
    assert record.subject.startswith("\N{SNOWMAN}" * 10_000)
    # Two that begin alike can be told apart.
    assert blackbox.abridged(long) != blackbox.abridged(long + "x")
    box.close()


def test_subject_that_is_no_text_is_recorded_as_it_is_looked_for(tmp_path: Path) -> None:
    box = BlackBox(tmp_path / "box")
    box.write(Phase.CALL, "test_\udcff.py::test")
    assert blackbox.read(tmp_path / "box").subject == blackbox.abridged("test_\udcff.py::test")
    box.close()


def test_record_survives_sigkill_at_any_moment(tmp_path: Path) -> None:
    path = tmp_path / "box"
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        box = BlackBox(path)
        number = 0
        while True:
            number += 1
            box.write(Phase.CALL, f"{number:08}" * (1 + number % 500))
            if number == 2000:
                os.write(writer, b"x")
    os.read(reader, 1)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    os.close(reader)
    os.close(writer)
    subject = blackbox.read(path).subject
    digits = subject[:8]
    assert int(digits) >= 2000
    assert subject == digits * (1 + int(digits) % 500)
