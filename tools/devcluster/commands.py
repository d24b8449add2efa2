# SPDX-License-Identifier: Apache-2.0
"""The commands of `python3 tools/devcluster`."""

from __future__ import annotations

import argparse
import fcntl
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tools.devcluster import build, choice, environment, host, images, other_clusters
from tools.devcluster import topology as t
from tools.devcluster.choice import Kind
from tools.devcluster.console import complain, say, step
from tools.devcluster.own_cluster import OwnCluster
from tools.devcluster.places import CHECKOUT, Places
from tools.devcluster.problem import Exit, Problem

# A build by another checkout is the longest anyone holds the lock.
LOCK_SECONDS = build.BUILD_SECONDS
LOCK_POLL_SECONDS = 0.2
# What a shell reports for a program that SIGINT ended.
INTERRUPTED = 130


def parser() -> argparse.ArgumentParser:
    """The command line."""
    root = argparse.ArgumentParser(prog="devcluster", description=__doc__)
    commands = root.add_subparsers(dest="command", required=True, metavar="COMMAND")
    up = commands.add_parser("up", help="bring the cluster up, mend it, or find that it runs")
    up.add_argument("--reset", action="store_true", help="start the machine's own cluster from nothing")
    commands.add_parser("down", help="end the cluster and leave nothing of it but caches")
    commands.add_parser(
        "status", help=f"say what works; exit code {Exit.NOT_RUNNING} when something does not"
    )
    commands.add_parser(
        "preflight", help=f"say which cluster `up` takes; exit code {Exit.NO_CLUSTER} for none"
    )
    commands.add_parser("build", help="build the programs into the machine's cache, start nothing")
    image = commands.add_parser("image", help="build an image and put it onto the cluster's node")
    image.add_argument("name", help="the image's name and tag; not `latest`, which is always pulled")
    image.add_argument("context", type=Path, help="directory the Dockerfile copies from")
    image.add_argument("--file", type=Path, help="the Dockerfile, else CONTEXT/Dockerfile")
    return root


def main(argv: Sequence[str]) -> int:
    """Run one command; returns its exit code, see `Exit`."""
    arguments = parser().parse_args(argv)
    actions: dict[str, Callable[[argparse.Namespace], int]] = {
        "up": _up,
        "down": _down,
        "status": _status,
        "preflight": _preflight,
        "build": _build,
        "image": _image,
    }
    began = time.monotonic()
    try:
        code = actions[arguments.command](arguments)
    except Problem as problem:
        complain(problem)
        return problem.code
    except KeyboardInterrupt:
        complain(Problem("interrupted", "run it again: it goes on from what is there"))
        return INTERRUPTED
    if arguments.command in ("up", "down", "image"):
        say(f"{arguments.command}: {time.monotonic() - began:.1f} s")
    return code


def _choose() -> Kind:
    """Which cluster; our own when it runs already, as its ports are taken then."""
    host.load_modules()
    return choice.choose(choice.observe(running=OwnCluster(Places()).exists()))


def _up(arguments: argparse.Namespace) -> int:
    kind = _choose()
    say(f"using {kind.value}")
    kubeconfig = CHECKOUT / environment.DIRECTORY / "kubeconfig"
    variables = {"KUBECONFIG": str(kubeconfig)}
    directories = other_clusters.client_directories()
    if kind is Kind.CONTEXT:
        other_clusters.use_context(os.environ[choice.CONTEXT_VARIABLE], kubeconfig)
    elif kind is Kind.KIND:
        other_clusters.kind_up(kubeconfig)
        variables["AGENTPOOL_URL"] = other_clusters.gateway_url()
    else:
        places = Places()
        with locked(places):
            programs = OwnCluster(places).up(reset=arguments.reset)
        variables["KUBECONFIG"] = str(places.kubeconfig)
        variables["AGENTPOOL_URL"] = f"http://{t.NODE_ADDRESS}:{t.GATEWAY_NODE_PORT}"
        directories = [str(programs)]
    path = environment.write(CHECKOUT, variables, directories)
    say(f"the cluster is up; use it with: . {path.relative_to(CHECKOUT)}")
    return Exit.OK


def _down(_: argparse.Namespace) -> int:
    places = Places()
    environment.remove(CHECKOUT)
    if os.environ.get(choice.CONTEXT_VARIABLE):
        say("the cluster of AGENTPOOL_CONTEXT is yours; it stays")
        return Exit.OK
    if choice.kind_runs():
        other_clusters.kind_down()
    if os.getuid() == 0:
        with locked(places):
            OwnCluster(places).down()
    say("the cluster is down")
    return Exit.OK


def _status(_: argparse.Namespace) -> int:
    cluster = OwnCluster(Places())
    record = cluster.read_record()
    if record is None:
        say("no cluster of this machine's own is up")
        return Exit.NOT_RUNNING
    say(f"brought up from {record.checkout}")
    health = cluster.health()
    for part, works in health.items():
        say(f"{'works ' if works else 'BROKEN'}  {part}")
    return Exit.OK if all(health.values()) else Exit.NOT_RUNNING


def _preflight(_: argparse.Namespace) -> int:
    say(f"`up` takes {_choose().value}")
    return Exit.OK


def _build(_: argparse.Namespace) -> int:
    places = Places()
    with locked(places):
        say(f"programs are in {build.programs(places)}")
    return Exit.OK


def _image(arguments: argparse.Namespace) -> int:
    dockerfile = arguments.file or arguments.context / "Dockerfile"
    kind = _choose()
    if kind is Kind.CONTEXT:
        remedy = "push the images to a registry it pulls from, and set image.repository in the chart's values"
        raise Problem("images cannot be put onto the nodes of AGENTPOOL_CONTEXT", remedy)
    places = Places()
    with locked(places):
        if kind is Kind.KIND:
            images.build_with_docker(arguments.name, arguments.context, dockerfile)
            with step("loading it into kind"):
                other_clusters.kind_load(arguments.name)
        else:
            images.build_and_import(OwnCluster(places), arguments.name, arguments.context, dockerfile)
    return Exit.OK


@contextmanager
def locked(places: Places) -> Iterator[None]:
    """Hold the machine's lock: one command at a time. The kernel releases it if we are killed."""
    try:
        places.cache.mkdir(parents=True, exist_ok=True)
    except PermissionError as error:
        raise Problem(f"{places.cache} cannot be made", "run it as root", Exit.NO_CLUSTER) from error
    with places.lock.open("w") as handle:
        deadline = time.monotonic() + LOCK_SECONDS
        told = False
        while not _try_lock(handle.fileno()):
            if not told:
                say("waiting for another devcluster command on this machine")
                told = True
            if time.monotonic() > deadline:
                raise Problem(f"{places.lock} stays locked", f"end its holder: `fuser -v {places.lock}`")
            time.sleep(LOCK_POLL_SECONDS)
        yield


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
