"""The address of a store: parses a path or URL, and shows it without its password. Pure."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from lunar_core.errors import ConfigurationError

_POSTGRES = ("postgres", "postgresql", "postgresql+psycopg")
_SQLITE = ("sqlite", "sqlite+pysqlite")


@dataclass(frozen=True)
class Address:
    """The address of a store. ``path``: for SQLite. ``url``: for PostgreSQL."""

    text: str = field(repr=False)
    shown: str
    """For messages, without the password."""
    path: Path | None = None
    url: URL | None = field(default=None, repr=False)

    @classmethod
    def parse(cls, where: object) -> Address:
        """Parse ``Ledger.open``'s first argument. Raises ConfigurationError if it cannot be a store."""
        if isinstance(where, str) and "://" in where:
            return cls._of_url(where)
        if not isinstance(where, (str, os.PathLike)) or not isinstance(os.fspath(where), str):
            raise ConfigurationError("where: expected a path, or a URL of SQLite or PostgreSQL")
        return cls._of_path(os.fspath(where))

    @classmethod
    def _of_path(cls, text: str) -> Address:
        if text in ("", ":memory:"):
            raise ConfigurationError("where: expected a path; a ledger in memory is Ledger()")
        if "\0" in text:
            raise ConfigurationError("where: a path has no NUL in it")
        try:
            os.fsencode(text)
        except UnicodeEncodeError:
            raise ConfigurationError(
                "where: holds what no path can, half of a surrogate pair"
            ) from None
        path = Path(text).absolute()
        return cls(str(path), str(path), path=path)

    @classmethod
    def _of_url(cls, text: str) -> Address:
        try:
            url = make_url(text)
        except (ArgumentError, ValueError):
            raise ConfigurationError(
                "where: expected a URL such as postgresql://user@host/name"
            ) from None
        if url.drivername in _SQLITE:
            return cls._of_path(url.database or "")
        if url.drivername in _POSTGRES:
            url = url.set(drivername="postgresql+psycopg")
            return cls(text, url.render_as_string(hide_password=True), url=url)
        raise ConfigurationError(
            f"where: a ledger is kept in SQLite, or in PostgreSQL by psycopg 3, not in {url.drivername}"
        )

    def hide_password(self, text: str) -> str:
        """``text`` without the password, in case a driver put it there."""
        password = self.url.password if self.url is not None else None
        return text.replace(str(password), "***") if password else text
