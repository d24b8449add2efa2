# SPDX-License-Identifier: Apache-2.0
"""The few kernel calls that Python's standard library does not offer, by ctypes.

Every function raises OSError with the kernel's errno. Nothing here decides anything.
"""

from __future__ import annotations

import ctypes
import os
import platform

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_GET_SECCOMP = 21
PR_SET_CHILD_SUBREAPER = 36
PR_SET_NO_NEW_PRIVS = 38

_SECCOMP_NUMBER = {"x86_64": 317, "aarch64": 277}
_CAPSET_NUMBER = {"x86_64": 126, "aarch64": 91}
_LANDLOCK_CREATE_RULESET = 444
_LANDLOCK_ADD_RULE = 445
_LANDLOCK_RESTRICT_SELF = 446
_SECCOMP_SET_MODE_FILTER = 1
_CAPABILITY_VERSION_3 = 0x20080522

Address = ctypes.c_void_p

# Made once, in the zygote: a type that is made after the fork writes to many of the pages that are shared.
_CapabilityHeader = ctypes.c_uint32 * 2
_Capabilities = ctypes.c_uint32 * 6
_MACHINE = platform.machine()


class _FilterProgram(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_void_p))


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def machine() -> str:
    """The processor's name as the kernel reports it (`x86_64`, `aarch64`)."""
    return _MACHINE


def prctl(option: int, argument: int = 0) -> int:
    """`prctl(2)` with one number."""
    zero = ctypes.c_ulong(0)
    return _checked(_libc.prctl(option, ctypes.c_ulong(argument), zero, zero, zero))


def _syscall(number: int, *arguments: ctypes.c_long | ctypes.c_void_p) -> int:
    return _checked(_libc.syscall(ctypes.c_long(number), *arguments))


def _number(numbers: dict[str, int], what: str) -> int:
    try:
        return numbers[machine()]
    except KeyError:
        raise OSError(f"{what} is not known on {machine()}") from None


def install_filter(program: bytes) -> None:
    """Put a seccomp filter (packed instructions of eight bytes) on the calling thread."""
    number = _number(_SECCOMP_NUMBER, "seccomp")
    code = ctypes.create_string_buffer(program, len(program))
    header = _FilterProgram(len(program) // 8, ctypes.cast(code, ctypes.c_void_p))
    _syscall(
        number, ctypes.c_long(_SECCOMP_SET_MODE_FILTER), ctypes.c_long(0), Address(ctypes.addressof(header))
    )


def drop_capabilities() -> None:
    """Give up every capability of the calling thread."""
    header = _CapabilityHeader(_CAPABILITY_VERSION_3, 0)
    nothing = _Capabilities()
    _syscall(
        _number(_CAPSET_NUMBER, "capset"),
        Address(ctypes.addressof(header)),
        Address(ctypes.addressof(nothing)),
    )


def landlock_version() -> int:
    """The kernel's Landlock ABI; OSError when it has none or it is switched off."""
    return _syscall(_LANDLOCK_CREATE_RULESET, Address(None), ctypes.c_long(0), ctypes.c_long(1))


def landlock_ruleset(attributes: bytes) -> int:
    """A new ruleset's descriptor."""
    buffer = ctypes.create_string_buffer(attributes, len(attributes))
    return _syscall(
        _LANDLOCK_CREATE_RULESET,
        Address(ctypes.addressof(buffer)),
        ctypes.c_long(len(attributes)),
        ctypes.c_long(0),
    )


def landlock_allow_path(ruleset: int, rule: bytes) -> None:
    """Add one path rule (`struct landlock_path_beneath_attr`)."""
    buffer = ctypes.create_string_buffer(rule, len(rule))
    _syscall(
        _LANDLOCK_ADD_RULE,
        ctypes.c_long(ruleset),
        ctypes.c_long(1),
        Address(ctypes.addressof(buffer)),
        ctypes.c_long(0),
    )


def landlock_restrict(ruleset: int) -> None:
    """Put the ruleset on the calling thread, for good."""
    _syscall(_LANDLOCK_RESTRICT_SELF, ctypes.c_long(ruleset), ctypes.c_long(0))
