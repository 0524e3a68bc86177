"""What is read of a list besides the state of its clusters."""

import codecs
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.css.answers import read_listing
from orchestrator.css.inventory import Cluster, read_inventory
from orchestrator.css.usual import Node
from orchestrator.model import ClusterState
from orchestrator.simulator import Service, invent_targets, parse_scenario
from orchestrator.simulator.replies import Reply
from orchestrator.simulator.service import Ask, Reading

ENTRY = {
    "id": "c-1",
    "name": "css-logs-prod",
    "status": "100",
    "actions": ["REBOOTING"],
    "actionProgress": {},
    "enterpriseProjectId": "9f1f3d52",
    "datastore": {"type": "OpenSearch", "version": "2.19.0", "subVersion": "2.19.0_25.9.0"},
    "instances": [
        {"id": "n-2", "name": "esn-2", "type": "ess-master", "status": "200", "azCode": "cn-4b"},
        {"id": "n-1", "name": "esn-1", "type": "ess", "status": "100", "azCode": "cn-4a"},
    ],
    "backupAvailable": True,
    "tags": [{"key": "wave", "value": "2"}, {"key": "env", "value": "prod"}],
    "failedReason": {"errorCode": "CSS.6002", "errorMsg": "restart failed"},
}


def read(*entries: object, **page: object) -> list[Cluster]:
    found, _ = read_inventory(json.dumps({"clusters": entries, **page}).encode())
    assert [cluster_id for cluster_id, _ in found] == [cluster.id for _, cluster in found]
    return [cluster for _, cluster in found]


def test_all_that_a_list_says() -> None:
    """A cluster of a list has its state and all else that is asked of it before a run."""
    (cluster,) = read(ENTRY)
    assert cluster == Cluster(
        id="c-1",
        state=ClusterState(
            status="100",
            actions=("REBOOTING",),
            instances=(("n-1", "100"), ("n-2", "200")),
            failed_reason="CSS.6002: restart failed",
            datastore="opensearch",
            name="css-logs-prod",
        ),
        version="2.19.0",
        nodes=(
            Node(id="n-1", name="esn-1", status="100", role="ess", zone="cn-4a"),
            Node(id="n-2", name="esn-2", status="200", role="ess-master", zone="cn-4b"),
        ),
        tags=(("env", "prod"), ("wave", "2")),
        backup_available=True,
        enterprise_project_id="9f1f3d52",
    )
    assert (cluster.name, cluster.status, cluster.datastore) == (
        "css-logs-prod", "100", "opensearch",
    )  # fmt: skip
    assert cluster.roles == {"ess", "ess-master"}
    assert cluster.zones == {"cn-4a", "cn-4b"}


def test_what_an_older_service_leaves_out() -> None:
    """What is not said is None or empty, and a cluster without a status is still one."""
    (cluster,) = read({"id": "c-1"})
    assert cluster == Cluster(id="c-1", state=ClusterState(status="unknown"))
    assert cluster.roles == cluster.zones == frozenset()


@pytest.mark.parametrize(
    ("tags", "found"),
    [
        ([], ()),
        (None, ()),
        ("env=prod", ()),
        (
            [{"key": "env"}, {"key": "n", "value": 7}, {"value": "x"}, "y"],
            (("env", ""), ("n", "7")),
        ),
        ([{"key": "a", "value": "1"}, {"key": "a", "value": "2"}], (("a", "2"),)),
        ({"env": "prod"}, (("env", "prod"),)),
    ],
)
def test_tags_in_every_shape(tags: object, found: object) -> None:
    """Tags without a value are kept, what is no tag is left out, and a key is there once."""
    (cluster,) = read({**ENTRY, "tags": tags})
    assert cluster.tags == found


@pytest.mark.parametrize(
    ("said", "meant"),
    [(True, True), (False, False), ("true", True), ("False", False), (None, None), ("", None)],
)
def test_backups_in_words(said: object, meant: object) -> None:
    """Whether backups can be made is a truth, also where it is written as text."""
    (cluster,) = read({**ENTRY, "backupAvailable": said})
    assert cluster.backup_available is meant


def test_nodes_that_say_little() -> None:
    """A node without an id goes by its name or its place; what is no node is left out."""
    nodes = [{"name": "esn-1", "status": 200}, {"status": "303", "type": {}}, "esn-3"]
    (cluster,) = read({**ENTRY, "instances": nodes})
    assert cluster.nodes == (
        Node(id="esn-1", name="esn-1", status="200"),
        Node(id="node 2", status="303"),
    )


def test_a_page_that_is_none() -> None:
    """A page without clusters, and an entry without an id, are told in words."""
    assert read_inventory(b'{"clusters": [], "totalSize": 0}') == ([], 0)
    with pytest.raises(ValueError, match="no list of clusters"):
        read_inventory(b'{"errCode": "CSS.0001"}')
    with pytest.raises(ValueError, match="no id"):
        read({"name": "x"})
    with pytest.raises(ValueError, match="not a JSON object"):
        read("x")


_ODD = st.none() | st.booleans() | st.integers(-2, 300) | st.sampled_from(["", "a", "b", "true"])
_PARTS = {
    "enterpriseProjectId": _ODD,
    "enterprise_project_id": _ODD,
    "backupAvailable": st.booleans() | _ODD,
    "datastore": st.fixed_dictionaries({"type": st.just("css")}, optional={"version": _ODD}) | _ODD,
    "tags": st.lists(st.fixed_dictionaries({"key": _ODD}, optional={"value": _ODD})) | _ODD,
    "instances": st.lists(
        st.fixed_dictionaries(
            {"id": st.just("n") | _ODD, "status": st.just("200") | _ODD},
            optional={"type": _ODD, "azCode": _ODD, "name": _ODD},
        )
    )
    | _ODD,
}


@given(st.lists(st.fixed_dictionaries({}, optional=_PARTS), max_size=3))
def test_a_usual_page_reads_like_any_other(parts: list[dict[str, object]]) -> None:
    """The quick way for usual pages says the very same as the way for all of them."""
    entries = [{"id": "c", "status": "200", **part} for part in parts]
    body = json.dumps({"clusters": entries, "totalSize": len(entries)}).encode()
    # A byte order mark is nothing that the quick way knows.
    assert read_inventory(body) == read_inventory(codecs.BOM_UTF8 + body)


@pytest.mark.parametrize(
    "scenario",
    [
        "",
        "[state]\nlegacy = true\n",
        "[state]\ninitial = {unhealthy = 0.3, busy = 0.3, absent = 0.1}\n",
        "[state]\nlegacy = true\ninitial = {unhealthy = 0.3, busy = 0.3}\n",
    ],
)
def test_states_are_those_of_a_look(scenario: str) -> None:
    """What is found before a run can be compared with what is seen in it, to the last field."""
    targets = invent_targets(100)
    service = Service(targets, parse_scenario(scenario))
    query = {"limit": "1000"}
    ask = Ask(call=Reading.LIST, project_id=targets[0].project_id, request_id="r", query=query)
    reply = service.execute(service.receive(ask, 0.0), 0.0).ending
    assert isinstance(reply, Reply)
    found, seen = read_inventory(reply.body), read_listing(reply.body)
    assert [(key, cluster.state) for key, cluster in found[0]] == seen[0]
    assert found[1] == seen[1]
    assert len(seen[0]) > 80
