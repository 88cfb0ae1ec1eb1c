"""Files in and files out, progress and results worth looking at: the same on every wire."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from remoterun.errors import Conflict, Invalid
from remoterun.messages import ArtifactEvent, Job, ProgressEvent, UploadedFile
from remoterun.states import State
from tests.contract.wires import Wire, all_events, call

DATA = bytes(range(256)) * 400


def sent(data: bytes = DATA, name: str = "data.bin") -> UploadedFile:
    return UploadedFile(name=name, data=data)


def told(job: Job, name: str = "one") -> dict[str, Any]:
    assert job.state is State.SUCCEEDED, job.error
    found: dict[str, Any] = job.result[name]
    return found


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize("script", ["takes", "takes_spawn", "takes_warm"])
def test_a_file_reaches_its_script_whole(wire: Wire, script: str) -> None:
    session = wire.session("ada")
    for data, name in ((DATA, "data.bin"), (b"", "empty"), (b"text\r\n", "über ✓.txt")):
        job = session.run(call(script, {"n": "3"}, files={"one": sent(data, name)}))
        found = told(job)
        assert (found["name"], found["size"], found["sha256"]) == (name, len(data), digest(data))
        assert job.params == {"one": name, "n": "3"}
        assert job.result["n"] == 3


@pytest.mark.parametrize("script", ["takes", "takes_warm"])
def test_lists_of_files_keep_their_order_and_names(wire: Wire, script: str) -> None:
    files = {"one": sent(b"1"), "more.1": sent(b"3", "same"), "more.0": sent(b"2", "same"), "maybe": sent(b"4", "m")}
    job = wire.session("ada").run(call(script, {}, files=files))
    assert told(job)["sha256"] == digest(b"1")
    assert [(item["name"], item["sha256"]) for item in job.result["more"]] == [
        ("same", digest(b"2")),
        ("same", digest(b"3")),
    ]
    assert job.result["maybe"]["name"] == "m"
    assert job.params is not None
    assert job.params["more"] == ["same", "same"]


def test_one_file_is_a_list_of_one(wire: Wire) -> None:
    job = wire.session("ada").run(call("takes", {}, files={"one": sent(), "more": sent(b"x")}))
    assert [item["sha256"] for item in job.result["more"]] == [digest(b"x")]


def test_files_stand_in_models_and_under_any_names(wire: Wire) -> None:
    files = {"pages.0.scan": sent(b"scan"), "other": sent(b"free"), "x y": sent(b"spaced")}
    request = call("takes_any", {"pages": [{"title": "first"}, {"title": "second"}]}, files=files)
    job = wire.session("ada").run(request)
    assert job.error is None
    assert job.result == {"first": "scan", "other": "free", "x y": "spaced"}


def test_the_schema_says_which_parameters_are_files(wire: Wire) -> None:
    info = wire.session("ada").get_script("takes")
    assert info.broken is None
    properties = (info.parameters or {})["properties"]
    assert properties["one"]["format"] == "upload"
    assert properties["more"]["items"]["format"] == "upload"


@pytest.mark.parametrize(
    ("params", "files", "field"),
    [
        ({}, None, "one"),
        ({"one": "/etc/passwd"}, None, "one"),
        ({"one": "/etc/passwd"}, {"one": sent()}, "one"),
        ({"more": ["/etc/passwd"]}, {"one": sent()}, "more.0"),
        ({"maybe": "/etc/passwd"}, {"one": sent()}, "maybe"),
        ({}, {"one": sent(), "n": sent(b"1")}, "n"),
        ({}, {"one": sent(), "none": sent()}, "none"),
        ({}, {"one": sent(), "one.0": sent()}, "one"),
        ({}, {"one": sent(), "more": sent(), "more.0": sent()}, "more.0"),
        ({}, {"one": sent(), "more.99999": sent()}, "more.99999"),
        ({"n": "many"}, {"one": sent()}, "n"),
    ],
    ids=["none", "path", "both", "in a list", "optional", "no file", "unknown", "deeper", "twice", "far", "other"],
)
@pytest.mark.parametrize("operation", ["run", "submit"])
def test_what_is_no_file_is_refused(
    wire: Wire, operation: str, params: dict[str, Any], files: dict[str, UploadedFile] | None, field: str
) -> None:
    with pytest.raises(Invalid) as caught:
        getattr(wire.session("ada"), operation)(call("takes", params, files=files))
    assert field in [each.field for each in caught.value.fields]


def test_a_list_has_no_holes(wire: Wire) -> None:
    with pytest.raises(Invalid):
        wire.session("ada").run(call("takes", {}, files={"one": sent(), "more.1": sent()}))


def test_a_path_in_a_model_is_refused(wire: Wire) -> None:
    request = call("takes_any", {"pages": [{"title": "t", "scan": "/etc/passwd"}], "free": "/etc/passwd"})
    with pytest.raises(Invalid) as caught:
        wire.session("ada").run(request)
    assert sorted(each.field for each in caught.value.fields) == ["free", "pages.0.scan"]


def test_a_plain_script_takes_no_files(wire: Wire) -> None:
    with pytest.raises(Invalid):
        wire.session("ada").run(call("cat", files={"one": sent()}))


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("../../etc/passwd", "passwd"),
        ("/etc/passwd", "passwd"),
        ("C:\\Users\\a\\b.txt", "b.txt"),
        ("..", "_."),
        (".", "_"),
        ("", "file"),
        ("a/", "file"),
        (".bashrc", "_bashrc"),
        ("-rf", "_rf"),
        ("a\0b\nc\x1b[2J\u202etxt.exe", "a_b_c_[2J_txt.exe"),
        ("  spaced  ", "spaced"),
        ("$(id);`id`|& *?.txt", "$(id);`id`|& *?.txt"),
        ("é" * 300 + ".png", "é" * 98 + ".png"),
        ("x" * 300, "x" * 200),
        ("x." + "y" * 300, "x." + "y" * 198),
    ],
)
def test_names_are_made_safe(wire: Wire, name: str, safe: str) -> None:
    job = wire.session("ada").run(call("takes", {}, files={"one": sent(b"x", name)}))
    assert told(job)["name"] == safe


def test_a_retry_gets_the_file_as_it_was_sent(wire: Wire) -> None:
    job = wire.session("ada").run(call("takes_again", {}, files={"data": sent(b"fresh")}))
    assert (job.state, job.attempt, job.result) == (State.SUCCEEDED, 2, "fresh")


@pytest.mark.parametrize("newest", [False, True])
def test_a_rerun_has_the_same_files(wire: Wire, newest: bool) -> None:
    session = wire.session("ada")
    first = session.run(call("takes", {"n": 1}, files={"one": sent(), "more.0": sent(b"a"), "more.1": sent(b"b")}))
    again = session.wait(session.rerun(first.id, newest).id, 60)
    third = session.wait(session.rerun(again.id, newest).id, 60)
    for job in (again, third):
        assert job.rerun_of is not None
        assert job.params == first.params
        assert told(job)["sha256"] == digest(DATA)
        assert [item["sha256"] for item in job.result["more"]] == [digest(b"a"), digest(b"b")]


@pytest.mark.parametrize("operation", ["run", "submit"])
def test_a_key_stands_for_the_files_too(wire: Wire, key: str, operation: str) -> None:
    session = wire.session("ada")
    send = getattr(session, operation)
    request = call("takes", {}, files={"one": sent()}, key=key)
    first = send(request)
    assert send(request).id == first.id
    for other in (sent(DATA[:-1] + b"x"), sent(name="another")):
        with pytest.raises(Conflict):
            send(call("takes", {}, files={"one": other}, key=key))
    with pytest.raises(Conflict):
        send(call("takes", {}, files={"one": sent(), "maybe": sent()}, key=key))
    assert told(session.wait(first.id, 60))["sha256"] == digest(DATA)


def test_someone_elses_files_cannot_be_run_again(wire: Wire) -> None:
    job = wire.session("ada").run(call("takes", {}, files={"one": sent()}))
    with pytest.raises(Exception, match=r"job|scope"):
        wire.session("bob").rerun(job.id)


def test_tracked_work_is_progress(wire: Wire) -> None:
    session = wire.session("ada")
    job = session.run(call("tracks", {"n": 5}))
    told_of = [event for event in all_events(session, job.id) if isinstance(event, ProgressEvent)]
    assert [event.message for event in told_of] == ["counting"] * len(told_of)
    assert [event.done for event in told_of] == sorted(event.done for event in told_of)
    assert (told_of[-1].done, told_of[-1].total) == (5, 5)
    assert job.progress is not None
    assert (job.progress.done, job.progress.total, job.result) == (5, 5, 10)


@pytest.mark.parametrize(
    ("what", "result", "left"),
    [
        ("picture", {"artifacts": ["result.png"]}, {"result.png": ("image/png", 18)}),
        (
            "rich",
            {"artifacts": ["result.html", "result.md"]},
            {"result.html": ("text/html", 11), "result.md": ("text/markdown", 12)},
        ),
        ("point", {"x": 3}, {"result.html": ("text/html", 8)}),
        (
            "many",
            {
                "a": [{"artifacts": ["a-0.png"]}, 1, {"artifacts": ["a-2.png"]}],
                "../b": {"artifacts": ["b.html", "b.md"]},
                "n": 2,
            },
            {
                "a-0.png": ("image/png", 18),
                "a-2.png": ("image/png", 18),
                "b.html": ("text/html", 11),
                "b.md": ("text/markdown", 12),
            },
        ),
    ],
)
def test_what_is_worth_looking_at_is_left_beside_the_result(
    wire: Wire, what: str, result: Any, left: dict[str, tuple[str, int]]
) -> None:
    session = wire.session("ada")
    job = session.run(call("looks", {"what": what}))
    assert job.result == result
    assert {each.name: (each.media_type, each.size) for each in job.artifacts} == left
    events = [event.name for event in all_events(session, job.id) if isinstance(event, ArtifactEvent)]
    assert sorted(events) == sorted(left)
    for name, (_, size) in left.items():
        assert len(session.open_artifact(job.id, name).read()) == size


@pytest.mark.parametrize(
    ("what", "path", "why"), [("blank", "result.x", "Blank"), ("broken", "result.x[0]", "RuntimeError: no ink")]
)
def test_what_cannot_be_shown_fails_its_job_by_the_values_path(wire: Wire, what: str, path: str, why: str) -> None:
    job = wire.session("ada").run(call("looks", {"what": what}))
    assert job.state is State.FAILED
    assert job.error is not None
    assert job.error.type == "ResultError"
    assert path in job.error.message
    assert why in job.error.message
