"""What the operating system says of files is told in words; what is no file's fault stays a bug."""

from __future__ import annotations

import errno
import os

import pytest

from tinyhil.errors import FileTrouble, files_told


@pytest.mark.parametrize(
    ("number", "filename", "told"),
    [
        (errno.ENOSPC, None, r"^here: No space left on device\. The disk is full"),
        (errno.EACCES, "a/b", r"^a/b: Permission denied\. .*look at its permissions"),
        (errno.EROFS, "a/b", r"^a/b: Read-only file system\. "),
        (errno.ENOTDIR, "a/b", r"^a/b: Not a directory$"),
    ],
)
def test_a_file_that_refuses_is_the_benchs_fault(number: int, filename: str | None, told: str) -> None:
    with pytest.raises(FileTrouble, match=told) as raised, files_told("here"):
        raise OSError(number, os.strerror(number), filename)
    assert raised.value.exit_code == 10


def test_what_is_no_files_fault_is_left_alone() -> None:
    with pytest.raises(ConnectionResetError), files_told():
        raise ConnectionResetError(errno.ECONNRESET, "reset")
