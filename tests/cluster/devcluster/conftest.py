# SPDX-License-Identifier: Apache-2.0
"""The machine's own cluster, brought up for these tests and taken down after them.

They end and mend the cluster that every checkout of the machine shares, so they run only when asked for.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.devcluster import Checkout

IMAGE = "localhost/devcluster-tests/echo:1"
NAMESPACE = "devcluster-tests"

DOCKERFILE = """\
ARG BASE=docker.io/library/python:3.11-slim-bookworm
FROM ${BASE}
COPY echo.py /echo.py
USER 10001:10001
ENTRYPOINT ["python3", "/echo.py"]
"""
# Answers with its user id and what the cluster's DNS says of the name in the path.
PROGRAM = """\
import http.server, os, socket

class Echo(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        try:
            answer = f"{os.getuid()} {socket.gethostbyname(self.path.strip('/'))}"
        except OSError as error:
            answer = str(error)
        self.send_response(200)
        self.end_headers()
        self.wfile.write(answer.encode())

http.server.ThreadingHTTPServer(("", 8080), Echo).serve_forever()
"""


@pytest.fixture(scope="session", autouse=True)
def _asked_for() -> None:
    if os.environ.get("AGENTPOOL_TEST_DEVCLUSTER") != "1":
        pytest.skip("ends the machine's shared cluster; AGENTPOOL_TEST_DEVCLUSTER=1 allows it")
    if os.getuid() != 0:
        pytest.skip("the machine's own cluster needs root")


@pytest.fixture(scope="session")
def checkout() -> Iterator[Checkout]:
    """This checkout, with its cluster down before and after."""
    here = Checkout()
    assert here.devcluster("down").code == 0
    yield here
    assert here.devcluster("down").code == 0


@pytest.fixture
def cluster(checkout: Checkout) -> Checkout:
    """This checkout, with the cluster up."""
    checkout.up()
    return checkout


@pytest.fixture(scope="session")
def image_sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The build context of a small program's image."""
    sources = tmp_path_factory.mktemp("image")
    (sources / "Dockerfile").write_text(DOCKERFILE)
    (sources / "echo.py").write_text(PROGRAM)
    return sources


@pytest.fixture
def namespace(cluster: Checkout, image_sources: Path) -> str:
    """A namespace under the restricted pod security level, with the image at hand."""
    outcome = cluster.devcluster("image", IMAGE, str(image_sources))
    assert outcome.code == 0, outcome.output
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    cluster.apply(
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE, "labels": labels}}
    )
    return NAMESPACE
