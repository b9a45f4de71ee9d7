"""Objects that remember how they were made, so that a checkpoint can say how to make them again."""

from __future__ import annotations

import importlib
import inspect
from pathlib import Path
from typing import Any

PACKAGES = ('models.', 'training.')
"""What :func:`build` may import: a checkpoint is data and must not name code of its choice."""


class ConfigError(ValueError):
    """A stored configuration does not describe anything of this version of the code."""


class Configured:
    """Records the arguments of its constructor as plain data in :attr:`config`.

    The form is that of the config files: ``{'class_path': ..., 'init_args': {...}}``, nested where
    an argument is itself configured.
    """

    config: dict[str, Any]

    def __new__(cls, *args: Any, **kwargs: Any) -> Configured:  # noqa: D102 - see the class
        instance = super().__new__(cls)
        # Partial: copies and pickles come without arguments, and bring the record of the original.
        signature = inspect.signature(cls.__init__)
        bound = signature.bind_partial(instance, *args, **kwargs)
        bound.apply_defaults()
        arguments = dict(list(bound.arguments.items())[1:])
        for name, parameter in signature.parameters.items():
            if parameter.kind is inspect.Parameter.VAR_KEYWORD:
                arguments.update(arguments.pop(name, {}))
        # Past nn.Module's __setattr__, which needs the __init__ that has not run yet.
        instance.__dict__['config'] = {
            'class_path': f'{cls.__module__}.{cls.__qualname__}',
            'init_args': {name: _plain(value) for name, value in arguments.items()},
        }
        return instance


def _plain(value: Any) -> Any:
    if isinstance(value, Configured):
        return value.config
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    return value


def build(config: dict[str, Any]) -> Any:
    """Return what a :attr:`Configured.config` describes.

    Raises:
        ConfigError: when it names a class that this code does not have, or foreign arguments.
    """
    path = config.get('class_path') if isinstance(config, dict) else None
    arguments = config.get('init_args', {}) if isinstance(config, dict) else None
    if not (isinstance(path, str) and isinstance(arguments, dict) and path.startswith(PACKAGES)):
        raise ConfigError(f'{path or config!r} is no class of {" or ".join(PACKAGES)}*')
    module, _, name = path.rpartition('.')
    try:
        target = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f'{path} does not exist in this version: {error}') from error
    if not (isinstance(target, type) and issubclass(target, Configured)):
        raise ConfigError(f'{path} is not a configured class')
    try:
        return target(**{name: _built(value) for name, value in arguments.items()})
    except TypeError as error:
        raise ConfigError(f'{path} does not take these arguments: {error}') from error


def _built(value: Any) -> Any:
    if isinstance(value, dict) and set(value) == {'class_path', 'init_args'}:
        return build(value)
    if isinstance(value, list):
        return [_built(item) for item in value]
    return value
