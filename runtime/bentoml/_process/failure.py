"""Why a service does not start, as text."""

from __future__ import annotations

import traceback
from pathlib import Path

from bentoml.exceptions import BentoMLConfigException, ImportServiceError, UnservableException

# Their messages say where and what to do; where in our code they were raised is of no interest.
_SAID_IN_WORDS = (BentoMLConfigException, ImportServiceError, UnservableException)


def reason(error: BaseException, project: Path) -> str:
    """What was said in words, or the traceback of the project's own code, from there on."""
    if isinstance(error, _SAID_IN_WORDS):
        return str(error)
    frames = error.__traceback__
    while frames is not None and not Path(frames.tb_frame.f_code.co_filename).is_relative_to(project):
        frames = frames.tb_next
    if frames is None and isinstance(error, SyntaxError):
        text = traceback.format_exception_only(error)  # names the line itself
    else:
        text = traceback.format_exception(error.with_traceback(frames or error.__traceback__))
    return "its own code failed\n" + "".join(text).rstrip()
