"""Options that several commands share, made from the table of settings."""

import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click

from orchestrator.cli import completion
from orchestrator.config import (
    CONFIG_VARIABLE,
    KEYS,
    Key,
    Settings,
    load_settings,
    user_config_file,
)
from orchestrator.errors import UsageError
from orchestrator.fleet import Format
from orchestrator.model import Outcome

CommandT = TypeVar("CommandT", bound=Callable[..., Any])

CLOUD = tuple(name for name in KEYS if name.startswith("cloud."))
"""What a command needs that speaks to the service."""

JOURNAL = ("journal.url",)
"""What a command needs that only reads the journal."""

SECTIONS = {
    "cloud": "The service",
    "limits": "Limits",
    "waves": "Waves",
    "follow": "Following each restart",
    "window": "The window",
    "gate": "The gate",
    "": "The run and its journal",
}
"""Headings of `--help` for the sections of the settings; what has none stands with the last."""


class SettingOption(click.Option):
    """An option made from the table of settings; knows the section that it stands in."""

    def __init__(self, *arguments: Any, section: str, **attributes: Any) -> None:
        super().__init__(*arguments, **attributes)
        self.section = section


class SettingsCommand(click.Command):
    """A command whose `--help` lists its own options first, then the settings by section."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options under their headings."""
        records: dict[str, list[tuple[str, str]]] = {"Options": []}
        records |= {heading: [] for heading in SECTIONS.values()}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None:
                section = parameter.section if isinstance(parameter, SettingOption) else None
                records["Options" if section is None else SECTIONS[section]].append(record)
        for heading, options in records.items():
            if options:
                with formatter.section(heading):
                    formatter.write_dl(options)


def fleet_options(command: CommandT) -> CommandT:
    """Give a command the fleet, how it is written, and what is taken of a report."""
    only = click.option(
        "--only", metavar="OUTCOMES",
        help="From a report: only targets that ended like this, such as not_started,failed.",
    )  # fmt: skip
    format_ = click.option(
        "--format", "format_", type=click.Choice([str(f) for f in Format]),
        help="How the fleet is written, where its suffix does not tell.",
    )  # fmt: skip
    fleet = click.argument(
        "fleet", nargs=-1, required=True, metavar="FLEET...", shell_complete=completion.files
    )
    return fleet(format_(only(command)))


def settings_options(names: Iterable[str] = tuple(KEYS)) -> Callable[[CommandT], CommandT]:
    """Give a command an option for each of these settings, and `--config`."""

    def decorate(command: CommandT) -> CommandT:
        for name in reversed(tuple(names)):
            command = _option(KEYS[name])(command)
        return click.option(
            "--config",
            "config_file",
            type=click.Path(path_type=Path),
            metavar="FILE",
            help=f"Settings, in TOML; {CONFIG_VARIABLE}, ./orchestrator.toml and the user's own "
            "file are the next best.",
        )(command)

    return decorate


def _option(key: Key) -> Callable[[CommandT], CommandT]:
    words = key.help[0].upper() + key.help[1:]
    section = key.name.partition(".")[0] if "." in key.name else ""
    section = section if section in SECTIONS else ""
    if key.name == "follow.wait":
        return click.option(
            "--no-wait", "wait", cls=SettingOption, section=section,
            flag_value="false", default=None,
            help="Do not follow restarts: a target ends with the service's answer.",
        )  # fmt: skip
    if key.name == "waves.confirm":
        return click.option(
            f"--{key.option}", cls=SettingOption, section=section,
            flag_value="true", default=None, help=f"{words}.",
        )  # fmt: skip
    default = f"  [{key.default_text}]" if key.default_text else ""
    return click.option(
        f"--{key.option}",
        key.option.replace("-", "_"),
        cls=SettingOption,
        section=section,
        metavar=key.metavar,
        shell_complete=_completion_of(key),
        multiple=key.is_many,
        default=None,
        help=f"{words}.{default}" + (" May be given several times." if key.is_many else ""),
    )


def _completion_of(key: Key) -> completion.Complete | None:
    """Return what completes a value of this setting: a file, or one of the words that there are."""
    choices = key.metavar.split("|")
    if choices[0] == "FILE":
        return completion.files
    return completion.words(choices) if key.metavar.islower() else None


def settings_from(given: dict[str, Any], config_file: Path | None) -> Settings:
    """Take the settings' options out of `given` and load settings with them.

    Raises:
        ConfigError: every mistake in options, environment and file.
    """
    return settings_with(options_in(given), config_file)


def options_in(given: dict[str, Any]) -> dict[str, object]:
    """Take the settings' options out of `given`; the names are those of the file."""
    options = {}
    for name, key in KEYS.items():
        parameter = "wait" if name == "follow.wait" else key.option.replace("-", "_")
        if parameter in given:
            options[name] = given.pop(parameter)
    return options


def settings_with(options: Mapping[str, object], config_file: Path | None) -> Settings:
    """Load settings with these options over environment, file and defaults.

    Raises:
        ConfigError: every mistake in options, environment and file.
    """
    return load_settings(
        options=options,
        environ=os.environ,
        config_file=config_file,
        cwd=Path.cwd(),
        user_config=user_config_file(),
    )


def outcomes(text: str | None) -> frozenset[Outcome] | None:
    """Read `failed,unknown`.

    Raises:
        UsageError: a name is no outcome, or there is none.
    """
    if text is None:
        return None
    names = [name.strip() for name in text.split(",") if name.strip()]
    unknown = [name for name in names if name not in set(Outcome)]
    if unknown or not names:
        raise UsageError(
            f"--only {text!r}: {', '.join(unknown) or 'nothing'} is no outcome; "
            f"use some of {', '.join(Outcome)}"
        )
    return frozenset(Outcome(name) for name in names)
