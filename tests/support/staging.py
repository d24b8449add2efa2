# SPDX-License-Identifier: Apache-2.0
"""Starting a program of this checkout as another user, also where that user cannot reach the checkout.

A clone under a directory with mode 700 is closed to other users. Root then shows it to the program under an
open path, by a bind mount that only the program's own mount namespace has.
"""

from __future__ import annotations

import stat
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
_MOUNT_AND_BECOME = (
    'mount --bind "$1" "$2" && shift 2 && exec setpriv --reuid "$0" --regid "$0" --clear-groups -- "$@"'
)


def open_to_others(path: Path) -> bool:
    """Whether any user may go down to `path`."""
    return all(parent.stat().st_mode & stat.S_IXOTH for parent in (path, *path.parents))


@dataclass(frozen=True)
class Staging:
    """Where the checkout is for the program, and how it is started.

    Args:
        uid: the user to start as; None: the test's own.
        place: an existing directory that is open to others, for the mount.
    """

    uid: int | None
    place: Path

    @property
    def moved(self) -> bool:
        """Whether the program sees the checkout somewhere else."""
        return self.uid is not None and not open_to_others(ROOT)

    def path(self, path: Path) -> Path:
        """A path of the checkout as the program sees it; others are as they are."""
        if not self.moved or not path.is_relative_to(ROOT):
            return path
        return self.place / path.relative_to(ROOT)

    def command(self, arguments: Sequence[str]) -> list[str]:
        """The command line of this interpreter with `arguments`, as the user."""
        # The interpreter itself may be a link to one outside of the checkout; its environment is inside.
        program = [str(self.path(Path(sys.executable))), *arguments]
        if self.uid is None:
            return program
        if not self.moved:
            become = ["--reuid", str(self.uid), "--regid", str(self.uid), "--clear-groups"]
            return ["setpriv", *become, "--", *program]
        script = ["sh", "-c", _MOUNT_AND_BECOME, str(self.uid), str(ROOT), str(self.place)]
        return ["unshare", "--mount", *script, *program]
