"""Connections to a store: opens, creates or refuses it, and gives this process its connections."""

from __future__ import annotations

import contextlib
import errno
import importlib
import os
import secrets
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from lunar_core.cost.store import schema
from lunar_core.cost.store.address import Address
from lunar_core.cost.store.functions import add_functions
from lunar_core.cost.store.gate import ForkGate
from lunar_core.errors import ConfigurationError, LedgerError
from lunar_core.extras import install_command

PATIENCE = 5.0
"""Seconds to wait for a lock, or for a connection."""

_LOCK_OF_MAKING = 0x4C554E4152
"""The PostgreSQL lock for processes that create or migrate a database at once: "LUNAR"."""


class Database:
    """One store, as this process reaches it.

    Three kinds of connections, none of which is shared:

    * ``reading()``: a snapshot for one look, opened and closed with it.
    * ``writing()``: the writer thread's own, kept open. Each transaction is on disk when it is over
      (``synchronous=FULL``). Whoever else has something to write beside entries hands it to that thread as a ``Work``
      (``writer.py``): it is written in the same transaction as the entries of that moment.
    * ``connect_driver()``: one of the driver itself (sqlite3 or psycopg) for whoever reserves: in autocommit, and
      on SQLite without waiting for the disk (``synchronous=NORMAL``; on PostgreSQL a transaction says so itself, for
      a pooler may share the session). Whoever keeps one uses it inside ``with database.gate``, from one thread at a
      time, and tells ``on_close`` how to close it.
    """

    def __init__(self, address: Address, *, read_only: bool) -> None:
        self.address = address
        self.read_only = read_only
        self.is_sqlite = address.path is not None
        self._idle: list[Callable[[], None]] = []
        self._in_child: list[Callable[[], None]] = []
        self._writer: Connection | None = None
        self.gate = ForkGate(self._before_fork, self._after_fork)
        self._engine = self._make_engine()
        self.on_close(self.close_writer)

    # Opening

    def open(self) -> None:
        """Check the store; create it, or migrate it to the current version. Raises LedgerError."""
        with self.errors("opened"), self.gate:
            if self.is_sqlite:
                self._open_file()
            else:
                self._open_server()

    def _open_file(self) -> None:
        path = self.address.path or Path()
        if self.read_only:
            if not path.exists():
                raise LedgerError(f"{path} is not there; a program that opens it to write makes it")
            self._check_only()
            return
        if not path.parent.is_dir():
            raise LedgerError(f"{path} cannot be made: its folder is not there")
        if not path.exists() and self._make_file(path):
            return
        version = self._check_only()
        if version != schema.VERSION:
            with self._engine.connect().execution_options(writes=True) as connection:
                with connection.begin():
                    schema.make_or_migrate(connection, self.address.shown)
                _switch_to_wal(connection)

    def _make_file(self, path: Path) -> bool:
        """Create the file under another name and link it into place, so that nobody sees half a store.

        Returns False if another process was faster, or if the file system has no links: the store is then created in
        place.
        """
        beside = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
        # Before SQLite opens it: a file's second descriptor, closed later, would drop this process's locks.
        os.close(os.open(beside, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        try:
            engine = self._make_engine(beside)
            with engine.connect().execution_options(writes=True) as connection:
                with connection.begin():
                    schema.make_or_migrate(connection, self.address.shown)
                _switch_to_wal(connection)
            os.link(beside, path)
        except FileExistsError:
            return False
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK):
                raise
            with contextlib.suppress(FileExistsError):
                os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
            return False
        finally:
            for name in (
                beside.name,
                f"{beside.name}-wal",
                f"{beside.name}-shm",
                f"{beside.name}-journal",
            ):
                beside.with_name(name).unlink(missing_ok=True)
        _sync_folder(path.parent)
        return True

    def _check_only(self) -> int | None:
        """The version of the store. Changes nothing. Raises LedgerError if there is no ledger."""
        size = self._size()
        engine = self._make_engine(read_only=True)
        with engine.connect() as connection, connection.begin():
            version = schema.version_of(connection, self.address.shown)
        # SQLite takes a file of a few bytes for an empty one. One that is made just now has a size, and then a version.
        if version is None and min(size, self._size()):
            raise LedgerError(
                f"{self.address.shown} is no ledger: it holds other data, and no table lunar_meta"
            )
        if version is None and self.read_only:
            raise LedgerError(f"{self.address.shown} holds no ledger")
        return version

    def _size(self) -> int:
        return 0 if self.address.path is None else self.address.path.stat().st_size

    def _open_server(self) -> None:
        if self.read_only:
            self._check_only()
            return
        if self._check_only() == schema.VERSION:
            return
        with self._engine.begin() as connection:
            # Of the transaction, not of the session: a pooler between us and the server may swap sessions.
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK_OF_MAKING})
            schema.make_or_migrate(connection, self.address.shown)

    # Connections

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A snapshot: everything read in it is of one moment, whatever is written meanwhile. Raises LedgerError."""
        options: dict[str, Any] = {} if self.is_sqlite else {"isolation_level": "REPEATABLE READ"}
        with self.errors("read"), self.gate, self._engine.connect() as connection:
            connection.execution_options(**options)
            with connection.begin():
                yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction of the writer's thread, on disk when it ends. Raises SQLAlchemy's own errors."""
        with self.gate:
            if self._writer is None:
                self._writer = self._engine.connect().execution_options(writes=True)
            try:
                with self._writer.begin():
                    yield self._writer
            finally:
                # SQLite's stays: on a full disk, the last one to be closed would take with it what readers need.
                if self._writer.invalidated or self._writer.in_transaction():
                    self.close_writer()

    def close_writer(self) -> None:
        """Close the writer's connection; the next transaction opens another."""
        connection, self._writer = self._writer, None
        if connection is not None:
            with contextlib.suppress(SQLAlchemyError):
                connection.close()

    def connect_driver(self) -> Any:  # a connection of sqlite3 or of psycopg
        """A new connection of the driver, in autocommit. Raises LedgerError."""
        with self.errors("reached"):
            if self.address.path is None:
                return connect_server(self.address, autocommit=True)
            file = connect_file(self.address.path, read_only=self.read_only)
            file.execute("PRAGMA synchronous=NORMAL")
            return file

    def on_close(self, close: Callable[[], None]) -> None:
        """Call ``close`` before a fork and at the end. What it closes is opened again at its next use."""
        self._idle.append(close)

    def on_child(self, begin: Callable[[], None]) -> None:
        """Call ``begin`` in a forked child."""
        self._in_child.append(begin)

    def close(self) -> None:
        """Close all connections."""
        with self.gate:
            self._before_fork()

    def _before_fork(self) -> None:
        for close in self._idle:
            close()

    def _after_fork(self) -> None:
        for begin in self._in_child:
            begin()

    @contextmanager
    def errors(self, done: str) -> Iterator[None]:
        """A context that turns the database's errors into LedgerErrors, without a password.

        ``done``: the action that failed.
        """
        try:
            yield
        except (SQLAlchemyError, sqlite3.Error, OSError) as error:
            raise LedgerError(
                f"{self.address.shown} could not be {done}: {self.words_of(error)}"
            ) from None
        except Exception as error:
            if type(error).__module__.partition(".")[0] != "psycopg":
                raise
            raise LedgerError(
                f"{self.address.shown} could not be {done}: {self.words_of(error)}"
            ) from None

    def words_of(self, error: BaseException) -> str:
        """The message of a database error, without the written data and without the password."""
        origin = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
        return self.address.hide_password(" ".join(str(origin).split()) or type(origin).__name__)

    def _make_engine(self, path: Path | None = None, *, read_only: bool = False) -> Engine:
        place, only_reads = path or self.address.path, read_only or self.read_only
        if place is not None:
            return _file_engine(lambda: connect_file(place, read_only=only_reads))
        return _server_engine(lambda: connect_server(self.address, autocommit=False))


def connect_file(path: Path, *, read_only: bool = False) -> sqlite3.Connection:
    """A connection of sqlite3 in autocommit, with our functions. ``read_only``: leaves no file behind."""
    # A log beside the file may hold what is not in the file yet, and the last to close would write it there. Without
    # one there is nothing to write; a connection that may not write would leave an empty log behind.
    has_log = path.with_name(f"{path.name}-wal").exists()
    mode = "ro" if read_only and has_log else "rw"
    connection = sqlite3.connect(
        f"{path.as_uri()}?mode={mode}",
        uri=True,
        timeout=PATIENCE,
        isolation_level=None,
        # One thread at a time, which is ours to see to.
        check_same_thread=False,
    )
    if read_only:
        connection.execute("PRAGMA query_only=ON")
    add_functions(connection)
    return connection


def connect_server(address: Address, *, autocommit: bool) -> Any:  # psycopg is an extra
    """A connection of psycopg. Raises ConfigurationError where it is not installed."""
    psycopg, url = import_psycopg(), address.url
    if url is None:
        raise TypeError("a file has no server")
    return psycopg.connect(
        url.set(drivername="postgresql").render_as_string(hide_password=False),
        autocommit=autocommit,
        connect_timeout=int(PATIENCE),
        # A pooler may hand each transaction another session, which knows nothing of what was prepared.
        prepare_threshold=None,
    )


def import_psycopg() -> Any:  # an extra
    """Psycopg 3. Raises ConfigurationError where it is not installed."""
    try:
        return importlib.import_module("psycopg")
    except ImportError:
        raise ConfigurationError(
            f"where: PostgreSQL needs psycopg 3: {install_command('postgres')}"
        ) from None


def _file_engine(connect: Callable[[], sqlite3.Connection]) -> Engine:
    engine = create_engine(
        "sqlite+pysqlite://", creator=connect, poolclass=NullPool, hide_parameters=True
    )

    # The driver begins transactions late and on its own; for a snapshot, and for a lock from the start, we do.
    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        writes = connection.get_execution_options().get("writes", False)
        if writes:
            connection.exec_driver_sql("PRAGMA synchronous=FULL")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def _server_engine(connect: Callable[[], Any]) -> Engine:
    import_psycopg()
    return create_engine(
        "postgresql+psycopg://", creator=connect, poolclass=NullPool, hide_parameters=True
    )


def _switch_to_wal(connection: Connection) -> None:
    """Switch to write-ahead logging: readers and the writer then do not wait for each other."""
    until = time.monotonic() + PATIENCE
    while True:
        try:
            cast("sqlite3.Connection", connection.connection.driver_connection).execute(
                "PRAGMA journal_mode=WAL"
            )
        except sqlite3.OperationalError:
            if time.monotonic() > until:
                raise
            time.sleep(0.01)
        else:
            return


def _sync_folder(folder: Path) -> None:
    """Sync the folder, which holds the name of a new file."""
    with contextlib.suppress(OSError):  # not every system lets folders be opened
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
