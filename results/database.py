"""The results file as SQLite sees it: opening, bringing up to date, transactions, and errors in plain words.

What the tables hold is in `schema.py`; what is written and read, in `store.py`.
"""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from tinyhil.errors import StoreError
from tinyhil.results.schema import APPLICATION_ID, MIGRATIONS

BUSY_SECONDS = 60.0
"""How long a writer waits for another; one record takes milliseconds."""


def connect(path: Path, readonly: bool) -> sqlite3.Connection:
    """Open the results file `path`, or create it (not with `readonly`), in the newest version of its tables.

    StoreError if it is missing (readonly), corrupted, not tinyhil's, newer than this version, or cannot be
    written; the file is then left as it was.
    """
    if readonly and not path.is_file():
        raise StoreError(f"{path}: no results file; `tinyhil run` or `pytest --board=…` makes one")
    if not readonly:
        _make_folder(path.parent)
    with told(path):
        connection = _open(path, readonly)
        try:
            _check_header(path, connection, readonly)
            if not readonly:
                _use_wal(connection)
                connection.execute("PRAGMA synchronous = FULL")
                connection.execute("PRAGMA foreign_keys = ON")
                _migrate(connection)
        except BaseException:
            connection.close()
            raise
    return connection


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """All or nothing. IMMEDIATE: waits for other writers now, not in the middle."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


@contextmanager
def told(path: Path) -> Iterator[None]:
    """SQLite's errors as StoreError, with the likely cause and what to do."""
    try:
        yield
    except sqlite3.Error as error:
        name = getattr(error, "sqlite_errorname", "")
        raise StoreError(f"{path}: {error}. {_advice(name)}") from error
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror or error}") from error
    except json.JSONDecodeError as error:
        raise StoreError(f"{path}: a record is damaged: {error}") from error


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"{folder}: cannot make the folder of the results file: {error.strerror}") from error


def _open(path: Path, readonly: bool) -> sqlite3.Connection:
    mode = "ro" if readonly else "rwc"
    # A finished file in a folder that may not be written has no room for the WAL's index, and
    # needs none: without a WAL nobody is writing.
    if readonly and not _is_writable(path.parent) and not path.with_name(path.name + "-wal").exists():
        mode = "ro&immutable=1"
    uri = f"file:{quote(str(path.resolve()))}?mode={mode}"
    return sqlite3.connect(uri, uri=True, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)


def _is_writable(folder: Path) -> bool:
    return os.access(folder, os.W_OK)


def _check_header(path: Path, connection: sqlite3.Connection, readonly: bool) -> None:
    tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if application != APPLICATION_ID and (tables or application or readonly):
        raise StoreError(f"{path} is not a tinyhil results file; give another path, it was left as it is")
    if version > len(MIGRATIONS):
        raise StoreError(
            f"{path} was written by a newer tinyhil (file version {version}, this one knows"
            f" {len(MIGRATIONS)}); update tinyhil or give another path. The file was left as it is"
        )
    if readonly and version < len(MIGRATIONS):
        raise StoreError(
            f"{path} has the older file version {version}; any `tinyhil run` on it brings it up to date"
        )


def _use_wal(connection: sqlite3.Connection) -> None:
    """Write-ahead logging, kept by the file. The switch needs the file alone and does not wait for
    that by itself, so the first writers of a new file take turns here."""
    end = time.monotonic() + BUSY_SECONDS
    while connection.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorname != "SQLITE_BUSY" or time.monotonic() > end:
                raise
            time.sleep(0.01)


def _migrate(connection: sqlite3.Connection) -> None:
    if connection.execute("PRAGMA user_version").fetchone()[0] == len(MIGRATIONS):
        return
    with transaction(connection):  # the version is read again: another process may have been faster
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        for script in MIGRATIONS[version:]:
            for statement in filter(str.strip, script.split(";")):
                connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")


def _advice(name: str) -> str:
    if name.startswith("SQLITE_FULL"):
        return "The disk is full; what was stored before is safe. Free some space and run again"
    if name.startswith("SQLITE_IOERR"):
        return "The disk did not take it (full, over quota or failing); what was stored before is safe"
    if name.startswith(("SQLITE_NOTADB", "SQLITE_CORRUPT")):
        return "The file is corrupted or not a results file; it was left as it is. Move it away and run again"
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return f"Another process kept it locked for {BUSY_SECONDS:.0f} s; end it or give another path"
    if name.startswith(("SQLITE_CANTOPEN", "SQLITE_READONLY", "SQLITE_PERM")):
        return "It cannot be opened for writing; check the path and its permissions"
    return "The file was left as it is"
