"""The tables of the results file, one SQL script per version; a file is brought up to date in order.

`user_version` counts the scripts that were applied. A script that has been released is never
changed: a new version is a new script at the end.
"""

APPLICATION_ID = 0x74484C01
"""Written into the file's header, so that another program's database is never taken for ours."""

MIGRATIONS = (
    # 1: records. What the image was made of and where it ran are stored once, under their hash.
    """
    CREATE TABLE builds (hash TEXT PRIMARY KEY, content TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE environments (hash TEXT PRIMARY KEY, content TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE measurements (
        id INTEGER PRIMARY KEY,
        created TEXT NOT NULL,
        model TEXT NOT NULL,
        model_sha256 TEXT NOT NULL,
        engine TEXT NOT NULL,
        board TEXT NOT NULL,
        mode TEXT NOT NULL,
        kind TEXT NOT NULL,
        revision TEXT NOT NULL,
        error TEXT,
        build TEXT NOT NULL REFERENCES builds (hash),
        environment TEXT NOT NULL REFERENCES environments (hash),
        record TEXT NOT NULL
    );
    CREATE INDEX measurements_by_subject ON measurements (model, board, engine, mode, id);
    CREATE INDEX measurements_by_revision ON measurements (revision);
    CREATE TABLE samples (
        measurement INTEGER NOT NULL REFERENCES measurements (id) ON DELETE CASCADE,
        position INTEGER NOT NULL,
        value INTEGER NOT NULL,
        PRIMARY KEY (measurement, position)
    ) WITHOUT ROWID;
    """,
    # 2: names for a set of records to compare with later.
    """
    CREATE TABLE baselines (
        name TEXT NOT NULL,
        measurement INTEGER NOT NULL REFERENCES measurements (id) ON DELETE CASCADE,
        saved TEXT NOT NULL,
        PRIMARY KEY (name, measurement)
    ) WITHOUT ROWID;
    """,
    # 3: find what was measured already, by the id of its firmware.
    """
    CREATE INDEX builds_by_id ON builds (json_extract(content, '$.build_id'));
    CREATE INDEX measurements_by_build ON measurements (build, mode);
    """,
)
