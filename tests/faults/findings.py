# SPDX-License-Identifier: Apache-2.0
"""What campaigns count and find, and the table at the end: pure."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass(slots=True)
class Findings:
    """The sum of everything.

    Attributes:
        tried: how many of each kind.
        of: how many there are of a kind.
        violations: what went wrong, one line each.
        planted: for each oracle, the bug that it was to find and whether it did.
        injected: faults that the proxies brought in.
    """

    tried: Counter[str] = field(default_factory=Counter)
    of: dict[str, int] = field(default_factory=dict)
    violations: list[str] = field(default_factory=list)
    planted: dict[str, tuple[str, bool]] = field(default_factory=dict)
    injected: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)

    def violate(self, where: str, what: str) -> None:
        """Note a violation."""
        self.violations.append(f"{where}: {what}")

    @property
    def passed(self) -> bool:
        """Whether nothing was violated, and every oracle found its planted bug."""
        return not self.violations and all(found for _, found in self.planted.values())


def table(findings: Findings) -> str:
    """The summary for people."""
    lines = ["", "faults: real API server, operator process and Redis; pods simulated", ""]
    for what, count in sorted({**dict.fromkeys(findings.of, 0), **findings.tried}.items()):
        whole = findings.of.get(what)
        lines.append(f"  {what:<34} {count:>6}" + (f" of {whole}" if whole is not None else ""))
    lines += ["", "  faults brought in by the proxy"]
    lines += [f"    {what:<32} {count:>6}" for what, count in sorted(findings.injected.items())]
    lines += ["", "  oracle                             planted bug"]
    for oracle, (bug, found) in findings.planted.items():
        lines.append(f"    {oracle:<32} {bug:<18} {'found' if found else 'NOT FOUND'}")
    lines += ["", *(f"  {note}" for note in findings.notes)]
    lines.append(f"  violations                         {len(findings.violations):>6}")
    lines += [f"    {one}" for one in findings.violations]
    return "\n".join(lines)
