"""What a page was made with."""

from __future__ import annotations

from bnfold.runtime.packages import installed_version

__all__ = ["versions"]


def versions(packages: dict[str, str]) -> str:
    """Names and versions of those distributions that are installed, for a sentence."""
    found = {name: installed_version(package) for package, name in packages.items()}
    return ", ".join(f"{name} {version.split('+')[0]}" for name, version in found.items() if version)
