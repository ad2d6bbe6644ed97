"""Policies of a user's own, named as ``module:Class`` where a policy's name may stand."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path
from types import ModuleType
from typing import TypeVar

Policy = TypeVar("Policy")


class PluginError(ValueError):
    """A reference that leads to no usable class; the text says why and what was expected."""

    exit_status = 2  # bad input


def is_reference(name: str) -> bool:
    """Return whether a policy's name is ``module:Class``."""
    return ":" in name


def policy_class(
    reference: str, base: type[Policy], folders: Iterable[Path], arguments: int, required: str
) -> type[Policy]:
    """Return the class that ``module:Class`` names, a complete subclass of ``base``.

    The module is looked for where Python looks, then in ``folders``; these stay on ``sys.path``,
    since a module may import its neighbours later.  ``arguments`` is how many its constructor is
    given, ``required`` the method that ``base`` leaves to it.  Raises PluginError.
    """
    module_name, _, class_name = reference.partition(":")
    for folder in folders:
        if str(folder) not in sys.path:
            sys.path.append(str(folder))
    module = _module(module_name)
    found = getattr(module, class_name, None)
    if found is None:
        classes = [name for name, value in vars(module).items() if inspect.isclass(value)]
        close = get_close_matches(class_name, classes, n=1)
        hint = f' (did you mean "{close[0]}"?)' if close else ""
        raise PluginError(f'{_file(module)} has no "{class_name}"; expected a class of it{hint}')
    wanted = f"a subclass of {base.__module__}.{base.__name__}"
    # Asked of a compiled base, issubclass alone says yes to classes of other kinds too.
    if (
        not inspect.isclass(found)
        or not issubclass(found, base)
        or base not in inspect.getmro(found)
    ):
        raise PluginError(f'"{class_name}" of {_file(module)} is not {wanted}; expected one')
    # A compiled class does not know which of its methods are abstract; inheriting it tells.
    if getattr(found, required) is getattr(base, required):
        raise PluginError(f'"{class_name}" of {_file(module)} lacks {required}')
    _check_constructor(found, arguments, module)
    return found


def _module(name: str) -> ModuleType:
    importlib.invalidate_caches()
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not (name == error.name or name.startswith(f"{error.name}.")):
            raise PluginError(f'module "{name}" needs {error.name}, which is not there') from error
        raise PluginError(
            f'there is no module "{name}"; expected {name.replace(".", "/")}.py beside the '
            "scenario file or in the current folder, or a module that is installed"
        ) from error
    except Exception as error:  # whatever a user's module does when it is imported
        where = f" (line {error.lineno})" if isinstance(error, SyntaxError) else ""
        raise PluginError(
            f'module "{name}" cannot be imported: {type(error).__name__}: {error}{where}'
        ) from error


def _file(module: ModuleType) -> str:
    return getattr(module, "__file__", None) or module.__name__


def _check_constructor(found: type, arguments: int, module: ModuleType) -> None:
    try:
        signature = inspect.signature(found)
    except ValueError:  # a compiled class does not tell
        return
    try:
        signature.bind(*range(arguments))
    except TypeError as error:
        given = f"with {arguments} arguments" if arguments else "without arguments"
        raise PluginError(
            f'"{found.__name__}" of {_file(module)} is made {given}: {error}'
        ) from error
