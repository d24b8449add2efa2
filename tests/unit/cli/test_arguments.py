# SPDX-License-Identifier: Apache-2.0
"""The command line: what is accepted, what is refused as wrong usage, and how errors look."""

from __future__ import annotations

import pytest

from agentpool_cli.arguments import build_parser, run_of, with_default_action
from agentpool_cli.main import describe, main, program_name
from agentpool_core.errors import PoolExhausted

WRONG = [
    pytest.param([], id="no command"),
    pytest.param(["shout"], id="an unknown command"),
    pytest.param(["invoke"], id="invoke without input"),
    pytest.param(["invoke", "--tier", "LUKEWARM", "x"], id="a tier that does not exist"),
    pytest.param(["move", "inst-1"], id="a move without a tier"),
    pytest.param(["move", "inst-1", "--tier", "LUKEWARM"], id="a move to a tier that does not exist"),
    pytest.param(["export", "inst-1"], id="an export without a file"),
    pytest.param(["import"], id="an import without a file"),
    pytest.param(["forget"], id="forgetting nobody"),
    pytest.param(["flags", "set", "beta"], id="a flag without a value"),
    pytest.param(["flags", "set", "beta", "--percentage", "101"], id="a percentage above 100"),
    pytest.param(["flags", "set", "beta", "--percentage", "1", "--tenant", "a"], id="two changes at once"),
    pytest.param(["flags", "set", "beta", "--ramp", "0:100"], id="a ramp without its time"),
    pytest.param(["instances", "get"], id="get without an id"),
    pytest.param(["instances", "list", "--state", "SLEEPY"], id="a state that does not exist"),
    pytest.param(["status", "-o", "xml"], id="an unknown form of output"),
    pytest.param(["status", "--timeout", "0"], id="a timeout of nothing"),
    pytest.param(["status", "--timeout", "soon"], id="a timeout that is not a number"),
    pytest.param(["status", "--token", "secret"], id="a token on the command line, which others can see"),
    pytest.param(["dev"], id="dev without a manifest"),
    pytest.param(["dev", "pool.yaml", "--port", "65536"], id="a port that is too high"),
    pytest.param(["dev", "pool.yaml", "--hosts", "0"], id="no host at all"),
]


@pytest.mark.parametrize("argv", WRONG)
def test_wrong_usage_ends_with_exit_code_2(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(argv)
    assert ended.value.code == 2
    assert "error:" in capsys.readouterr().err


KUBECTL = [
    pytest.param([], "you must specify a command of kubectl agentpool", "kubectl agentpool", id="no command"),
    pytest.param(
        ["shout"],
        'unknown command "shout" for "kubectl agentpool"',
        "kubectl agentpool",
        id="an unknown command",
    ),
    pytest.param(
        ["instances", "list", "--colour=red"],
        "unknown flag: --colour",
        "kubectl agentpool",
        id="an unknown flag",
    ),
    pytest.param(
        ["status", "-x"],
        "unknown shorthand flag: 'x' in -x",
        "kubectl agentpool",
        id="an unknown shorthand",
    ),
    pytest.param(
        ["status", "extra"],
        'unexpected argument "extra" for "kubectl agentpool"',
        "kubectl agentpool",
        id="one argument too many",
    ),
    pytest.param(
        ["status", "--pool"],
        "flag needs an argument: --pool",
        "kubectl agentpool status",
        id="a flag without its value",
    ),
    pytest.param(
        ["status", "-o", "xml"],
        'invalid argument "xml" for "-o, --output" flag: must be one of: table, wide, json, yaml, name',
        "kubectl agentpool status",
        id="a value that is none of those there are",
    ),
    pytest.param(
        ["status", "--timeout", "soon"],
        'invalid argument "soon" for "--timeout" flag',
        "kubectl agentpool status",
        id="a value of another kind",
    ),
    pytest.param(
        ["status", "--timeout", "0"],
        'invalid argument for "--timeout" flag: 0 is not a time in seconds (above 0, at most a day)',
        "kubectl agentpool status",
        id="a value out of bounds",
    ),
    pytest.param(
        ["instances", "get"],
        'required argument(s) "id" not set',
        "kubectl agentpool instances get",
        id="an argument that is missing",
    ),
]


@pytest.mark.parametrize(("argv", "says", "program"), KUBECTL)
def test_as_a_plugin_wrong_usage_is_told_in_kubectls_words_and_ends_with_its_code(
    argv: list[str], says: str, program: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        build_parser("kubectl agentpool").parse_args(argv)
    assert ended.value.code == 1
    assert capsys.readouterr().err == f"error: {says}\nSee '{program} --help' for usage.\n"


COMMANDS = [
    pytest.param(["dev", "pool.yaml"], "agentpool_cli.dev.command", "run", id="dev"),
    pytest.param(["invoke", "hello"], "agentpool_cli.commands.invoke", "run", id="invoke"),
    pytest.param(["status"], "agentpool_cli.commands.status", "run", id="status"),
    pytest.param(["doctor"], "agentpool_cli.commands.doctor", "run", id="doctor"),
    pytest.param(
        ["move", "i", "--tier", "hot"], "agentpool_cli.commands.instances", "move_instance", id="move"
    ),
    pytest.param(["export", "i", "-o", "file"], "agentpool_cli.commands.archive", "export", id="export"),
    pytest.param(["import", "file"], "agentpool_cli.commands.archive", "plant", id="import"),
    pytest.param(["forget", "--tenant", "t"], "agentpool_cli.commands.forget", "run", id="forget"),
    *(
        pytest.param(
            ["instances", action, *arguments],
            "agentpool_cli.commands.instances",
            function,
            id=f"instances {action}",
        )
        for action, arguments, function in [
            ("list", [], "list_instances"),
            ("get", ["inst-1"], "get_instance"),
            ("pause", ["inst-1"], "pause_instance"),
            ("resume", ["inst-1"], "resume_instance"),
            ("delete", ["inst-1"], "delete_instance"),
        ]
    ),
]


@pytest.mark.parametrize(("argv", "module", "function"), COMMANDS)
def test_every_command_finds_its_function(argv: list[str], module: str, function: str) -> None:
    run = run_of(build_parser("agentpool").parse_args(argv))
    assert (run.__module__, run.__name__) == (module, function)


ACTIONS = [
    pytest.param(["instances"], ["instances", "list"], id="alone"),
    pytest.param(["instances", "-o", "json"], ["instances", "list", "-o", "json"], id="before a flag"),
    pytest.param(["instances", "get", "i"], ["instances", "get", "i"], id="not before another action"),
    pytest.param(["instances", "--help"], ["instances", "--help"], id="not before a question for help"),
    pytest.param(["status"], ["status"], id="not for other commands"),
    pytest.param([], [], id="not for nothing"),
]


@pytest.mark.parametrize(("given", "meant"), ACTIONS)
def test_instances_without_an_action_are_listed(given: list[str], meant: list[str]) -> None:
    assert with_default_action(given) == meant


def test_tiers_may_be_written_small() -> None:
    assert build_parser("agentpool").parse_args(["invoke", "--tier", "hot", "x"]).tier == "HOT"


@pytest.mark.parametrize(
    ("path", "name"),
    [
        pytest.param("/usr/bin/kubectl-agentpool", "kubectl agentpool", id="called by kubectl"),
        pytest.param("/usr/bin/agentpool", "agentpool", id="called by itself"),
        pytest.param("/x/agentpool_cli/__main__.py", "agentpool", id="called as a module"),
    ],
)
def test_help_names_the_program_as_the_user_called_it(path: str, name: str) -> None:
    assert program_name(path) == name


def test_an_error_shows_cause_code_remedy_and_waiting_time() -> None:
    error = PoolExhausted("All 50 places are busy.", remedy="Wait.", retry_after_seconds=1.25)
    assert describe(error) == (
        "error: All 50 places are busy.\n  code: PoolExhausted\n  remedy: Wait.\n  retry after: 1.2 s\n"
    )


def test_a_refusal_ends_with_exit_code_1(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "--url", "ftp://somewhere"]) == 1
    assert "remedy: Give --url as http://HOST:PORT." in capsys.readouterr().err
