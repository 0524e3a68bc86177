"""The pretend service: behaviour over time, faults, scenarios, and the cloud without a wire."""

import io
import json
import math
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import anyio
import pytest

from orchestrator.css import answers
from orchestrator.errors import CloudError, ConfigError, GoneError
from orchestrator.fleet import read_fleet
from orchestrator.model import Call, ClusterState, Kind, Target, Verdict
from orchestrator.simulator import Record, Scenario, Service, invent_targets, judge, parse_scenario
from orchestrator.simulator.draws import Luck, draw
from orchestrator.simulator.memory import MemoryCloud
from orchestrator.simulator.replies import Hang, Reply, Sever
from orchestrator.simulator.scenario import Fault, load_scenario
from orchestrator.simulator.service import Ask, Done, Handling, Reading
from orchestrator.simulator.trace import What

CONFIG = Path(__file__).parent.parent / "config"
SURE = '[restart]\nduration = "10s"\nbusy_after = "1s"\nrolling_node = "5s"\n'
HEX = frozenset("0123456789abcdef")


def target(cluster_id: str = "c1", kind: str = "restart", **more: Any) -> Target:
    return Target(project_id="p1", cluster_id=cluster_id, kind=Kind.parse(kind), **more)


def service(*targets: Target, scenario: str = "", seed: int = 0) -> Service:
    return Service(targets or (target(),), parse_scenario(SURE + scenario), seed)


def restart(
    service: Service,
    at: float = 0.0,
    cluster_id: str = "c1",
    call: Call = Call.RESTART,
    **part: Any,
) -> tuple[Handling, Done]:
    body = json.dumps(part).encode() if part else b""
    ask = Ask(call=call, project_id="p1", cluster_id=cluster_id, request_id="r" * 32, body=body)
    handling = service.receive(ask, at)
    return handling, service.execute(handling, at + handling.wait_before_s)


def reply_of(done: Done) -> Reply:
    assert isinstance(done.ending, Reply)
    return done.ending


def read(
    service: Service, at: float = 0.0, cluster_id: str = "", **query: Any
) -> tuple[int, dict[str, Any]]:
    call = Reading.DETAIL if cluster_id else Reading.LIST
    ask = Ask(call=call, project_id="p1", cluster_id=cluster_id, request_id="r", query=query)
    reply = reply_of(service.execute(service.receive(ask, at), at))
    return reply.status, json.loads(reply.body)


def state(service: Service, at: float, cluster_id: str = "c1") -> ClusterState:
    return answers.read_cluster(read(service, at, cluster_id)[1])[1]


# ------------------------------------------------------------------------------- a good restart


def test_a_restart_is_hidden_then_busy_then_ready() -> None:
    """What a look shows follows from the execution: baseline, busy, baseline again."""
    pretend = service()
    baseline = state(pretend, 0.0)
    _, done = restart(pretend, at=5.0)
    assert done.begun is not None
    assert done.begun.over_at == done.begun.ready_at == 16.0
    assert baseline.is_ready
    assert state(pretend, 5.9).is_exactly(baseline)
    assert state(pretend, 6.0).is_busy
    assert state(pretend, 15.9).actions == ("REBOOTING",)
    assert state(pretend, 16.0).is_exactly(baseline)


@pytest.mark.parametrize(
    ("form", "expected"), [("list", 1), ("string", 1), ("empty", 0), ("object", 0)]
)
def test_every_documented_answer_is_an_acceptance(form: str, expected: int) -> None:
    """The answer of v1.0 comes as list, string, nothing or an empty object; ids are 32 hex."""
    pretend = service(target("c1"), target("c2"), scenario=f'answer = "{form}"\n')
    ids: list[str] = []
    for cluster_id in ("c1", "c2"):
        reply = reply_of(restart(pretend, cluster_id=cluster_id)[1])
        answer = answers.read_answer(
            reply.status, {}, reply.body, sent_at=0.0, answered_at=1.0, request_id="r"
        )
        assert answer.verdict is Verdict.ACCEPTED
        assert answer.job_ids == reply.job_ids
        ids += answer.job_ids
    assert len(set(ids)) == 2 * expected
    assert all(len(one) == 32 and set(one) <= HEX for one in ids)


@pytest.mark.parametrize("signs", ["all", "status", "actions", "instances"])
def test_each_sign_alone_shows_a_restart(signs: str) -> None:
    """A restart can show as status, as an action or on its nodes, and only there."""
    pretend = service(scenario=f'signs = "{signs}"\n')
    restart(pretend)
    seen = state(pretend, 5.0)
    assert seen.is_busy
    assert (seen.status == "100") == (signs in {"all", "status"})
    assert bool(seen.actions) == (signs in {"all", "actions"})
    assert any(status == "100" for _, status in seen.instances) == (signs in {"all", "instances"})


def test_a_rolling_restart_takes_one_node_after_the_other() -> None:
    """At any moment of a rolling restart exactly one node is down, each in its turn."""
    pretend = service(target(kind="rolling"))
    _, done = restart(pretend, call=Call.ROLLING, type="role", value="all")
    assert done.begun is not None
    assert done.begun.over_at == 16.0
    down = []
    for at in (1.0, 6.0, 11.0):
        busy = [node for node, status in state(pretend, at).instances if status == "100"]
        assert len(busy) == 1
        down += busy
    assert len(set(down)) == 3
    assert reply_of(done).body == b""


def test_a_role_restart_takes_the_nodes_of_that_role() -> None:
    """The v2.0 restart takes down the named roles, or one node."""
    masters = target(kind="restart:ess,ess-master")
    pretend = service(masters, target("c2", kind="restart:node=n-7"))
    restart(pretend, call=Call.RESTART_PART, type="role", value="ess-master")
    assert Counter(status for _, status in state(pretend, 2.0).instances) == {"100": 3, "200": 3}
    restart(pretend, cluster_id="c2", call=Call.RESTART_PART, type="node", value="n-7")
    assert dict(state(pretend, 2.0, "c2").instances)["n-7"] == "100"


# ------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("kind", "call", "part", "status", "code"),
    [
        ("restart", Call.RESTART, {"cluster_id": "gone"}, 403, "CSS.0015"),
        ("reboot", Call.RESTART, {}, 415, "CSS.0004"),
        ("restart", Call.REBOOT, {}, 400, "CSS.5106"),
        ("restart", Call.RESTART_PART, {}, 400, "CSS.0006"),
        ("restart", Call.RESTART_PART, {"type": "role"}, 400, "CSS.0001"),
        ("restart", Call.RESTART_PART, {"type": "x", "value": "ess"}, 400, "CSS.0001"),
        ("restart", Call.RESTART_PART, {"type": "node", "value": "n"}, 400, "CSS.0001"),
        ("restart", Call.RESTART_PART, {"type": "role", "value": "lgs"}, 400, "CSS.0076"),
        ("rolling:ess-master", Call.ROLLING, {"type": "role", "value": "ess-master"}, 400,
         "CSS.5167"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_and_starts_nothing(
    kind: str, call: Call, part: dict[str, Any], status: int, code: str
) -> None:
    """A call that does not fit its cluster gets the documented code, and nothing restarts."""
    pretend = service(target(kind=kind))
    _, done = restart(pretend, call=call, **part)
    assert (done.status, done.code) == (status, code)
    assert done.begun is None
    assert state(pretend, 2.0).is_ready


def test_a_body_that_is_no_json_is_refused() -> None:
    """The v2.0 calls refuse what they cannot read."""
    ask = Ask(call=Call.ROLLING, project_id="p1", cluster_id="c1", request_id="r", body=b"{")
    pretend = service()
    assert pretend.execute(pretend.receive(ask, 0.0), 0.0).code == "CSS.0001"


def test_a_rolling_restart_needs_three_nodes() -> None:
    """Two nodes are too few to roll; three are enough."""
    for nodes, code in (("2", "CSS.0074"), ("3", None)):
        pretend = service(target(labels=(("nodes", nodes),)))
        assert restart(pretend, call=Call.ROLLING, type="role", value="ess")[1].code == code


@pytest.mark.parametrize("status", [202, 409])
def test_a_busy_cluster_refuses_a_second_restart_even_unseen(status: int) -> None:
    """While a restart runs, shown or not, another gets CSS.0011 and nothing more begins."""
    pretend = service(scenario=f"busy_status = {status}\n")
    restart(pretend, at=0.0)
    for at in (0.5, 10.9):
        _, done = restart(pretend, at=at)
        assert (done.status, done.code, done.begun) == (status, "CSS.0011", None)
    assert restart(pretend, at=11.0)[1].begun is not None


def test_a_logstash_cluster_reboots_whole() -> None:
    """The v1.0 reboot takes all nodes of a Logstash cluster."""
    pretend = service(target(kind="reboot"))
    assert restart(pretend, call=Call.REBOOT)[1].begun is not None
    seen = state(pretend, 2.0)
    assert seen.datastore is not None
    assert "logstash" in seen.datastore
    assert {status for _, status in seen.instances} == {"100"}


# -------------------------------------------------------------------------------- ends, beginnings


def test_a_failed_restart_leaves_a_reason_and_can_be_repaired() -> None:
    """A restart that fails leaves 303 with CSS.6002; the next one may heal the cluster."""
    pretend = service(scenario='end = "failed"\n')
    baseline = state(pretend, 0.0)
    _, done = restart(pretend)
    assert done.begun is not None
    assert done.begun.ready_at is None
    seen = state(pretend, 11.0)
    assert seen.shows_failure(baseline)
    assert "CSS.6002" in str(seen.failed_reason)
    restart(pretend, at=12.0)
    assert state(pretend, 12.5).failed_reason == seen.failed_reason
    assert state(pretend, 14.0).is_busy


def test_a_stuck_restart_never_ends() -> None:
    """A stuck cluster is busy for ever."""
    pretend = service(scenario='end = "stuck"\n')
    _, done = restart(pretend)
    assert done.begun is not None
    assert math.isinf(done.begun.over_at)
    assert state(pretend, 1e9).is_busy


def test_a_vanished_cluster_is_neither_listed_nor_shown() -> None:
    """A cluster that vanishes gives CSS.0015, and is missing from the list."""
    pretend = service(scenario='end = "vanished"\n')
    restart(pretend)
    assert read(pretend, 10.0)[1]["totalSize"] == 1
    assert read(pretend, 11.0)[1] == {"totalSize": 0, "clusters": []}
    status, content = read(pretend, 11.0, "c1")
    assert (status, content["errCode"]) == (403, "CSS.0015")


def test_clusters_begin_as_the_scenario_says() -> None:
    """At first a cluster can be idle, busy, unhealthy or absent; an unhealthy one can be healed."""
    pretend = service(
        *(target(name) for name in ("idle", "busy", "unhealthy", "absent")),
        scenario="".join(
            f'[[cluster]]\nmatch = "{name}"\nstate = {{initial = "{name}"}}\n'
            for name in ("busy", "unhealthy", "absent")
        ),
    )
    assert state(pretend, 0.0, "idle").is_ready
    assert state(pretend, 0.0, "busy").is_busy
    assert state(pretend, 0.0, "unhealthy").is_down
    assert read(pretend, 0.0, "absent")[0] == 403
    assert restart(pretend, cluster_id="busy")[1].code == "CSS.0011"
    assert restart(pretend, cluster_id="absent")[1].code == "CSS.0015"
    restart(pretend, cluster_id="unhealthy")
    assert state(pretend, 20.0, "unhealthy").is_ready


# ----------------------------------------------------------------------------------------- lists


def test_a_list_pages_newest_first_by_start_or_offset() -> None:
    """`start` and `offset` mean the same, ten a page without a limit, the newest creation first."""
    pretend = service(*(target(f"c{number}") for number in range(25)))
    ids = [one["id"] for one in read(pretend)[1]["clusters"]]
    assert ids == [f"c{number}" for number in range(24, 14, -1)]
    for name in ("start", "offset"):
        query: dict[str, Any] = {name: "21", "limit": "1000"}
        status, content = read(pretend, **query)
        assert (status, content["totalSize"]) == (200, 25)
        assert [one["id"] for one in content["clusters"]] == ["c4", "c3", "c2", "c1", "c0"]
    created = [one["created"] for one in read(pretend, limit="1000")[1]["clusters"]]
    assert created == sorted(created, reverse=True)
    assert read(pretend, start="26")[1]["clusters"] == []


@pytest.mark.parametrize(
    "query",
    [{"limit": "1001"}, {"limit": "0"}, {"limit": "x"}, {"start": "0"}, {"datastoreType": "sql"}],
)
def test_a_list_out_of_range_is_refused(query: dict[str, Any]) -> None:
    """Pages beyond 1,000, indexes below 1 and unknown types give 400."""
    assert read(service(), **query)[0] == 400


def test_a_list_shows_what_the_details_show() -> None:
    """However lists are put together, each shows every cluster as it is at that moment."""
    pretend = service(*(target(f"c{number}") for number in range(4)))
    for step in range(120):
        at = step * 0.25
        if step % 25 == 3:
            restart(pretend, at, f"c{step // 25 % 4}")
        listed = read(pretend, at, limit="1000")[1]["clusters"]
        assert listed == [read(pretend, at, f"c{number}")[1] for number in (3, 2, 1, 0)], at


def test_the_same_key_is_the_same_luck() -> None:
    """What a key draws is the same for ever, whether it is written in one piece or in two."""
    assert Luck(7, "p1", "c1").draw("call", 2) == draw(7, "p1", "c1", "call", 2)
    assert draw(7, "p1", "c1", "call", 2)[0] == 0.5671057026467161
    assert Luck(7, "p1", "c1").draw("call", 3) != draw(7, "p1", "c1", "call", 2)


def test_a_list_filters_by_datastore() -> None:
    """`datastoreType` picks clusters of that type only."""
    pretend = service(
        target("c1"),
        target("c2", kind="reboot"),
        target("c3", labels=(("datastore", "opensearch"),)),
    )
    for datastore, ids in (("elasticsearch", ["c1"]), ("logstash", ["c2"]), ("opensearch", ["c3"])):
        content = read(pretend, datastoreType=datastore)[1]
        assert [one["id"] for one in content["clusters"]] == ids


def test_legacy_lists_have_old_names() -> None:
    """In legacy mode there is no totalSize, and fields have their older spellings."""
    pretend = service(scenario='[state]\nlegacy = true\ninitial = "unhealthy"\n')
    content = read(pretend)[1]
    assert set(content) == {"clusters"}
    cluster = content["clusters"][0]
    assert cluster["failed_reasons"]["error_code"]
    assert "failedReason" not in cluster
    assert cluster["period"] == "false"
    assert answers.read_cluster(cluster)[1].failed_reason


def test_one_cluster_under_another_project_is_not_found() -> None:
    """A cluster is known in its own project only, and an unknown project is empty."""
    pretend = service()
    ask = Ask(call=Call.RESTART, project_id="p2", cluster_id="c1", request_id="r")
    assert pretend.execute(pretend.receive(ask, 0.0), 0.0).code == "CSS.0015"
    ask = Ask(call=Reading.LIST, project_id="p2", request_id="r")
    reply = reply_of(pretend.execute(pretend.receive(ask, 0.0), 0.0))
    assert json.loads(reply.body)["totalSize"] == 0


# ---------------------------------------------------------------------------------------- faults


@pytest.mark.parametrize("fault", list(Fault))
def test_a_fault_executes_or_not_as_its_name_says(fault: Fault) -> None:
    """What is lost after executing restarts all the same; what is lost before does not."""
    pretend = service(scenario=f"[faults]\n{fault.value} = 1.0\n")
    handling, done = restart(pretend)
    assert handling.executes == fault.executes == (done.begun is not None)
    assert state(pretend, 2.0).is_busy == fault.executes
    if "reset" in fault.value:
        assert isinstance(done.ending, Sever)
    elif "hang" in fault.value:
        assert isinstance(done.ending, Hang)
    else:
        reply = reply_of(done)
        assert reply.is_cut == (fault is Fault.CUT_BODY)
        assert (reply.over_s > 0) == (fault is Fault.SLOW_BODY)


@pytest.mark.parametrize("fault", [fault for fault in Fault if fault.executes])
def test_no_reader_takes_an_executed_call_for_one_that_never_began(fault: Fault) -> None:
    """The shapes of lost answers are such that a correct client cannot believe nothing began."""
    reply = restart(service(scenario=f"[faults]\n{fault.value} = 1.0\n"))[1].ending
    if isinstance(reply, Reply):
        answer = answers.read_answer(
            reply.status, {}, reply.body, sent_at=0.0, answered_at=1.0, request_id="r"
        )
        assert not answer.verdict.gives_back


@pytest.mark.parametrize(
    ("fault", "verdict"),
    [
        (Fault.REFUSED, Verdict.REFUSED),
        (Fault.THROTTLED, Verdict.THROTTLED),
        (Fault.BUSY, Verdict.BUSY),
        (Fault.UNAUTHORIZED, Verdict.UNAUTHORIZED),
    ],
)
def test_refusals_are_read_as_what_they_are(fault: Fault, verdict: Verdict) -> None:
    """The bodies of refusals have the shapes that the real client knows."""
    reply = reply_of(restart(service(scenario=f"[faults]\n{fault.value} = 1.0\n"))[1])
    answer = answers.read_answer(
        reply.status, {}, reply.body, sent_at=0.0, answered_at=1.0, request_id="r"
    )
    assert answer.verdict is verdict
    assert answer.error is not None
    assert answer.error.code == reply.code


def test_a_throttled_call_says_how_long_to_wait() -> None:
    """A 429 carries the limit in its message, and Retry-After when the scenario wants it."""
    reply = reply_of(restart(service(scenario="[faults]\nthrottled = 1.0\n"))[1])
    assert reply.headers == ()
    assert b"limit:10,time:1 minute" in reply.body
    scenario = '[faults]\nthrottled = 1.0\nretry_after = "1500ms"\nthrottled_limit = ""\n'
    reply = reply_of(restart(service(scenario=scenario))[1])
    assert reply.headers == (("Retry-After", "2"),)
    assert b"limit:" not in reply.body


def test_a_fault_of_the_first_calls_lets_later_ones_through() -> None:
    """With `first = 2` the third call succeeds."""
    pretend = service(scenario="[faults]\nerror_502_before = {rate = 1.0, first = 2}\n")
    assert [restart(pretend)[1].status for _ in range(3)] == [502, 502, 200]


def test_ends_come_in_their_shares() -> None:
    """A choice given as shares is drawn for every restart anew; the rest goes to the default."""
    pretend = service(
        *(target(f"c{number}") for number in range(2000)),
        scenario="end = {failed = 0.3, stuck = 0.1}\n",
    )
    ends: Counter[str] = Counter()
    for number in range(2000):
        begun = restart(pretend, cluster_id=f"c{number}")[1].begun
        assert begun is not None
        stuck = math.isinf(begun.over_at)
        ends["stuck" if stuck else "failed" if begun.ready_at is None else "ready"] += 1
    assert 520 < ends["failed"] < 680
    assert 140 < ends["stuck"] < 260


def test_luck_depends_on_the_cluster_alone_not_on_the_order() -> None:
    """The same seed gives every cluster the same faults and latencies in any order of calls."""
    scenario = "[faults]\nrefused = 0.3\nhang_after = 0.3\n[latency]\nbefore = ['0s', '1s']\n"
    targets = [target(f"c{number}") for number in range(50)]

    def luck(order: list[Target], seed: int) -> dict[str, tuple[object, float]]:
        pretend = service(*targets, scenario=scenario, seed=seed)
        handled = [restart(pretend, cluster_id=one.cluster_id)[0] for one in order]
        return {one.ask.cluster_id: (one.fault, one.wait_before_s) for one in handled}

    assert luck(targets, 1) == luck(targets[::-1], 1)
    assert luck(targets, 1) != luck(targets, 2)


def test_rates_of_faults_are_shares_of_the_calls() -> None:
    """Of many clusters about the given share meets each fault."""
    pretend = service(
        *(target(f"c{number}") for number in range(4000)),
        scenario="[faults]\nrefused = 0.05\nreset_after = 0.2\n",
    )
    met = Counter(restart(pretend, cluster_id=f"c{number}")[0].fault for number in range(4000))
    assert 140 < met[Fault.REFUSED] < 260
    assert 680 < met[Fault.RESET_AFTER] < 920


def test_the_account_may_make_so_many_writes_in_any_minute() -> None:
    """Beyond `writes_per_minute` a call gets 429 and starts nothing, until the window rolled on."""
    pretend = service(
        *(target(f"c{number}") for number in range(4)),
        scenario="[throttle]\nwrites_per_minute = 2\n",
    )
    met = [restart(pretend, at, f"c{at:.0f}")[1] for at in (0.0, 1.0, 2.0)]
    assert [done.status for done in met] == [200, 200, 429]
    assert b"limit:2,time:1 minute" in reply_of(met[2]).body
    assert restart(pretend, 59.9, "c2")[1].status == 429
    assert restart(pretend, 60.0, "c2")[1].status == 200
    assert restart(pretend, 60.5, "c3")[1].status == 429


def test_accounts_are_counted_apart() -> None:
    """A project of another account has a limit of its own, for restarts and for looks."""
    scenario = """
        [throttle]
        writes = "1/6s"
        [[throttle.account]]
        match = "q*"
        writes = "2/90s"
        reads = "1/2h"
        [[throttle.account]]
        match = "r"
    """
    targets = [
        Target(project_id=project, cluster_id=f"{project}c{number}")
        for project in ("p", "q1", "q2", "r")
        for number in range(3)
    ]
    pretend = service(*targets, scenario=scenario)

    def ask(call: Call | Reading, project_id: str, number: int, at: float = 0.0) -> Reply:
        cluster_id = "" if call is Reading.LIST else f"{project_id}c{number}"
        one = Ask(call=call, project_id=project_id, cluster_id=cluster_id, request_id="r")
        return reply_of(pretend.execute(pretend.receive(one, at), at))

    assert [ask(Call.RESTART, "p", n).status for n in range(2)] == [200, 429]
    shared = [ask(Call.RESTART, project, n).status for n, project in enumerate(("q1", "q2", "q2"))]
    assert shared == [200, 200, 429]
    assert [ask(Call.RESTART, "r", n).status for n in range(3)] == [200] * 3
    assert b"limit:1,time:6 second" in ask(Call.RESTART, "p", 2, 5.9).body
    assert ask(Call.RESTART, "p", 2, 6.0).status == 200
    assert b"limit:2,time:90 second" in ask(Call.RESTART, "q1", 1, 6.0).body
    assert ask(Reading.LIST, "q1", 0, 7.0).status == 200
    assert b"limit:1,time:2 hour" in ask(Reading.DETAIL, "q2", 0, 8.0).body


def test_looks_meet_faults_of_their_own() -> None:
    """Lists and details can be throttled, broken or reset."""
    for name, status in (("throttled", 429), ("error", 500), ("reset", None)):
        pretend = service(scenario=f"[reads]\n{name} = 1.0\n")
        for cluster_id in ("", "c1"):
            call = Reading.DETAIL if cluster_id else Reading.LIST
            ask = Ask(call=call, project_id="p1", cluster_id=cluster_id, request_id="r")
            done = pretend.execute(pretend.receive(ask, 0.0), 0.0)
            assert done.status == status
            assert isinstance(done.ending, Sever) == (name == "reset")


# ------------------------------------------------------------------------------------- scenarios


def test_an_override_changes_only_what_it_names_for_whom_it_names() -> None:
    """Overrides match by id, by glob of project/cluster or by name; the last one wins."""
    scenario = parse_scenario(
        """
        [restart]
        duration = "1s"
        [faults]
        refused = 0.25
        [[cluster]]
        match = "p1/c*"
        restart = {duration = "2s", end = {failed = 0.5}}
        [[cluster]]
        match = "c2"
        restart = {duration = "3s"}
        faults = {hang_before = 1.0}
        [[cluster]]
        match = "billing-*"
        state = {legacy = true}
        """
    )

    def behaviour(one: Target) -> Any:
        return scenario.behaviour(scenario.matching(one))

    assert behaviour(target("x1")).duration.low == 1.0
    assert behaviour(target("c1")).duration.low == 2.0
    assert behaviour(target("c2")).duration.low == 3.0
    assert behaviour(target("c2")).end == behaviour(target("c1")).end
    assert [rate.rate for rate in behaviour(target("c2")).faults] == [1.0, 0.25]
    assert behaviour(target("x1", name="billing-eu")).legacy
    assert not behaviour(target("x1", name="orders-eu")).legacy


def test_every_mistake_is_named_at_once() -> None:
    """All mistakes come in one error; unknown keys name the nearest one."""
    with pytest.raises(ConfigError) as caught:
        parse_scenario(
            """
            latncy = 1
            state = 3
            [latency]
            before = "soon"
            after = ["2s", "1s"]
            read = 5
            [restart]
            durations = "1s"
            end = {failed = 0.9, stuck = 0.2}
            signs = "smoke"
            busy_status = 500
            [faults]
            refused = 2
            throttled = {first = 1}
            busy = {rate = 1.0, first = 0}
            reset_after = 0.7
            hang_after = 0.7
            refused_code = 1
            [throttle]
            writes_per_minute = 0
            reads = "project=1/6s"
            [[throttle.account]]
            writes = "many"
            [[cluster]]
            match = ""
            [[cluster]]
            match = "c1"
            state = {legacy = "yes"}
            faults = 1
            """,
            "night.toml",
        )
    text = str(caught.value)
    assert "night.toml" in text
    for words in (
        "latncy: unknown; did you mean latency?",
        "state: must be a section",
        "[latency] before: 'soon' is not a span",
        "[latency] after: 2s is longer than 1s",
        "[latency] read: not a span",
        "[restart] durations: unknown; did you mean duration?",
        "[restart] end: the rates add up to 1.1",
        "[restart] signs: 'smoke' is not known; use all, status, actions or instances",
        "[restart] busy_status: 500",
        "[faults] refused: 2 is not a rate",
        "[faults] throttled: a fault is a rate",
        "[faults] busy: first = 0",
        "faults: the rates add up to 1.4",
        "[faults] refused_code: 1 is not text",
        "[throttle] writes_per_minute: 0",
        "[throttle] reads: 'project=1/6s' has a scope",
        "[[throttle.account]] 1 match: missing",
        "[[throttle.account]] 1 writes: 'many' is not a rate",
        "[[cluster]] 1 match: missing",
        "[[cluster]] 2 [state] legacy: 'yes' is not true or false",
        "[[cluster]] 2 faults: must be a section",
    ):
        assert words in text
    assert len(caught.value.mistakes) == 21


@pytest.mark.parametrize(
    "text", ["a = ", "throttle = 1", "throttle = {account = 1}", "cluster = 1", "cluster = [1]"]
)
def test_what_is_no_scenario_is_refused(text: str) -> None:
    """Broken TOML and sections of the wrong form are mistakes, not crashes."""
    with pytest.raises(ConfigError):
        parse_scenario(text)


def test_a_scenario_that_cannot_be_read_says_so(tmp_path: Path) -> None:
    """A missing file is a mistake of configuration."""
    with pytest.raises(ConfigError, match=r"night\.toml"):
        load_scenario(tmp_path / "night.toml")


def test_the_example_shows_every_key_with_its_default() -> None:
    """The commented example is the default scenario, and leaves no key out."""
    assert load_scenario(CONFIG / "scenario.example.toml") == Scenario()
    text = (CONFIG / "scenario.example.toml").read_text()
    assert all(f"\n{fault.value} = " in text for fault in Fault)


@pytest.mark.parametrize("seed", range(5))
def test_the_demo_shows_a_little_of_everything(seed: int) -> None:
    """With any seed the example fleet shows one refusal, one failure and three throttles."""
    targets = read_fleet([str(CONFIG / "fleet.example.csv")], stdin=io.StringIO()).targets
    pretend = Service(targets, load_scenario(CONFIG / "demo-scenario.toml"), seed)
    met: Counter[object] = Counter()
    for one in targets:
        for _ in range(2):
            ask = Ask(
                call=Call.RESTART,
                project_id=one.project_id,
                cluster_id=one.cluster_id,
                request_id="r",
            )
            handling = pretend.receive(ask, 0.0)
            assert 0.05 <= handling.wait_before_s + handling.wait_after_s <= 0.2
            done = pretend.execute(handling, 0.0)
            met[done.status] += 1
            met["failed"] += done.begun is not None and done.begun.ready_at is None
            if done.status != 429:
                break
    assert met == {200: 23, 400: 1, 429: 3, "failed": 1}


def test_an_invented_fleet_is_spread_evenly_and_repeatable() -> None:
    """The same seed invents the same fleet; ids are unique and projects equally large."""
    fleet = invent_targets(30, projects=3, seed=4)
    assert fleet == invent_targets(30, projects=3, seed=4)
    assert fleet != invent_targets(30, projects=3, seed=5)
    assert len({one.cluster_id for one in fleet}) == len({one.name for one in fleet}) == 30
    assert set(Counter(one.project_id for one in fleet).values()) == {10}
    with pytest.raises(ValueError, match="at least 1"):
        invent_targets(0)


# -------------------------------------------------------------------------- the cloud without wire

QUICK = """
[restart]
duration = "80ms"
busy_after = "20ms"
"""


class Run:
    """A cloud in memory over a loop's own time, and everything it recorded."""

    def __init__(self, *targets: Target, scenario: str = "", patience: float = 0.2) -> None:
        self.trace: list[Record] = []
        self.targets = targets or (target(),)
        self.cloud = MemoryCloud(
            Service(self.targets, parse_scenario(QUICK + scenario)),
            answers,
            now=anyio.current_time,
            patience=patience,
            trace=self.trace.append,
        )

    def whats(self) -> list[What]:
        return [record.what for record in self.trace]


def test_memory_restarts_and_shows_what_the_wire_would() -> None:
    """A restart in memory is answered, seen busy and seen ready, in lists and details alike."""

    async def go() -> None:
        run = Run(target("c1"), target("c2"))
        baseline = await run.cloud.list_clusters("p1", None)
        answer = await run.cloud.restart(run.targets[0], "a" * 32)
        assert answer.verdict is Verdict.ACCEPTED
        assert len(answer.job_ids) == 1
        assert answer.request_id == "a" * 32
        await anyio.sleep(0.04)
        seen: Mapping[str, ClusterState] = await run.cloud.list_clusters("p1", None)
        assert seen["c1"].shows_begun(baseline["c1"])
        assert seen["c2"] == baseline["c2"] == await run.cloud.show_cluster(run.targets[1])
        assert (await run.cloud.show_cluster(run.targets[0])) == seen["c1"]
        await anyio.sleep(0.1)
        assert await run.cloud.list_clusters("p1", None) == baseline
        assert run.whats() == [What.RECEIVED, What.EXECUTED, What.ANSWERED]

    anyio.run(go)


@pytest.mark.parametrize("fault", ["reset_after", "hang_after", "cut_body", "slow_body"])
def test_memory_says_lost_when_no_whole_answer_comes(fault: str) -> None:
    """Without a whole answer in time the verdict is lost, and the restart is seen all the same."""

    async def go() -> None:
        run = Run(scenario=f"[faults]\n{fault} = 1.0\n", patience=0.04)
        answer = await run.cloud.restart(run.targets[0], "r")
        assert answer.verdict is Verdict.LOST
        assert answer.job_ids == ()
        await anyio.sleep(0.03)
        seen = await run.cloud.show_cluster(run.targets[0])
        assert seen is not None
        assert seen.is_busy

    anyio.run(go)


def test_memory_executes_late_though_the_client_gave_up() -> None:
    """A call that takes longer than the client's patience is executed when its moment comes."""

    async def go() -> None:
        run = Run(scenario='[latency]\nbefore = "60ms"\n', patience=0.02)
        answer = await run.cloud.restart(run.targets[0], "r")
        assert answer.verdict is Verdict.LOST
        seen = await run.cloud.show_cluster(run.targets[0])
        assert seen is not None
        assert seen.is_ready
        await anyio.sleep(0.08)
        seen = await run.cloud.show_cluster(run.targets[0])
        assert seen is not None
        assert seen.is_busy
        assert run.whats() == [What.RECEIVED, What.LEFT, What.EXECUTED]
        assert run.trace[2].at - run.trace[0].at == pytest.approx(0.06)

    anyio.run(go)


def test_memory_executes_late_though_the_caller_was_cancelled() -> None:
    """Cancelling the caller does not take the call back."""

    async def go() -> None:
        run = Run(scenario='[latency]\nbefore = "40ms"\n')
        with anyio.move_on_after(0.01):
            await run.cloud.restart(run.targets[0], "r")
        run.cloud.settle()
        assert run.whats() == [What.RECEIVED, What.EXECUTED]

    anyio.run(go)


def test_memory_works_without_a_trace() -> None:
    """Nobody has to listen to the record."""

    async def go() -> None:
        cloud = MemoryCloud(service(), answers, now=anyio.current_time)
        assert (await cloud.restart(target(), "r")).verdict is Verdict.ACCEPTED

    anyio.run(go)


def test_memory_tells_refusals_and_missing_clusters() -> None:
    """A look that is refused raises with its status; a cluster that is not there is None."""

    async def go() -> None:
        run = Run(scenario='[state]\ninitial = "absent"\n')
        with pytest.raises(GoneError):
            await run.cloud.show_cluster(run.targets[0])
        assert await run.cloud.list_clusters("p1", None) == {}
        assert await run.cloud.list_clusters("p9", None) == {}
        answer = await run.cloud.restart(run.targets[0], "r")
        assert answer.verdict is Verdict.REFUSED
        for name, status in (("throttled", 429), ("error", 500), ("reset", None)):
            run = Run(scenario=f"[reads]\n{name} = 1.0\n")
            with pytest.raises(CloudError) as caught:
                await run.cloud.list_clusters("p1", None)
            assert caught.value.status == status
        run = Run(scenario='[latency]\nread = "1h"\n', patience=0.01)
        with pytest.raises(CloudError, match="no answer"):
            await run.cloud.show_cluster(run.targets[0])

    anyio.run(go)


@pytest.mark.parametrize(
    "kind", ["restart", "restart:ess", "restart:node=n1", "rolling", "rolling:ess", "reboot"]
)
def test_memory_accepts_every_kind(kind: str) -> None:
    """Each kind of restart finds its call and its body, and the judge finds one restart."""

    async def go() -> None:
        run = Run(target(kind=kind))
        answer = await run.cloud.restart(run.targets[0], "r")
        assert answer.verdict is Verdict.ACCEPTED
        verdict = judge(run.trace, reported_job_ids=answer.job_ids)
        assert (verdict.restarts, verdict.broken) == (1, ())

    anyio.run(go)
