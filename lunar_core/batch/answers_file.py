"""The file that a batch writes: one JSON line per answer, appended at once, so that a kill loses none."""

from __future__ import annotations

import json
import os
import stat
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from typing_extensions import Self

from lunar_core.batch.json_lines import json_line
from lunar_core.batch.rows import RowId, is_row_id
from lunar_core.errors import ConfigurationError

if sys.platform != "win32":
    import fcntl


_BEGINNING = b'{"id":'
"""The beginning of every line of a batch. It distinguishes half a line of ours from other text."""


class AnswersFile:
    """Opens ``path`` for appending, for one batch at a time, and repairs a last line that a kill cut off.

    ``answered_ids``: those whose last line is an answer. Raises ConfigurationError if it is no file of answers (which
    is not changed), or if another batch writes it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.answered_ids: set[RowId] = set()
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        except OSError as error:
            raise ConfigurationError(f"out: {path} cannot be written: {error.strerror}") from None
        try:
            self._refuse_devices()
            self._lock()
            self._read_and_repair()
        except BaseException:
            os.close(self._file)
            raise

    def _refuse_devices(self) -> None:
        """Refuse anything but a regular file: a batch could not continue it."""
        if not stat.S_ISREG(os.fstat(self._file).st_mode):
            raise ConfigurationError(f"out: {self._path} is no file")

    def _lock(self) -> None:
        """Keep other batches out until the file is closed or this process ends: they would pay for the same rows."""
        if sys.platform == "win32":
            return
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigurationError(f"out: another batch is writing {self._path}") from None
        except OSError:
            return  # a file system without locks

    def _read_and_repair(self) -> None:
        with self._path.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                if not line.endswith(b"\n"):
                    self._repair(line, number)
                elif line.strip():
                    self._note(self._parse(line, number))

    def _repair(self, line: bytes, number: int) -> None:
        """Keep the last line if it is complete, and cut it off if it is half a line of ours."""
        if _is_json(line):
            self._note(self._parse(line, number))
            os.write(self._file, b"\n")
        elif line.startswith(_BEGINNING[: len(line)]):
            os.ftruncate(self._file, os.fstat(self._file).st_size - len(line))
        else:
            raise self._is_no_answer(number)

    def _parse(self, line: bytes, number: int) -> Mapping[str, Any]:
        try:
            answer = json.loads(line)
        except (ValueError, RecursionError):
            raise self._is_no_answer(number) from None
        if (
            not isinstance(answer, dict)
            or not is_row_id(answer.get("id"))
            or answer.keys().isdisjoint(("text", "error"))
        ):
            raise self._is_no_answer(number)
        return answer

    def _is_no_answer(self, number: int) -> ConfigurationError:
        return ConfigurationError(
            f"out: line {number} of {self._path} is no answer of a batch; name another file"
        )

    def _note(self, answer: Mapping[str, Any]) -> None:
        if "error" in answer:
            self.answered_ids.discard(answer["id"])
        else:
            self.answered_ids.add(answer["id"])

    def write(self, answer: Mapping[str, Any]) -> None:
        """Append one line, in one system call. Raises OSError that names the file, if the disk is full, say."""
        line = json_line(answer).encode()
        try:
            while line:
                line = line[os.write(self._file, line) :]
        except OSError as error:
            error.filename = str(self._path)
            raise
        self._note(answer)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        os.close(self._file)


def _is_json(line: bytes) -> bool:
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True
