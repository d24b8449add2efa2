# SPDX-License-Identifier: Apache-2.0
"""Write every generated file: `make generate`. The same input gives the same bytes."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import grpc_tools
from grpc_tools import protoc

from tools import chart_values, metrics_page, unasync
from tools.crd import FOLDERS as CRD_FOLDERS
from tools.crd import definitions
from tools.reference import PAGES

ROOT = Path(__file__).resolve().parent.parent
PROTO = ROOT / "proto"
STUBS = Path("core/agentpool_proto/v1")
REFERENCE = Path("docs/reference")
MARK = "by `make generate`. Do not edit."


class GenerationFailed(Exception):
    """The protocol compiler refused a source; it has said why on standard error."""


def stubs(folder: Path) -> dict[Path, str]:
    """Text of every protocol stub by its path in the repository; `folder` is scratch space."""
    sources = sorted(PROTO.rglob("*.proto"))
    services = [source for source in sources if "\nservice " in source.read_text(encoding="utf-8")]
    includes = [f"--proto_path={PROTO}", f"--proto_path={Path(grpc_tools.__file__).parent / '_proto'}"]
    for arguments in (
        [f"--python_out={folder}", f"--pyi_out={folder}", *map(str, sources)],
        [f"--grpc_python_out={folder}", *map(str, services)],
    ):
        if protoc.main(["protoc", *includes, *arguments]) != 0:
            raise GenerationFailed(" ".join(arguments))
    texts: dict[Path, str] = {}
    for written in sorted(folder.rglob("*_pb2*")):
        name = written.name.removesuffix(written.suffix).removesuffix("_grpc").removesuffix("_pb2")
        source = f"proto/agentpool_proto/v1/{name}.proto"
        head = f"# Generated from {source} {MARK}\n# SPDX-License-Identifier: Apache-2.0\n"
        texts[STUBS / written.name] = head + written.read_text(encoding="utf-8")
    return texts


def pages() -> dict[Path, str]:
    """Text of every reference page by its path in the repository."""
    return {
        REFERENCE / page.name: f"<!-- Generated from {page.source} {MARK} -->\n\n{page.text()}"
        for page in PAGES
    }


def generated() -> dict[Path, str]:
    """Every generated file of the repository: its path and its text."""
    with tempfile.TemporaryDirectory() as folder:
        return (
            stubs(Path(folder))
            | definitions(MARK)
            | chart_values.page(MARK)
            | metrics_page.page(MARK)
            | pages()
            | unasync.files(ROOT, MARK)
        )


def stale(wanted: dict[Path, str], root: Path) -> list[str]:
    """What differs in `root`, one line each: changed, missing, or left over from an earlier source."""
    found: list[str] = []
    for path, text in wanted.items():
        present = root / path
        if not present.is_file():
            found.append(f"{path} is missing")
        elif present.read_text(encoding="utf-8") != text:
            found.append(f"{path} is out of date")
    return found + [f"{path} has no source any more" for path in left_over(wanted, root)]


def left_over(wanted: dict[Path, str], root: Path) -> list[Path]:
    """Files in the folders of generated files that nothing generates."""
    present = [
        *(root / STUBS).glob("*_pb2*"),
        *(one for f in CRD_FOLDERS for one in (root / f).glob("*_*.yaml")),
    ]
    unwanted = {path.relative_to(root) for path in present} - set(wanted)
    return sorted(unwanted) + unasync.left_over(root, wanted)


def main() -> int:
    """Write what differs, remove what has no source."""
    wanted = generated()
    differing = stale(wanted, ROOT)
    for path, text in wanted.items():
        (ROOT / path).parent.mkdir(parents=True, exist_ok=True)
        (ROOT / path).write_text(text, encoding="utf-8")
    for path in left_over(wanted, ROOT):
        (ROOT / path).unlink()
    for line in differing:
        print(f"wrote: {line}")
    print(f"{len(wanted)} generated files are up to date")
    return 0


if __name__ == "__main__":
    sys.exit(main())
