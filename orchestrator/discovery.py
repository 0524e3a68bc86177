"""The clusters that there are → a fleet: which of them, and under which words.

Rules:

- The order is stable: project, then name, then id; two discoveries of the same clusters are the
  same file.
- Tags become labels under their own names. One that would be taken for something else in a fleet
  (`wave`, `name`, `project` …) becomes `tag.wave`; one that cannot be the name of a label is left
  out, and told. So is a value that cannot be printed.
- `datastore` and `version` are labels, too. A Logstash cluster can only be rebooted, so that is its
  kind; all others get the default.
- A project that is given by name is looked up in IAM, and must be the only one of that name. Its
  region is in its name (`cn-north-4`, `cn-north-4_team`), where nobody says another.
- Either all projects are listed whole, or there is no fleet. What the service could not do just now
  is asked of it again, a few times, no sooner than it said.
- What is chosen by a condition is decided by what stands in the fleet, or by the tag as it is.
"""

import re
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from types import MappingProxyType

import anyio

from orchestrator.access import AT_ONCE, Access, open_access
from orchestrator.config import CloudSettings
from orchestrator.css import CssClient, Prompt
from orchestrator.css.inventory import Cluster
from orchestrator.errors import CloudError, MistakesError, UsageError
from orchestrator.fleet import is_id, is_label
from orchestrator.model import WHOLE, Call, Kind, Target
from orchestrator.regions import is_known
from orchestrator.span import format_span

PREFIX = "tag."
"""What is put before a tag's key that means something else in a fleet."""

TRIES = 4
"""How often a list is asked for, if the service cannot give it just now."""

LOGSTASH = "logstash"
"""The datastore whose clusters are rebooted."""

_FACTS = ("datastore", "version")
"""Labels that say what the service says of a cluster itself."""

_MOST_VALUES = 10
_PASSING = frozenset({"throttled", "unavailable", "server_error", "lost"})
"""Classes of errors that may be none a little later."""

_CONDITION = re.compile(r"(?P<label>[^=!]+?)\s*(?P<sign>!?=)(?P<values>.*)", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """One `--where`: a label, and the globs of which its value fits one, or none.

    A label that a cluster does not have has an empty value.
    """

    label: str
    globs: tuple[str, ...]
    is_wanted: bool = True

    @classmethod
    def parse(cls, text: str) -> "Condition":
        """Read `env=prod`, `env=prod,stage-*`, `env!=test`, or `env=` for no such label.

        Raises:
            UsageError: it is none of these.
        """
        found = _CONDITION.fullmatch(text.strip())
        if found is None:
            raise UsageError(
                f"--where {text!r}: write label=value, label!=value or label=one,another, with * "
                "and ? for any characters"
            )
        globs = tuple(glob.strip() for glob in found["values"].split(","))
        return cls(label=found["label"], globs=globs, is_wanted=found["sign"] == "=")

    def __str__(self) -> str:
        return f"{self.label}{'=' if self.is_wanted else '!='}{','.join(self.globs)}"

    def holds(self, labels: Mapping[str, str]) -> bool:
        """Return whether a cluster with these labels is meant."""
        value = labels.get(self.label, "")
        return any(fnmatchcase(value, glob) for glob in self.globs) is self.is_wanted


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Which of the clusters are wanted; empty means all of them."""

    where: tuple[Condition, ...] = ()
    statuses: frozenset[str] = frozenset()
    datastores: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """One cluster of a list, and where it is."""

    project_id: str
    region: str | None
    cluster: Cluster


@dataclass(frozen=True, slots=True, kw_only=True)
class Discovery:
    """What was found."""

    targets: tuple[Target, ...]
    regions: Mapping[str, str | None]
    """The projects that were looked at, and where."""
    seen: Mapping[str, int]
    """Project → how many clusters it has, chosen or not."""
    warnings: tuple[str, ...] = ()
    """What of the clusters is not in the fleet as it stands there, each in a sentence."""
    misses: tuple[str, ...] = ()
    """For each thing that was asked for, how many clusters are not like that, in words."""


async def discover_fleet(
    settings: CloudSettings,
    choice: Choice,
    *,
    projects: Sequence[str] = (),
    names: Sequence[str] = (),
    environ: Mapping[str, str] | None = None,
    prompt: Prompt | None = None,
    say: Callable[[str], None] = lambda _words: None,
) -> Discovery:
    """Return the chosen clusters of some projects as the targets of a fleet.

    Args:
        settings: where the service is, and which project uses which credential.
        choice: which clusters are wanted.
        projects: the ids of the projects.
        names: the names of more projects.
        environ: where credentials are looked for; the process's environment if not given.
        prompt: asks a person for a passcode.
        say: is told what has to be waited for.

    Raises:
        UsageError: a credential or a region is missing, or a name is not that of one project.
        CloudError: some project could not be listed whole; names each.
    """
    regions = {project_id: settings.region_of(project_id) for project_id in projects}
    if names:
        named = {name: settings.region_of(name, _region_in(name)) for name in names}
        async with open_access(
            settings, named, time.monotonic, environ=environ, prompt=prompt, known_by="name"
        ) as access:
            found = await _projects_named(access, named)
        for name, project_id in found.items():
            regions.setdefault(project_id, settings.region_of(project_id, _region_in(name)))
    async with open_access(
        settings, regions, time.monotonic, environ=environ, prompt=prompt
    ) as access:
        listed = await _list_all(access, regions, say)
    return discover(listed, choice, regions)


def _region_in(name: str) -> str | None:
    """Return the region that a project's name begins with."""
    region = name.partition("_")[0]
    return region if is_known(region) else None


async def _projects_named(access: Access, names: Iterable[str]) -> Mapping[str, str]:
    """Return name → id; one after the other, for a refused credential is not to be sent often."""
    found: dict[str, str] = {}
    mistakes = []
    for name in names:
        ids = await access.book.projects_named(name)
        if len(ids) == 1:
            found[name] = ids[0]
        elif ids:
            several = ", ".join(ids)
            mistakes.append(f"{name}: {len(ids)} projects have this name; use --project {several}")
        else:
            mistakes.append(
                f"{name}: IAM knows no such project, or does not show it; check the name and the "
                "region, or use --project ID"
            )
    if mistakes:
        raise MistakesError("looking for projects by name: some are not just one", mistakes)
    return found


async def _list_all(
    access: Access, regions: Mapping[str, str | None], say: Callable[[str], None]
) -> Sequence[Listed]:
    """Return the clusters of all projects.

    Raises:
        CloudError: with every project that could not be listed whole.
    """
    limiter = anyio.CapacityLimiter(AT_ONCE)
    listed: list[Listed] = []
    errors: dict[str, CloudError] = {}

    async def take(project_id: str, region: str | None) -> None:
        async with limiter:
            try:
                inventory = await _patiently(access.client, project_id, region, say)
            except CloudError as error:
                errors[project_id] = error
            else:
                listed.extend(
                    Listed(project_id=project_id, region=region, cluster=cluster)
                    for cluster in inventory.values()
                )

    async with anyio.create_task_group() as tasks:
        for project_id, region in regions.items():
            tasks.start_soon(take, project_id, region)
    if errors:
        lines = "".join(
            f"\n  {errors[project_id]}" for project_id in regions if project_id in errors
        )
        raise CloudError(
            f"discovering clusters: {len(errors)} of {len(regions)} projects could not be listed "
            f"whole; nothing was written{lines}"
        )
    return listed


async def _patiently(
    client: CssClient, project_id: str, region: str | None, say: Callable[[str], None]
) -> Mapping[str, Cluster]:
    """Take a project's inventory, and try again where a little later it may be had.

    Raises:
        CloudError: it cannot be had.
    """
    for number in range(1, TRIES):
        try:
            return await client.take_inventory(project_id, region)
        except CloudError as error:
            if error.error_class not in _PASSING:
                raise
            pause = 2.0 ** (number - 1) if error.retry_after is None else error.retry_after
            say(f"{error}; trying again in {format_span(pause)}")
            await anyio.sleep(pause)
    return await client.take_inventory(project_id, region)


def discover(
    listed: Iterable[Listed],
    choice: Choice,
    regions: Mapping[str, str | None] = MappingProxyType({}),
) -> Discovery:
    """Return the chosen ones of these clusters as the targets of a fleet; see `discover_fleet`.

    `regions` are the projects that were listed, those without any cluster too.
    """
    everyone = sorted(
        listed, key=lambda one: (one.project_id, one.cluster.name or "", one.cluster.id)
    )
    notes = _Notes()
    targets = []
    for one in everyone:
        if _is_chosen(one.cluster, choice):
            target = _target_of(one, notes)
            if target is not None:
                targets.append(target)
    return Discovery(
        targets=tuple(targets),
        regions=regions or {one.project_id: one.region for one in everyone},
        seen=Counter(one.project_id for one in everyone),
        warnings=tuple(notes.sentences()),
        misses=tuple(_misses(everyone, choice)),
    )


class _Notes:
    """What was changed or left out, counted."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()

    def add(self, words: str) -> None:
        self._counts[words] += 1

    def sentences(self) -> Iterable[str]:
        for words, count in sorted(self._counts.items()):
            yield f"{words} ({count} {'cluster' if count == 1 else 'clusters'})"


# ----------------------------------------------------------------------------------- one cluster


def _target_of(one: Listed, notes: _Notes) -> Target | None:
    cluster = one.cluster
    if not is_id(cluster.id):
        notes.add(f"the cluster id {cluster.id!r} is none that a fleet can hold; it is left out")
        return None
    name = (cluster.name or "").strip()
    if not name.isprintable():
        notes.add("names have characters that cannot be printed; they are left out")
        name = ""
    is_logstash = cluster.datastore == LOGSTASH
    return Target(
        project_id=one.project_id,
        cluster_id=cluster.id,
        name=name or None,
        region=one.region,
        kind=Kind(Call.REBOOT) if is_logstash else WHOLE,
        labels=tuple(sorted(_labels_of(cluster, notes).items())),
    )


def _labels_of(cluster: Cluster, notes: _Notes) -> Mapping[str, str]:
    """Return the labels of a cluster as a fleet holds them: none is empty."""
    labels = _facts_of(cluster)
    tags = {key: value.strip() for key, value in cluster.tags if value.strip()}
    # Those that keep their names come first: no other may take these.
    for key, value in sorted(tags.items(), key=lambda tag: not _keeps_its_name(tag[0])):
        name = key if _keeps_its_name(key) else f"{PREFIX}{key}"
        if not is_label(name):
            notes.add(f"the tag {key!r} has a key that no label can have; it is left out")
        elif name in labels:
            notes.add(f"the tag {key!r} cannot be called {name}, another one is; it is left out")
        elif not value.isprintable():
            notes.add(f"the tag {key!r} has characters that cannot be printed; it is left out")
        else:
            labels[name] = value
            if name != key:
                notes.add(f"the tag {key!r} is the label {name}, for {key} means something else")
    return labels


def _keeps_its_name(key: str) -> bool:
    return is_label(key) and key not in _FACTS


def _facts_of(cluster: Cluster) -> dict[str, str]:
    facts = dict(zip(_FACTS, (cluster.datastore, cluster.version), strict=True))
    return {name: fact for name, fact in facts.items() if fact and fact.isprintable()}


# ------------------------------------------------------------------------------------ the choice


def _is_chosen(cluster: Cluster, choice: Choice) -> bool:
    words = _words_of(cluster)
    return (
        (not choice.statuses or cluster.status in choice.statuses)
        and (not choice.datastores or cluster.datastore in choice.datastores)
        and all(condition.holds(words) for condition in choice.where)
    )


def _words_of(cluster: Cluster) -> Mapping[str, str]:
    """Return what a condition can ask for: the labels, and the tags under their own keys."""
    tags = {key: value.strip() for key, value in cluster.tags}
    return {**tags, "name": cluster.name or "", **_labels_of(cluster, _Notes())}


def _misses(everyone: Sequence[Listed], choice: Choice) -> Iterable[str]:
    """Say for each thing that was asked for, how many clusters are not like that."""
    clusters = [one.cluster for one in everyone]
    if choice.statuses:
        found = Counter(cluster.status for cluster in clusters)
        yield _miss(f"--status {' '.join(sorted(choice.statuses))}", found, choice.statuses)
    if choice.datastores:
        found = Counter(cluster.datastore or "none" for cluster in clusters)
        yield _miss(f"--type {' '.join(sorted(choice.datastores))}", found, choice.datastores)
    for condition in choice.where:
        found = Counter(_words_of(cluster).get(condition.label, "") for cluster in clusters)
        wanted = frozenset(v for v in found if condition.holds({condition.label: v}))
        yield _miss(f"--where {condition}", found, wanted)


def _miss(asked: str, found: Mapping[str, int], wanted: frozenset[str]) -> str:
    fitting = sum(count for value, count in found.items() if value in wanted)
    values = [value or "nothing" for value in sorted(found)]
    shown = ", ".join(values[:_MOST_VALUES]) + (", …" if len(values) > _MOST_VALUES else "")
    return f"{asked}: {fitting} of {sum(found.values())} fit; there is {shown}"
