"""The results file: SQLite in WAL mode, so that many may write, and a kill loses nothing committed.

Each record is one row; the build and the environment that it depends on are stored once, under the
hash of their content. Raw samples are kept. Records are only ever added.
"""

from __future__ import annotations

import hashlib
import json
import re
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tinyhil.errors import StoreError, UsageError
from tinyhil.results import database
from tinyhil.results.provenance import split
from tinyhil.results.record import Measurement


@dataclass(frozen=True)
class Baseline:
    """A saved name: when it was saved, and how many records it holds."""

    name: str
    saved: str
    records: int


class Store:
    """An open results file. Safe to use from several threads and several processes at once."""

    def __init__(self, path: Path, connection: sqlite3.Connection, readonly: bool) -> None:
        self.path = path
        self.readonly = readonly
        self._connection = connection
        self._lock = threading.RLock()

    @classmethod
    def open(cls, path: str | Path, readonly: bool = False) -> Store:
        """Open the file, or create it (not with `readonly`); older files are brought up to date.

        StoreError if it is missing (readonly), corrupted, not tinyhil's, newer than this version, or
        cannot be written. The file is never overwritten.
        """
        path = Path(path)
        return cls(path, database.connect(path, readonly), readonly)

    def close(self) -> None:
        """Close the file; nothing is pending, every `add` was committed."""
        with self._lock, database.told(self.path):
            self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def add(self, record: Measurement) -> int:
        """Store one record and return its id. It is on the disk when this returns."""
        return self.add_all([record])[0]

    def add_all(self, records: Iterable[Measurement]) -> list[int]:
        """Store several records, all or none, and return their ids."""
        with self._write():
            return [self._insert(record) for record in records]

    def add_once(self, record: Measurement) -> int:
        """Store one record unless a good one of the same build and mode is there; the id of the one that
        is. Safe among processes: the look and the store are one transaction."""
        build = self._key(split(record.provenance)[0])
        with self._write():
            found = self._connection.execute(
                "SELECT max(id) FROM measurements WHERE build = ? AND mode = ? AND error IS NULL",
                [build, record.mode],
            ).fetchone()[0]
            return int(found) if found is not None else self._insert(record)

    def query(
        self,
        *,
        model: str | None = None,
        board: str | None = None,
        engine: str | None = None,
        mode: str | None = None,
        revision: str | None = None,
        limit: int | None = None,
    ) -> list[Measurement]:
        """Records that match all given words, oldest first; with `limit` only the newest ones.

        `revision` matches the beginning of provenance's `git`.
        """
        where, values = _conditions(revision, model=model, board=board, engine=engine, mode=mode)
        values.append(-1 if limit is None else limit)
        return self._read(f"SELECT id FROM measurements WHERE {where} ORDER BY id DESC LIMIT ?", values)

    def latest(
        self,
        *,
        model: str | None = None,
        board: str | None = None,
        engine: str | None = None,
        mode: str | None = None,
        revision: str | None = None,
    ) -> list[Measurement]:
        """The newest record of each network × board × engine × mode, of one revision if given."""
        where, values = _conditions(revision, model=model, board=board, engine=engine, mode=mode)
        return self._read(
            f"SELECT max(id) FROM measurements WHERE {where} GROUP BY model, board, engine, mode", values
        )

    def find(self, build_id: str, mode: str) -> Measurement | None:
        """The newest good record of the firmware `build_id` in `mode`, None if there is none.

        For work that is resumed: the id is the hash of everything that went into the firmware.
        """
        found = self._read(
            "SELECT max(measurements.id) FROM builds JOIN measurements ON measurements.build = builds.hash"
            " WHERE json_extract(builds.content, '$.build_id') = ? AND mode = ? AND error IS NULL",
            [build_id, mode],
        )
        return found[0] if found else None

    def by_build(self, *, failed: bool = False) -> dict[tuple[str, str], int]:
        """(build id, mode) → the newest good record's id, or with `failed` the newest failed one's."""
        rows = self._select(
            "SELECT json_extract(builds.content, '$.build_id') AS firmware, mode, max(measurements.id)"
            " FROM builds JOIN measurements ON measurements.build = builds.hash"
            f" WHERE firmware IS NOT NULL AND error IS {'NOT' if failed else ''} NULL"
            " GROUP BY firmware, mode"
        )
        return {(firmware, mode): identity for firmware, mode, identity in rows}

    def records(self, ids: Iterable[int]) -> dict[int, Measurement]:
        """The records with these ids, by id; ids that are not in the file are left out."""
        words = json.dumps(sorted(set(ids)))
        there = self._select(
            "SELECT id FROM measurements WHERE id IN (SELECT value FROM json_each(?)) ORDER BY id", [words]
        )
        found = self._read("SELECT value FROM json_each(?)", [words])
        return {identity: record for (identity,), record in zip(there, found, strict=True)}

    def save_baseline(self, name: str, ids: Sequence[int]) -> None:
        """Give the records `ids` a name to compare with later; an older set of that name is replaced.

        StoreError if there are none, or one is not in this file.
        """
        if not name or not ids:
            raise StoreError(f"baseline {name!r} needs a name and at least one record")
        with self._write():
            self._connection.execute("DELETE FROM baselines WHERE name = ?", [name])
            saved = _now()
            try:
                self._connection.executemany(
                    "INSERT INTO baselines VALUES (?, ?, ?)", [(name, i, saved) for i in set(ids)]
                )
            except sqlite3.IntegrityError as error:
                raise StoreError(f"baseline {name!r} names a record that is not in {self.path}") from error

    def baseline(self, name: str) -> list[Measurement]:
        """The records saved under `name`; UsageError lists the known names if there is none."""
        records = self._read("SELECT measurement FROM baselines WHERE name = ?", [name])
        if not records:
            known = ", ".join(b.name for b in self.baselines()) or "none yet"
            raise UsageError(f"no baseline {name!r} in {self.path}; saved: {known}. Save one with --hil-save")
        return records

    def baselines(self) -> list[Baseline]:
        """All saved names, newest first."""
        rows = self._select(
            "SELECT name, max(saved), count(*) FROM baselines GROUP BY name ORDER BY 2 DESC, 1"
        )
        return [Baseline(*row) for row in rows]

    def __len__(self) -> int:
        return int(self._select("SELECT count(*) FROM measurements")[0][0])

    @contextmanager
    def _write(self) -> Iterator[None]:
        if self.readonly:
            raise StoreError(f"{self.path} was opened read-only")
        with self._lock, database.told(self.path), database.transaction(self._connection):
            yield

    def _insert(self, record: Measurement) -> int:
        record = record if record.created else replace(record, created=_now())
        build, environment = split(record.provenance)
        content = record.to_json()
        del content["provenance"], content["samples"]
        cursor = self._connection.execute(
            "INSERT INTO measurements (created, model, model_sha256, engine, board, mode, kind, revision,"
            " error, build, environment, record) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [
                record.created,
                record.model.name,
                record.model.sha256,
                record.engine.name,
                record.board,
                record.mode,
                record.kind,
                record.provenance.get("git", ""),
                record.error.code if record.error else None,
                self._content("builds", build),
                self._content("environments", environment),
                json.dumps(content, allow_nan=False),
            ],
        )
        identity = cursor.lastrowid
        assert identity is not None
        self._connection.executemany(
            "INSERT INTO samples VALUES (?, ?, ?)",
            [(identity, position, value) for position, value in enumerate(record.samples)],
        )
        return identity

    def _content(self, table: str, content: dict[str, str]) -> str:
        text = json.dumps(content, sort_keys=True)
        key = self._key(content)
        self._connection.execute(f"INSERT OR IGNORE INTO {table} VALUES (?, ?)", [key, text])
        return key

    @staticmethod
    def _key(content: dict[str, str]) -> str:
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def _read(self, ids: str, values: Sequence[Any]) -> list[Measurement]:
        """The records whose id the SELECT `ids` gives, oldest first."""
        rows = self._select(
            "SELECT record, builds.content, environments.content,"
            " (SELECT json_group_array(value) FROM"
            "   (SELECT value FROM samples WHERE measurement = m.id ORDER BY position))"
            " FROM measurements m JOIN builds ON builds.hash = build"
            f" JOIN environments ON environments.hash = environment WHERE m.id IN ({ids}) ORDER BY m.id",
            values,
        )
        with database.told(self.path):
            return [_assemble(*row) for row in rows]

    def _select(self, query: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        with self._lock, database.told(self.path):
            return self._connection.execute(query, values).fetchall()


def _assemble(record: str, build: str, environment: str, samples: str) -> Measurement:
    content = json.loads(record)
    content["provenance"] = {**json.loads(build), **json.loads(environment)}
    content["samples"] = json.loads(samples)
    return Measurement.from_json(content)


def _conditions(revision: str | None, **words: str | None) -> tuple[str, list[Any]]:
    given = {f"{column} = ?": value for column, value in words.items() if value is not None}
    if revision is not None and re.fullmatch("[0-9a-f]{12}", revision):  # whole: not its -dirty states
        given |= {"revision = ?": revision}
    elif revision is not None:  # a range, not LIKE: the index serves it
        given |= {"revision >= ?": revision, "revision < ?": revision + "\U0010ffff"}
    return " AND ".join(["1", *given]), list(given.values())


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
