# SPDX-License-Identifier: Apache-2.0
"""The command line: every command, option and default in one place."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any, NoReturn

from agentpool_cli.usage import PLUGIN, kubectl_error

Run = Callable[[argparse.Namespace, Mapping[str, str]], int]

TIERS = ("HOT", "WARM", "COLD")
AUTO = "AUTO"
STATES = ("CREATED", "INITIALIZING", "READY", "BUSY", "PAUSED", "ERROR", "TERMINATED")
STRATEGIES = ("ALL", "NONE", "ALLOWLIST", "DENYLIST")
FORMATS = ("table", "wide", "json", "yaml", "name")

DEFAULT_URL = "http://127.0.0.1:8000"

EPILOG = """environment:
  AGENTPOOL_URL         address of the gateway
  AGENTPOOL_TOKEN       bearer token; never given on the command line, where others can see it
  AGENTPOOL_TOKEN_FILE  file that holds the token
  KUBECONFIG            clusters, as for kubectl

exit codes: 0 done, 1 refused or failed (the reason is on standard error), 2 wrong usage
"""


class _Parser(argparse.ArgumentParser):
    """A parser that takes options by their full names only: `--token` must not come to mean --token-file."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **{"allow_abbrev": False, **options})

    def error(self, message: str) -> NoReturn:
        """Exit with 2, or as a plugin in kubectl's words with its exit code, 1."""
        if self.prog.startswith(PLUGIN):
            self.exit(1, kubectl_error(message, self.prog))
        super().error(message)


def build_parser(program: str) -> argparse.ArgumentParser:
    """The parser of the whole program."""
    parser = _Parser(
        prog=program,
        description="Run pools of agents and talk to them.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(plugin=program.startswith(PLUGIN))
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    remote = _connection_options()
    _add_dev(commands)
    _add_invoke(commands, remote)
    _add_instances(commands, remote)
    _add_move(commands, remote)
    _add_archives(commands, remote)
    _add_forget(commands, remote)
    _add_flags(commands, remote)
    _add_simulate(commands)
    status = commands.add_parser("status", parents=[remote], help="health and statistics of a pool")
    _calls(status, "agentpool_cli.commands.status")
    doctor = commands.add_parser(
        "doctor",
        parents=[remote],
        help="look for what is wrong with AgentPool in a cluster",
        description="Check installation, pools, their pods and your rights in a cluster. Nothing is changed.",
    )
    _calls(doctor, "agentpool_cli.commands.doctor")
    return parser


def with_default_action(arguments: Sequence[str]) -> list[str]:
    """The arguments, with `list` after `instances` or `flags` where no action is named."""
    found = list(arguments)
    if found[:1] in (["instances"], ["flags"]) and (len(found) == 1 or found[1].startswith("-")):
        if found[1:2] not in (["-h"], ["--help"]):
            found.insert(1, "list")
    return found


def run_of(options: argparse.Namespace) -> Run:
    """The function that carries out the parsed command."""
    module, _, name = str(options.run).partition(":")
    run: Run = getattr(import_module(module), name)
    return run


def _calls(parser: _Parser, module: str, function: str = "run") -> None:
    parser.set_defaults(run=f"{module}:{function}")


def _connection_options(*, forms: bool = True) -> _Parser:
    options = _Parser(add_help=False)
    group = options.add_argument_group("connection and output")
    group.add_argument("--url", help=f"address of the gateway (AGENTPOOL_URL, default {DEFAULT_URL})")
    group.add_argument("--token-file", metavar="FILE", help="file that holds the bearer token")
    group.add_argument(
        "--as-service-account", metavar="NAME", help="ask the cluster for a token of this ServiceAccount"
    )
    group.add_argument("-n", "--namespace", help="namespace of the pool (default: the context's, or default)")
    group.add_argument("--pool", help="name of the pool (default: the gateway's default pool)")
    group.add_argument(
        "--timeout", type=positive_seconds, default=60.0, metavar="SECONDS", help="deadline (default 60)"
    )
    if forms:
        group.add_argument(
            "-o", "--output", choices=FORMATS, default="table", help="form of the output (default table)"
        )
    cluster = options.add_argument_group(
        "cluster", "without --url, the gateway of the cluster that kubectl uses is reached by a port-forward"
    )
    cluster.add_argument("--context", help="context of the kubeconfig")
    cluster.add_argument("--kubeconfig", metavar="FILE", help="kubeconfig to use")
    cluster.add_argument("--gateway", metavar="NAMESPACE/SERVICE", help="the gateway (default: the only one)")
    return options


def _add_dev(commands: argparse._SubParsersAction[_Parser]) -> None:
    dev = commands.add_parser(
        "dev",
        help="run a pool on this machine, without a cluster",
        description="Run the pool of a manifest as processes on this machine. Ends with Ctrl-C.",
    )
    dev.add_argument("manifest", help="file with one AgentPool")
    dev.add_argument(
        "--redis", metavar="URL", help="keep state in this Redis, also behind Sentinel (default: in memory)"
    )
    dev.add_argument("--port", type=port, default=8000, help="REST port on 127.0.0.1 (default 8000)")
    dev.add_argument("--grpc-port", type=port, default=9000, help="gRPC port (default 9000)")
    dev.add_argument("--hosts", type=host_count, default=1, help="number of hosts; more than 1 needs --redis")
    dev.add_argument(
        "--app-dir",
        action="append",
        metavar="DIR",
        help="where the agent's code is (default: the manifest's directory); may be repeated",
    )
    dev.add_argument("--state-dir", metavar="DIR", help="run directory to use and keep (default: temporary)")
    dev.add_argument("--no-reload", action="store_true", help="do not watch code and manifest for changes")
    _calls(dev, "agentpool_cli.dev.command")


def _add_invoke(commands: argparse._SubParsersAction[_Parser], remote: _Parser) -> None:
    invoke = commands.add_parser(
        "invoke",
        parents=[remote],
        help="send one request to an agent instance",
        description="Send one request. The instance of the tenant and project is started if it is absent.",
    )
    invoke.add_argument(
        "input", metavar="INPUT", help="JSON or plain text; - reads standard input, @FILE a file"
    )
    invoke.add_argument("--tenant", default="demo", help="tenant id (default demo)")
    invoke.add_argument("--project", default="demo", help="project id (default demo)")
    invoke.add_argument("--tier", type=str.upper, choices=TIERS, help="wanted tier of a new instance")
    invoke.add_argument("--stream", action="store_true", help="print parts of the answer as they come")
    invoke.add_argument("--idempotency-key", metavar="KEY", help="makes a repeated request take effect once")
    invoke.add_argument(
        "--strong", action="store_true", help="refuse an answer from state that cannot be checked"
    )
    _calls(invoke, "agentpool_cli.commands.invoke")


def _add_instances(commands: argparse._SubParsersAction[_Parser], remote: _Parser) -> None:
    instances = commands.add_parser("instances", help="list, show, pause, resume and delete instances")
    actions = instances.add_subparsers(
        title="actions", description="list when none is named", metavar="ACTION", required=True
    )
    listing = actions.add_parser("list", parents=[remote], help="all instances of the pool")
    listing.add_argument("--tenant", help="only of this tenant")
    listing.add_argument("--project", help="only of this project")
    listing.add_argument("--tier", type=str.upper, choices=TIERS, help="only of this tier")
    listing.add_argument("--state", type=str.upper, choices=STATES, help="only in this state")
    _calls(listing, "agentpool_cli.commands.instances", "list_instances")
    for action, text in (
        ("get", "show one instance"),
        ("pause", "checkpoint and stop it; it stays paused until resumed"),
        ("resume", "make a paused instance ready again, or try one in ERROR again now"),
        ("delete", "end it and erase its state"),
    ):
        one = actions.add_parser(action, parents=[remote], help=text, description=text + ".")
        one.add_argument("id", help="instance id, inst-...")
        _calls(one, "agentpool_cli.commands.instances", f"{action}_instance")


def _add_move(commands: argparse._SubParsersAction[_Parser], remote: _Parser) -> None:
    text = "give an instance another tier, with its state and without a failed request"
    move = commands.add_parser("move", parents=[remote], help=text, description=text + ".")
    move.add_argument("id", help="instance id, inst-...")
    move.add_argument(
        "--tier",
        type=str.upper,
        choices=(*TIERS, AUTO),
        required=True,
        help="tier to keep from now on; AUTO leaves it to the pool again",
    )
    _calls(move, "agentpool_cli.commands.instances", "move_instance")


def _add_archives(commands: argparse._SubParsersAction[_Parser], remote: _Parser) -> None:
    text = "write the saved state of an instance to a file"
    export = commands.add_parser(
        "export", parents=[_connection_options(forms=False)], help=text, description=text + "."
    )
    export.add_argument("id", help="instance id, inst-...")
    export.add_argument(
        "-o", "--output", metavar="FILE", required=True, help="file to write; - for standard output"
    )
    _calls(export, "agentpool_cli.commands.archive", "export")
    text = "make an instance from a file that export wrote"
    plant = commands.add_parser("import", parents=[remote], help=text, description=text + ".")
    plant.add_argument("file", metavar="FILE", help="the archive; - for standard input")
    plant.add_argument("--tenant", help="tenant id (default: the archive's)")
    plant.add_argument("--project", help="project id (default: the archive's)")
    plant.add_argument("--tier", type=str.upper, choices=TIERS, help="tier of a new instance")
    plant.add_argument(
        "--replace", action="store_true", help="replace the state of an instance that exists; pause it first"
    )
    _calls(plant, "agentpool_cli.commands.archive", "plant")


def _add_forget(commands: argparse._SubParsersAction[_Parser], remote: _Parser) -> None:
    forget = commands.add_parser(
        "forget",
        parents=[remote],
        help="erase everything of a tenant",
        description="End every instance of a tenant and erase its state. May be run again at any time.",
    )
    forget.add_argument("--tenant", required=True, help="tenant id")
    forget.add_argument("--yes", action="store_true", help="do not ask")
    _calls(forget, "agentpool_cli.commands.forget")


def _add_simulate(commands: argparse._SubParsersAction[_Parser]) -> None:
    simulate = commands.add_parser(
        "simulate",
        help="try a pool's automatic scaling on a trace of arrivals",
        description="Replay arrivals against the scaling policy of the operator, in a model of a pool.",
    )
    simulate.add_argument("trace", metavar="TRACE.csv", help="columns seconds and requests_per_second")
    simulate.add_argument("--pool", metavar="FILE", help="AgentPool with the policy (default: the defaults)")
    simulate.add_argument("--no-forecast", action="store_true", help="only without forecast")
    simulate.add_argument(
        "--service-ms",
        type=positive_milliseconds,
        default=200.0,
        metavar="MS",
        help="mean time of a request (default 200)",
    )
    simulate.add_argument(
        "--slots", type=slot_count, default=4, help="requests that a pod works on at once (default 4)"
    )
    simulate.add_argument(
        "--start-seconds",
        type=positive_seconds,
        default=15.0,
        metavar="SECONDS",
        help="time until a new pod serves (default 15)",
    )
    simulate.add_argument("--seed", type=int, default=1, help="of the random numbers (default 1)")
    _calls(simulate, "agentpool_cli.commands.simulate")


def _add_flags(commands: argparse._SubParsersAction[_Parser], remote: _Parser) -> None:
    flags = commands.add_parser("flags", help="list, set, roll back and delete feature flags of a pool")
    actions = flags.add_subparsers(
        title="actions", description="list when none is named", metavar="ACTION", required=True
    )
    listing = actions.add_parser("list", parents=[remote], help="all flags")
    _calls(listing, "agentpool_cli.commands.flags", "list_flags")
    text = "set a flag, which holds for the next request"
    one = actions.add_parser("set", parents=[remote], help=text, description=text + ".")
    one.add_argument("name", help="agent_pool_enabled, agent_pool_hot_tier, or a flag of your own")
    what = one.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "--percentage", type=percentage, metavar="N", help="on for N %% of projects, and whom its list names"
    )
    what.add_argument(
        "--tenant", metavar="TENANT", help="on for this tenant, for all others as it was; may be set again"
    )
    what.add_argument(
        "--ramp", type=ramp, metavar="FROM:TO:SECONDS", help="grows from FROM to TO percent from now on"
    )
    what.add_argument("--strategy", type=str.upper, choices=STRATEGIES, help="whole, with the lists below")
    one.add_argument("--list-tenant", action="append", default=[], metavar="TENANT", help="for --strategy")
    one.add_argument(
        "--list-project",
        action="append",
        default=[],
        nargs=2,
        metavar=("TENANT", "PROJECT"),
        help="for --strategy",
    )
    _calls(one, "agentpool_cli.commands.flags", "set_flag")
    for action, text in (
        ("rollback", "disable a flag with strategy NONE: off for everybody at the next request"),
        ("delete", "forget what was set; the pool's own flags go back to their defaults"),
    ):
        one = actions.add_parser(action, parents=[remote], help=text, description=text + ".")
        one.add_argument("name", help="name of the flag")
        _calls(one, "agentpool_cli.commands.flags", f"{action}_flag")


def percentage(text: str) -> int:
    """A whole percentage."""
    number = int(text)
    if not 0 <= number <= 100:
        raise argparse.ArgumentTypeError(f"{text} is not a percentage (0..100)")
    return number


def ramp(text: str) -> tuple[int, int, float]:
    """FROM:TO:SECONDS of a percentage that grows."""
    first, last, seconds = text.split(":")
    return percentage(first), percentage(last), float(seconds)


def port(text: str) -> int:
    """A TCP port; 0 lets the system choose."""
    number = int(text)
    if not 0 <= number <= 65535:
        raise argparse.ArgumentTypeError(f"{text} is not a port (0..65535)")
    return number


def host_count(text: str) -> int:
    """How many hosts to run on one machine."""
    number = int(text)
    if not 1 <= number <= 16:
        raise argparse.ArgumentTypeError(f"{text} is not a number of hosts (1..16)")
    return number


def positive_seconds(text: str) -> float:
    """A time in seconds above zero."""
    number = float(text)
    if not 0 < number <= 86_400:
        raise argparse.ArgumentTypeError(f"{text} is not a time in seconds (above 0, at most a day)")
    return number


def positive_milliseconds(text: str) -> float:
    """A time in milliseconds above zero."""
    number = float(text)
    if not 0 < number <= 3_600_000:
        raise argparse.ArgumentTypeError(f"{text} is not a time in milliseconds (above 0, at most an hour)")
    return number


def slot_count(text: str) -> int:
    """How many requests a pod works on at once."""
    number = int(text)
    if not 1 <= number <= 1000:
        raise argparse.ArgumentTypeError(f"{text} is not a number of slots (1..1000)")
    return number
