# SPDX-License-Identifier: Apache-2.0
"""Taking Kubernetes' and CNI's rules out of iptables and leaving everybody else's as they are."""

from __future__ import annotations

import shlex

from tools.devcluster import topology as t
from tools.devcluster.problem import Problem
from tools.devcluster.shell import find, run, succeeds

# Chains that kubelet and kube-proxy (KUBE) and the CNI plugins (CNI) make.
PREFIXES = ("KUBE-", "CNI-")
FAMILIES = ("iptables", "ip6tables")
# Named as CNI's, so that it goes with them.
ADMISSION = "CNI-DEVCLUSTER"


def ours(chain: str) -> bool:
    """Whether a chain is Kubernetes' or CNI's by its name."""
    return chain.startswith(PREFIXES)


def cluster_rules(saved: str) -> list[str]:
    """The lines of an iptables-save that declare a chain of ours, are in one, or jump to one."""
    return [
        line
        for line in saved.splitlines()
        if (line.startswith(":") and ours(line[1:]))
        or (line.startswith("-A ") and (ours(line.split()[1]) or _jumps_to_ours(line)))
    ]


def removal(saved: str) -> str:
    """Input for `iptables-restore --noflush` that removes our chains and the rules that jump to them.

    `saved` is what iptables-save printed. Per table: foreign chains lose their jumps, then ours are emptied,
    then deleted, in one transaction. Empty when nothing of ours is there.
    """
    script: list[str] = []
    table = ""
    chains: list[str] = []
    jumps: list[str] = []
    for line in saved.splitlines():
        if line.startswith("*"):
            table, chains, jumps = line, [], []
        elif line.startswith(":") and ours(line[1:].split()[0]):
            chains.append(line[1:].split()[0])
        elif line.startswith("-A ") and _jumps_to_ours(line):
            jumps.append("-D " + line.removeprefix("-A "))
        elif line == "COMMIT" and (chains or jumps):
            emptied = [f":{chain} - [0:0]" for chain in chains]
            script += [table, *emptied, *jumps, *(f"-X {chain}" for chain in chains), "COMMIT"]
    return "\n".join(script) + "\n" if script else ""


def _jumps_to_ours(rule: str) -> bool:
    words = shlex.split(rule)
    if ours(words[1]):
        # It goes with its chain.
        return False
    return any(flag in ("-j", "-g") and ours(target) for flag, target in zip(words, words[1:], strict=False))


def admission() -> str:
    """Input for `iptables-restore --noflush`: a chain that lets pod traffic pass, made anew each time."""
    passes = [f"-A {ADMISSION} -{end} {t.POD_NETWORK} -j ACCEPT" for end in "sd"]
    return "\n".join(["*filter", f":{ADMISSION} - [0:0]", *passes, "COMMIT"]) + "\n"


def admit_pods() -> None:
    """Let pods reach each other and this machine where its own rules refuse what they do not know.

    Docker, for one, makes the machine drop everything that it forwards for others.
    """
    run(["iptables-restore", "--noflush", "--wait", "10"], text_in=admission())
    for chain in ("INPUT", "FORWARD"):
        if not succeeds(["iptables", "--wait", "10", "--check", chain, "--jump", ADMISSION]):
            run(["iptables", "--wait", "10", "--insert", chain, "--jump", ADMISSION])


def clear() -> None:
    """Remove our rules from every family this machine has. Raises `Problem` when some stay."""
    for family in FAMILIES:
        if find(f"{family}-save") is None:
            continue
        script = removal(run([f"{family}-save"]))
        if script:
            run([f"{family}-restore", "--noflush", "--wait", "10"], text_in=script)
        left = cluster_rules(run([f"{family}-save"]))
        if left:
            raise Problem(f"{len(left)} {family} rules stay: {left[0]}", f"remove them with {family}")
