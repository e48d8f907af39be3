"""The version of the package, the single place that states it, and the order of versions."""

VERSION = "0.1.0"


def newer(one: str, other: str) -> bool:
    """Whether `one` is a strictly newer version than `other`; what is no version is older than any."""
    return _order(one) > _order(other)


def _order(version: str) -> tuple[int, ...]:
    found: list[int] = []
    for part in version.split("."):
        digits = part[: len(part) - len(part.lstrip("0123456789"))]
        if not digits:
            return (*found, -1)
        found.append(int(digits))
        if digits != part:
            return (*found, -1)  # 0.2.0rc1 comes before 0.2.0
    return (*found, 0)
