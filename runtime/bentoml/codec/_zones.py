"""Time zones, as the text that names them."""

from __future__ import annotations

import datetime
import re
from typing import Final

_OFFSET: Final = re.compile(r"([+-])(\d\d):(\d\d)(?::(\d\d))?", re.ASCII)
# A name of the time zone database: no path out of it, and none from its root.
_NAME: Final = re.compile(r"[A-Za-z][\w+-]{0,31}(/[A-Za-z][\w+-]{0,31}){0,3}", re.ASCII)


def zone_name(zone: datetime.tzinfo | None) -> str | None:
    """The name under which the time zone database has it; None where it is in none, as a plain offset is."""
    # `key` is what `zoneinfo` says, `zone` what pytz does; nothing is imported to ask.
    name = getattr(zone, "key", None) or getattr(zone, "zone", None)
    return name if isinstance(name, str) and _NAME.fullmatch(name) else None


def zone_text(zone: datetime.tzinfo) -> str | None:
    """The text of any zone: its name, or its offset where that is always the same; None for another one."""
    name = zone_name(zone)
    if name is None and isinstance(zone, datetime.timezone):
        return datetime.time(tzinfo=zone).isoformat()[8:]
    return name


def zone_of(text: str) -> datetime.tzinfo:
    """The zone of a text.

    Raises:
        ValueError: it is no offset, and this machine's time zone database has no such name.
    """
    offset = _OFFSET.fullmatch(text)
    if offset is not None:
        sign, hours, minutes, seconds = offset.groups()
        delta = datetime.timedelta(hours=int(hours), minutes=int(minutes), seconds=int(seconds or 0))
        return datetime.timezone(-delta if sign == "-" else delta)
    if _NAME.fullmatch(text) is None:
        raise ValueError(f"{text!r} is no time zone")
    import zoneinfo  # it reads the paths of the database when imported

    try:
        return zoneinfo.ZoneInfo(text)
    except (zoneinfo.ZoneInfoNotFoundError, OSError) as error:
        raise ValueError(f"the time zone {text!r} is not known here") from error
