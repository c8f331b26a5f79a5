"""What a database says when something is wrong with it, in sentences that say what to do."""

import errno
import os
import shutil
import sqlite3
from pathlib import Path

from sqlalchemy.exc import DataError, IntegrityError

from llm_backend.errors import StorageError

_HEADER = b"SQLite format 3\0"
_BYTES_OF_A_FULL_DISK = 1024 * 1024
_WRITTEN_LATER = "what has been paid for is kept in memory and written then"
_FULL = f"The disk of the database is full: make room; {_WRITTEN_LATER}"
_LOCKED = (
    "The database is locked by another program: end what has it open, such as a database browser or a "
    f"backup; {_WRITTEN_LATER}"
)
_ERRORS_OF_THE_SYSTEM = {
    errno.ENOSPC: _FULL,
    errno.EDQUOT: _FULL,
    errno.EAGAIN: _LOCKED,
}


class RefusedValueError(StorageError):
    """The database refuses a value, whatever its state: to try again does not help."""


class RestartNeededError(StorageError):
    """The SQLite file cannot be used any more; the next start makes a new one."""

    @classmethod
    def corrupt(cls) -> "RestartNeededError":
        """SQLite says that the file is no database, or no whole one."""
        return cls(
            "The database is corrupt: start the server again; "
            "it then moves the file aside and makes a new one"
        )

    @classmethod
    def deleted(cls) -> "RestartNeededError":
        """Somebody has deleted or emptied the file while the server was running."""
        return cls("The database has been deleted: start the server again; it then makes a new one")


def is_corrupt(error: BaseException) -> bool:
    """Whether SQLite says that the file is no database, or no whole one. No other fault counts.

    A text that is not UTF-8 is one, too: nothing else is ever written.
    """
    if isinstance(_cause(error), sqlite3.OperationalError) and "Could not decode to UTF-8" in str(error):
        return True
    return _sqlite_code(error) in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def has_header(file: Path) -> bool:
    """Whether the file begins as every SQLite database does; https://www.sqlite.org/fileformat.html."""
    try:
        with file.open("rb") as opened:
            return opened.read(len(_HEADER)) == _HEADER
    except OSError:
        return False


def storage_error(error: BaseException, file: Path | None) -> StorageError:
    """Our own error for what a driver, SQLAlchemy or the system raised; `file` is SQLite's."""
    cause = _cause(error)
    if file is not None and is_corrupt(error):
        return RestartNeededError.corrupt()
    if file is not None and _is_deleted(cause, file):
        return RestartNeededError.deleted()
    if isinstance(error, (DataError, IntegrityError)):
        return RefusedValueError(f"The database refuses a value: {type(cause).__name__}")
    sentence = (
        _of_the_system(cause)
        if isinstance(cause, OSError)
        else _of_sqlite(_sqlite_code(error), file)
        if isinstance(cause, sqlite3.Error)
        else _of_postgresql(str(getattr(cause, "sqlstate", None) or ""))
    )
    said = str(cause).partition("\n")[0]
    if sentence is None and _lost_server(cause):
        sentence = f"PostgreSQL cannot be reached: see that it runs, and DATABASE_URL ({said})"
    return StorageError(sentence or f"The database cannot be used: {said}")


def _is_deleted(cause: BaseException, file: Path) -> bool:
    """Whether the file is gone, or was emptied and has no tables any more."""
    code = _sqlite_code(cause)
    lacks_tables = code == sqlite3.SQLITE_ERROR and "no such table" in str(cause)
    return lacks_tables or (code == sqlite3.SQLITE_CANTOPEN and not file.exists())


def _of_sqlite(code: int | None, file: Path | None) -> str | None:
    if code == sqlite3.SQLITE_FULL or (code == sqlite3.SQLITE_IOERR and _is_full(file)):
        return _FULL
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return _LOCKED
    if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM):
        return _read_only()
    if code == sqlite3.SQLITE_CANTOPEN:
        return _FULL if _is_full(file) else _read_only()
    if code == sqlite3.SQLITE_IOERR:
        return f"The disk of the database fails: check the disk of MODEL_DIR; {_WRITTEN_LATER}"
    return None


def _of_the_system(error: OSError) -> str | None:
    if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        return _read_only()
    return _ERRORS_OF_THE_SYSTEM.get(error.errno or 0)


def _of_postgresql(state: str) -> str | None:
    """By the SQLSTATE; https://www.postgresql.org/docs/current/errcodes-appendix.html."""
    if state == "53100":
        return f"The disk of PostgreSQL is full: make room there; {_WRITTEN_LATER}"
    if state == "25006":
        return "PostgreSQL takes no changes: DATABASE_URL must name the primary server, not a standby"
    if state in ("55P03", "57014"):
        return f"PostgreSQL does not answer in time: it is locked or overloaded; {_WRITTEN_LATER}"
    return None


def _lost_server(cause: BaseException) -> bool:
    """Whether psycopg could not connect, lost its connection, or was told that the server ends or starts."""
    state = str(getattr(cause, "sqlstate", None) or "")
    is_operational = (
        type(cause).__module__.startswith("psycopg") and type(cause).__name__ != "ProgrammingError"
    )
    return state.startswith(("08", "57P")) or (is_operational and not state)


def _read_only() -> str:
    return (
        f"The database is read-only: make MODEL_DIR and the files in it writable for uid {os.geteuid()}; "
        f"{_WRITTEN_LATER}"
    )


def _is_full(file: Path | None) -> bool:
    """SQLite says only "I/O error", or "cannot open", where it finds no room for the files beside its own."""
    try:
        return file is not None and shutil.disk_usage(file.parent).free < _BYTES_OF_A_FULL_DISK
    except OSError:
        return False


def _cause(error: BaseException) -> BaseException:
    original = getattr(error, "orig", None)
    return original if isinstance(original, BaseException) else error


def _sqlite_code(error: BaseException) -> int | None:
    """SQLite's primary result code."""
    code = getattr(_cause(error), "sqlite_errorcode", None)
    return None if code is None else code & 0xFF
