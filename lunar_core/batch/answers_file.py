"""The file that a batch writes: one JSON line for each answer, appended as it comes, so that a kill loses none."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from typing_extensions import Self

from lunar_core.batch.rows import RowId
from lunar_core.errors import ConfigurationError


class AnswersFile:
    """Opens ``path`` for appending and repairs its last line, where a kill has torn it.

    ``answered``: the ids whose last line is an answer. Raises ConfigurationError if it is no file of answers.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.answered: set[RowId] = set()
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        except OSError as error:
            raise ConfigurationError(f"out: {path} cannot be written: {error.strerror}") from None
        try:
            self._read_and_repair()
        except BaseException:
            os.close(self._file)
            raise

    def _read_and_repair(self) -> None:
        content = self._path.read_bytes()
        whole, _, torn = content.rpartition(b"\n")
        for number, line in enumerate(whole.splitlines(), 1):
            if line.strip():
                self._note(self._parsed(line, number))
        if torn:
            try:
                self._note(self._parsed(torn, 0))
            except ConfigurationError:
                os.ftruncate(self._file, len(content) - len(torn))
            else:
                os.write(self._file, b"\n")

    def _parsed(self, line: bytes, number: int) -> Mapping[str, Any]:
        try:
            answer = json.loads(line)
        except (ValueError, RecursionError):
            answer = None
        if not isinstance(answer, dict) or not isinstance(answer.get("id"), (str, int)):
            raise ConfigurationError(f"out: line {number} of {self._path} is no answer of a batch")
        return answer

    def _note(self, answer: Mapping[str, Any]) -> None:
        if "error" in answer:
            self.answered.discard(answer["id"])
        else:
            self.answered.add(answer["id"])

    def write(self, answer: Mapping[str, Any]) -> None:
        """Append one line, in one step of the system."""
        line = json.dumps(answer, ensure_ascii=False).encode("utf-8", "replace") + b"\n"
        while line:
            line = line[os.write(self._file, line) :]
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
