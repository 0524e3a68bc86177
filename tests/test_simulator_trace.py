"""The service's record, and the judge of it against a naive count."""

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.limits import Concurrency, Rate
from orchestrator.simulator import Record, TraceFile, judge, read_trace
from orchestrator.simulator.trace import What, most_at_once

SENTENCE = (
    "3 restarts were executed within one interval in project p1; the limit project=2/20s allows 2"
)


def executed(at: float, cluster_id: str, over_at: float | None, project: str = "p1") -> Record:
    return Record(
        at=at,
        what=What.EXECUTED,
        call="restart",
        project_id=project,
        cluster_id=cluster_id,
        over_at=over_at,
        ready_at=over_at,
        job_ids=(f"job-{cluster_id}",),
    )


def answered(cluster_id: str, *job_ids: str) -> Record:
    return Record(
        at=1.0,
        what=What.ANSWERED,
        call="restart",
        project_id="p1",
        cluster_id=cluster_id,
        status=200,
        job_ids=job_ids,
    )


def test_records_survive_the_file(tmp_path: Path) -> None:
    """What was appended is read back; a line torn by a kill is left out, others must be whole."""
    path = tmp_path / "trace.jsonl"
    records = [executed(1.5, "c1", None), answered("c1", "j1"), executed(2.5, "c2", 9.0)]
    with TraceFile(path) as trace:
        for record in records[:2]:
            trace(record)
        assert list(read_trace(path)) == records[:2]
    with TraceFile(path) as trace:
        trace(records[2])
    assert list(read_trace(path)) == records
    assert '"over_at": null, "ready_at": null' in path.read_text()
    path.write_text(path.read_text() + '{"at": 1')
    assert list(read_trace(path)) == records
    path.write_text('{"at": 1.0}\n')
    with pytest.raises(ValueError, match="not a record"):
        list(read_trace(path))


def test_a_run_within_its_limits_breaks_nothing() -> None:
    """What is back makes room at that very moment, and N+1 restarts more than T apart are fine."""
    trace = [executed(0.0, "c1", 10.0), executed(10.0, "c2", 20.0), executed(20.001, "c3", None)]
    verdict = judge(trace, concurrency=[Concurrency(1)], rates=[Rate(2, 20.0)])
    assert verdict.broken == ()
    assert verdict.most_at_once == {("1", ""): 1}
    assert verdict.most_per_window == {("2/20s", ""): 2}
    assert verdict.restarts == 3


def test_every_broken_promise_has_its_sentence() -> None:
    """Too many at once, too many per window, twice and lost: each is named with what was seen."""
    trace = [
        executed(0.0, "c1", 10.0),
        executed(1.0, "c2", None),
        executed(20.0, "c1", 30.0),
        answered("c1", "known"),
        answered("c2", "lost"),
    ]
    verdict = judge(
        trace,
        concurrency=[Concurrency(1)],
        rates=[Rate(2, 20.0, "project")],
        reported_job_ids={"known"},
    )
    assert verdict.twice == (("p1", "c1"),)
    assert verdict.lost_job_ids == ("lost",)
    assert verdict.broken == (
        "2 clusters were down at once; the limit 1 allows 1",
        SENTENCE,
        "cluster p1/c1 was restarted more than once",
        "job id lost was answered, but not reported",
    )
    assert judge(trace, allowed_twice=[("p1", "c1")]).broken == ()


def test_a_restart_that_never_ends_counts_until_given_up() -> None:
    """A stuck cluster holds its place for ever, or until the run was allowed to give it up."""
    trace = [executed(0.0, "c1", None), executed(100.0, "c2", 110.0)]
    assert judge(trace, concurrency=[Concurrency(1)]).broken
    assert not judge(trace, concurrency=[Concurrency(1)], give_up_after=100.0).broken


def test_scopes_count_each_value_alone() -> None:
    """Projects and labels are counted value by value; what has no label is counted together."""
    trace = [
        executed(0.0, "c1", 9.0, "p1"),
        executed(0.0, "c2", 9.0, "p1"),
        executed(0.0, "c3", 9.0, "p2"),
    ]
    verdict = judge(
        trace,
        concurrency=[Concurrency(2, "project"), Concurrency(1, "az")],
        labels={("p1", "c1"): {"az": "1"}},
    )
    assert verdict.most_at_once == {
        ("project=2", "p1"): 2,
        ("project=2", "p2"): 1,
        ("az=1", "1"): 1,
        ("az=1", ""): 2,
    }
    assert verdict.broken == ("2 clusters were down at once in az (none); the limit az=1 allows 1",)


# Quarters are exact in binary, so that ties at the edges of windows are real ties.
moments = st.integers(0, 200).map(lambda number: number / 4)
spans = st.tuples(moments, st.integers(0, 60).map(lambda number: number / 4))


@given(st.lists(spans, max_size=40))
def test_most_at_once_agrees_with_a_naive_count(drawn: list[tuple[float, float]]) -> None:
    """The sweep finds what counting at every beginning finds."""
    pairs = [(start, start + length) for start, length in drawn]
    naive = max(
        (sum(start <= at < end for start, end in pairs) for at, _ in pairs),
        default=0,
    )
    assert most_at_once(pairs) == naive


@given(st.lists(st.tuples(moments, st.integers(0, 5), st.sampled_from(["p1", "p2"])), max_size=30))
def test_the_judge_agrees_with_a_naive_count(drawn: list[tuple[float, int, str]]) -> None:
    """Whole traces, in any order, are judged as counting by hand judges them."""
    trace = [executed(at, f"c{number}", at + 5, project) for at, number, project in drawn]
    verdict = judge(trace, concurrency=[Concurrency(1, "project")], rates=[Rate(1, 5.0, "project")])
    for project in {project for _, _, project in drawn}:
        starts = [at for at, _, one in drawn if one == project]
        down = max(sum(start <= at < start + 5 for start in starts) for at in starts)
        window = max(sum(at <= start <= at + 5 for start in starts) for at in starts)
        assert verdict.most_at_once["project=1", project] == down
        assert verdict.most_per_window["project=1/5s", project] == window
    times = Counter((project, f"c{number}") for _, number, project in drawn)
    assert set(verdict.twice) == {pair for pair, count in times.items() if count > 1}
