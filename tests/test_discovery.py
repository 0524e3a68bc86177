"""Clusters → a fleet: which of them, in which order, and under which words."""

import io
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.css.inventory import Cluster
from orchestrator.discovery import Choice, Condition, Discovery, Listed, discover
from orchestrator.errors import UsageError
from orchestrator.fleet import Format, read_fleet, write_fleet
from orchestrator.model import ClusterState, Target


def cluster(
    cluster_id: str,
    *,
    project: str = "p1",
    name: str | None = None,
    status: str = "200",
    datastore: str | None = "elasticsearch",
    version: str | None = None,
    **tags: str,
) -> Listed:
    return Listed(
        project_id=project,
        region="cn-north-4",
        cluster=Cluster(
            id=cluster_id,
            state=ClusterState(status=status, name=name, datastore=datastore),
            version=version,
            tags=tuple(sorted(tags.items())),
        ),
    )


def tagged(tags: Mapping[str, str], cluster_id: str = "c") -> Listed:
    state = ClusterState(status="200", datastore="elasticsearch")
    made = Cluster(id=cluster_id, state=state, tags=tuple(sorted(tags.items())))
    return Listed(project_id="p1", region=None, cluster=made)


def labels_of(found: Discovery) -> dict[str, str]:
    (target,) = found.targets
    return dict(target.labels)


def test_what_a_target_says() -> None:
    """A target has project, id, name and region, the tags as labels, and datastore and version."""
    found = discover(
        [cluster("c-1", name=" orders ", version="7.10.2", env="prod", tier="gold")], Choice()
    )
    assert found.warnings == found.misses == ()
    assert found.seen == {"p1": 1}
    assert found.targets == (
        Target(
            project_id="p1",
            cluster_id="c-1",
            name="orders",
            region="cn-north-4",
            labels=(
                ("datastore", "elasticsearch"),
                ("env", "prod"),
                ("tier", "gold"),
                ("version", "7.10.2"),
            ),
        ),
    )


def test_the_order_is_stable() -> None:
    """Targets come by project, then name, then id, in whatever order the service lists them."""
    listed = [
        cluster("c-2", project="p2", name="a"),
        cluster("c-9", name="b"),
        cluster("c-1", name="b"),
        cluster("c-5", name="a"),
        cluster("c-0"),
    ]
    wanted = ["c-0", "c-5", "c-1", "c-9", "c-2"]
    assert [target.cluster_id for target in discover(listed, Choice()).targets] == wanted
    assert discover(reversed(listed), Choice()) == discover(listed, Choice())


def test_logstash_is_rebooted() -> None:
    """A Logstash cluster gets the one kind of restart that it can have."""
    found = discover([cluster("c-1", datastore="logstash"), cluster("c-2")], Choice())
    assert [str(target.kind) for target in found.targets] == ["reboot", "restart"]


def test_tags_that_mean_something_else() -> None:
    """A tag whose key is a word of fleets gets a prefix, and that is told."""
    found = discover(
        [tagged({"wave": "2", "project": "shop", "datastore": "red", "env": "prod"})], Choice()
    )
    assert labels_of(found) == {
        "datastore": "elasticsearch",
        "env": "prod",
        "tag.datastore": "red",
        "tag.project": "shop",
        "tag.wave": "2",
    }
    assert len(found.warnings) == 3
    assert "the tag 'wave' is the label tag.wave" in found.warnings[-1]


def test_tags_that_no_label_can_be() -> None:
    """Keys and values that a fleet cannot hold are left out, and counted."""
    odd = {
        "team name": "x",
        "环境": "y",
        "k8s:app": "z",
        "ok": "a\x1bb",
        "empty": " ",
        "good": " v ",
    }
    found = discover([tagged(odd), tagged(odd, "d")], Choice())
    assert dict(found.targets[0].labels) == {"datastore": "elasticsearch", "good": "v"}
    assert len(found.warnings) == 4
    assert all("left out (2 clusters)" in warning for warning in found.warnings)
    assert "\x1b" not in "".join(found.warnings)


def test_a_prefix_that_is_taken() -> None:
    """A tag that has the prefixed name already keeps it."""
    found = discover([tagged({"wave": "2", "tag.wave": "own"})], Choice())
    assert labels_of(found)["tag.wave"] == "own"
    assert "cannot be called tag.wave" in found.warnings[0]


def test_names_and_ids_that_cannot_be_kept() -> None:
    """A name that cannot be printed is left out, and so is a cluster without a proper id."""
    found = discover([cluster("c-1", name="a\nb"), cluster("c/2")], Choice())
    assert [(target.cluster_id, target.name) for target in found.targets] == [("c-1", None)]
    assert found.seen == {"p1": 2}
    assert len(found.warnings) == 2


@pytest.mark.parametrize(
    ("where", "chosen"),
    [
        ("env=prod", "a"),
        ("env!=prod", "bc"),
        ("env=p*,stage", "ab"),
        ("env!=p*,stage", "c"),
        ("env=", "c"),
        ("env!=", "ab"),
        ("env=*", "abc"),
        ("env=?*", "ab"),
        ("env = PROD", ""),
        ("wave=1", "b"),
        ("tag.wave=1", "b"),
        ("name=css-*", "a"),
        ("version=7.10.*", "c"),
        ("datastore=opensearch", "b"),
        ("nothing=x", ""),
    ],
)
def test_conditions(where: str, chosen: str) -> None:
    """A condition compares a label or a tag with globs, exactly; an absent one is empty."""
    listed = [
        cluster("a", name="css-a", env="prod"),
        cluster("b", env="stage", wave="1", datastore="opensearch"),
        cluster("c", version="7.10.2"),
    ]
    found = discover(listed, Choice(where=(Condition.parse(where),)))
    assert {target.cluster_id for target in found.targets} == set(chosen)
    assert str(Condition.parse(where)) == where.replace(" ", "")


@pytest.mark.parametrize("text", ["", "env", "=prod", "!=x", "  "])
def test_conditions_that_are_none(text: str) -> None:
    """What is no condition is told, with how to write one."""
    with pytest.raises(UsageError, match="label=value"):
        Condition.parse(text)


def test_choosing_by_state_and_type() -> None:
    """Status and type choose too, and everything that is asked has to hold."""
    listed = [
        cluster("a", env="prod"),
        cluster("b", status="303", env="prod"),
        cluster("c", status="303", datastore="opensearch", env="prod"),
        cluster("d", status="303", datastore=None),
    ]
    choice = Choice(
        where=(Condition.parse("env=prod"), Condition.parse("env!=test")),
        statuses=frozenset({"303", "100"}),
        datastores=frozenset({"opensearch"}),
    )
    found = discover(listed, choice)
    assert [target.cluster_id for target in found.targets] == ["c"]
    assert found.misses == (
        "--status 100 303: 3 of 4 fit; there is 200, 303",
        "--type opensearch: 1 of 4 fit; there is elasticsearch, none, opensearch",
        "--where env=prod: 3 of 4 fit; there is nothing, prod",
        "--where env!=test: 4 of 4 fit; there is nothing, prod",
    )


def test_values_that_are_too_many_to_list() -> None:
    """What there is instead is shown in part, if there is much of it."""
    listed = [cluster(f"c{n}", env=f"e{n}") for n in range(20)]
    (miss,) = discover(listed, Choice(where=(Condition.parse("env=x"),))).misses
    assert miss.endswith("e17, …")


words = st.text(st.characters(codec="utf-8"), max_size=12)
keys = st.one_of(st.sampled_from(["wave", "name", "labels", "fleet", "version", "Region"]), words)


@given(
    st.dictionaries(keys, words, max_size=4),
    st.one_of(st.none(), words),
    st.sampled_from(["elasticsearch", "logstash", None]),
    st.sampled_from([Format.CSV, Format.JSON, Format.JSONL, Format.YAML]),
)
def test_a_discovery_is_read_back(
    tags: dict[str, str], name: str | None, datastore: str | None, format_: Format
) -> None:
    """Whatever tags and names there are, the fleet file is read back as it was written."""
    listed = [
        Listed(
            project_id="p",
            region=None,
            cluster=Cluster(
                id=f"c-{number}",
                state=ClusterState(status="200", name=name, datastore=datastore),
                tags=tuple(tags.items()) if number else (),
            ),
        )
        for number in range(2)
    ]
    targets = discover(listed, Choice()).targets
    text = io.BytesIO(write_fleet(targets, format_).encode())
    read = read_fleet(["-"], stdin=text, format_=format_)
    assert read.targets == targets
    assert read.collapsed == 0
