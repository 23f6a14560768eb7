"""The list of groups and their options in ``python -m teddy --help``, without files that only other files use."""

from __future__ import annotations

import textwrap


def groups() -> str:
    """A line for each group, also of the user's own folder: its options, wrapped."""
    from hydra.core.global_hydra import GlobalHydra
    from hydra.core.object_type import ObjectType

    sources = GlobalHydra.instance().config_loader().get_sources()  # the loader's own lists copy all of them each time

    def listed(folder: str, kind: ObjectType) -> list[str]:
        return sorted({name for one in sources if one.is_group(folder) for name in one.list(folder, kind)})

    lines = []
    for group in listed("", ObjectType.GROUP):
        names = listed(group, ObjectType.CONFIG)
        options = ", ".join(name for name in names if name != "schema" and not name.startswith("_"))
        if options and group != "hydra":
            lines.append(textwrap.fill(f"{group}: {options}", 120, subsequent_indent="    "))
    return "\n".join(lines)
