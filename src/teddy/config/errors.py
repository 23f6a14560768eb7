"""The ways a run can end badly, and the sentence a person reads then."""

from __future__ import annotations


class UserError(Exception):
    """What the user gave (config, data, checkpoint, folder) cannot be used; exit code 2.

    The message is one sentence that names the key or the file and the remedy.
    """

    def __str__(self) -> str:
        # torch passes an error of a loader process on with that process's traceback before it.
        return super().__str__().rpartition("teddy.config.errors.UserError: ")[2].strip()


def reason(error: BaseException) -> str:
    """The first line of a library's error, or the error's class, to be quoted in a sentence of ours."""
    return str(error).strip().partition("\n")[0].rstrip(".") or type(error).__name__


class StageFailed(Exception):
    """A stage could not be finished for a reason outside the input (disk full, device lost); exit code 1."""


class Diverged(StageFailed):
    """Numbers that are not finite in a teacher, a block or a student; what does not need it goes on, and the exit code is 1."""
