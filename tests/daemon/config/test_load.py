"""Configuration files: every problem at once, each with its line."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bise_daemon.chat.message import Role
from bise_daemon.config.address import TcpAddress, UnixAddress
from bise_daemon.config.daemon import DaemonConfig
from bise_daemon.config.document import MAX_FILE_BYTES
from bise_daemon.config.load import config_from_flags, load_config
from bise_daemon.config.problem import ConfigError
from bise_daemon.prefixes.config import PrefixConfig, PrefixMessage


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "bise.yaml"


def problems(path: Path, content: str | bytes) -> list[str]:
    """The problems of a file with this content, without the folder's name."""
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
    with pytest.raises(ConfigError) as error:
        load_config(path)
    assert str(error.value) == "\n".join(map(str, error.value.problems))
    return [str(problem).replace(f"{path.parent}/", "") for problem in error.value.problems]


def test_a_whole_file_is_read(file: Path) -> None:
    file.write_text(
        "bundle: models/small\nlisten: tcp://127.0.0.1:50051\nslots: 4\ncontext: 2048\nthreads: 2\n"
        "prefill_chunk_tokens: 128\nmax_queue: 0\nmax_message_bytes: 65536\n"
        "drain_timeout_s: 5\ndefault_timeout_s: 1.5\n"
        "step_ms: 20\nageing_ms: 1000.5\ndraft_tokens: 0\nprefix_slots: 2\nprefix_tokens: 512\nstate_dir: state\n"
        "prefixes:\n  - {name: ask, prompt: 'You are'}\n  - name: chat\n    messages:\n"
        "      - {role: system, content: Be short.}\n"
    )

    assert load_config(file) == DaemonConfig(
        bundle=file.parent / "models" / "small",
        listen=TcpAddress("127.0.0.1", 50051),
        slots=4,
        context=2048,
        threads=2,
        prefill_chunk_tokens=128,
        max_queue=0,
        max_message_bytes=65536,
        drain_timeout_s=5.0,
        default_timeout_s=1.5,
        step_ms=20.0,
        ageing_ms=1000.5,
        draft_tokens=0,
        prefix_slots=2,
        prefix_tokens=512,
        state_dir=file.parent / "state",
        prefixes=(
            PrefixConfig(name="ask", prompt="You are"),
            PrefixConfig(name="chat", messages=(PrefixMessage(role=Role.SYSTEM, content="Be short."),)),
        ),
    )


def test_only_the_bundle_is_needed(file: Path) -> None:
    file.write_text("bundle: /models/small\n")

    config = load_config(file)

    assert config.bundle == Path("/models/small")
    assert config.listen == UnixAddress(Path("/run/bise/bise.sock"))
    assert (config.slots, config.max_queue, config.context, config.threads) == (8, 64, None, None)


def test_all_problems_are_reported_at_once_in_the_files_order(file: Path) -> None:
    content = (
        'slot: 3\nslots: "8"\nslots: 4\nbundle: 5\nlisten: tcp://0.0.0.0:50051\ncontext: 3\n? [a]\n: 3\n'
        "threads: !!python/name:os.system x\ndrain_timeout_s: .nan\nmax_queue: 2026-13-45\ndefault_timeout_s: 0\n"
    )

    found = problems(file, content)

    starts = [
        "bise.yaml:1: slot: expected a known key, got an unknown one. Did you mean slots?",
        "bise.yaml:2: slots: expected a whole number of requests at once, from 1 to 64, got '8'",
        "bise.yaml:3: slots: expected each key once, got it in line 2 too",
        "bise.yaml:4: bundle: expected the path of a bundle's folder",
        "bise.yaml:5: listen: expected an address only this machine can reach",
        "bise.yaml:6: context: expected a whole number of tokens from 16",
        "bise.yaml:7: expected a name as key, got a collection",
        "bise.yaml:9: threads: expected a plain value, got: could not determine a constructor",
        "bise.yaml:10: drain_timeout_s: expected a number of seconds, from 0 to 3600, got nan",
        "bise.yaml:11: max_queue: expected a plain value, got: month must be in 1..12",
        "bise.yaml:12: default_timeout_s: expected a number of seconds, more than 0",
    ]
    assert [found_one.startswith(start) for found_one, start in zip(found, starts, strict=True)] == [True] * len(starts)


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("slots: 0", "slots: expected a whole number of requests at once, from 1 to 64, got 0"),
        ("slots: 65", "slots: expected .* got 65"),
        ("slots: true", "slots: expected .* got True"),
        ("slots: 4.0", "slots: expected .* got 4.0"),
        ("slots: [1, 2]", r"slots: expected .* got \[1, 2\]"),
        ("slots:", "slots: expected .* got None"),
        ("allow_remote: 1", "allow_remote: expected true or false, got 1"),
        ("max_message_bytes: 12", "max_message_bytes: expected .* got 12"),
        ("listen: 5", "listen: expected unix:///absolute/path.sock or tcp://127.0.0.1:PORT, got 5"),
        ("zzz: 1", "zzz: expected a known key, got an unknown one. There are: allow_remote, bundle"),
        (f"slots: {'x' * 500}", "slots: expected .{,200}$"),
    ],
)
def test_a_wrong_value_is_told_with_what_was_expected(file: Path, line: str, problem: str) -> None:
    (found,) = problems(file, f"bundle: x\n{line}\n")

    assert re.match(f"bise.yaml:2: {problem}", found)


def test_nested_problems_are_told_by_their_whole_path(file: Path) -> None:
    found = problems(
        file,
        "bundle: x\nprefixes:\n  - name: ok\n    prompt: fine\n  - name: a\n    prompt: 5\n    nam: x\n"
        "  - prompt: nameless\n  - 7\n  - name: both\n    prompt: x\n    messages: [{role: system, content: y}]\n"
        "  - name: chat\n    messages:\n      - {role: robot, content: ''}\n      - {5: x}\nslots: 0\n",
    )

    message = "prefixes[5].messages"
    starts = [
        "bise.yaml:6: prefixes[1].prompt: expected a text of 1 to 65536 characters, got 5",
        "bise.yaml:7: prefixes[1].nam: expected a known key, got an unknown one. Did you mean name?",
        "bise.yaml:8: prefixes[2].name: expected a name of 1 to 64 letters, digits, dots, dashes or underscores, a let",
        "bise.yaml:9: prefixes[3]: expected up to 16 prefixes, each with name and prompt or messages, got 7",
        "bise.yaml:10: prefixes[4]: expected both: either prompt or messages, got {",
        f"bise.yaml:15: {message}[0].role: expected system, user or assistant, got 'robot'",
        f"bise.yaml:15: {message}[0].content: expected a text of 1 to 65536 characters, got ''",
        f"bise.yaml:16: {message}[1].role: expected system, user or assistant, got nothing. Add the key.",
        f"bise.yaml:16: {message}[1].content: expected a text of 1 to 65536 characters, got nothing. Add the key.",
        f"bise.yaml:16: {message}[1].5: expected a known key, got an unknown one. There are: role, content.",
        "bise.yaml:17: slots: expected a whole number of requests",
    ]
    assert [text[: len(start)] for text, start in zip(found, starts, strict=True)] == starts


def test_keys_further_in_stand_once_too_and_are_plain(file: Path) -> None:
    found = problems(
        file,
        "bundle: x\nprefixes:\n  - name: a\n    name: b\n    prompt: !!python/name:os.system x\n"
        "  - name: c\n    ? [d]\n    : 1\n    prompt: 5\n",
    )

    assert [text.split(", got")[0] for text in found] == [
        "bise.yaml:4: prefixes[0].name: expected each key once",
        "bise.yaml:5: prefixes[0].prompt: expected a plain value",
        "bise.yaml:7: prefixes[1]: expected a name as key",
        "bise.yaml:9: prefixes[1].prompt: expected a text of 1 to 65536 characters",
    ]


def test_only_relative_paths_of_the_file_start_at_its_folder(file: Path) -> None:
    file.write_text("bundle: /models/small\nstate_dir: /var/state\n")

    config = load_config(file)
    assert (config.bundle, config.state_dir) == (Path("/models/small"), Path("/var/state"))
    file.write_text("bundle: small\n")
    assert load_config(file).state_dir is None
    assert load_config(file, {"state_dir": "here"}).state_dir == Path("here")


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("", "bise.yaml: bundle: expected the path of a bundle's folder .* got nothing. Add the key."),
        ("- bundle\n", "bise.yaml:1: expected settings as `key: value` lines"),
        ("bundle: x\nslots: [1\n", "bise.yaml:3: expected YAML, got"),
        ("bundle: x\n--- \nslots: 2\n", "bise.yaml:2: expected YAML, got"),
        ("bundle: \x00\n", "bise.yaml:1: expected YAML, got"),
        (b"bundle: x\nslots: \xff\n", "bise.yaml:2: expected UTF-8 text"),
        (" " * (MAX_FILE_BYTES + 1), f"bise.yaml: expected at most {MAX_FILE_BYTES} bytes"),
        ("bundle: &a x\nlisten: *a\n", r"bise.yaml:2: expected plain values, got the alias \*a"),
        ("bundle: " + "[" * 60_000, "bise.yaml:1: expected at most 8 levels"),
        ("bundle: " + "9" * 5000, "bise.yaml:1: bundle: expected a plain value, got"),
    ],
    ids=["empty", "list", "unclosed", "two documents", "null", "bytes", "large", "alias", "deep", "long number"],
)
def test_what_is_no_file_of_settings_is_refused(file: Path, content: str | bytes, problem: str) -> None:
    (found,) = problems(file, content)

    assert re.match(problem, found)


def test_a_yaml_bomb_is_refused_at_its_first_alias(file: Path) -> None:
    levels = "\n".join(f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 9)}]" for n in range(1, 30))

    (found,) = problems(file, f"l0: &l0 [x]\n{levels}\n")

    assert "expected plain values, got the alias *l0" in found


def test_a_missing_file_is_named(file: Path) -> None:
    with pytest.raises(ConfigError, match=r"bise\.yaml: expected a file to read, got: No such file"):
        load_config(file)


def test_flags_go_before_the_file_and_their_problems_beside_its(file: Path) -> None:
    file.write_text("bundle: models/small\nslots: 4\nthreads: 0\n")

    with pytest.raises(ConfigError) as error:
        load_config(file, {"slots": 99, "context": None, "max_queue": 3})
    assert [str(problem).split(": expected")[0] for problem in error.value.problems] == [
        f"{file}:3: threads",
        "--slots",
    ]

    config = load_config(file, {"slots": 2, "threads": 1, "bundle": "here"})
    assert (config.slots, config.threads, config.bundle) == (2, 1, Path("here"))


def test_flags_alone_make_a_configuration() -> None:
    config = config_from_flags({"bundle": "small", "listen": "unix:///tmp/bise.sock", "slots": None})

    assert (config.bundle, str(config.listen), config.slots) == (Path("small"), "unix:///tmp/bise.sock", 8)


def test_wrong_flags_are_told_as_flags() -> None:
    with pytest.raises(ConfigError) as error:
        config_from_flags({"listen": "tcp://10.0.0.1:1", "max_queue": -1})
    assert {str(problem).split(":")[0] for problem in error.value.problems} == {"--bundle", "--listen", "--max-queue"}


def test_a_remote_address_needs_to_be_allowed(file: Path) -> None:
    file.write_text("listen: tcp://0.0.0.0:50051\nallow_remote: true\nbundle: x\n")

    assert load_config(file).listen == TcpAddress("0.0.0.0", 50051)


def test_a_required_signature_needs_keys_and_a_place_that_stays(file: Path) -> None:
    assert problems(file, "bundle: b\nstate_dir: s\nrequire_signature: true\n") == [
        "bise.yaml:3: require_signature: expected trusted_keys beside it, the public keys of who signs, got True"
    ]
    assert problems(file, "bundle: b\nrequire_signature: true\ntrusted_keys: [a.pem]\n") == [
        "bise.yaml:2: require_signature: expected state_dir beside it, where accepted versions are kept (by default it "
        "would be another for each bundle's folder), got True"
    ]


def test_trusted_keys_start_at_the_files_folder(file: Path) -> None:
    file.write_text("bundle: b\nstate_dir: s\ntrusted_keys: [a.pem, /etc/b.pem]\nrequire_signature: true\n")
    config = load_config(file)
    assert config.trusted_keys == (file.parent / "a.pem", Path("/etc/b.pem"))
    assert config.require_signature
    assert problems(file, "bundle: b\ntrusted_keys: a.pem\n") == [
        "bise.yaml:2: trusted_keys: expected up to 16 paths of public keys in PEM, got 'a.pem'"
    ]
    assert problems(file, "bundle: b\ntrusted_keys: [3]\nrequire_signature: true\nstate_dir: s\n") == [
        "bise.yaml:2: trusted_keys[0]: expected up to 16 paths of public keys in PEM, got 3"
    ]


def test_metrics_are_scraped_from_this_machine_only(file: Path) -> None:
    file.write_text("bundle: b\nmetrics:\n  listen: 127.0.0.1:9464\n")
    config = load_config(file)
    assert config.metrics is not None
    assert config.metrics.listen == TcpAddress("127.0.0.1", 9464)
    for value in ("0.0.0.0:9464", "9464", "127.0.0.1", "127.0.0.1:http", "unix:///run/metrics", "example.com:80"):
        (problem,) = problems(file, f"bundle: b\nmetrics:\n  listen: {value}\n")
        assert problem.startswith(
            "bise.yaml:3: metrics.listen: expected a loopback address and port like 127.0.0.1:9464"
        )


def test_the_flag_for_metrics_goes_before_the_files(file: Path) -> None:
    file.write_text("bundle: b\nmetrics: {listen: '127.0.0.1:1'}\n")
    config = load_config(file, {"metrics": {"listen": "[::1]:2"}})
    assert config.metrics is not None
    assert config.metrics.listen == TcpAddress("::1", 2)
    with pytest.raises(ConfigError, match=r"^--metrics: expected a loopback address"):
        load_config(file, {"metrics": {"listen": "here"}})


def test_an_export_has_an_endpoint_and_no_secrets(file: Path) -> None:
    file.write_text("bundle: b\notlp: {endpoint: 'https://collector.example/otlp/', headers_file: secret}\n")
    otlp = load_config(file).otlp
    assert otlp is not None
    assert str(otlp.endpoint) == "https://collector.example:443/otlp"
    assert otlp.headers_file == file.parent / "secret"


@pytest.mark.parametrize(
    "endpoint",
    [
        "collector:4318",
        "ftp://a:1",
        "http://",
        "http://a:b",
        "http://u:hunter@a",
        "http://a/?key=1",
        "http://a b",
        "http://[::1",
    ],
)
def test_an_endpoint_that_is_none_is_told(file: Path, endpoint: str) -> None:
    (problem,) = problems(file, f"bundle: b\notlp: {{endpoint: '{endpoint}'}}\n")
    assert problem.startswith("bise.yaml:2: otlp.endpoint: expected http://HOST:PORT or https://HOST:PORT")


def test_headers_do_not_travel_readable(file: Path) -> None:
    (problem,) = problems(file, "bundle: b\notlp: {endpoint: 'http://10.0.0.1:4318', headers_file: secret}\n")
    assert "otlp.headers_file: expected nothing beside a plain http endpoint on another machine" in problem
    file.write_text("bundle: b\notlp: {endpoint: 'http://127.0.0.1:4318', headers_file: secret}\n")
    assert load_config(file).otlp
