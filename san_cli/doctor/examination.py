"""`san doctor` from the machine to the self-test; whatever is broken, the rest is still looked at."""

from collections.abc import Callable, Sequence
from typing import Any

from san_cli.doctor.finding import Finding, anonymous, first_line, looked_at
from san_cli.doctor.machine import cores, files_here, memory, open_files, processor, system, temporary
from san_cli.errors import SanError
from san_cli.text import plan_lines, printable


def examine() -> list[Finding]:
    """Look at everything that san depends on. Raises nothing."""
    from san_cli.doctor import packages

    found = [looked_at("versions", packages.versions), looked_at("system", system)]
    imports = looked_at(
        "imports", packages.imports
    )  # PyTorch among them: from here on it is loaded, if it can be
    found += [imports, looked_at("torchvision", packages.torchvision)]
    found += [
        looked_at(name, look)
        for name, look in (
            ("cores", cores),
            ("processor", processor),
            ("memory", memory),
            ("open files", open_files),
            ("temporary files", temporary),
            ("working folder", files_here),
        )
    ]
    found.append(looked_at("device", _device))
    found += _several("extras", packages.extras)
    found += _places()
    found.append(_self_test(imports))
    return found


def _device() -> Finding:
    from san_cli.doctor.device import device

    return device()


def _places() -> list[Finding]:
    try:
        from san_cli.doctor import places
    except Exception as error:  # NumPy or Pillow is broken, which is told above
        return [Finding("places", f"can't be looked at: {first_line(error)}", {})]
    return [
        looked_at("cache", places.cache),
        *_several("weights", places.weights),
        looked_at("datasets", places.datasets),
        *_several("variables", places.variables),
        looked_at("image formats", places.image_formats),
        looked_at("fonts", places.fonts),
    ]


def _several(name: str, look: Callable[[], Sequence[Finding]]) -> list[Finding]:
    try:
        return list(look())
    except Exception as error:
        return [Finding(name, f"can't be told: {first_line(error)}", {"error": first_line(error)})]


def _self_test(imports: Finding) -> Finding:
    """Run the self-test; a fault where it can't be, too, unless an import that failed has said why."""
    from san_cli.doctor.self_test import self_test

    if imports.fault:
        return Finding("self-test", "not done: see imports", {"passed": False})
    try:
        return self_test()
    except Exception as error:
        reason = error.message if isinstance(error, SanError) else first_line(error)
        hint = error.hint if isinstance(error, SanError) else "Please report this with the text above."
        return Finding(
            "self-test",
            "failed",
            {"passed": False, "error": reason},
            fault=f"the self-test: {reason}",
            hint=hint,
        )


def faults(found: Sequence[Finding]) -> list[Finding]:
    """Choose what keeps san from working."""
    return [one for one in found if one.fault]


def told(found: Sequence[Finding]) -> list[str]:
    """Return the report as lines that can be shown to anybody."""
    marks = {True: "!! ", False: "   "}
    rows = ((f"{marks[bool(one.fault)]}{one.name}", printable(anonymous(one.told))) for one in found)
    return plan_lines(rows)


def as_json(found: Sequence[Finding]) -> dict[str, Any]:
    """Return the report for programs, as harmless."""
    return {
        "healthy": not faults(found),
        "faults": [
            {"at": _key(one), "what": anonymous(one.fault), "hint": anonymous(one.hint)}
            for one in faults(found)
        ],
        "findings": {_key(one): anonymous(dict(one.facts)) for one in found},
    }


def _key(finding: Finding) -> str:
    return finding.name.replace(" ", "_").replace("-", "_")
