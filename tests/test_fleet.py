"""Fleet files: what is read from each format, how mistakes are named, what is written."""

import io
import json
import time
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.errors import ExitCode, FleetError
from orchestrator.fleet import Fleet, Format, is_label, read_fleet, write_fleet
from orchestrator.model import WHOLE, Kind, Outcome, Target

CONFIG = Path(__file__).parent.parent / "config"


def read(
    content: str | bytes,
    format_: Format | None = None,
    only: frozenset[Outcome] | None = None,
) -> Fleet:
    data = content.encode() if isinstance(content, str) else content
    return read_fleet(["-"], stdin=io.BytesIO(data), format_=format_, only=only)


def mistakes_in(
    content: str | bytes,
    format_: Format | None = None,
    only: frozenset[Outcome] | None = None,
) -> list[str]:
    with pytest.raises(FleetError) as caught:
        read(content, format_, only)
    return [text.removeprefix("standard input") for text in caught.value.mistakes]


def pair(project_id: str = "p", cluster_id: str = "c") -> Target:
    return Target(project_id=project_id, cluster_id=cluster_id)


FULL = Target(
    project_id="p",
    cluster_id="c",
    name="orders, prod",
    region="cn-north-4",
    kind=Kind.parse("rolling:ess,ess-master"),
    wave="2",
    labels=(("az", "cn-north-4a"), ("tier", "gold")),
)


class TestCsv:
    def test_everything_is_read(self) -> None:
        """Fields may be quoted and in any order; every other column is a label."""
        text = (
            "tier,cluster_id,project_id,name,region,kind,wave,az\n"
            'gold,c,p,"orders, prod",cn-north-4,"rolling:ess,ess-master",2,cn-north-4a\n'
        )
        assert read(text).targets == (FULL,)

    def test_what_spreadsheets_add_is_tolerated(self) -> None:
        """A byte order mark, CRLF, blank lines, rows of commas and spaces around mean nothing."""
        text = "\ufeff\r\nproject_id, cluster_id ,az\r\n\r\np,c ,\r\n,,\r\n p, d, a \r\n"
        fleet = read(text)
        assert fleet.targets == (
            pair(),
            Target(project_id="p", cluster_id="d", labels=(("az", "a"),)),
        )

    def test_empty_cells_are_absent(self) -> None:
        """An empty cell is no name, no region, the default kind, and no label."""
        text = "project_id,cluster_id,name,region,kind,wave,az\np,c,,,,, \n"
        assert read(text).targets == (pair(),)
        assert read(text).targets[0].kind == WHOLE

    def test_header_and_rows_are_judged_in_one_go(self) -> None:
        """Misspelt columns are taken for what was meant, so that rows are checked as well."""
        text = (
            "project_id,Cluster_ID,Regoin,az,az,,my label,labels\n"
            "p,c/d,r r,1,2,3,4,5\n"
            "p,c\n"
            "\n"
            '"p,\nq",c,,,,,,\n'
            '"x"y,c,,,,,,\n'
            "p,c,,,,,,,\n"
        )
        assert mistakes_in(text) == [
            (
                ", line 1, column 2: 'Cluster_ID' is no field; the nearest is cluster_id, "
                "write it exactly so"
            ),
            (
                ", line 1, column 3: 'Regoin' is no field; the nearest is region, write that, "
                "or give a label another name"
            ),
            ", line 1, column 5: 'az' is there twice; keep one of the two",
            ", line 1, column 6: '' is no name; name the column, or remove it from every line",
            (
                ", line 1, column 7: 'my label' is no label; a name is of A-Z a-z 0-9 _ . - "
                "and begins with a letter or _"
            ),
            (
                ", line 1, column 8: 'labels' is no label, labels means something else already; "
                "choose another name"
            ),
            (
                ", line 2, field cluster_id: found 'c/d'; an id is 1 to 64 of the characters "
                "A-Z a-z 0-9 _ -"
            ),
            ", line 2, field region: found 'r r'; a region is a word such as cn-north-4",
            (
                ", line 3: found 2 fields for 8 columns; add or remove commas, "
                "or quote a value that has one"
            ),
            (
                ", line 5, field project_id: found 'p,\\nq'; an id is 1 to 64 of the characters "
                "A-Z a-z 0-9 _ -"
            ),
            ", line 7: cannot be split into fields (',' expected after '\"'); check its quotes",
            (
                ", line 8: found 9 fields for 8 columns; add or remove commas, "
                "or quote a value that has one"
            ),
        ]

    @pytest.mark.parametrize(
        ("header", "words"),
        [
            ("project,cluster_id", "'project' is no field; the nearest is project_id"),
            ("project_id,cluster", "'cluster' is no field; the nearest is cluster_id"),
            ("Project_ID,cluster_id", "the nearest is project_id"),
            ("project_id,cluster_id,Name,name", "the nearest is name"),
            ("project_id,cluster_id,fleet", "fleet means something else already"),
            ("project_id,name", "there is no column cluster_id; name it in the first line"),
            ("project_id;cluster_id", "separate columns with commas"),
            ("a,b", "there is no column project_id and no cluster_id"),
        ],
    )
    def test_a_header_that_is_not_one(self, header: str, words: str) -> None:
        """A column that is missing or nearly right is named, with what to write."""
        assert any(words in mistake for mistake in mistakes_in(f"{header}\np,c\n", Format.CSV))

    def test_a_label_may_resemble_a_field_that_is_there(self) -> None:
        """Where the field itself has a column, one that resembles it can only be a label."""
        fleet = read("project_id,cluster_id,cluster_kind,cluster\np,c,hot,blue\n")
        assert fleet.targets[0].labels == (("cluster", "blue"), ("cluster_kind", "hot"))

    def test_a_quote_never_closed(self) -> None:
        """The mistake names the line on which the quote opens, though the file ends later."""
        found = mistakes_in('project_id,cluster_id\np,c\np,"d\np,e\n')
        assert found == [
            ", line 3: cannot be split into fields (unexpected end of data); check its quotes"
        ]
        assert "line 1" in mistakes_in('"project_id,cluster_id\np,c\n', Format.CSV)[0]


class TestTxt:
    def test_pairs_and_comments(self) -> None:
        """One pair a line; comments may stand alone or behind."""
        text = "# fleet\n\n  p/c  # orders\r\np/d#logs\n"
        assert read(text).targets == (pair(), pair(cluster_id="d"))

    def test_mistakes(self) -> None:
        """What is no pair is shown, and another format proposed where it looks like one."""
        assert mistakes_in("foo\np/\np q/c\np/c/d\nproject,cluster\n") == [
            ", line 1: found 'foo'; write project/cluster",
            ", line 2, field cluster_id: is missing; every target needs a cluster_id",
            (
                ", line 3, field project_id: found 'p q'; an id is 1 to 64 of the characters "
                "A-Z a-z 0-9 _ -"
            ),
            (
                ", line 4, field cluster_id: found 'c/d'; an id is 1 to 64 of the characters "
                "A-Z a-z 0-9 _ -"
            ),
            (
                ", line 5: found 'project,cluster'; write project/cluster "
                "or name another format with --format"
            ),
        ]


ENTRIES = """[
  ["p", "c"],
  {"project_id": "p", "cluster_id": "d", "rack": 007x, "gold": true, "empty": null,
   "labels": {"az": "a", "share": 1.50}}
]"""


class TestJson:
    @pytest.mark.parametrize("shape", ["%s", '{"note": [1, {"targets": 2}], "targets" : %s}'])
    def test_objects_and_pairs_mix(self, shape: str) -> None:
        """Entries are pairs or objects; scalars become text as they are written."""
        text = shape % ENTRIES.replace("007x", "1e3")
        assert read(text, Format.JSON).targets == (
            pair(),
            Target(
                project_id="p",
                cluster_id="d",
                labels=(("az", "a"), ("gold", "true"), ("rack", "1e3"), ("share", "1.50")),
            ),
        )

    def test_a_syntax_error_has_line_and_column(self) -> None:
        """What the parser tripped over is named with its place."""
        (mistake,) = mistakes_in(ENTRIES)
        assert mistake.startswith(", line 3, column 51: is not json: ")

    @pytest.mark.parametrize("shape", ["%s", '{"a": {"targets": []},\n"targets":\n%s}'])
    def test_mistakes_have_the_line_of_their_entry(self, shape: str) -> None:
        """Every entry is judged, and the line is that on which it begins."""
        text = """[ {"project_id": "p", "cluster_id": "c", "az": {"b": 1}},

            ["p"], ["p", "d"],
            {"project_id":
                "p", "cluster_id": true},
            7, null,
            {"project_id": "p", "project_id": "q", "cluster_id": "e", "labels": [1]},
            {"project_id": "p", "cluster_id": "f", "labels": {"wave": "1", "a b": "x"}},
            {"project_id": "p", "cluster_id": "g", "az": "1", "labels": {"az": "2"},
             "name": "a\\u001b[2J"},
            {"project": "p", "cluster_id": "h", "kind": "gently", "a": 1, "a": 1,
             "region": "evil.example/"}]"""
        offset = shape.count("\n")
        found = mistakes_in(shape % text, Format.JSON)
        lines = [int(mistake.split("line ")[1].split(",")[0].split(":")[0]) for mistake in found]
        assert [line - offset for line in lines] == [
            1, 3, 4, 6, 6, 7, 7, 8, 8, 9, 9, 11, 11, 11, 11, 11,
        ]  # fmt: skip
        assert [mistake.split(": ", 1)[1].split(";")[0] for mistake in found] == [
            "found an object",
            "found a list of 1",
            "found true",
            "found '7'",
            "found nothing",
            "is given twice",
            "found a list",
            "is no label, wave means something else already",
            "is no label",
            "found 'a\\x1b[2J'",
            "differs inside and outside of labels",
            "is missing",
            "found 'evil.example/'",
            "'gently' is not a kind of restart",
            "is no field",
            "is given twice",
        ]

    @pytest.mark.parametrize(
        ("text", "found"),
        [
            ('"p/c"', "found 'p/c'"),
            ("null", "found nothing"),
            ('{\n"target": []}', "found an object without a list of targets"),
            ('{"targets": {}}', "found an object without a list of targets"),
            ('{"targets": [], "targets": []}', "found an object without a list of targets"),
        ],
    )
    def test_what_holds_no_list(self, text: str, found: str) -> None:
        """Anything but a list, or an object that has one, is named."""
        (mistake,) = mistakes_in(text, Format.JSON)
        assert found in mistake

    def test_nesting_without_end(self) -> None:
        """Text nested deeper than any stack is a mistake, not a crash."""
        for format_ in (Format.JSON, Format.JSONL, None):
            (mistake,) = mistakes_in("[" * 100_000, format_)
            assert "nested too deeply" in mistake

    def test_lone_surrogates_are_refused(self) -> None:
        """Text that cannot be written as UTF-8 never gets in: it would fail much later."""
        (mistake,) = mistakes_in(
            r'[{"project_id": "p", "cluster_id": "c", "name": "\ud800"}]', Format.JSON
        )
        assert "field name: found '\\ud800'" in mistake


class TestJsonl:
    def test_one_entry_a_line(self) -> None:
        """Objects and pairs mix; blank lines mean nothing; rare line ends inside text are text."""
        text = '["p", "c"]\r\n\n{"project_id": "p", "cluster_id": "d", "name": "a b"}\n'
        assert [str(target) for target in read(text).targets] == ["p/c", "p/d"]

    def test_every_bad_line_is_named(self) -> None:
        """A line that is not json does not hide those below it."""
        text = '{"project_id": "p",}\n["p", "c"]\n["p"]\n{"project_id": "p"\n'
        found = mistakes_in(text)
        assert [mistake.split(": ")[0] for mistake in found] == [
            ", line 1, column 20",
            ", line 3",
            ", line 4, column 19",
        ]


class TestYaml:
    def test_scalars_are_text_as_written(self) -> None:
        """Ids that look like numbers keep their zeros; quoting tells text from nothing."""
        text = (
            "targets:\n"
            "- project_id: 0123\n"
            "  cluster_id: 12345678901234567890123456789012\n"
            "  wave: ~\n"
            "  name: 'null'\n"
            "  at: 12:30:45\n"
            "  on: yes\n"
            "  labels: {share: 1.50, none: }\n"
            "- [0x1F, 1e3]\n"
        )
        assert read(text, Format.YAML).targets == (
            Target(
                project_id="0123",
                cluster_id="12345678901234567890123456789012",
                name="null",
                labels=(("at", "12:30:45"), ("on", "yes"), ("share", "1.50")),
            ),
            pair("0x1F", "1e3"),
        )

    def test_anchors(self) -> None:
        """What is written once can be referred to, be it a value, labels or all."""
        text = (
            "- {project_id: &p p, cluster_id: c, labels: &l {az: a}}\n"
            "- &d {project_id: *p, cluster_id: d, labels: *l}\n"
            "- *d\n"
        )
        fleet = read(text, Format.YAML)
        assert [(str(target), target.labels) for target in fleet.targets] == [
            ("p/c", (("az", "a"),)),
            ("p/d", (("az", "a"),)),
        ]
        assert fleet.collapsed == 1

    def test_merge_keys(self) -> None:
        """What an entry takes over is said there; its own words win, then those named first."""
        text = (
            "- &p {project_id: p, cluster_id: c, az: a, tier: gold}\n"
            "- &q {project_id: p, cluster_id: d, az: b, rack: r}\n"
            "- {<<: *p, cluster_id: e}\n"
            "- {cluster_id: f, <<: [*p, *q], tier: null}\n"
        )
        fleet = read(text, Format.YAML)
        assert [(str(target), dict(target.labels)) for target in fleet.targets[2:]] == [
            ("p/e", {"az": "a", "tier": "gold"}),
            ("p/f", {"az": "a", "rack": "r"}),
        ]

    @pytest.mark.parametrize("taken", ["*nowhere", "p", "[*p, q]"])
    def test_only_mappings_can_be_merged(self, taken: str) -> None:
        """Anything else under the key is named."""
        text = f"- &p {{project_id: p, cluster_id: c}}\n- {{<<: {taken}, cluster_id: d}}\n"
        assert any("line 2, field '<<'" in mistake for mistake in mistakes_in(text, Format.YAML))

    def test_mistakes_have_the_line_of_their_entry(self) -> None:
        """Every entry is judged; whatever is nested, doubled or refers to nothing is named."""
        text = (
            "- project_id: p\n"
            "  cluster_id: *nowhere\n"
            "- [p, null]\n"
            "- {project_id: p, cluster_id: c, az: [1], az: 2, ? [complex] : 3}\n"
            "- {project_id: p, cluster_id: d, labels: {az: {b: {c: [d]}}}}\n"
            "- {project_id: p, cluster_id: e, labels: *nowhere}\n"
            "- *nowhere\n"
        )
        assert [mistake.split(";")[0] for mistake in mistakes_in(text, Format.YAML)] == [
            ", line 1, field cluster_id: refers to an anchor that stands nowhere above it",
            ", line 3, field cluster_id: is missing",
            ", line 4, field az: is given twice",
            ", line 4, field '': is no label",
            ", line 5, field az: found an object",
            ", line 6, field labels: refers to an anchor that stands nowhere above it",
            ", line 7: found something else",
        ]

    def test_what_is_left_out_is_not_lost_silently(self) -> None:
        """A part too deep to belong to a fleet is a mistake where an anchor brings it back."""
        text = (
            "a: {b: {c: &entry {project_id: p, cluster_id: c, labels: {az: a}}}}\n"
            "targets: [*entry]\n"
        )
        (mistake,) = mistakes_in(text, Format.YAML)
        assert "field labels: holds something nested" in mistake

    @pytest.mark.parametrize(
        ("text", "place"),
        [
            ("- [p, c]\n- a: b: c\n", ", line 2, column 7: is not yaml: mapping values"),
            ("- [p, c]\n---\n- [p, d]\n", ", line 2: a second yaml document begins"),
            ("- [p, c]\n- \x01\n", ", line 2: has a character that yaml forbids"),
            ("p/c", ": found 'p/c'"),
        ],
    )
    def test_what_is_not_yaml_or_no_fleet(self, text: str, place: str) -> None:
        """What the parser tripped over is named with its place."""
        (mistake,) = mistakes_in(text, Format.YAML)
        assert mistake.startswith(place)

    def test_what_is_left_open(self) -> None:
        """A list that is never closed is named by the line on which it begins."""
        (mistake,) = mistakes_in("- [p, c]\n- [p, d\n- x\n- y\n", Format.YAML)
        assert "while parsing a flow sequence begun on line 2; correct" in mistake

    @pytest.mark.parametrize("text", ["[" * 100_000, "- " * 100_000])
    def test_nesting_without_end(self, text: str) -> None:
        """Text nested deeper than any stack is a mistake, not a crash."""
        assert len(mistakes_in(text, Format.YAML)) == 1

    def test_nothing_is_constructed(self) -> None:
        """Tags that would make objects elsewhere make text here."""
        (mistake,) = mistakes_in("- [p, !!python/name:os.system x y]", Format.YAML)
        assert "found 'x y'" in mistake


REPORT = {
    "report_version": 1,
    "run_id": "2026-11-23-7k3f",
    "targets": [
        {
            "project_id": "p",
            "cluster_id": cluster_id,
            "name": None,
            "region": "cn-north-4",
            "labels": {"az": "a"},
            "kind": "rolling:ess",
            "wave": "canary",
            "outcome": outcome,
            "reason": "x",
            "job_ids": ["j"],
            "calls": [{"status": 200, "job_ids": ["j"], "error": {"class": "y"}}],
            "error": None,
        }
        for cluster_id, outcome in (("c", "restarted"), ("d", "failed"), ("e", "not_started"))
    ],
}


class TestReport:
    @pytest.mark.parametrize("format_", [Format.JSON, Format.YAML])
    def test_the_outcomes_asked_for_are_taken(self, format_: Format) -> None:
        """A report gives the targets with their words, but not the waves the planner made."""
        fleet = read(json.dumps(REPORT, indent=2), format_, frozenset({Outcome.FAILED}))
        assert fleet.targets == (
            Target(
                project_id="p",
                cluster_id="d",
                region="cn-north-4",
                kind=Kind.parse("rolling:ess"),
                labels=(("az", "a"),),
            ),
        )

    def test_without_only_the_outcomes_are_listed(self) -> None:
        """Nobody restarts by mistake what went well: what to take must be said."""
        (mistake,) = mistakes_in(json.dumps(REPORT))
        assert mistake == (
            ": is a report; use --only to say which outcomes to take "
            "(it holds 1 restarted, 1 failed, 1 not_started)"
        )
        (mistake,) = mistakes_in('{"report_version": 1, "targets": []}')
        assert "it holds no targets" in mistake

    @pytest.mark.parametrize("format_", Format)
    def test_only_needs_a_report(self, format_: Format) -> None:
        """Choosing outcomes of a plain fleet is a mistake in every format."""
        text = write_fleet([pair()], format_)
        (mistake,) = mistakes_in(text, format_, frozenset({Outcome.FAILED}))
        assert "--only chooses outcomes of a report, and this is none" in mistake

    def test_a_report_edited_or_from_the_future(self) -> None:
        """What cannot be understood is not guessed at."""
        later = json.dumps(REPORT | {"report_version": 2})
        (mistake,) = mistakes_in(later, only=frozenset({Outcome.FAILED}))
        assert "is a report of version '2', and this program reads version 1" in mistake
        text = '{"report_version": 1, "targets": [{"outcome": "fine"},\n {}, 1]}'
        found = mistakes_in(text, only=frozenset({Outcome.FAILED}))
        assert [mistake[:24] for mistake in found] == [
            ", line 1, field outcome:",
            ", line 2, field outcome:",
            ", line 2, field outcome:",
        ]

    def test_nothing_chosen_is_an_empty_fleet(self) -> None:
        """An outcome that no target had selects nothing, and says so."""
        (mistake,) = mistakes_in(json.dumps(REPORT), only=frozenset({Outcome.UNKNOWN}))
        assert mistake == ": holds no target that --only takes (unknown); name other outcomes"


class TestSources:
    def test_all_mistakes_of_all_files_in_one_go(self, tmp_path: Path) -> None:
        """One bad file does not hide the mistakes of the next; the exit code is wrong use."""
        (tmp_path / "a.csv").write_text("project_id,cluster_id\np,c d\n")
        (tmp_path / "b.TXT").write_text("foo\n")
        (tmp_path / "c.yml").write_bytes(b"- [p, c]\n- \xff\n")
        (tmp_path / "d").write_text("p/c\n")
        names = ["a.csv", "b.TXT", "c.yml", "d", "e.ndjson"]
        with pytest.raises(FleetError) as caught:
            read_fleet([str(tmp_path / name) for name in names], stdin=io.StringIO())
        found = [text.removeprefix(f"{tmp_path}/") for text in caught.value.mistakes]
        assert [text.split(";")[0] for text in found] == [
            "a.csv, line 2, field cluster_id: found 'c d'",
            "b.TXT, line 1: found 'foo'",
            "c.yml, line 2: the byte 0xff is not UTF-8",
            "d: the suffix '' names no format",
            "e.ndjson: cannot be read: No such file or directory",
        ]
        assert "use --format with one of csv, txt, json, jsonl, yaml" in found[3]
        assert caught.value.exit_code is ExitCode.USAGE
        assert str(caught.value).startswith("the fleet has 5 mistakes; nothing was sent\n  ")

    def test_format_beats_suffix(self, tmp_path: Path) -> None:
        """A format that is given holds for every source, whatever it is called."""
        path = tmp_path / "fleet.csv"
        path.write_text("p/c\n")
        fleet = read_fleet([str(path), "-"], stdin=io.StringIO("p/d"), format_=Format.TXT)
        assert fleet == Fleet(
            targets=(pair(), pair(cluster_id="d")), source=(str(path), "-"), collapsed=0
        )

    @pytest.mark.parametrize(
        "text",
        [
            "project_id,cluster_id\np,c",
            '\n"project_id","cluster_id"\np,c',
            "# note\np/c",
            '\n [["p", "c"]]',
            '{"targets":\n[["p", "c"]]}',
            '["p", "c"]\n["p", "c"]',
            '["p", "c"]',
            '{"project_id": "p", "cluster_id": "c"}\n',
        ],
    )
    def test_standard_input_is_told_by_its_content(self, text: str) -> None:
        """The first character, or the header, says how standard input is written."""
        assert read(text).targets == (pair(),)

    def test_text_streams(self) -> None:
        """Standard input may be text, or text over bytes, whose encoding is UTF-8 in any locale."""
        text = '{"targets": [{"project_id": "p", "cluster_id": "c", "name": "Zürich"}]}'
        wrapped = io.TextIOWrapper(io.BytesIO(text.encode()), encoding="latin-1")
        for stream in (io.StringIO(text), wrapped):
            assert read_fleet(["-"], stdin=stream).targets[0].name == "Zürich"
        with pytest.raises(FleetError, match="is not UTF-8"):
            read_fleet(["-"], stdin=io.StringIO("p/c # \udcff"))

    def test_standard_input_twice(self) -> None:
        """It can be read only once; the second mention is a mistake."""
        with pytest.raises(FleetError, match="is named twice, but can be read only once"):
            read_fleet(["-", "-"], stdin=io.StringIO("p/c"))

    def test_unreadable_names(self) -> None:
        """Names that no file can have, and streams already closed, are mistakes as well."""
        closed = io.BytesIO()
        closed.close()
        with pytest.raises(FleetError) as caught:
            read_fleet(["a\0.csv", "-"], stdin=closed)
        assert ["cannot be read" in mistake for mistake in caught.value.mistakes] == [True, True]

    @pytest.mark.parametrize("format_", Format)
    @pytest.mark.parametrize("text", ["", " \n\n", "\ufeff"])
    def test_an_empty_fleet(self, format_: Format, text: str) -> None:
        """No target at all is an error, in every format."""
        assert mistakes_in(text, format_) == [": holds no target; add one"]

    def test_no_source(self) -> None:
        """Without any source there is no fleet, and the error says what to name."""
        with pytest.raises(FleetError, match="no file was named; name one, or -"):
            read_fleet([], stdin=io.StringIO())

    def test_the_text_of_an_error_stays_readable(self) -> None:
        """Every mistake is kept, but a file in the wrong format does not flood the terminal."""
        with pytest.raises(FleetError) as caught:
            read("foo\n" * 1000, Format.TXT)
        assert len(caught.value.mistakes) == 1000
        lines = str(caught.value).splitlines()
        assert len(lines) == 202
        assert lines[-1] == "  … and 800 more"


class TestDuplicates:
    def test_the_same_again_is_collapsed(self, tmp_path: Path) -> None:
        """A pair named again with the same words counts once, in the place of its first mention."""
        path = tmp_path / "fleet.txt"
        path.write_text("p/d\np/c\np/d\n")
        fleet = read_fleet([str(path), "-"], stdin=io.StringIO("p/c\np/e\n"))
        assert [str(target) for target in fleet.targets] == ["p/d", "p/c", "p/e"]
        assert fleet.collapsed == 2

    def test_other_words_are_a_contradiction(self) -> None:
        """The mistake names both lines, and what differs."""
        text = "project_id,cluster_id,name,region,az\np,c,a,r,1\np,d,,,\np,c,b,r,2\n"
        assert mistakes_in(text) == [
            (
                ", line 4, field name: p/c stands in standard input, line 2 too, with other words "
                "for name, labels; make both say the same, or remove one"
            )
        ]

    def test_a_cluster_is_in_one_project(self, tmp_path: Path) -> None:
        """The same cluster under two projects names both places, also across files."""
        path = tmp_path / "fleet.txt"
        path.write_text("p/c\n")
        with pytest.raises(FleetError) as caught:
            read_fleet([str(path), "-"], stdin=io.StringIO("\nq/c\n"))
        assert caught.value.mistakes == (
            (
                "standard input, line 2, field project_id: cluster c is under project q here and "
                f"under p in {path}, line 1; it is in one project, remove the other entry"
            ),
        )


words = st.text("abcXYZ019_-", min_size=1, max_size=64)
texts = (
    st.text(max_size=20)
    .map(lambda text: "".join(filter(str.isprintable, text)).strip())
    .filter(bool)
)
kinds = st.sampled_from(
    ["restart", "restart:ess", "restart:node=n-1", "rolling", "rolling:all", "rolling:ess,ess-cold"]
).map(Kind.parse)
label_names = st.from_regex(r"[A-Za-z_][A-Za-z0-9_.-]{0,8}", fullmatch=True) | st.sampled_from(
    ["az", "regions", "cluster", "true", "null", "y"]
)
targets = st.builds(
    Target,
    project_id=words,
    cluster_id=words,
    name=st.none() | texts | st.sampled_from(["null", "~", "1e3", "007", "=1", "#", "a,b", '"']),
    region=st.none() | words,
    kind=kinds,
    wave=st.none() | texts,
    labels=st.dictionaries(label_names.filter(is_label), texts, max_size=3).map(
        lambda labels: tuple(sorted(labels.items()))
    ),
)
fleets = st.lists(targets, min_size=1, max_size=5, unique_by=lambda target: target.cluster_id)


class TestWriting:
    @settings(deadline=None)
    @given(fleets, st.sampled_from(list(Format)))
    def test_what_is_written_reads_back(self, fleet: list[Target], format_: Format) -> None:
        """Every format gives back the same targets; the plain one gives back the pairs."""
        found = read(write_fleet(fleet, format_), format_).targets
        if format_ is Format.TXT:
            assert list(map(str, found)) == list(map(str, fleet))
        else:
            assert found == tuple(fleet)

    @settings(deadline=None)
    @given(fleets, st.sampled_from([Format.CSV, Format.TXT, Format.JSON, Format.JSONL]))
    def test_what_is_written_is_told_by_its_content(
        self, fleet: list[Target], format_: Format
    ) -> None:
        """What one command prints, the next can read from a pipe without being told the format."""
        found = read(write_fleet(fleet, format_)).targets
        assert list(map(str, found)) == list(map(str, fleet))

    @pytest.mark.parametrize(
        ("format_", "text"),
        [
            (
                Format.CSV,
                (
                    "project_id,cluster_id,name,region,kind,wave,az,tier\n"
                    'p,c,"orders, prod",cn-north-4,"rolling:ess,ess-master",2,cn-north-4a,gold\n'
                    "p,d,,,,,,\n"
                ),
            ),
            (Format.TXT, "p/c  # orders, prod\np/d\n"),
            (
                Format.JSON,
                (
                    '[\n {"project_id": "p", "cluster_id": "c", "name": "orders, prod", '
                    '"region": "cn-north-4", "kind": "rolling:ess,ess-master", "wave": "2", '
                    '"labels": {"az": "cn-north-4a", "tier": "gold"}},\n'
                    ' {"project_id": "p", "cluster_id": "d"}\n]\n'
                ),
            ),
            (
                Format.YAML,
                (
                    "- project_id: p\n  cluster_id: c\n  name: orders, prod\n"
                    "  region: cn-north-4\n  kind: rolling:ess,ess-master\n  wave: '2'\n"
                    "  labels:\n    az: cn-north-4a\n    tier: gold\n"
                    "- project_id: p\n  cluster_id: d\n"
                ),
            ),
        ],
    )
    def test_what_people_see(self, format_: Format, text: str) -> None:
        """What a target does not have is not written; csv always has all fields to fill in."""
        assert write_fleet([FULL, pair(cluster_id="d")], format_) == text

    def test_nothing_to_write(self) -> None:
        """A list of no targets is well formed in every format, and json stays json."""
        assert json.loads(write_fleet([], Format.JSON)) == []
        assert yaml.safe_load(write_fleet([], Format.YAML)) == []

    def test_a_name_stays_in_its_comment(self) -> None:
        """A name from elsewhere cannot add a line to the fleet."""
        target = Target(project_id="p", cluster_id="c", name="x\np/evil")
        assert write_fleet([target], Format.TXT) == "p/c\n"

    def test_names_of_labels(self) -> None:
        """A label is called like a scope, and like none of the words that mean something else."""
        taken = ["project", "project_id", "Cluster-ID", "fleet", "labels", "Region", "wave"]
        assert not any(map(is_label, [*taken, "", "a b", "1a", "ä"]))
        assert all(map(is_label, ["az", "regions", "cost.center", "_x", "k8s-pool"]))


seeds = st.builds(write_fleet, fleets, st.sampled_from(list(Format))) | st.sampled_from(
    [json.dumps(REPORT), json.dumps(REPORT, indent=1), ENTRIES, "- &a [*a, {a: *a, <<: *a}]"]
)


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """Fleets of some format in which something was cut out, put in or doubled."""
    data = draw(seeds).encode()
    for _ in range(draw(st.integers(0, 4))):
        start = draw(st.integers(0, len(data)))
        end = draw(st.integers(start, min(len(data), start + 9)))
        middle = draw(
            st.binary(max_size=3) | st.sampled_from([b'"', b",", b"\n", b"{", b"]", b"&a *a"])
        )
        data = data[:start] + middle + data[end - draw(st.integers(0, 1)) * (end - start) :]
    return data


class TestAnything:
    @settings(max_examples=400, deadline=None)
    @given(
        st.binary(max_size=200) | damaged(),
        st.none() | st.sampled_from(list(Format)),
        st.none() | st.frozensets(st.sampled_from(list(Outcome))),
    )
    def test_any_bytes_are_a_fleet_or_an_error(
        self, data: bytes, format_: Format | None, only: frozenset[Outcome] | None
    ) -> None:
        """Whatever stands in a file, the answer is a fleet that can be used, or a fleet error."""
        try:
            fleet = read(data, format_, only)
        except FleetError as error:
            mistakes, text = error.mistakes, str(error)
        else:
            assert fleet.targets
            assert read(write_fleet(fleet.targets, Format.JSONL)).targets == fleet.targets
            return
        assert mistakes
        assert text.encode()


class TestSize:
    @pytest.mark.parametrize("format_", Format)
    def test_a_hundred_thousand_lines(self, format_: Format) -> None:
        """A fleet far larger than any is read while one looks on."""
        many = [
            Target(
                project_id=f"6204a5bd270343b5885144cf9c8c{number % 40:04d}",
                cluster_id=f"4f3deec3-efa8-4598-bf91-{number:012d}",
                name=f"css-orders-{number}",
                region="cn-north-4",
                labels=(("az", f"cn-north-4{'abc'[number % 3]}"), ("tier", "gold")),
            )
            for number in range(100_000)
        ]
        data = (
            write_fleet(many, format_)
            if format_ is not Format.YAML
            else json.dumps([[target.project_id, target.cluster_id] for target in many])
        )
        started = time.perf_counter()
        fleet = read(data, format_)
        assert time.perf_counter() - started < 6
        assert len(fleet.targets) == 100_000


class TestExamples:
    def test_the_example_fleet(self) -> None:
        """The example in csv is what the demonstration needs: projects, regions, zones, tiers."""
        fleet = read_fleet([str(CONFIG / "fleet.example.csv")], stdin=io.StringIO())
        assert len(fleet.targets) == 24
        assert len({target.project_id for target in fleet.targets}) == 4
        assert len({target.region for target in fleet.targets}) == 2
        assert all(target.name and len(target.labels) == 2 for target in fleet.targets)

    def test_the_commented_example(self) -> None:
        """The example in yaml shows every way to write a target, and says the same of each."""
        found = read_fleet([str(CONFIG / "fleet.example.yaml")], stdin=io.StringIO()).targets
        known = {
            target.cluster_id: target
            for target in read_fleet(
                [str(CONFIG / "fleet.example.csv")], stdin=io.StringIO()
            ).targets
        }
        assert [target.project_id for target in found] == [
            known[target.cluster_id].project_id for target in found
        ]
        assert found[0].kind == Kind.parse("rolling:ess")
        assert found[1] == known[found[1].cluster_id]
        assert found[2].labels == found[3].labels == known[found[2].cluster_id].labels
