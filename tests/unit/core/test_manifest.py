# SPDX-License-Identifier: Apache-2.0
"""Manifests: what is read, and what each bad one is answered."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from agentpool_core.api import AgentInstance, AgentPool, ManifestError, load_manifests
from agentpool_core.lifecycle import Tier
from support.builders import manifest

DESIGN = """
apiVersion: agentpool.dev/v1alpha1
kind: AgentPool
metadata: {name: support}
spec:
  agent:
    entrypoint: agentpool_agent.agents.librarian:Librarian
    config: {}
  defaultTier: WARM
  tiers:
    hot:  {maxInstances: 10, quota: {memory: 2Gi, cpu: "1", concurrentRequests: 50, requestsPerMinute: 1000}}
    warm: {instancesPerReplica: 50, idleSeconds: 300, quota: {memory: 512Mi, cpu: 500m}}
    cold: {maxInstances: 40, idleSeconds: 0, quota: {memory: 256Mi, cpu: 0.25}}
  warmup: {enabled: true, count: 5}
  limits: {maxInstances: 100, requestTimeoutSeconds: 2.5}
  checkpoint: {storage: Redis, durability: Response, intervalSeconds: 60}
  isolation: {required: [landlock], network: None, subprocesses: false}
---
---
apiVersion: agentpool.dev/v1alpha1
kind: AgentInstance
metadata: {name: handbook}
spec: {pool: support, tenant: acme, project: "the handbook", tier: HOT, state: Paused}
"""


def test_reads_every_document_in_order() -> None:
    pool, instance = load_manifests(DESIGN)
    assert isinstance(pool, AgentPool)
    assert isinstance(instance, AgentInstance)
    assert pool.metadata.namespace == "default"
    assert pool.spec.tiers is not None
    assert pool.spec.tiers.cold is not None
    assert pool.spec.tiers.cold.idle_seconds == 0
    assert instance.spec.tier is Tier.HOT
    assert instance.spec.project == "the handbook"


def test_an_object_exported_from_a_cluster_is_read() -> None:
    exported = manifest() | {"status": {"ready": 3}}
    exported["metadata"] |= {"managedFields": [], "resourceVersion": "7", "uid": "u-1", "generation": 4}
    [pool] = load_manifests(yaml.safe_dump(exported))
    assert (pool.metadata.uid, pool.metadata.generation) == ("u-1", 4)


def pool(**spec: Any) -> str:
    return yaml.safe_dump(manifest(spec))


def tiers(**tiers: Any) -> str:
    return pool(tiers=tiers)


def instance(**spec: Any) -> str:
    whole = {"pool": "support", "tenant": "acme", "project": "p"} | spec
    kept = {key: value for key, value in whole.items() if value is not None}
    base = {"apiVersion": "agentpool.dev/v1alpha1", "kind": "AgentInstance", "metadata": {"name": "one"}}
    return yaml.safe_dump(base | {"spec": kept})


BAD = {
    "an unknown field near a known one is corrected": (
        pool(limits={"maxInstance": 3}),
        'document 1 (AgentPool "support"), spec.limits.maxInstance: no such field. '
        "Did you mean maxInstances?",
    ),
    "an unknown field far from all is answered with the known ones": (
        pool(checkpoint={"colour": 1}),
        "spec.checkpoint.colour: no such field. Known here: "
        "durability, intervalSeconds, retentionSeconds, storage.",
    ),
    "a field in snake_case is corrected": (
        tiers(warm={"idle_seconds": 3}),
        "spec.tiers.warm.idle_seconds: no such field. Did you mean idleSeconds?",
    ),
    "a field of another tier is unknown": (
        tiers(hot={"idleSeconds": 3}),
        "spec.tiers.hot.idleSeconds: no such field. Known here: maxInstances, quota, resources, runtime",
    ),
    "memory that is no quantity": (
        tiers(warm={"quota": {"memory": "lots"}}),
        "spec.tiers.warm.quota.memory: found 'lots', which is not a quantity. "
        "Write memory as a number with a unit, for example 512Mi or 2Gi.",
    ),
    "CPU that is no quantity": (
        tiers(cold={"quota": {"cpu": "half"}}),
        "spec.tiers.cold.quota.cpu: found 'half', which is not a quantity. "
        'Write CPU in cores or thousandths of one, for example "1" or 500m.',
    ),
    "a tier in lower case": (
        pool(defaultTier="warm"),
        "spec.defaultTier: found 'warm'. Did you mean WARM?",
    ),
    "a tier that does not exist": (
        pool(defaultTier="TEPID"),
        "spec.defaultTier: found 'TEPID'. Write HOT, WARM or COLD.",
    ),
    "a number in quotes": (
        pool(warmup={"count": "5"}),
        "spec.warmup.count: found '5'. Write a whole number.",
    ),
    "a switch that is a word": (
        pool(warmup={"enabled": "on and off"}),
        "spec.warmup.enabled: found 'on and off'. Write true or false.",
    ),
    "a number below its least": (
        pool(limits={"maxInstances": 0}),
        "spec.limits.maxInstances: found 0. Write 1 or more.",
    ),
    "a time of zero": (
        pool(checkpoint={"intervalSeconds": 0}),
        "spec.checkpoint.intervalSeconds: found 0. Write more than 0.",
    ),
    "a list that is text": (
        pool(isolation={"required": "landlock"}),
        "spec.isolation.required: found 'landlock'. Write a list, for example [].",
    ),
    "an object that is a number": (
        tiers(warm=3),
        "spec.tiers.warm: found 3. Write an object, for example {}.",
    ),
    "a tier larger than the pool": (
        pool(limits={"maxInstances": 5}, tiers={"hot": {"maxInstances": 6}}),
        "spec.tiers.hot.maxInstances: found 6, more than limits.maxInstances 5. "
        "Set it to 5 or less, or raise spec.limits.maxInstances.",
    ),
    "a floor above the ceiling": (
        pool(limits={"maxInstances": 5, "minInstances": 6}),
        "spec.limits.minInstances: found 6, more than limits.maxInstances 5. "
        "Set it to 5 or less, or raise spec.limits.maxInstances.",
    ),
    "an entrypoint without a class": (
        pool(agent={"entrypoint": "my.agent"}),
        "spec.agent.entrypoint: found 'my.agent', which names no class. "
        "Write package.module:Class, for example agentpool_agent.agents.librarian:Librarian.",
    ),
    "an agent without an entrypoint": (
        pool(agent={}),
        "spec.agent.entrypoint: is missing. Add entrypoint: The agent's class as package.module:Class.",
    ),
    "a name that is no DNS label": (
        yaml.safe_dump(manifest(name="Support Desk")),
        "metadata.name: found 'Support Desk', which is not a DNS label. "
        "Use 1 to 63 lower-case letters, digits and '-', a letter or digit first and last.",
    ),
    "another group": (
        yaml.safe_dump(manifest() | {"apiVersion": "apps/v1"}),
        "apiVersion: found 'apps/v1'. Write agentpool.dev/v1alpha1.",
    ),
    "a kind in lower case": (
        "kind: agentpool",
        "document 1, kind: found 'agentpool'. Did you mean AgentPool?",
    ),
    "another kind": ("kind: Deployment", "kind: found 'Deployment'. Write one of AgentPool, AgentInstance."),
    "no kind": ("metadata: {}", "document 1, kind: is missing. Write one of AgentPool, AgentInstance."),
    "an instance without a tenant": (
        instance(tenant=None),
        'document 1 (AgentInstance "one"), spec.tenant: is missing. '
        "Add tenant: Id of the tenant, 1 to 253 printable characters.",
    ),
    "a tenant with a line break": (
        instance(tenant="a\nb"),
        "spec.tenant: found a character that is not printable. "
        "Use 1 to 253 printable characters, no control characters.",
    ),
    "a project that is too long": (
        instance(project="x" * 254),
        "spec.project: found 254 characters. Use 1 to 253 printable characters.",
    ),
    "a wish that does not exist": (
        instance(state="Stopped"),
        "spec.state: found 'Stopped'. Write Running, Paused or Terminated.",
    ),
    "a list": ("- 1", "document 1: found a list instead of an object. Write an object with apiVersion"),
    "nothing": ("---\n---\n", "manifest: found no resource. Write an AgentPool"),
    "a key given twice": (
        "kind: AgentPool\nkind: AgentPool\n",
        "line 2, column 1: not valid YAML: the key 'kind' is given twice. Correct the YAML at this place.",
    ),
    "broken YAML": ("kind: [AgentPool\n", "not valid YAML: expected ',' or ']'"),
    "a tag that makes objects": (
        "kind: !!python/object/apply:os.getcwd []\n",
        "not valid YAML: could not determine a constructor",
    ),
    "an object that contains itself": (
        "kind: AgentPool\nspec: &a {agent: *a}\n",
        "document 1: found more than 100000 values, or a value that contains itself.",
    ),
    "a number that JSON does not have": (
        pool(agent={"entrypoint": "a:B", "config": {"x": float("inf")}}),
        "document 1: found the number inf. Write plain values that JSON has.",
    ),
    "a text that is too long": ("#" * 1_048_577, "manifest: found 1048577 characters, more than 1048576."),
}


@pytest.mark.parametrize(("text", "message"), BAD.values(), ids=BAD)
def test_a_bad_manifest_is_answered_with_field_and_remedy(text: str, message: str) -> None:
    with pytest.raises(ManifestError) as refused:
        load_manifests(text)
    assert message in refused.value.message
    assert len(refused.value.problems) == 1
    assert refused.value.hint == refused.value.problems[0].remedy


def test_every_problem_of_every_document_is_told_at_once() -> None:
    text = "\n---\n".join([pool(warmup={"count": -1, "delay": 1}), instance(pool="Not A Pool"), pool()])
    with pytest.raises(ManifestError) as refused:
        load_manifests(text)
    fields = [(problem.where[:10], problem.field) for problem in refused.value.problems]
    assert fields == [
        ("document 1", "spec.warmup.count"),
        ("document 1", "spec.warmup.delay"),
        ("document 2", "spec.pool"),
    ]
    assert refused.value.details == {"field": "spec.warmup.count"}


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["agent", "entrypoint", "tiers", "warm", "quota", "memory", "limits", "x"]), inner
        )
    ),
    max_leaves=8,
)


@given(VALUES)
def test_any_spec_is_read_or_refused_with_words(spec: Any) -> None:
    try:
        load_manifests(yaml.safe_dump(manifest() | {"spec": spec}))
    except ManifestError as refused:
        assert all(problem.remedy and problem.message for problem in refused.problems)


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused_with_words(text: str) -> None:
    with pytest.raises(ManifestError) as refused:
        load_manifests(text)
    assert refused.value.problems
