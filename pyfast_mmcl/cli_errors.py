"""What the command line says when something is wrong: one sentence and exit code 2, or how to resume and 130."""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import typer
from typer.core import TyperGroup

from ._errors import BackendError, InputError

# Typer's own complaints (unknown option, missing argument). Their base lives in click or in typer, by typer's version.
_UsageError: type[Exception] = typer.BadParameter.__mro__[1]

# What a user can cause and repair; any other OSError is a defect and keeps its traceback.
_FILE_TROUBLE = {
    errno.ENOENT,
    errno.EACCES,
    errno.EPERM,
    errno.EISDIR,
    errno.ENOTDIR,
    errno.EEXIST,
    errno.ENOTEMPTY,
    errno.ENOSPC,
    errno.EROFS,
    errno.EDQUOT,
    errno.EFBIG,
    errno.ENAMETOOLONG,
    errno.ELOOP,
    errno.EXDEV,
}


def say(sentence: str) -> None:
    """Write one line to stderr."""
    print("pyfast-mmcl: " + " ".join(sentence.split()), file=sys.stderr, flush=True)


def explain(error: BaseException) -> str | None:
    """The sentence for an error the user can repair, or None for a defect of ours."""
    if isinstance(error, _UsageError):
        message = error.format_message().strip()  # type: ignore[attr-defined]
        return message if message.endswith("?") else f"{message.rstrip('.')}; --help lists what is accepted."
    if isinstance(error, InputError | BackendError):
        return str(error)
    if isinstance(error, OSError) and error.errno in _FILE_TROUBLE:
        where = f"{error.filename}: " if error.filename is not None else ""
        return f"{where}{(error.strerror or 'not usable')[0].lower()}{(error.strerror or 'not usable')[1:]}."
    return None


@contextmanager
def on_interrupt(sentence: str) -> Iterator[None]:
    """Within this block Ctrl-C says `sentence` and ends with exit code 130."""
    try:
        yield
    except KeyboardInterrupt:
        say(sentence)
        raise typer.Exit(130) from None


def exit_code(command: Callable[[], Any]) -> int:
    """Run `command` and turn its outcome into an exit code; defects pass through with their traceback."""
    try:
        return int(command() or 0)
    except (typer.Abort, KeyboardInterrupt):
        say("interrupted.")
        return 130
    except Exception as error:
        sentence = explain(error)
        if sentence is None:
            raise
        say(sentence)
        return 2


class PoliteGroup(TyperGroup):
    """The command group with the manners of this module, also when a test drives it without a process."""

    def main(self, *args: Any, **extra: Any) -> Any:
        """Run the chosen command and exit with its code (return it where `standalone_mode` is off)."""
        exits = extra.pop("standalone_mode", True)
        run = partial(super().main, *args, **{**extra, "standalone_mode": False})
        code = exit_code(run)
        if exits:
            sys.exit(code)
        return code
