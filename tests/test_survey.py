"""The survey: what is found of a fleet before anything is touched, and what does not fit it."""

from collections.abc import Mapping
from typing import Any

import anyio
import pytest

from orchestrator.campaign import Campaign
from orchestrator.commands import Look, Restart
from orchestrator.css.inventory import Cluster
from orchestrator.css.usual import Node
from orchestrator.errors import CloudError, ExitCode, IncompleteError, UnfitError
from orchestrator.model import AUTO, ClusterState, Kind, Target, WaveOpened
from orchestrator.plan import Policy, make_plan
from orchestrator.session import _show_to
from orchestrator.survey import (
    Listing,
    Sight,
    Standing,
    Survey,
    counts,
    few,
    fitted,
    survey_fleet,
    survey_lines,
    warnings,
)

READY = ClusterState(status="200", datastore="elasticsearch")


def nodes(*roles: str, zones: str = "abc") -> tuple[Node, ...]:
    return tuple(
        Node(id=f"n{number}", status="200", role=role, zone=zones[number % len(zones)])
        for number, role in enumerate(roles)
    )


def cluster(cluster_id: str = "c", datastore: str | None = "elasticsearch", **more: Any) -> Cluster:
    given: dict[str, Any] = {"nodes": nodes("ess", "ess", "ess", "ess-master"), **more}
    state = given.pop("state", ClusterState(status="200", datastore=datastore))
    return Cluster(id=cluster_id, state=state, **given)


def survey_of(*clusters: Cluster, project: str = "p", unread: Mapping[str, str] = {}) -> Survey:
    found = {one.id: one for one in clusters}
    return Survey(listings={project: Listing(began_at=0.0, clusters=found)}, unread=unread)


def target(kind: str = "restart", cluster_id: str = "c", **more: Any) -> Target:
    return Target(project_id="p", cluster_id=cluster_id, kind=Kind.parse(kind), **more)


LOGSTASH = cluster(datastore="logstash", nodes=nodes("lgs", "lgs"))

# ---------------------------------------------------------------------------------- what fits


@pytest.mark.parametrize(
    ("kind", "found", "words"),
    [
        ("restart", LOGSTASH, "restart is not for logstash clusters; use reboot, or auto"),
        ("restart:ess", LOGSTASH, "restart:ess is not for logstash clusters"),
        ("rolling", LOGSTASH, "rolling is not for logstash clusters"),
        ("reboot", cluster(), "reboot is not for elasticsearch clusters; use restart, or auto"),
        ("reboot", cluster(datastore="opensearch"), "reboot is not for opensearch clusters"),
        ("rolling", cluster(nodes=nodes("ess", "ess")), "needs 3 nodes, and it has 2"),
        ("rolling:ess-master", cluster(), "names no node that holds data; add ess or ess-cold"),
        ("rolling:ess,ess-cold", cluster(), "names ess-cold, and it has only ess, ess-master"),
        ("restart:ess-client", cluster(), "names ess-client, and it has only ess, ess-master"),
        ("restart:node=n9", cluster(), "it has no node n9"),
    ],
)
def test_what_does_not_fit_is_refused(kind: str, found: Cluster, words: str) -> None:
    """A kind that its cluster cannot have ends everything before anything was restarted."""
    with pytest.raises(UnfitError) as caught:
        fitted([target(kind, name="orders")], survey_of(found))
    assert caught.value.exit_code is ExitCode.USAGE
    (mistake,) = caught.value.mistakes
    assert mistake.startswith("p/c (orders): ")
    assert words in mistake
    assert "nothing was restarted" in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "found"),
    [
        ("restart", cluster()),
        ("restart", cluster(datastore="opensearch")),
        ("reboot", LOGSTASH),
        ("rolling", cluster(nodes=nodes("ess", "ess", "ess"))),
        ("rolling:all", cluster()),
        ("rolling:ess-cold,ess-master", cluster(nodes=nodes("ess-cold", "ess-master", "ess"))),
        ("restart:ess-master", cluster()),
        ("restart:node=n3", cluster()),
        # What an older service does not say is no reason to refuse.
        ("restart", cluster(datastore=None)),
        ("reboot", cluster(datastore=None)),
        ("rolling", cluster(nodes=())),
        ("restart:node=n9", cluster(nodes=())),
        ("restart:ess-cold", cluster(nodes=(Node(id="n", status="200"),))),
    ],
)
def test_what_fits_is_left_as_it_is(kind: str, found: Cluster) -> None:
    """Every kind passes where its cluster can have it, or where nobody knows that it cannot."""
    targets = (target(kind),)
    assert fitted(targets, survey_of(found)) == targets


def test_every_misfit_is_named_at_once() -> None:
    """A fleet with many wrong kinds is told all of them, in its order."""
    targets = [target("reboot", f"c{number}") for number in range(5)]
    survey = survey_of(*(cluster(f"c{number}") for number in (0, 2, 4)), LOGSTASH)
    with pytest.raises(UnfitError, match="3 kinds of restart") as caught:
        fitted(targets, survey)
    assert [mistake.partition(":")[0] for mistake in caught.value.mistakes] == [
        "p/c0", "p/c2", "p/c4",
    ]  # fmt: skip


def test_auto_takes_what_the_datastore_needs() -> None:
    """Logstash clusters are rebooted, all others restarted, and those that nobody saw too."""
    targets = [target("auto", f"c{number}") for number in range(5)]
    survey = survey_of(
        cluster("c0"),
        cluster("c1", datastore="opensearch"),
        cluster("c2", datastore="logstash"),
        cluster("c3", datastore=None),
    )
    kinds = [str(one.kind) for one in fitted(targets, survey)]
    assert kinds == ["restart", "restart", "reboot", "restart", "restart"]
    assert str(AUTO) == "auto"
    assert Kind.parse(" auto ") == AUTO


# --------------------------------------------------------------------------- what is only unwise


@pytest.mark.parametrize(
    ("kind", "found", "words"),
    [
        ("rolling", cluster(nodes=nodes("ess", "ess", "ess")), "just 3 nodes"),
        ("restart", cluster(nodes=nodes("ess", "ess-master")), "a single data node"),
        ("restart", cluster(nodes=nodes("ess", "ess", zones="a")), "in one availability zone"),
        ("restart", cluster(backup_available=False), "no backups"),
        (
            "restart",
            cluster(state=ClusterState(status="200", failed_reason="CSS.6002")),
            "an earlier failure",
        ),
        ("restart", cluster(state=ClusterState(status="200", name="logs")), "another name"),
    ],
)
def test_what_is_unwise_is_a_warning(kind: str, found: Cluster, words: str) -> None:
    """Nothing of this refuses a fleet, and each is told with the clusters it is true of."""
    targets = [target(kind, name="orders")]
    survey = survey_of(found)
    assert fitted(targets, survey) == tuple(targets)
    (warning,) = warnings(targets, survey).items()
    assert words in warning[0]
    assert warning[1] == ["orders"]


def test_a_sound_cluster_gives_no_warning() -> None:
    """Several data nodes in several zones, with backups: there is nothing to say."""
    found = cluster(backup_available=True, state=ClusterState(status="200", name="orders"))
    assert not warnings([target(name="orders")], survey_of(found))
    assert not warnings([target(cluster_id="gone")], survey_of(found))


def test_the_lines_count_and_name_a_few() -> None:
    """Each standing has its number and the first few names; a reason shared is told once."""
    states = {
        "a": ClusterState(status="200"),
        "b": ClusterState(status="200", actions=("REBOOTING",)),
        "c": ClusterState(status="303"),
    }
    clusters = [
        cluster(f"{key}{n}", state=state) for key, state in states.items() for n in range(5)
    ]
    targets = [target(cluster_id=one.id) for one in clusters]
    targets += [target(cluster_id="gone", name="old")]
    targets += [Target(project_id=project, cluster_id=project) for project in ("qqq", "rrr")]
    unread = {one: f"listing project {one}: no" for one in ("qqq", "rrr")}
    unread["p1"] = "listing project p1: never"
    survey = survey_of(*clusters, unread=unread)
    assert {standing: len(names) for standing, names in counts(targets, survey).items()} == {
        Standing.READY: 5, Standing.BUSY: 5, Standing.UNHEALTHY: 5,
        Standing.GONE: 1, Standing.UNREAD: 2,
    }  # fmt: skip
    assert survey_lines(targets, survey) == [
        (
            "clusters  5 of 18 ready, 5 busy (b0, b1, b2 and 2 more), "
            "5 unhealthy (c0, c1, c2 and 2 more), 1 gone (old), 2 not read (qqq, rrr)"
        ),
        "unread    2 projects: listing project …: no",
        "unread    listing project p1: never",
    ]
    assert few(["a", "b", "c", "d"]) == "a, b, c and 1 more"


# -------------------------------------------------------------------------------------- the look


class Projects:
    """A service with so many projects, that notes who reads at the same time."""

    def __init__(
        self, *, broken: frozenset[str] = frozenset(), partial: frozenset[str] = frozenset()
    ) -> None:
        self.broken = broken
        self.partial = partial
        self.asked: list[tuple[str, str | None]] = []
        self.at_once = self.most_at_once = 0

    async def take_inventory(self, project_id: str, region: str | None) -> Mapping[str, Cluster]:
        self.asked.append((project_id, region))
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await anyio.sleep(0.01)
        self.at_once -= 1
        if project_id in self.broken:
            raise CloudError(f"listing {project_id}: no")
        found = {f"{project_id}-c": cluster(f"{project_id}-c")}
        if project_id in self.partial:
            raise IncompleteError(f"listing {project_id}: 1 of 2 clusters are missing", found)
        return found


def test_each_project_is_read_once_and_a_few_at_a_time() -> None:
    """Whatever the number of targets, a project costs one list; one that fails stops nobody."""
    targets = [
        Target(project_id=f"p{number % 20}", cluster_id=f"c{number}", region="r")
        for number in range(100)
    ]
    service = Projects(broken=frozenset({"p3", "p7"}))

    async def story() -> Survey:
        return await survey_fleet(targets, service, lambda: 5.0, at_once=4)

    survey = anyio.run(story)
    assert sorted(service.asked) == sorted((f"p{number}", "r") for number in range(20))
    assert service.most_at_once == 4
    assert survey.unread == {"p3": "listing p3: no", "p7": "listing p7: no"}
    assert len(survey.listings) == 18
    assert survey.listings["p0"].began_at == 5.0
    assert survey.sights()["p0"].states == {"p0-c": READY}
    assert len(survey.sights()) == 18


def test_a_list_that_has_all_targets_is_enough() -> None:
    """What else a list lacks concerns nobody; one that lacks a target was not read."""
    targets = [
        Target(project_id="p1", cluster_id="p1-c"),
        Target(project_id="p2", cluster_id="p2-c"),
        Target(project_id="p2", cluster_id="another"),
    ]
    service = Projects(partial=frozenset({"p1", "p2"}))

    async def story() -> Survey:
        return await survey_fleet(targets, service, lambda: 5.0)

    survey = anyio.run(story)
    assert list(survey.listings) == ["p1"]
    assert survey.unread == {"p2": "listing p2: 1 of 2 clusters are missing"}


# --------------------------------------------------------------------------------- the first looks


@pytest.mark.parametrize(("age", "starts"), [(0.0, True), (9.9, True), (10.1, False)])
def test_what_was_found_serves_as_the_first_looks_while_it_is_fresh(
    age: float, *, starts: bool
) -> None:
    """Agreed to within ten seconds, restarts need no second list; after that they do."""
    plan = make_plan([target()], Policy())
    campaign = Campaign("run", plan)
    sight = Sight(began_at=1000.0 - age, states={"c": READY})
    _show_to(campaign, {"p": sight}, 1000.0)
    campaign.apply(WaveOpened(at=1000.0, wave=0))
    command = next(campaign.due(1000.0))
    assert isinstance(command, Restart if starts else Look)
