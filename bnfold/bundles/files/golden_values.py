"""The golden values of this bundle, and whether answers are as close to them as right ones are. Needs NumPy alone.

An answer has the name, type and shape of the golden one, and is finite. Over all golden inputs together its error
against the float64 value is at most `allowed_rms` as root mean square and `allowed_maximum` at most (manifest.json);
whole numbers and booleans are equal wherever every execution of the source agrees with float64.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
SCHEMA = "bnfold.bundle/1"


class BundleRefused(Exception):  # noqa: N818 - named for what ended the work
    """The bundle is damaged; one sentence with the file and the remedy."""


@dataclass(frozen=True)
class Feed:
    """One golden input: arrays by name, and what the outputs are in float64; `agreed` masks whole numbers."""

    inputs: dict[str, np.ndarray]
    exact: dict[str, np.ndarray]
    agreed: dict[str, np.ndarray]


def read_manifest(folder: Path = HERE) -> dict[str, Any]:
    """The manifest, every file of which is as it was written; BundleRefused names the first that is not."""
    try:
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        if manifest["schema"] != SCHEMA:
            raise _refused(f"manifest.json has schema {manifest['schema']}, expected {SCHEMA}")
        for file in manifest["files"]:
            _check_digest(folder / file["path"], file["sha256"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _refused(f"{folder / 'manifest.json'} cannot be read: {type(error).__name__}: {error}") from error
    return dict(manifest)


def _check_digest(path: Path, expected: str) -> None:
    if not path.is_file():
        raise _refused(f"{path} is missing")
    with path.open("rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    if found != expected:
        raise _refused(f"{path} is not as it was written: found sha256 {found[:12]}, expected {expected[:12]}")


def _refused(sentence: str) -> BundleRefused:
    return BundleRefused(f"{sentence}; copy the whole bundle again, or write it again with `bnfold bundle`")


def read_feeds(manifest: dict[str, Any], folder: Path = HERE) -> list[Feed]:
    """The golden inputs, with what the outputs are."""
    golden = folder / manifest["golden"]["path"]
    account = json.loads((golden / "bundle.json").read_text(encoding="utf-8"))
    inputs = [one["name"] for one in manifest["inputs"]]
    outputs = {one["name"]: np.dtype(one["dtype"]) for one in manifest["outputs"]}
    with np.load(golden / "inputs.npz") as stored, np.load(golden / "outputs.npz") as known:
        return [
            Feed(
                {name: stored[f"{number}/{name}"] for name in inputs},
                {name: known[f"{number}/{name}/exact"] for name in outputs},
                {name: _agreed(known, f"{number}/{name}") for name in outputs if outputs[name].kind in "iub"},
            )
            for number in range(len(account["feeds"]))
        ]


def _agreed(known: Any, key: str) -> np.ndarray:
    """Where every execution of the source gives the value that it has in float64."""
    exact = known[f"{key}/exact"]
    mask = np.ones(exact.shape, bool)
    for name in known.files:
        if name.rpartition("/")[0] == key and name != f"{key}/exact":
            mask &= known[name] == exact
    return mask


@dataclass
class Pooled:
    """Errors of one output over all golden inputs."""

    n: int = 0
    sum_of_squares: float = 0.0
    maximum: float = 0.0

    @property
    def rms(self) -> float:
        """Their root mean square."""
        return math.sqrt(self.sum_of_squares / self.n) if self.n else 0.0


@dataclass
class Judged:
    """Takes answers in, feed by feed; `failures` says what is wrong with them."""

    manifest: dict[str, Any]
    pooled: dict[str, Pooled] = field(default_factory=dict)
    kinds: list[str] = field(default_factory=list)

    def take(self, feed: Feed, answers: dict[str, np.ndarray]) -> None:
        """The answers to one golden input, by name of output."""
        for output in self.manifest["outputs"]:
            name, exact = output["name"], feed.exact[output["name"]]
            got = answers.get(name)
            pooled = self.pooled.setdefault(name, Pooled())
            if got is None:
                self.kinds.append(f"output {name} is missing")
            elif got.dtype != np.dtype(output["dtype"]) or got.shape != exact.shape:
                self.kinds.append(f"output {name} is {got.dtype} {got.shape}, expected {output['dtype']} {exact.shape}")
            elif not np.isfinite(got).all():
                self.kinds.append(f"output {name} holds NaN or infinity")
            else:
                error = np.abs(got.astype(np.float64) - exact.astype(np.float64))
                error = error[feed.agreed[name]] if name in feed.agreed else error.ravel()
                pooled.n += error.size
                pooled.sum_of_squares += float(error @ error)
                pooled.maximum = max(pooled.maximum, float(error.max(initial=0.0)))

    def failures(self) -> list[str]:
        """What is wrong, a sentence each; none where all is well."""
        found = list(dict.fromkeys(self.kinds))
        for output in self.manifest["outputs"]:
            pooled = self.pooled.get(output["name"], Pooled())
            for measure, error, allowed in (
                ("root mean square error", pooled.rms, output["allowed_rms"]),
                ("largest error", pooled.maximum, output["allowed_maximum"]),
            ):
                if error > allowed:
                    found.append(f"output {output['name']}: {measure} {error:.3g}, allowed {allowed:.3g}")
        if not found and not self.n_compared:
            found.append("nothing was compared")
        return found

    @property
    def n_compared(self) -> int:
        """Values that were compared."""
        return sum(pooled.n for pooled in self.pooled.values())

    def report(self, where: str) -> int:
        """Print what was found; the exit code: 0 where all is well, 1 where not."""
        failures = self.failures()
        for name, pooled in self.pooled.items():
            print(
                f"{name}: {pooled.n:,} values, error {pooled.rms:.3g} as root mean square, {pooled.maximum:.3g} at most"
            )
        for sentence in failures:
            print(f"failed: {sentence}")
        if not failures:
            print(f"passed: {self.n_compared:,} values on {where} are as close to float64 as right ones are")
        return 1 if failures else 0
