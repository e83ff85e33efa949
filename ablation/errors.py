"""Every error that a user can cause, under one root; ``exit_code`` is what the command line returns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar


class AblationError(Exception):
    """Root. The text is one line, or one line per problem; it names the field, file or trial and the fix."""

    exit_code: ClassVar[int] = 1


class _ProblemsError(AblationError):
    """Several problems at once; ``problems`` holds one line each."""

    exit_code = 2

    def __init__(self, problems: str | Sequence[str]) -> None:
        self.problems: tuple[str, ...] = (problems,) if isinstance(problems, str) else tuple(problems)
        super().__init__("\n".join(self.problems))


class SpecError(_ProblemsError):
    """A study file, an override or a Python study that does not describe a study."""


class PlanError(_ProblemsError):
    """A study that its data or its resources cannot meet. ``plan`` is the table as far as it could be resolved."""

    def __init__(self, problems: str | Sequence[str], plan: object | None = None) -> None:
        super().__init__(problems)
        self.plan = plan


class DataError(AblationError):
    """Data that cannot be used; wraps ``trainers.data.index.DataError``."""

    exit_code = 2


class StoreError(AblationError):
    """A store that cannot be read or written."""

    exit_code = 2


class StudyLocked(AblationError):
    """Another driver works on the study; the text names its host, process and start."""

    exit_code = 2


class NothingMatched(AblationError):
    """No study, trial or metric of that name."""

    exit_code = 4


class ServiceUnavailable(AblationError):
    """Ray or MLflow cannot be reached."""

    exit_code = 6


class MissingExtra(AblationError):
    """A package of an optional extra is not installed; the text says how to install it."""

    exit_code = 2
